package pipeline

import (
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
)

// An assembly is pipelines made ready to run on an engine's workers: the stages
// provisioned, the rings between workers laid. Nothing of it runs before it is
// installed.
type assembly struct {
	pipes  []*pipe
	shares []share // by worker
	shared *sharedValues
}

// nodeKey is what a stage instance is recognised by on a reload.
type nodeKey struct {
	worker         int
	pipeline, kind string
	label          string // its own, or "" for those that have none
	rank           int    // among those of the same kind without a label
}

// assemble builds the pipelines for all workers. After an error nothing is left
// open. before is the assembly in force, whose shared values may be used on.
func (e *Engine) assemble(pipelines []Pipeline, before *assembly) (*assembly, error) {
	a := &assembly{shares: make([]share, len(e.workers)), shared: &sharedValues{}}
	if before != nil {
		a.shared.before = before.shared
	}
	if err := e.assemblePipelines(a, pipelines); err != nil {
		return nil, errors.Join(err, a.close(e))
	}
	a.shared.settle()
	// The counters of drops are as long as the table of reasons is now.
	for i := range a.shares {
		for _, n := range a.shares[i].nodes {
			n.drops = make([]uint64, e.reasons.len())
		}
		for _, o := range a.shares[i].outlets {
			o.drops = make([]uint64, e.reasons.len())
		}
	}
	return a, nil
}

func (e *Engine) assemblePipelines(a *assembly, pipelines []Pipeline) error {
	var ports []string
	for _, p := range e.ports {
		ports = append(ports, p.Name)
	}
	fed, named := map[string]bool{}, map[string]bool{}
	for i := range pipelines {
		p := &pipelines[i]
		var wrong []error
		g := p.resolve(ports, func(at Pos, format string, args ...any) {
			wrong = append(wrong, p.blame(at, fmt.Errorf(format, args...)))
		})
		for _, end := range append(g.ports(), p.From) {
			if end != "" && len(e.queues[end]) == 0 {
				wrong = append(wrong, fmt.Errorf("no port %q with queues", end))
			}
		}
		if p.From != "" && fed[p.From] {
			wrong = append(wrong, fmt.Errorf("a second pipeline takes packets from port %q; each port feeds one", p.From))
		}
		fed[p.From] = true
		if named[p.Name] {
			wrong = append(wrong, fmt.Errorf("a second pipeline is named %q; counters could not tell them apart", p.Name))
		}
		named[p.Name] = true
		if p.From == "" && (p.Worker < 0 || p.Worker >= len(e.workers)) {
			wrong = append(wrong, p.blame(p.Pos, fmt.Errorf("worker %d runs it, and there are %d, from 0", p.Worker, len(e.workers))))
		}
		err := errors.Join(wrong...)
		if err == nil {
			err = e.assemblePipeline(a, g)
		}
		if err != nil {
			return fmt.Errorf("pipeline %s: %w", p.Name, err)
		}
	}
	owners := map[string][]int{}
	for name, queues := range e.queues {
		for _, q := range queues {
			owners[name] = append(owners[name], q.owner.id)
		}
	}
	for _, w := range IdleWorkers(len(e.workers), owners, pipelines) {
		return &IdleWorkerError{w}
	}
	return nil
}

// An IdleWorkerError says that the pipelines leave a worker nothing to do.
type IdleWorkerError struct{ Worker int }

func (e *IdleWorkerError) Error() string {
	return fmt.Sprintf("worker %d has nothing to do: no pipeline takes packets from a queue of its own; use fewer workers, more queues, or a handoff stage", e.Worker)
}

// blame gives an error a position in the configuration if there is one.
func (p *Pipeline) blame(at Pos, err error) error {
	for _, s := range p.Stages {
		if s.file != "" && at.Line > 0 {
			return &ConfigError{s.file, at.Line, at.Column, err.Error()}
		}
	}
	return err
}

// assemblePipeline lays the pipeline's lanes: on the workers that own queues of its
// port, and on all if it hands packets from one to another.
func (e *Engine) assemblePipeline(a *assembly, g *graph) error {
	p := g.pipe
	pp := &pipe{name: p.Name, from: p.From, to: p.To, action: p.OnPanic}
	a.pipes = append(a.pipes, pp)
	lanes := make([]*lane, len(e.workers))
	for id, w := range e.workers {
		receives := p.From == "" && id == p.Worker ||
			slices.ContainsFunc(e.queues[p.From], func(q *workerQueue) bool { return q.owner == w })
		if !receives && !g.hands() {
			continue
		}
		l := &lane{pipe: pp, nodes: make([]*node, len(p.Stages))}
		if p.To != "" {
			l.to = e.outletsOf(a, w, p.To)
		}
		lanes[id] = l
		a.shares[id].lanes = append(a.shares[id].lanes, l)
		if err := e.provision(a, g, l, id); err != nil {
			return err
		}
		e.connect(a, g, l, w)
		e.feed(a, g, l, w)
	}
	e.layRings(a, g, lanes)
	return nil
}

// provision makes the worker's own instances of the pipeline's stages.
func (e *Engine) provision(a *assembly, g *graph, l *lane, worker int) error {
	ranks := map[string]int{}
	for i := range g.pipe.Stages {
		spec := &g.pipe.Stages[i]
		n := &node{
			name: g.pipe.stageName(i), kind: spec.Type, writes: g.modules[i].Writes, sealed: e.mem.Verifying(),
			key:  nodeKey{worker: worker, pipeline: g.pipe.Name, kind: spec.Type, label: spec.Label},
			outs: make([]*entry, len(g.modules[i].Outputs)),
		}
		if spec.Label == "" {
			n.key.rank = ranks[spec.Type]
			ranks[spec.Type]++
		}
		l.nodes[i] = n
		if err := e.provisionStage(a, g, n, i); err != nil {
			return err
		}
	}
	return nil
}

// provisionStage makes the instance of a node. One that panics meanwhile is
// refused: a reload of a running engine must not end it.
func (e *Engine) provisionStage(a *assembly, g *graph, n *node, i int) (err error) {
	p, spec := g.pipe, &g.pipe.Stages[i]
	defer func() {
		if cause := recover(); cause != nil {
			err = spec.blame(fmt.Errorf("it panicked when it was made: %v\n%s", cause, debug.Stack()))
		}
	}()
	if n.stage, err = spec.New(); err != nil {
		return err
	}
	// Before Provision, so that it is closed even if that fails half way.
	a.shares[n.key.worker].nodes = append(a.shares[n.key.worker].nodes, n)
	prov, ok := n.stage.(Provisioner)
	if !ok {
		return nil
	}
	ctx := &Context{
		Stage: n.name, Worker: n.key.worker, Workers: len(e.workers), From: p.From, To: p.To,
		Log: e.log.With("stage", n.name), outputs: map[string]Output{}, now: e.clock, reasons: e.reasons, shared: a.shared,
	}
	for j, o := range g.modules[i].Outputs {
		if slices.ContainsFunc(g.edges[i], func(c edge) bool { return c.output == o.Name }) {
			ctx.outputs[o.Name] = Output(j + 1)
		}
	}
	err = prov.Provision(ctx)
	if err == nil {
		err = ctx.err
	}
	if err != nil {
		return spec.blame(err)
	}
	return nil
}

// connect makes the lane's entries and leads the outputs to them.
func (e *Engine) connect(a *assembly, g *graph, l *lane, w *worker) {
	at := map[target]*entry{}
	for _, i := range g.entries() {
		en := &entry{lane: l, batch: newBatch(w.cache, MaxBatch, e.segs, &w.round)}
		at[target{stage: i}] = en
		l.entries = append(l.entries, en)
	}
	for i, edges := range g.edges {
		for _, c := range edges[1:] {
			en := at[c.to]
			if en == nil { // a port, which comes after all stages
				en = &entry{lane: l, batch: newBatch(w.cache, MaxBatch, e.segs, &w.round), chain: chain{port: e.outletsOf(a, w, c.to.port)}}
				at[c.to] = en
				l.entries = append(l.entries, en)
			}
			o := slices.IndexFunc(g.modules[i].Outputs, func(o OutputInfo) bool { return o.Name == c.output })
			l.nodes[i].outs[o] = en
		}
	}
	for _, i := range g.entries() {
		at[target{stage: i}].chain = e.chainFrom(a, g, l, w, i, at)
	}
	l.at = at
}

// chainFrom returns the chain of stages from the i-th on.
func (e *Engine) chainFrom(a *assembly, g *graph, l *lane, w *worker, i int, at map[target]*entry) chain {
	var c chain
	if len(l.nodes) == 0 { // a pipeline without stages
		c.port = l.to
		return c
	}
	for {
		c.nodes = append(c.nodes, l.nodes[i])
		next := g.edges[i][0].to
		switch {
		case next.port != "":
			c.port = e.outletsOf(a, w, next.port)
			return c
		case next.stage < 0:
			return c // a sink
		case next.stage != i+1 || g.pipe.Stages[i].Last:
			c.next = at[next]
			return c
		}
		i = next.stage
	}
}

// feed makes the lines by which packets come into the lane on the worker.
func (e *Engine) feed(a *assembly, g *graph, l *lane, w *worker) {
	p, s := g.pipe, &a.shares[w.id]
	c := e.chainFrom(a, g, l, w, 0, l.at)
	if p.From == "" {
		if w.id == p.Worker {
			s.lines = append(s.lines, &line{lane: l, source: l.nodes[0].stage.(Source), chain: c})
		}
		return
	}
	rank := 0
	for _, q := range e.queues[p.From] {
		if q.owner != w {
			continue
		}
		s.lines = append(s.lines, &line{lane: l, in: q, rank: rank, chain: c})
		rank++
	}
}

// layRings connects the stages that hand packets over with the same place on the
// other workers.
func (e *Engine) layRings(a *assembly, g *graph, lanes []*lane) {
	for i, m := range g.modules {
		if !m.Hands {
			continue
		}
		for from, w := range e.workers {
			n := lanes[from].nodes[i]
			n.hands = make([]*ring, len(e.workers))
			for to, other := range e.workers {
				if to == from {
					continue
				}
				r := newRing(w, other)
				n.hands[to] = r
				a.shares[from].feeds = append(a.shares[from].feeds, r)
				// What comes out has been through the stage already.
				c := e.chainFrom(a, g, lanes[to], other, i, lanes[to].at)
				c.nodes = c.nodes[1:]
				a.shares[to].inbound = append(a.shares[to].inbound, &inbound{ring: r, depth: slices.Index(g.order, i), lane: lanes[to], chain: c})
			}
		}
	}
}

// outletsOf returns the worker's ways out of a port: its own queues, or, if it has
// none, a ring to the owner of one.
func (e *Engine) outletsOf(a *assembly, w *worker, port string) *outlets {
	s := &a.shares[w.id]
	for _, o := range s.ports {
		if o.port == port {
			return o
		}
	}
	queues := e.queues[port]
	o := &outlets{port: port, multi: len(queues) > 0}
	for _, q := range queues {
		o.multi = o.multi && q.multi
		if q.owner == w {
			o.ways = append(o.ways, &outlet{queue: q})
		}
	}
	if len(o.ways) == 0 {
		q := queues[w.id%len(queues)]
		r := newRing(w, q.owner)
		way := &outlet{queue: q, ring: r}
		o.ways = append(o.ways, way)
		s.outlets = append(s.outlets, way)
		s.feeds = append(s.feeds, r)
		to := &outlets{port: port, ways: []*outlet{{queue: q}}, multi: o.multi}
		a.shares[q.owner.id].inbound = append(a.shares[q.owner.id].inbound, &inbound{ring: r, depth: math.MaxInt, chain: chain{port: to}})
	}
	s.ports = append(s.ports, o)
	return o
}

// close closes all stages and what they share.
func (a *assembly) close(e *Engine) error {
	if a == nil {
		return nil
	}
	var errs []error
	for i := range a.shares {
		for _, n := range a.shares[i].nodes {
			if c, ok := n.stage.(Closer); ok {
				if err := e.closeOne(n.name, c); err != nil {
					errs = append(errs, fmt.Errorf("close stage %s: %w", n.name, err))
				}
			}
		}
	}
	return errors.Join(append(errs, a.shared.close(e))...)
}

// closeOne closes a stage or a value that stages share. One that panics keeps
// nobody else from being closed.
func (e *Engine) closeOne(name string, c Closer) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			e.panicked(name, fmt.Sprint(cause), debug.Stack())
			err = fmt.Errorf("it panicked: %v", cause)
		}
	}()
	return c.Close()
}
