package pipeline

// outlets are the ways of one worker out of a port: its own queues of it, or one
// of another worker's.
type outlets struct {
	port  string
	ways  []*outlet
	multi bool // it takes packets of several descriptors
}

// An outlet is one way out: a queue of the worker's own, or a ring to the worker
// that owns the queue.
type outlet struct {
	queue *workerQueue
	ring  *ring
	drops []uint64 // of an outlet with a ring, by Reason; they count as the queue's
}

// MultiBuffer is implemented by Queues that transmit packets of several
// descriptors; Batch.Segment has them all. It is asked once, by New.
type MultiBuffer interface{ MultiBuffer() bool }

// transmit hands all packets on; the batch is empty afterwards. Of several queues
// that of the rank of the queue which the worker receives from is taken.
func (o *outlets) transmit(w *worker, b *Batch) {
	way := o.ways[0]
	if w.rank < len(o.ways) {
		way = o.ways[w.rank]
	}
	if b.multi && !o.multi {
		dropMulti(w, way, b)
	}
	if w.tracer != nil {
		w.departing(b)
	}
	taken, why := way.take(w, b)
	if w.tracer != nil {
		w.departed(taken, o, way, why)
	}
	if taken < b.n {
		way.lose(why, b.n-taken)
		b.release(taken)
	}
	b.n, b.multi = 0, false
}

// take hands packets on, from the first, and returns how many.
func (o *outlet) take(w *worker, b *Batch) (taken int, why Reason) {
	if o.ring == nil {
		return o.queue.queue.Transmit(b)
	}
	w.pushed = true
	for i := range b.n {
		b.meta[i].arrival = b.Arrival(i) // the other worker is in another round
	}
	for taken < b.n && o.ring.push(b.desc[taken], &b.meta[taken]) {
		taken++
	}
	return taken, ReasonHandoffFull
}

func (o *outlet) lose(why Reason, n int) {
	drops := o.drops
	if o.ring == nil {
		drops = o.queue.drops
	}
	if int(why) >= len(drops) {
		why = 0 // not one of the engine's
	}
	drops[why] += uint64(n)
}

// dropMulti drops the packets of several descriptors.
func dropMulti(w *worker, way *outlet, b *Batch) {
	kept := 0
	for i := range b.n {
		if b.desc[i].Options&contd != 0 {
			w.lost(&b.meta[i], way.queue.port, ReasonMulti)
			b.put(&b.desc[i])
			continue
		}
		b.desc[kept], b.meta[kept] = b.desc[i], b.meta[i]
		kept++
	}
	way.lose(ReasonMulti, b.n-kept)
	b.n = kept
}
