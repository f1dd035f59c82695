package stages

import (
	"strings"
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
)

func TestDropTakesOnePacketInEvery(t *testing.T) {
	for _, tc := range []struct {
		every int
		want  string // of each packet: x is dropped
	}{
		{1, "xxxxxxxx"},
		{2, ".x.x.x.x"},
		{3, "..x..x.."},
		{8, ".......x"},
		{9, "........"},
	} {
		s := &Drop{Every: tc.every}
		var got strings.Builder
		for range 2 { // the count goes on from one batch to the next
			b := newBatch(t, udpPacket(), udpPacket(), udpPacket(), udpPacket())
			s.Process(b)
			for i := range b.Len() {
				if b.Dropped(i) {
					got.WriteByte('x')
				} else {
					got.WriteByte('.')
				}
			}
		}
		if got.String() != tc.want {
			t.Errorf("every %d: %s, want %s", tc.every, &got, tc.want)
		}
	}
}

func TestDropGivesItsReason(t *testing.T) {
	r := newRig(t, 1, "drop ! count")
	if left := r.pass(0, udpPacket(), udpPacket()); len(left) != 0 {
		t.Errorf("%d packets left", len(left))
	}
	s := r.Snapshot()
	if s.Stages[0].Drops["dropped"] != 2 || s.Stages[1].Calls != 0 {
		t.Errorf("stages %+v, want 2 dropped, and no call of the stage after it", s.Stages)
	}
	must(t, r.stop())
}

func TestDropRefusesToDropOneInNone(t *testing.T) {
	for _, every := range []string{"0", "-1"} {
		_, err := pipeline.ParseQuick("stages", "drop every="+every)
		if err == nil || err.Error() != "stages:1:12: stage drop: option every: found "+every+", want 1 or more" {
			t.Errorf("every %s: %v", every, err)
		}
	}
}

func TestDropDoesNotAllocate(t *testing.T) { noAllocations(t, &Drop{Every: 2}) }

func BenchmarkDrop(b *testing.B) {
	b.Run("none", func(b *testing.B) { benchmark(b, &Drop{Every: 1 << 30}) })
}
