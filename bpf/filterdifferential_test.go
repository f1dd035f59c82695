package bpf

import (
	"strings"
	"testing"

	"github.com/xdpipe/xdpipe/filter"
	"github.com/xdpipe/xdpipe/internal/filtertest"
)

func TestTheProgramDecidesLikeMatchOnEveryExpression(t *testing.T) {
	with, without := loadWithSocket(t), load(t)
	split := canFragment(t, with)
	var packets [][]byte
	for i, p := range filtertest.Packets() {
		// XDP frames have an Ethernet header at least.
		if i%17 == 0 && len(p) >= 14 {
			packets = append(packets, p)
		}
	}
	loaded, redirected := 0, uint64(0)
	for _, expression := range filtertest.Expressions() {
		f, err := filter.Compile(expression)
		if err != nil || strings.TrimSpace(expression) == "" {
			if err := with.SetPolicy(Policy{Filter: expression}); expression != "" && err == nil {
				t.Errorf("%q is refused by package filter, and SetPolicy took it", expression)
			}
			continue
		}
		setPolicy(t, with, Policy{Filter: expression})
		loaded++
		before := counters(t, with)
		matched := uint64(0)
		for i, p := range packets {
			visible := len(p)
			var got uint32
			if linear := 14 + i%80; split && i%3 == 0 && linear < len(p) {
				visible = linear
				got = verdictOfFragmented(t, with, p, linear)
			} else {
				got = verdict(t, with, p)
			}
			want := uint32(xdpPass)
			if f.Match(p[:visible]) {
				want = xdpRedirect
				matched++
			}
			if got != want {
				t.Fatalf("%q: verdict %d, want %d: packet %d, of which %d bytes are linear: %x", expression, got, want, i, visible, p)
			}
		}
		after, rest := counters(t, with), uint64(len(packets))-matched
		if n := after.Redirect.Packets - before.Redirect.Packets; n != matched {
			t.Errorf("%q: %d packets counted as redirected, want %d", expression, n, matched)
		}
		if n := after.Filter.Packets - before.Filter.Packets; n != matched {
			t.Errorf("%q: %d packets counted as matched, want %d", expression, n, matched)
		}
		if n := after.PassNoMatch.Packets - before.PassNoMatch.Packets; n != rest {
			t.Errorf("%q: %d packets counted as not matched, want %d", expression, n, rest)
		}
		if n := after.Total().Packets - before.Total().Packets; n != uint64(len(packets)) {
			t.Errorf("%q: %d packets counted, want %d", expression, n, len(packets))
		}
		redirected += matched

		if loaded%7 != 0 {
			continue // a change of policies takes longest
		}
		// Where the queue has no socket all pass, and are counted as what they are.
		setPolicy(t, without, Policy{Filter: expression})
		before, matched = counters(t, without), 0
		for i := range packets {
			if got := verdict(t, without, packets[i]); got != xdpPass {
				t.Fatalf("%q: verdict %d without a socket, want pass: packet %d, %x", expression, got, i, packets[i])
			}
			if f.Match(packets[i]) {
				matched++
			}
		}
		after = counters(t, without)
		if n := after.PassNoSocket.Packets - before.PassNoSocket.Packets; n != matched {
			t.Errorf("%q: %d packets counted as without socket, want %d", expression, n, matched)
		}
	}
	t.Logf("%d filters on %d packets, %d redirected", loaded, len(packets), redirected)
	if loaded < 300 || redirected < 1000 {
		t.Errorf("%d filters were loaded and %d packets redirected, too few", loaded, redirected)
	}
}
