package pipeline_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
)

// Tests of what happens at the very moment when something else does: a stage calls
// back into the test.

func init() {
	pipeline.Register(pipeline.Module{Name: "test-hook", New: func() pipeline.Stage { return &hooked{} }})
}

// hooked calls hook for each batch.
type hooked struct{ worker int }

var hook atomic.Pointer[func(worker, packets int)]

func (s *hooked) Provision(ctx *pipeline.Context) error { s.worker = ctx.Worker; return nil }

func (s *hooked) Process(b *pipeline.Batch) {
	if f := hook.Load(); f != nil {
		(*f)(s.worker, b.Len())
	}
}

func setHook(t *testing.T, f func(worker, packets int)) {
	hook.Store(&f)
	t.Cleanup(func() { hook.Store(nil) })
}

// A worker that has nothing to do any more goes on for the others: what worker 0 has
// waiting is more than the ring to worker 1 holds, and it hands over a batch only when
// the one before was taken.
func TestAWorkerGoesOnUntilTheOthersHaveNothingToHandOver(t *testing.T) {
	n := newNet(t, netConfig{workers: 2, ring: 4096, owners: map[string][]int{"a": {0}, "b": {1}}, ports: []string{"a", "b"}},
		pipe(t, "p", "a", "b", "test-hook ! test-hand to=1 ! test-hook"))
	const sent = 2 * pipeline.RingSize
	n.round()
	for i := range sent {
		n.deliver("a", numbered(0, 0, i))
	}
	var seen atomic.Int64
	handed := 0
	begun := make(chan struct{})
	setHook(t, func(worker, packets int) {
		if worker == 1 {
			seen.Add(int64(packets))
			return
		}
		if handed == 0 {
			close(begun)
			waitFor(t, n.eng.Stopping)
		} else {
			waitFor(t, func() bool { return seen.Load() == int64(handed) })
		}
		handed += packets
	})
	n.run()
	<-begun
	n.stop()
	if got := len(n.out()["b"]); got != sent || seen.Load() != sent {
		t.Errorf("%d packets left, want %d: %v", got, sent, drops(n.eng.Snapshot()))
	}
	n.end()
}

func TestASourceIsNotAskedAgainOnceTheEngineStops(t *testing.T) {
	n := newNet(t, netConfig{ports: []string{"b"}}, sourcePipe(t, "", "test-source count=2000000000 burst=64 ! test-hook ! test-sink"))
	begun := make(chan struct{})
	calls := 0
	setHook(t, func(int, int) {
		if calls++; calls == 1 {
			close(begun)
			waitFor(t, n.eng.Stopping)
		}
	})
	n.run()
	<-begun
	n.stop()
	if calls != 1 {
		t.Errorf("it made packets %d times, want only before the stop", calls)
	}
	n.end()
}

func TestAWorkerThatIsAsleepIsRousedAndOneThatIsAwakeIsNot(t *testing.T) {
	for _, stages := range []string{"test-hand to=1", "test-empty"} { // by its ring, by that to its port
		n := newNet(t, netConfig{workers: 2, owners: map[string][]int{"a": {0}, "b": {1}}, ports: []string{"a", "b"}}, pipe(t, "p", "a", "b", stages))
		n.round()
		n.deliver("a", numbered(0, 0, 0))
		n.eng.RoundOf(0)
		if n.eng.Roused(1) {
			t.Errorf("%s: it is roused though it is awake", stages)
		}
		n.eng.PretendAsleep(1)
		n.eng.RoundOf(0) // hands nothing over
		if n.eng.Roused(1) {
			t.Errorf("%s: it is roused for nothing", stages)
		}
		n.deliver("a", numbered(0, 0, 1))
		n.eng.RoundOf(0)
		if !n.eng.Roused(1) || n.eng.Asleep(1) {
			t.Errorf("%s: it is not roused", stages)
		}
		n.settle()
		n.end()
	}
}

// The trace begins, and the other worker picks a packet and hands it over, while this
// one is in a round that began before.
func TestATraceBegunInTheMiddleOfARoundLosesNoStep(t *testing.T) {
	n := newNet(t, netConfig{workers: 2, owners: map[string][]int{"a": {0}, "b": {1}, "c": {1}}},
		pipe(t, "p", "a", "b", "test-hand to=1 ! test-empty"), pipe(t, "q", "c", "b", "test-hook"))
	n.round()
	ctx, cancel := context.WithCancel(context.Background())
	var done <-chan []pipeline.TracedPacket
	setHook(t, func(int, int) {
		done = n.tracing(ctx, pipeline.TraceOptions{Packets: 1})
		n.deliver("a", numbered(0, 0, 0))
		n.eng.RoundOf(0)
	})
	n.deliver("c", numbered(0, 0, 1))
	n.eng.RoundOf(1)
	if port(t, n.eng.Snapshot(), "c").RxPackets != 1 {
		t.Errorf("%+v", n.eng.Snapshot().Ports)
	}
	cancel() // so that a trace that is not at its end gives what it has
	const want = "p/1:test-hand@0 worker | 1\np/2:test-empty@1 next\nb@1 transmit | b"
	if got := path((<-done)[0]); got != want {
		t.Errorf("path is\n%s\nwant\n%s", got, want)
	}
	n.end()
}

func TestTheEndOfATraceDoesNotEndTheNext(t *testing.T) {
	n := newNet(t, netConfig{workers: 2, owners: map[string][]int{"a": {0}, "b": {1}}, ports: []string{"a", "b"}}, pipe(t, "p", "a", "b", "test-hand to=1"))
	n.round()
	ctx, cancel := context.WithCancel(context.Background())
	var next <-chan []pipeline.TracedPacket
	ended := make(chan error, 1)
	go func() {
		ended <- n.eng.Trace(ctx, pipeline.TraceOptions{Packets: 5}, func(pipeline.TracedPacket) {
			next = n.tracing(context.Background(), pipeline.TraceOptions{Packets: 1})
		})
	}()
	waitFor(t, n.eng.Tracing)
	n.deliver("a", numbered(0, 0, 0))
	n.eng.RoundOf(0) // worker 1 does not get to it
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if !n.eng.Tracing() {
		t.Fatal("the next trace was ended")
	}
	n.settle()
	n.pass(numbered(0, 0, 1))
	if got := <-next; len(got) != 1 || number(got[0].Data) != 1 {
		t.Errorf("the next trace followed %+v", got)
	}
	n.end()
}
