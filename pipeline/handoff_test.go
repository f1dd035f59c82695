package pipeline_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
)

// flows returns that many flows for one port.
func flows(n int) []flow {
	var list []flow
	for i := range n {
		list = append(list, flow{id: byte(i)})
	}
	return list
}

func TestPacketsHandedOverTwoWaysArriveAllAndInOrder(t *testing.T) {
	for _, tc := range []struct {
		name, stages string
		owners       map[string][]int
	}{
		{"one queue, three workers, a queue out for each", "count ! test-hand ! count", map[string][]int{"a": {0}, "b": {0, 1, 2}}},
		{"one queue out", "test-hand", map[string][]int{"a": {0}, "b": {2}}},
		{"handed over twice", "test-hand ! count ! test-hand to=2 ! count", map[string][]int{"a": {1}, "b": {0}}},
		{"two queues in", "test-hand ! count", map[string][]int{"a": {0, 1}, "b": {1, 2}}},
	} {
		for _, idle := range []pipeline.Idle{pipeline.IdleAdaptive, pipeline.IdleSleep} {
			t.Run(tc.name+", "+idle.String(), func(t *testing.T) {
				n := newNet(t, netConfig{workers: 3, idle: idle, owners: tc.owners, ports: []string{"a", "b"}}, pipe(t, "p", "a", "b", tc.stages))
				n.run()
				f := n.feed(1, map[string][]flow{"a": flows(6)})
				waitFor(t, func() bool { return port(t, n.eng.Snapshot(), "a").RxPackets > 1000 })
				f.stop()
				n.stop()
				f.checkOrder(t)
				s := n.eng.Snapshot()
				if d := drops(s); len(d) != 0 {
					t.Errorf("dropped %v, want nothing", d)
				}
				if strings.Contains(tc.stages, "count") {
					for _, st := range s.Stages[len(s.Stages)-1:] {
						if st.Packets == 0 {
							t.Errorf("the last worker had no packets: %+v", s.Stages)
						}
					}
				}
				n.end()
			})
		}
	}
}

func TestAWorkerThatSleepsIsWokenByWhatIsHandedOver(t *testing.T) {
	// Worker 1 has no queue: it sleeps until the other wakes it.
	n := newNet(t, netConfig{workers: 2, idle: pipeline.IdleSleep, owners: map[string][]int{"a": {0}, "b": {0}, "c": {1}}},
		pipe(t, "p", "a", "c", "test-hand to=1"))
	n.round()
	n.run()
	for i := range 50 {
		waitFor(t, func() bool { return n.eng.Asleep(1) })
		if n.k["a"][0].Deliver(numbered(0, 0, i)) != 1 {
			t.Fatal("the packet did not arrive")
		}
		var got [][]byte
		waitFor(t, func() bool { got = append(got, n.k["c"][0].Transmitted()...); return len(got) == 1 })
		if number(got[0]) != i {
			t.Fatalf("packet %d came, want %d", number(got[0]), i)
		}
	}
	n.end()
}

func TestWhatTheOtherWorkerHasNoRoomForIsDroppedAsHandoffFull(t *testing.T) {
	n := newNet(t, netConfig{workers: 2, ring: 2048, owners: map[string][]int{"a": {0}, "b": {1}}, ports: []string{"a", "b"}},
		pipe(t, "p", "a", "b", "test-hand to=1 ! count"))
	n.round()
	const sent = pipeline.RingSize + 100
	for i := range sent {
		n.deliver("a", numbered(0, 0, i))
	}
	for n.eng.RoundOf(0) > 0 { // and worker 1 does nothing
	}
	s := n.eng.Snapshot()
	if d := stage(t, s, "p/1:test-hand").Drops; d["handoff_full"] != 100 || len(d) != 1 {
		t.Errorf("drops %v, want 100 of handoff_full", d)
	}
	checkSnapshot(t, s, pipeline.RingSize) // the ring's frames are in a place, too
	if s.Memory.Places.Batch != pipeline.RingSize {
		t.Errorf("%d frames are on their way, want %d", s.Memory.Places.Batch, pipeline.RingSize)
	}
	for n.eng.RoundOf(1) > 0 {
	}
	if got := numbers(n.out()["b"]); !slices.Equal(got, upTo(pipeline.RingSize)) {
		t.Errorf("%d left, want the first %d in order", len(got), pipeline.RingSize)
	}
	n.deliver("a", numbered(0, 0, 0)) // there is room again
	n.settle()
	if got := len(n.out()["b"]); got != 1 {
		t.Errorf("%d left, want 1", got)
	}
	n.end()
}

func TestWhatTheOwnerOfAQueueHasNoRoomForCountsAsThePortsDrop(t *testing.T) {
	n := newNet(t, netConfig{workers: 2, ring: 2048, owners: map[string][]int{"a": {0}, "b": {1}}, ports: []string{"a", "b"}},
		pipe(t, "p", "a", "b", "count"))
	n.round()
	for i := range pipeline.RingSize + 50 {
		n.deliver("a", numbered(0, 0, i))
	}
	for n.eng.RoundOf(0) > 0 {
	}
	s := n.eng.Snapshot()
	if d := port(t, s, "b").Drops; d["handoff_full"] != 50 {
		t.Errorf("port b dropped %v, want 50 of handoff_full", d)
	}
	checkSnapshot(t, s, pipeline.RingSize)
	n.settle()
	n.end()
}

// All that has come in when the engine is told to stop leaves, whichever worker ends
// first: worker 0 has more waiting than a ring to the others holds.
func TestStoppingWorksOffWhatIsHandedOver(t *testing.T) {
	for range 5 {
		n := newNet(t, netConfig{workers: 3, ring: 4096, frames: 16384, owners: map[string][]int{"a": {0}, "b": {0, 1, 2}}, ports: []string{"a", "b"}},
			pipe(t, "p", "a", "b", "test-hand ! count"))
		n.round()
		const sent = 3000
		for i := range sent {
			n.deliver("a", numbered(0, byte(i%3), i))
		}
		n.run()
		n.stop()
		left := len(n.out()["b"])
		s := n.eng.Snapshot()
		full := drops(s)["handoff_full"]
		if uint64(left)+full != sent {
			t.Errorf("%d left and %d were dropped, want %d in all: %v", left, full, sent, drops(s))
		}
		checkSnapshot(t, s, 0)
		if s.Memory.Places.Batch != 0 {
			t.Errorf("%d frames are still on their way", s.Memory.Places.Batch)
		}
		n.end()
	}
}

func TestPacketsThatAreHandedToNobodyAreDropped(t *testing.T) {
	n := newNet(t, netConfig{workers: 2, owners: map[string][]int{"a": {0}, "b": {1}}, ports: []string{"a", "b"}},
		pipe(t, "p", "a", "b", "test-hand to=7"))
	n.pass(numbered(0, 0, 0))
	if d := drops(n.eng.Snapshot()); d["no_output"] != 1 || len(d) != 1 {
		t.Errorf("drops %v, want one of no_output", d)
	}
	n.end()
}

func TestAModuleThatIsASinkAndHandsIsRefused(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("it is registered")
		}
	}()
	pipeline.Register(pipeline.Module{Name: "test-sink-that-hands", Hands: true, New: func() pipeline.Stage { return &sink{} }})
}
