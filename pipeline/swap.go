package pipeline

import (
	"errors"
	"slices"
)

// retired are the counters of stages that a reload took away, so that an account
// of all packets still adds up.
type retired struct {
	drops             map[string]uint64
	created, consumed uint64
	teed, copied      uint64
}

// Swap replaces the pipelines between two batches: the new ones are made ready
// beside the old ones, which go on meanwhile, and then take their place at once. No
// packet is lost: those on their way from one worker to another are worked off by
// the old stages first. A stage that is an Heir takes over from the one whose place it
// takes; counters go on for stages that stay, by pipeline, type and label or rank.
//
// After an error nothing has changed. Ports, workers and memory stay as they are.
func (e *Engine) Swap(pipelines []Pipeline) error {
	e.swapping.Lock()
	defer e.swapping.Unlock()
	e.mu.Lock()
	closed, before := e.closed, e.graph
	e.mu.Unlock()
	if closed {
		return errors.New("reload: the engine is closed")
	}
	after, err := e.assemble(pipelines, before)
	if err != nil {
		return err
	}
	e.Between(func() {
		e.drainRings()
		e.succeed(before, after)
		e.graph = after
		e.install(after)
	})
	e.forgetPanics()
	return before.close(e)
}

// install gives every worker its share.
func (e *Engine) install(a *assembly) {
	for _, w := range e.workers {
		for _, q := range w.queues {
			q.drops = grown(q.drops, e.reasons.len())
			q.read = false
		}
	}
	for i, w := range e.workers {
		w.share = a.shares[i]
		for _, l := range w.lines {
			if l.in != nil {
				l.in.read = true
				// Here and not while the lines are made: a queue is the worker's alone while
				// it runs.
				if fd, _ := l.in.queue.Poll(); fd < 0 {
					w.sleepless = true
				}
			}
		}
	}
}

// grown returns the counters, n of them.
func grown(counters []uint64, n int) []uint64 {
	if len(counters) == n {
		return counters
	}
	return append(counters, make([]uint64, n-len(counters))...)
}

// drainRings works off what workers have handed to each other. All of them stand
// between two batches. One batch after the other is taken from the ring furthest down
// that has any: what it leads to is empty then, and has room for it.
func (e *Engine) drainRings() {
	type end struct {
		w  *worker
		in *inbound
	}
	var ends []end
	for _, w := range e.workers {
		w.round.now = 0
		for _, in := range w.inbound {
			ends = append(ends, end{w, in})
		}
	}
	slices.SortStableFunc(ends, func(a, b end) int { return b.in.depth - a.in.depth })
	for i := 0; i < len(ends); {
		if ends[i].in.run(ends[i].w) > 0 {
			i = 0
		} else {
			i++
		}
	}
	for _, w := range e.workers {
		for _, q := range w.queues {
			if q.ended == nil && len(w.inbound) > 0 {
				_ = q.service(w.cache) // what fails fails again in the next round
			}
		}
	}
}

// succeed hands over from the old stages to the new.
func (e *Engine) succeed(before, after *assembly) {
	heirs := map[nodeKey]*node{}
	for i := range after.shares {
		for _, n := range after.shares[i].nodes {
			heirs[n.key] = n
		}
	}
	for i := range before.shares {
		for _, o := range before.shares[i].outlets {
			for why, n := range o.drops {
				o.queue.drops[why] += n
			}
		}
		for _, old := range before.shares[i].nodes {
			n := heirs[old.key]
			if n == nil {
				e.retire(old)
				continue
			}
			n.calls, n.packets, n.timed, n.nanos = old.calls, old.packets, old.timed, old.nanos
			n.created, n.consumed, n.teed, n.copied = old.created, old.consumed, old.teed, old.copied
			copy(n.drops, old.drops)
			if h, ok := n.stage.(Heir); ok {
				e.inherit(n, h, old)
			}
		}
	}
	for _, p := range before.pipes {
		if n := p.disabled.Load(); n > 0 { // what is not there is no drop to be told of
			e.retired.drops[e.reasons.info(ReasonDisabled).Name] += n
		}
	}
}

func (e *Engine) retire(n *node) {
	for name, count := range e.reasons.named(n.drops) {
		e.retired.drops[name] += count
	}
	e.retired.created += n.created
	e.retired.consumed += n.consumed
	e.retired.teed += n.teed
	e.retired.copied += n.copied
}

// inherit lets a stage take over. One that panics begins anew.
func (e *Engine) inherit(n *node, h Heir, old *node) {
	defer e.recovered(n.name)
	h.Inherit(old.stage)
}
