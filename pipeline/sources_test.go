package pipeline_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
)

// sourcePipe is a pipeline of a source that ends at port b, or in a sink.
func sourcePipe(t *testing.T, to, stages string) pipeline.Pipeline {
	return pipeline.Pipeline{Name: "p", To: to, Stages: pipe(t, "", "", "", stages).Stages}
}

func TestASourceMakesPacketsWhenTheyAreDueAndNoMore(t *testing.T) {
	now := int64(1000)
	n := newNet(t, netConfig{ports: []string{"b"}, clock: func() int64 { return now }},
		sourcePipe(t, "b", "test-source count=7 burst=3 every=100"))
	var got []int
	for range 5 {
		n.round() // at the same time: one burst
		n.round()
		got = append(got, len(n.out()["b"]))
		now += 99
		n.round() // a nanosecond too early
		if early := len(n.out()["b"]); early != 0 {
			t.Errorf("%d packets before they are due", early)
		}
		now++
	}
	if want := []int{3, 3, 1, 0, 0}; !slices.Equal(got, want) {
		t.Errorf("bursts of %v packets, want %v", got, want)
	}
	if s := n.eng.Snapshot(); s.Packets.Created != 7 || s.Stages[0].Calls != 3 {
		t.Errorf("%+v, want 7 packets made in 3 calls", s.Stages[0])
	}
	n.end()
}

func TestASourceGoesOnWhenFramesAreFreeAgain(t *testing.T) {
	n := newNet(t, netConfig{ports: []string{"b", "c"}, frames: 600, ring: 64}, sourcePipe(t, "b", "test-source count=200 burst=64"))
	var got []int
	for range 40 {
		n.round()
		got = append(got, numbers(n.out()["b"])...)
	}
	if want := upTo(200); !slices.Equal(got, want) {
		t.Errorf("%d packets left, want %d in order", len(got), len(want))
	}
	n.end()
}

func TestASourceMakesNothingMoreOnceTheEngineStops(t *testing.T) {
	n := newNet(t, netConfig{ports: []string{"b"}}, sourcePipe(t, "", "test-source count=2000000000 burst=64 ! test-sink"))
	n.run()
	waitFor(t, func() bool { return n.eng.Snapshot().Packets.Created > 1000 })
	n.stop()
	before := n.eng.Snapshot().Packets.Created
	n.end()
	if after := n.eng.Snapshot().Packets; after.Created != before || after.Consumed != before {
		t.Errorf("%+v, want %d made and ended in the sink", after, before)
	}
}

func TestASourceRunsOnTheWorkerOfItsPipeline(t *testing.T) {
	p := sourcePipe(t, "b", "test-source count=5 ! count")
	p.Worker = 1
	n := newNet(t, netConfig{workers: 2, owners: map[string][]int{"a": {0}, "b": {0}}, ports: []string{"a", "b"}}, p, pipe(t, "q", "a", "a", ""))
	n.settle()
	n.settle()
	if got := numbers(n.out()["b"]); !slices.Equal(got, upTo(5)) {
		t.Errorf("packets %v left, want 5", got)
	}
	for _, s := range n.eng.Snapshot().Stages {
		if s.Worker != 1 {
			t.Errorf("stage %s runs on worker %d, want 1", s.Name, s.Worker)
		}
	}
	n.end()
}

func TestASinkCountsWhatEndsInItAndWhatItDrops(t *testing.T) {
	n := newNet(t, netConfig{}, pipe(t, "p", "a", "", "test-split odd->x even->c ! test-sink; x: test-sink"))
	out := n.pass(numbered(0, 0, 0), numbered(1, 0, 1), numbered(1, 0, 2), numbered(2, 0, 3), numbered(0, 0, 4))
	s := n.eng.Snapshot()
	if main := stage(t, s, "p/2:test-sink"); main.Consumed != 2 || len(main.Drops) != 0 {
		t.Errorf("%+v, want 2 packets to end in it", main)
	}
	if branch := stage(t, s, "p/3:test-sink"); branch.Consumed != 0 || branch.Drops["unwanted"] != 2 {
		t.Errorf("%+v, want 2 dropped", branch)
	}
	if s.Packets.Consumed != 2 || len(out["c"]) != 1 {
		t.Errorf("%+v and %d left, want 2 and 1", s.Packets, len(out["c"]))
	}
	n.end()
}

func TestPacketsMadeInTheMiddleAreCountedAndGoOn(t *testing.T) {
	n := newNet(t, netConfig{batch: 4}, pipe(t, "p", "a", "b", "test-make ! count"))
	out := n.pass(numbered(0, 0, 0), numbered(0, 0, 1), numbered(0, 0, 2)) // there is room for one more
	if len(out["b"]) != 4 || out["b"][3][14] != 9 {
		t.Errorf("%d packets left, want 3 and the one that was made behind them", len(out["b"]))
	}
	s := n.eng.Snapshot()
	if m := stage(t, s, "p/1:test-make"); m.Created != 1 || m.Packets != 4 || s.Packets.Created != 1 {
		t.Errorf("%+v, want one created", m)
	}
	n.end()
}

func TestTheLedgerFindsAStageThatWritesWithoutSayingSo(t *testing.T) {
	for _, stages := range []string{"test-liar mark=1", "test-tee copy->c ! test-liar mark=1"} {
		n := newNet(t, netConfig{}, pipe(t, "p", "a", "b", stages))
		out := n.pass(numbered(0, 0, 0))
		if len(out["b"]) != 0 || drops(n.eng.Snapshot())["panic"] != 1 || !strings.Contains(n.log.String(), "set Writes: true") {
			t.Errorf("%s: %d packets left; the log says %s", stages, len(out["b"]), n.log)
		}
		n.end()
	}
	// Without the ledger nobody looks.
	n := newNet(t, netConfig{noLedger: true}, pipe(t, "p", "a", "b", "test-liar mark=1"))
	if out := n.pass(numbered(0, 0, 0)); len(out["b"]) != 1 {
		t.Error("it is found without a ledger")
	}
	n.end()
}

func TestTheLedgerFindsAStageThatPushesWithoutSayingSo(t *testing.T) {
	n := newNet(t, netConfig{}, pipe(t, "p", "a", "b", "test-move pull=4 ! test-push"))
	n.pass(numbered(0, 0, 0))
	if drops(n.eng.Snapshot())["panic"] != 1 || !strings.Contains(n.log.String(), "set Writes: true") {
		t.Errorf("the log says %s", n.log)
	}
	n.end()
}

func init() {
	pipeline.Register(pipeline.Module{Name: "test-push", New: func() pipeline.Stage { return &pusher{} }})
}

// pusher pushes, and its module does not say that it writes.
type pusher struct{}

func (*pusher) Process(b *pipeline.Batch) {
	for i := range b.Len() {
		b.Push(i, 4)
	}
}
