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

func TestDistance(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"abc", "abd", 1}, {"abc", "ab", 1}, {"ab", "ba", 2}, {"kitten", "sitting", 3},
	} {
		if got := distance(tc.a, tc.b); got != tc.want {
			t.Errorf("from %q to %q is %d edits, want %d", tc.a, tc.b, got, tc.want)
		}
	}
}
