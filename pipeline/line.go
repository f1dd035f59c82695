package pipeline

import (
	"fmt"
	"runtime/debug"
	"time"

	"github.com/xdpipe/xdpipe/umem"
)

// A node is one stage instance of one worker, with its counters. Everything in
// it is the worker's.
type node struct {
	stage Stage
	name  string // pipeline/position:type
	kind  string

	calls   uint64
	packets uint64
	timed   uint64   // packets of the calls that were timed
	nanos   int64    // time those calls took
	drops   []uint64 // by Reason
}

// timeEvery is how many calls of a stage there are to one that is timed. Reading
// the clock costs about as much as a cheap stage on a small batch.
const timeEvery = 16

// epoch makes time.Since read the monotonic clock only.
var epoch = time.Now()

// clock is the engine's clock unless Options give another: nanoseconds of the
// monotonic clock.
func clock() int64 { return int64(time.Since(epoch)) }

// process runs the stage on the batch and takes out what it dropped.
func (n *node) process(b *Batch) {
	n.calls++
	n.packets += uint64(b.n)
	if n.calls%timeEvery == 1 {
		packets := uint64(b.n)
		start := time.Since(epoch)
		n.stage.Process(b)
		n.nanos += int64(time.Since(epoch) - start)
		n.timed += packets
	} else {
		n.stage.Process(b)
	}
	if b.marked > 0 {
		b.sweep(n.drops)
	}
}

// A line is one pipeline on one worker: where its batches come from, its stages,
// and where what remains goes.
type line struct {
	in    *workerQueue
	nodes []*node
	out   *workerQueue
	busy  *node // the stage that has the batch; nil outside stages
}

// workerQueue is a queue of this worker, and the drops made on its behalf.
type workerQueue struct {
	port  string
	queue Queue
	drops []uint64 // packets that could not be transmitted, by Reason
	ended error    // why the port is of no more use
	read  bool     // a line takes packets from it
	quiet int      // rounds since a packet arrived, up to quietRounds
}

// run takes one batch from the queue through the stages to the other queue. It
// returns how many packets came in.
func (l *line) run(w *worker) int {
	b := w.batch
	n := l.in.queue.Receive(b)
	if n == 0 {
		return 0
	}
	l.in.quiet = 0
	l.stages(w, b)
	if b.n > 0 {
		taken, why := l.out.queue.Transmit(b)
		if taken < b.n {
			l.out.drops[why] += uint64(b.n - taken)
			b.release(taken)
		}
		b.n = 0
	}
	return n
}

// stages runs the batch through all stages. A stage that panics loses it.
func (l *line) stages(w *worker, b *Batch) {
	defer func() {
		if l.busy != nil {
			l.contain(w, b, recover())
		}
	}()
	for _, n := range l.nodes {
		l.busy = n
		n.process(b)
		if b.n == 0 {
			break
		}
	}
	l.busy = nil
}

// contain ends a batch whose stage panicked. A Violation of frame ownership is
// not contained: the memory can no longer be trusted.
func (l *line) contain(w *worker, b *Batch, cause any) {
	n := l.busy
	l.busy = nil
	if v, ok := cause.(*umem.Violation); ok {
		panic(v)
	}
	n.drops[ReasonPanic] += uint64(b.n)
	b.release(0)
	w.engine.panicked(n.name, fmt.Sprint(cause), debug.Stack())
}
