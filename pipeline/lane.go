package pipeline

import (
	"fmt"
	"runtime/debug"

	"github.com/xdpipe/xdpipe/umem"
	"github.com/xdpipe/xdpipe/xsk"
)

// A lane is one pipeline on one worker: its own instances of the stages and the
// batches that wait between them.
type lane struct {
	pipe    *pipe
	nodes   []*node  // by stage; nil where the lane has none
	entries []*entry // in topological order: what waits is worked off in one pass
	to      *outlets // where the pipeline ends; nil if in sinks
	at      map[target]*entry
}

// A chain is stages that follow one another, and where packets go after them.
type chain struct {
	nodes []*node
	next  *entry   // a stage of another chain, or
	port  *outlets // a port; or neither, after a sink
}

// An entry is a place in the graph that packets enter otherwise than from the
// stage before it: the head of a branch, a stage where chains merge, or a port
// that an output leads to. They wait in its batch until the lane comes to it.
type entry struct {
	lane  *lane
	chain chain
	batch *Batch
}

// take puts a packet into the entry's batch, which is worked off first if it is
// full.
func (e *entry) take(w *worker, d xsk.Desc, m *Meta) {
	if e.batch.n == MaxBatch {
		e.flush(w)
	}
	if m.arrival == 0 { // it may wait for another round, or is to be handed over
		m.arrival = w.round.time()
	}
	e.batch.add(d, m)
}

func (e *entry) flush(w *worker) {
	e.lane.pass(w, &e.chain, e.batch)
}

// settle works off what waits at the entries. Every edge leads to a later one.
func (l *lane) settle(w *worker) {
	for _, e := range l.entries {
		if e.batch.n > 0 {
			e.flush(w)
		}
	}
}

// pass runs a batch through a chain and hands on what remains. The batch is empty
// afterwards.
func (l *lane) pass(w *worker, c *chain, b *Batch) {
	l.stages(w, c, b)
	if b.n == 0 {
		b.multi = false
		return
	}
	switch {
	case c.port != nil:
		c.port.transmit(w, b)
	case c.next != nil:
		for i := range b.n {
			c.next.take(w, b.desc[i], &b.meta[i])
		}
		b.n = 0
	default: // the last stage is a sink
		n := c.nodes[len(c.nodes)-1]
		n.consumed += uint64(b.n)
		w.sunk(b, n.name)
		b.release(0)
	}
	b.multi = false
}

// stages runs the batch through all stages of a chain. A stage that panics loses
// it.
func (l *lane) stages(w *worker, c *chain, b *Batch) {
	defer func() {
		if n := w.busy; n != nil {
			l.contain(w, n, b, recover())
		}
	}()
	for _, n := range c.nodes {
		w.busy = n
		n.process(w, b)
		if b.n == 0 {
			break
		}
	}
	w.busy = nil
}

// contain ends a batch whose stage panicked. A Violation of frame ownership is
// not contained: the memory can no longer be trusted.
func (l *lane) contain(w *worker, n *node, b *Batch, cause any) {
	w.busy = nil
	if v, ok := cause.(*umem.Violation); ok {
		panic(v)
	}
	n.made(b)
	for i := range b.n {
		w.lost(&b.meta[i], n.name, ReasonPanic)
	}
	n.drops[ReasonPanic] += uint64(b.n)
	b.release(0)
	b.multi = false
	l.panicked(w, n, cause)
}

// panicked notes a panic of a stage, with the engine and with the pipeline.
func (l *lane) panicked(w *worker, n *node, cause any) {
	w.engine.panicked(n.name, fmt.Sprint(cause), debug.Stack())
	if err := l.pipe.panicked(w.engine, n.name); err != nil && w.failed == nil {
		w.failed = err
	}
}

// A line is where a lane's packets come from: a queue of a port, or a source.
type line struct {
	lane   *lane
	in     *workerQueue // nil for a source
	source Source
	rank   int // of the queue among the worker's of that port
	chain  chain
}

// run takes one batch from the queue through the lane. It returns how many
// packets came in.
func (l *line) run(w *worker) int {
	b := w.batch
	w.rank = l.rank
	if l.in == nil {
		return l.make(w, b)
	}
	n := l.in.queue.Receive(b)
	if n == 0 {
		return 0
	}
	l.in.quiet = 0
	if w.tracer != nil {
		w.tracer.pick(w, b, l.in.port, l.in.queue)
	}
	l.lane.enter(w, &l.chain, b)
	return n
}

// due returns when the source is due. One whose pipeline is disabled never is, and
// one that panics instead of answering is not now.
func (l *line) due(w *worker) (at int64) {
	if l.lane.pipe.state.Load() != pipeRuns {
		return Never
	}
	defer func() {
		if cause := recover(); cause != nil {
			l.lane.panicked(w, l.chain.nodes[0], cause)
			at = Never
		}
	}()
	return l.source.Due()
}

// make lets the source fill a batch if it is time, and takes it through the lane.
func (l *line) make(w *worker, b *Batch) int {
	if w.stopping {
		return 0
	}
	if due := l.due(w); due == Never || due > w.round.time() {
		return 0
	}
	first := l.chain.nodes[0]
	before := first.packets
	l.lane.enter(w, &l.chain, b)
	return int(first.packets - before)
}

// enter runs a batch through a chain and what it leads to, or does what becomes
// of a pipeline whose stages panicked too often.
func (l *lane) enter(w *worker, c *chain, b *Batch) {
	switch state := l.pipe.state.Load(); {
	case state == pipeRuns:
		l.pass(w, c, b)
		l.settle(w)
	case state == pipePasses && l.to != nil:
		l.to.transmit(w, b)
	default:
		for i := range b.n {
			w.lost(&b.meta[i], l.pipe.name, ReasonDisabled)
		}
		l.pipe.disabled.Add(uint64(b.n))
		b.release(0)
	}
}

// inbound is where packets come from that other workers hand over.
type inbound struct {
	ring  *ring
	depth int   // in the graph: nothing leads from a ring to one of less depth
	lane  *lane // nil for a ring that leads to a port
	chain chain
}

func (in *inbound) run(w *worker) int {
	b := w.batch
	n := in.ring.pull(b)
	if n > 0 {
		// The trace may have begun after this round did, and the other worker have
		// picked some of these.
		w.tracer = w.engine.tracer.Load()
	}
	switch {
	case n == 0:
	case in.lane != nil:
		w.rank = 0
		in.lane.enter(w, &in.chain, b)
	default:
		in.chain.port.transmit(w, b)
	}
	return n
}
