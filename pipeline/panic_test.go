package pipeline_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/xdpipe/xdpipe/pipeline"
)

// boomPipe is a pipeline whose stage panics at packets of kind 7.
func boomPipe(t *testing.T, action pipeline.PanicAction, stages string) pipeline.Pipeline {
	p := pipe(t, "p", "a", "b", stages)
	p.OnPanic = action
	return p
}

func status(n *net) pipeline.PipelineStatus { return n.eng.Snapshot().Pipelines[0] }

func TestAPipelineThatPanicsTooOftenDropsOrPasses(t *testing.T) {
	for _, tc := range []struct {
		action pipeline.PanicAction
		state  string
		left   int // of ten packets after it
	}{
		{pipeline.PanicDrop, "dropping", 0},
		{pipeline.PanicPass, "passing", 10},
	} {
		t.Run(tc.action.String(), func(t *testing.T) {
			n := newNet(t, netConfig{}, boomPipe(t, tc.action, "test-boom ! test-write mark=1"))
			for i := range pipeline.PanicLimit - 1 {
				n.pass(numbered(7, 0, i))
			}
			if s := status(n); s.State != "running" || s.Panics != pipeline.PanicLimit-1 {
				t.Fatalf("%+v, want it to run after %d panics", s, pipeline.PanicLimit-1)
			}
			if out := n.pass(numbered(0, 0, 0)); len(out["b"]) != 1 {
				t.Error("a packet that nothing is wrong with is lost")
			}
			n.pass(numbered(7, 0, 0))
			out := n.pass(func() (packets [][]byte) {
				for i := range 10 {
					packets = append(packets, numbered(0, 0, i))
				}
				return packets
			}()...)
			s := status(n)
			if s.State != tc.state || len(out["b"]) != tc.left || s.Dropped != uint64(10-tc.left) {
				t.Errorf("%+v and %d left, want %s and %d", s, len(out["b"]), tc.state, tc.left)
			}
			if tc.left > 0 && out["b"][0][30] != 0 {
				t.Error("a packet passed through its stages")
			}
			if got := strings.Count(n.log.String(), "a stage panicked and lost its batch"); got != 1 {
				t.Errorf("it was reported %d times, want once: %s", got, n.log)
			}
			if !strings.Contains(n.log.String(), "modules_test.go") {
				t.Errorf("the log has no stack: %s", n.log)
			}
			// A reload starts it again, and tells of the next panic.
			if err := n.eng.Swap([]pipeline.Pipeline{boomPipe(t, tc.action, "test-boom ! test-write mark=1")}); err != nil {
				t.Fatal(err)
			}
			if out := n.pass(numbered(0, 0, 0)); len(out["b"]) != 1 || out["b"][0][30] != 1 {
				t.Errorf("after the reload %d packets left", len(out["b"]))
			}
			n.pass(numbered(7, 0, 0))
			if s := status(n); s.State != "running" || s.Panics != 1 {
				t.Errorf("after the reload: %+v", s)
			}
			if got := strings.Count(n.log.String(), "a stage panicked and lost its batch"); got != 2 {
				t.Errorf("it was reported %d times, want once more: %s", got, n.log)
			}
			if d := drops(n.eng.Snapshot()); d["panic"] != pipeline.PanicLimit+1 || d["pipeline_disabled"] != uint64(10-tc.left) {
				t.Errorf("drops %v", d)
			}
			n.end()
		})
	}
}

func TestAPipelineMayStopTheEngineWhenItPanicsTooOften(t *testing.T) {
	n := newNet(t, netConfig{}, boomPipe(t, pipeline.PanicStop, "test-boom"))
	n.round()
	done := make(chan error, 1)
	go func() { done <- n.eng.Run(context.Background()) }()
	for i := range pipeline.PanicLimit {
		n.deliver("a", numbered(7, 0, i))
		if i < pipeline.PanicLimit-1 {
			waitFor(t, func() bool { return status(n).Panics == uint64(i+1) })
		}
	}
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "pipeline p: stage p/1:test-boom panicked 8 times") {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the engine goes on")
	}
	if s := status(n); s.State != "stopped" {
		t.Errorf("%+v, want it stopped", s)
	}
	n.end()
}

func TestAPanicInABranchCostsThatBatchAlone(t *testing.T) {
	n := newNet(t, netConfig{}, pipe(t, "p", "a", "b", "test-split odd->x even->y ! count; x: test-boom on=1 -> tail; y: test-empty -> tail; tail: count -> c"))
	out := n.pass(numbered(0, 0, 0), numbered(1, 0, 1), numbered(2, 0, 2), numbered(1, 0, 3), numbered(0, 0, 4))
	if len(out["b"]) != 2 || len(out["c"]) != 1 {
		t.Errorf("%d packets left by b and %d by c, want 2 and 1", len(out["b"]), len(out["c"]))
	}
	if d := drops(n.eng.Snapshot()); d["panic"] != 2 || len(d) != 1 {
		t.Errorf("drops %v, want 2 of the panic", d)
	}
	n.end()
}

// While the main chain sends what its stage sends to a branch, the branch fills up, is
// worked off, and panics: the main chain goes on where it was.
func TestAPanicWhileABranchIsWorkedOffInBetween(t *testing.T) {
	n := newNet(t, netConfig{ring: 2048, batch: 256}, pipe(t, "p", "a", "b", "test-tee copy->x ! test-tee copy->x ! count; x: test-boom -> c"))
	n.round()
	for i := range 200 {
		kind := byte(0)
		if i == 30 { // among the first 256 twice
			kind = 7
		}
		n.deliver("a", numbered(kind, 0, i))
	}
	n.settle()
	out := n.out()
	s := n.eng.Snapshot()
	lost := int(drops(s)["panic"])
	if len(out["b"]) != 200 || len(out["c"])+lost != 400 || lost != 256 {
		t.Errorf("%d left by b, %d by c, %d lost: want 200, 144 and 256", len(out["b"]), len(out["c"]), lost)
	}
	n.end()
}

func TestWhatAStageDidBeforeItPanickedIsUndone(t *testing.T) {
	for _, first := range []string{"tee", "make", "drop"} {
		t.Run(first, func(t *testing.T) {
			n := newNet(t, netConfig{}, pipe(t, "p", "a", "b", "test-boom first="+first+" copy->c"))
			out := n.pass(numbered(0, 0, 0), numbered(7, 0, 1), numbered(0, 0, 2))
			if len(out["b"])+len(out["c"]) != 0 {
				t.Errorf("%d and %d packets left", len(out["b"]), len(out["c"]))
			}
			s := n.eng.Snapshot()
			made := uint64(0)
			if first == "make" {
				made = 1
			}
			if d := drops(s); d["panic"] != 3+made || len(d) != 1 || s.Packets.Created != made || s.Packets.Teed != 0 {
				t.Errorf("drops %v and %+v, want the batch lost to the panic and nothing else", d, s.Packets)
			}
			if got := n.mem.ExtraRefs(); got != 0 {
				t.Errorf("%d references are left", got)
			}
			out = n.pass(numbered(0, 0, 3)) // nothing of it clings to the next
			if len(out["b"]) != 1 || len(out["c"]) != 0 {
				t.Errorf("then %d and %d packets left, want 1 and none", len(out["b"]), len(out["c"]))
			}
			n.end()
		})
	}
}

func TestASourceThatPanicsWhenAskedIsContained(t *testing.T) {
	n := newNet(t, netConfig{ports: []string{"b"}, idle: pipeline.IdleSleep},
		pipeline.Pipeline{Name: "p", To: "b", OnPanic: pipeline.PanicPass, Stages: pipe(t, "", "", "", "test-source wrong=due").Stages})
	n.run()
	waitFor(t, func() bool { return status(n).State == "dropping" })
	n.stop()
	if s := status(n); s.Panics != pipeline.PanicLimit {
		t.Errorf("%+v, want %d panics: it is asked no more", s, pipeline.PanicLimit)
	}
	n.end()
}
