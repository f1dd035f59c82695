package pipeline_test

import (
	"sync"
	"testing"
	"time"
)

// A flow is packets of one flow number, in order.
type flow struct {
	id   byte
	next int
}

// A feeder delivers packets to ports and takes those that leave, in a goroutine of
// its own, until it is stopped.
type feeder struct {
	n      *net
	in     map[string][]flow
	window int // packets that may be on their way
	sent   int
	got    map[string][][]byte // by port
	taken  int
	copies int // packets that leave for each that came

	quit chan struct{}
	done sync.WaitGroup
}

// feed begins to deliver the flows in turn, without end, for each of whose packets
// copies leave. So few are on their way at a time that no ring is ever full.
func (n *net) feed(copies int, in map[string][]flow) *feeder {
	f := &feeder{n: n, in: in, window: 200, copies: copies, got: map[string][][]byte{}, quit: make(chan struct{})}
	f.done.Go(f.loop)
	return f
}

func (f *feeder) loop() {
	for {
		select {
		case <-f.quit:
			return
		default:
		}
		for port, flows := range f.in {
			for i := range flows {
				if f.sent*f.copies-f.taken >= f.window {
					break
				}
				k := f.n.k[port][i%len(f.n.k[port])]
				if k.Deliver(numbered(0, flows[i].id, flows[i].next)) == 1 {
					flows[i].next++
					f.sent++
				}
			}
		}
		f.take()
	}
}

// take takes what has left.
func (f *feeder) take() {
	for port, packets := range f.n.out() {
		f.got[port] = append(f.got[port], packets...)
		f.taken += len(packets)
	}
}

// stop ends the feeding and waits until all packets have left.
func (f *feeder) stop() {
	f.n.t.Helper()
	close(f.quit)
	f.done.Wait()
	for deadline := time.Now().Add(20 * time.Second); f.taken < f.sent*f.copies; f.take() {
		if time.Now().After(deadline) {
			f.n.t.Errorf("%d packets came in and %d left, want %d of each: %+v", f.sent, f.taken, f.copies, f.n.eng.Snapshot())
			return
		}
		time.Sleep(10 * time.Microsecond)
	}
}

// checkOrder wants every packet of every flow to have left in order, each as often as
// it has copies.
func (f *feeder) checkOrder(t testing.TB) {
	t.Helper()
	for _, flows := range f.in {
		for _, fl := range flows {
			var got [][]byte
			for _, packets := range f.got {
				for _, p := range packets {
					if p[15] == fl.id {
						got = append(got, p)
					}
				}
			}
			if len(got) != fl.next*f.copies {
				t.Errorf("%d packets of flow %d left, want %d", len(got), fl.id, fl.next*f.copies)
			}
			for i, p := range got {
				if f.copies == 1 && number(p) != i {
					t.Errorf("packet %d of flow %d left as the %d-th", number(p), fl.id, i)
					break
				}
			}
		}
	}
}
