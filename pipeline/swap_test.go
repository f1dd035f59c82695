package pipeline_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
)

// threeWorkers is a net of three workers whose two queues of a and one of b are not
// those of the same workers.
func threeWorkers() netConfig {
	return netConfig{workers: 3, owners: map[string][]int{"a": {0, 1}, "b": {2}}, ports: []string{"a", "b"}}
}

func TestReloadsUnderLoadLoseNoPacketAndKeepFlowsInOrder(t *testing.T) {
	graphs := [][]pipeline.Pipeline{
		{pipe(t, "p", "a", "b", "count ! test-hand ! test-heir")},
		{pipe(t, "p", "a", "b", "count ! test-split odd->x ! test-hand to=1 ! test-hand ! test-heir; x: test-empty")},
	}
	n := newNet(t, threeWorkers(), graphs[0]...)
	n.run()
	f := n.feed(1, map[string][]flow{"a": flows(6)})
	var before uint64
	for i := range 200 {
		if err := n.eng.Swap(graphs[(i+1)%2]); err != nil {
			t.Fatal(err)
		}
		if i%20 > 0 {
			continue
		}
		s := n.eng.Snapshot()
		if p := s.Memory.Places; p.Sum() != p.Total {
			t.Errorf("after %d reloads: places do not add up: %+v", i+1, p)
		}
		seen := stage(t, s, "p/1:count").Packets
		if seen < before {
			t.Errorf("after %d reloads: count has seen %d packets, and had seen %d", i+1, seen, before)
		}
		before = seen
	}
	waitFor(t, func() bool { return port(t, n.eng.Snapshot(), "a").RxPackets > 500 })
	f.stop()
	n.stop()
	f.checkOrder(t)
	s := n.eng.Snapshot()
	if d := drops(s); len(d) != 0 {
		t.Errorf("dropped %v, want nothing", d)
	}
	if c := stage(t, s, "p/1:count"); c.Packets != uint64(f.sent) {
		t.Errorf("count saw %d packets, want %d: its counters go on", c.Packets, f.sent)
	}
	if h := stage(t, s, "p/3:test-heir"); h.Values["seen"] != uint64(f.sent) {
		t.Errorf("the heirs saw %d packets, want %d", h.Values["seen"], f.sent)
	}
	n.end()
}

// More packets wait in rings than any one of them holds, and those that lead on from
// there are as full.
func TestAReloadWorksOffFullRingsWithoutOverflow(t *testing.T) {
	n := newNet(t, netConfig{workers: 3, ring: 4096, frames: 16384, owners: map[string][]int{"a": {0}, "b": {2}}, ports: []string{"a", "b"}},
		pipe(t, "p", "a", "b", "test-hand to=1 ! test-empty"))
	n.round()
	const sent = 2 * pipeline.RingSize
	for i := range sent {
		n.deliver("a", numbered(0, 0, i))
	}
	for range pipeline.RingSize / pipeline.DefaultBatch { // 0 fills the ring to 1, which fills that to 2
		n.eng.RoundOf(0)
		n.eng.RoundOf(1)
	}
	for range pipeline.RingSize / pipeline.DefaultBatch {
		n.eng.RoundOf(0)
	}
	if got := n.eng.Snapshot().Memory.Places.Batch; got != sent {
		t.Fatalf("%d packets are between workers, want %d", got, sent)
	}
	if err := n.eng.Swap([]pipeline.Pipeline{pipe(t, "p", "a", "b", "test-hand to=2")}); err != nil {
		t.Fatal(err)
	}
	s := n.eng.Snapshot()
	if d := drops(s); len(d) != 0 {
		t.Errorf("dropped %v, want nothing", d)
	}
	if got := numbers(n.out()["b"]); !slices.Equal(got, upTo(sent)) {
		t.Errorf("%d packets left, want %d in order", len(got), sent)
	}
	n.end()
}

func TestCountersOfStagesThatAreGoneStayInTheAccount(t *testing.T) {
	n := newNet(t, netConfig{}, pipe(t, "p", "a", "b", "drop every=2 ! test-make ! test-tee copy->x ! test-write mark=1; x: test-split odd->c -> c"))
	for i := range 4 {
		n.pass(numbered(byte(i), 0, i))
	}
	before := n.eng.Snapshot()
	checkSnapshot(t, before, 0)
	if err := n.eng.Swap([]pipeline.Pipeline{pipe(t, "p", "a", "b", "count"), {Name: "q", From: "b", To: "c"}}); err != nil {
		t.Fatal(err)
	}
	after := n.eng.Snapshot()
	checkSnapshot(t, after, 0)
	if a, b := after.Packets, before.Packets; a.Created != b.Created || a.Teed != b.Teed || a.Copied != b.Copied || a.Created == 0 || a.Copied == 0 {
		t.Errorf("%+v after the reload and %+v before", a, b)
	}
	if after.Packets.Drops["dropped"] != 2 || len(after.Stages) != 1 {
		t.Errorf("%+v, want the drops of the stage that is gone", after)
	}
	n.pass(numbered(0, 0, 0))
	n.end()
}

func TestCountersGoOnByLabelAndByRankAmongThoseWithout(t *testing.T) {
	n := newNet(t, netConfig{}, pipe(t, "p", "a", "b", "test-empty ! x: test-empty ! drop every=2 ! test-empty ! count"))
	n.pass(numbered(0, 0, 0), numbered(0, 0, 1))
	// x has moved to the front, and the second of those without a label is gone.
	if err := n.eng.Swap([]pipeline.Pipeline{pipe(t, "p", "a", "b", "x: test-empty ! count ! test-empty")}); err != nil {
		t.Fatal(err)
	}
	s := n.eng.Snapshot()
	for name, want := range map[string]uint64{"p/1:test-empty": 2, "p/2:count": 1, "p/3:test-empty": 2} {
		if got := stage(t, s, name).Packets; got != want {
			t.Errorf("%s has %d packets, want %d", name, got, want)
		}
	}
	n.end()
}

func TestAReloadThatIsRefusedChangesNothing(t *testing.T) {
	open := heirs.Load()
	n := newNet(t, threeWorkers(), pipe(t, "p", "a", "b", "count ! test-heir"))
	n.run()
	f := n.feed(1, map[string][]flow{"a": flows(4)})
	for _, tc := range []struct {
		name, says string
		pipelines  []pipeline.Pipeline
	}{
		{"a cycle", "cycle", []pipeline.Pipeline{pipe(t, "p", "a", "b", "x: count ! count -> x")}},
		{"no such port", `no port "nowhere"`, []pipeline.Pipeline{pipe(t, "p", "a", "nowhere", "count")}},
		{"a stage that fails", "stages:1:9: stage test-heir: refused", []pipeline.Pipeline{pipe(t, "p", "a", "b", "count ! test-heir wrong=provision")}},
		{"a stage that panics", "it panicked when it was made: in Provision", []pipeline.Pipeline{pipe(t, "p", "a", "b", "test-heir ! test-heir wrong=panic")}},
		{"a worker without work", "worker 2 has nothing to do", []pipeline.Pipeline{pipe(t, "p", "a", "a", "count")}},
		{"two of one name", `a second pipeline is named "p"`, []pipeline.Pipeline{pipe(t, "p", "a", "b", "count"), pipe(t, "p", "b", "a", "count")}},
		{"two of one port", "each port feeds one", []pipeline.Pipeline{pipe(t, "p", "a", "b", "count"), pipe(t, "q", "a", "a", "count")}},
		{"a source on no worker", "worker 3 runs it, and there are 3", []pipeline.Pipeline{{Name: "p", To: "b", Worker: 3, Stages: pipe(t, "", "", "", "test-source").Stages}}},
		{"an unknown module", "unknown stage", []pipeline.Pipeline{{Name: "p", From: "a", To: "b", Stages: []pipeline.StageSpec{{Type: "test-nothing"}}}}},
		{"no pipelines", "nothing to do", nil},
	} {
		err := n.eng.Swap(tc.pipelines)
		if err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.says)
		}
	}
	if got := heirs.Load() - open; got != 2 {
		t.Errorf("%d instances are open, want the 2 that run", got)
	}
	f.stop()
	n.stop()
	f.checkOrder(t)
	if s := stage(t, n.eng.Snapshot(), "p/2:test-heir"); s.Values["seen"] != uint64(f.sent) {
		t.Errorf("%+v, want all %d packets", s, f.sent)
	}
	n.end()
	if got := heirs.Load(); got != open {
		t.Errorf("%d instances are left open", got-open)
	}
}

func TestAStageThatPanicsWhileItInheritsBeginsAnew(t *testing.T) {
	n := newNet(t, netConfig{}, pipe(t, "p", "a", "b", "test-heir"))
	n.pass(numbered(0, 0, 0))
	if err := n.eng.Swap([]pipeline.Pipeline{pipe(t, "p", "a", "b", "test-heir wrong=inherit")}); err != nil {
		t.Fatal(err)
	}
	n.pass(numbered(0, 0, 1))
	if s := stage(t, n.eng.Snapshot(), "p/1:test-heir"); s.Values["seen"] != 1 || s.Packets != 2 {
		t.Errorf("%+v, want 1 seen of 2 packets", s)
	}
	if !strings.Contains(n.log.String(), "in Inherit") {
		t.Errorf("the log says %s", n.log)
	}
	n.end()
}

func TestAStageThatPanicsWhileItClosesIsAnErrorAndKeepsNoOtherOpen(t *testing.T) {
	open := heirs.Load()
	n := newNet(t, netConfig{}, pipe(t, "p", "a", "b", "test-heir wrong=close ! test-heir"))
	err := n.eng.Swap([]pipeline.Pipeline{pipe(t, "p", "a", "b", "count")})
	if err == nil || !strings.Contains(err.Error(), "close stage p/1:test-heir: it panicked: in Close") {
		t.Errorf("got %v", err)
	}
	if got := heirs.Load(); got != open {
		t.Errorf("%d instances are left open", got-open)
	}
	if out := n.pass(numbered(0, 0, 0)); len(out["b"]) != 1 {
		t.Error("the new pipelines do not run")
	}
	n.end()
}

func TestAValueThatStagesShareByKeyOutlivesReloadsAndIsClosedOnce(t *testing.T) {
	made, closed := sharedMade.Load(), sharedClosed.Load()
	check := func(when string, wantMade, wantClosed int32) {
		t.Helper()
		if m, c := sharedMade.Load()-made, sharedClosed.Load()-closed; m != wantMade || c != wantClosed {
			t.Errorf("%s: made %d and closed %d times, want %d and %d", when, m, c, wantMade, wantClosed)
		}
	}
	with := []pipeline.Pipeline{pipe(t, "p", "a", "b", "test-heir ! test-heir")}
	n := newNet(t, threeWorkers(), with...)
	check("at the start", 1, 0)
	n.run()
	for range 3 {
		if err := n.eng.Swap(with); err != nil {
			t.Fatal(err)
		}
	}
	check("after reloads", 1, 0)
	if n.eng.Swap([]pipeline.Pipeline{pipe(t, "p", "a", "b", "test-heir ! test-heir wrong=provision")}) == nil {
		t.Error("it is not refused")
	}
	check("after one that was refused", 1, 0)
	if n.eng.Swap([]pipeline.Pipeline{pipe(t, "p", "a", "b", "test-heir key=other ! test-heir wrong=provision")}) == nil {
		t.Error("it is not refused")
	}
	check("after one that was refused with a value of its own", 2, 1)
	if err := n.eng.Swap([]pipeline.Pipeline{pipe(t, "p", "a", "b", "count")}); err != nil {
		t.Fatal(err)
	}
	check("after one without", 2, 2)
	if err := n.eng.Swap(with); err != nil {
		t.Fatal(err)
	}
	check("after one with it again", 3, 2)
	n.end()
	check("at the end", 3, 3)
}

func TestAReloadIsPossibleBeforeTheRunAndAfterItAndNotAfterTheEnd(t *testing.T) {
	n := newNet(t, netConfig{}, pipe(t, "p", "a", "b", "count"))
	next := []pipeline.Pipeline{pipe(t, "p", "a", "c", "test-empty")}
	if err := n.eng.Swap(next); err != nil {
		t.Fatalf("before the run: %v", err)
	}
	n.round()
	n.run()
	n.deliver("a", numbered(0, 0, 0))
	waitFor(t, func() bool { return n.eng.Snapshot().Stages[0].Packets == 1 })
	n.stop()
	if got := len(n.out()["c"]); got != 1 {
		t.Errorf("%d packets left by c, want 1", got)
	}
	if err := n.eng.Swap(next); err != nil {
		t.Errorf("after the run: %v", err)
	}
	n.end()
	if err := n.eng.Swap(next); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("after the end: %v", err)
	}
}

// Reloads, snapshots and the end at the same time do not wait for each other in a
// ring, and nothing is closed twice.
func TestReloadsAndTheEndAtTheSameTime(t *testing.T) {
	made, closed, open := sharedMade.Load(), sharedClosed.Load(), heirs.Load()
	for range 10 {
		n := newNet(t, threeWorkers(), pipe(t, "p", "a", "b", "test-heir"))
		n.run()
		done := make(chan struct{})
		go func() {
			defer close(done)
			for n.eng.Swap([]pipeline.Pipeline{pipe(t, "p", "a", "b", "test-heir ! test-hand")}) == nil {
			}
		}()
		for range 3 {
			n.eng.Snapshot()
		}
		n.end()
		<-done
	}
	if m, c := sharedMade.Load()-made, sharedClosed.Load()-closed; m != c || m < 10 {
		t.Errorf("values made %d and closed %d times", m, c)
	}
	if got := heirs.Load(); got != open {
		t.Errorf("%d instances are left open", got-open)
	}
}
