package pipeline

import "testing"

func TestNearest(t *testing.T) {
	known := []string{"count", "drop", "macswap", "parse", "pcap"}
	for got, want := range map[string]string{
		"cuont": "count", "counts": "count", "Drop": "drop", "mac-swap": "macswap", "prase": "parse", "pcpa": "pcap", "ma": "macswap",
		"": "", "x": "", "zzzzzz": "", "firewall": "", "drop": "drop",
	} {
		if near := nearest(got, known); near != want {
			t.Errorf("nearest to %q is %q, want %q", got, near, want)
		}
	}
	if near := nearest("ab", []string{"ac", "aa"}); near != "aa" {
		t.Errorf("of two as near %q is named, want the first by name", near)
	}
	if near := nearest("count", nil); near != "" {
		t.Errorf("of none %q is named", near)
	}
}
