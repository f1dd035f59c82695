package pipeline

import (
	"fmt"
	"slices"
	"strings"
)

// A Pipeline is a graph of stages that packets of one port enter. The stages are
// in a flat list of chains: each leads to the next in the list, unless it is the
// Last of its chain.
type Pipeline struct {
	Name   string
	From   string // the port packets come from; "" if the first stage is a Source
	Stages []StageSpec
	To     string // the port where chains end that say nothing else; "" if they end in Sinks
	// OnPanic is what becomes of the pipeline when its stages panic again and again.
	OnPanic PanicAction
	// Worker is the index of the worker that runs the pipeline of a Source.
	Worker int
	// Pos is where it stands in the configuration.
	Pos, FromPos, ToPos Pos
}

// A target is where packets go from an output: to a stage, by its index, to a
// port, or nowhere, since the stage is a sink.
type target struct {
	stage int // -1 if it is none
	port  string
}

// An edge leads from an output of a stage, "" for the next stage, to a target.
type edge struct {
	output string
	to     target
	pos    Pos
}

// A graph is a pipeline whose names are resolved.
type graph struct {
	pipe    *Pipeline
	modules []Module
	edges   [][]edge // by stage; the first is that to the next stage
	order   []int    // the stages in topological order
}

// complain reports a mistake at a position.
type complain func(at Pos, format string, args ...any)

// resolve finds what every output leads to. What is wrong with the graph goes to
// report; the graph is of use only if nothing was.
func (p *Pipeline) resolve(ports []string, report complain) *graph {
	g := &graph{pipe: p, edges: make([][]edge, len(p.Stages))}
	wrong := false
	r := &resolver{p: p, ports: ports, labels: map[string]int{}, report: func(at Pos, format string, args ...any) {
		wrong = true
		report(at, format, args...)
	}}
	for i := range p.Stages {
		s := &p.Stages[i]
		m, ok := Lookup(s.Type)
		wrong = wrong || !ok // reported where it was read
		g.modules = append(g.modules, m)
		r.label(i, s)
	}
	if wrong {
		return g
	}
	r.ends(g.modules)
	for i := range p.Stages {
		g.edges[i] = r.stage(i, g.modules[i])
	}
	if !wrong {
		g.sort(r)
	}
	return g
}

// resolver is what is known while a pipeline is resolved.
type resolver struct {
	p      *Pipeline
	ports  []string
	labels map[string]int
	report complain
}

func (r *resolver) label(i int, s *StageSpec) {
	if s.Label == "" {
		return
	}
	at := s.LabelPos
	if _, twice := r.labels[s.Label]; twice {
		r.report(at, "stages: the label %q is there twice", s.Label)
	}
	if slices.Contains(r.ports, s.Label) {
		r.report(at, "stages: the label %q is the name of a port; choose another", s.Label)
	}
	r.labels[s.Label] = i
}

// ends checks where packets enter, and what makes and takes them.
func (r *resolver) ends(modules []Module) {
	p := r.p
	for i, m := range modules {
		_, source := m.New().(Source)
		switch {
		case source && i > 0:
			r.report(p.Stages[i].Pos, "stage %s makes packets, and so must be the first of a pipeline", m.Name)
		case source && p.From != "":
			r.report(p.FromPos, "pipelines: from: the first stage, %s, makes the packets; leave from out", m.Name)
		case i == 0 && !source && p.From == "":
			r.report(p.Pos, "pipelines: from is missing (the port packets come from)")
		}
	}
	if len(modules) == 0 && p.From == "" {
		r.report(p.Pos, "pipelines: from is missing (the port packets come from)")
	}
	if len(modules) == 0 && p.To == "" {
		r.report(p.Pos, "pipelines: to is missing (the port packets go to)")
	}
}

// stage returns the edges of the i-th stage.
func (r *resolver) stage(i int, m Module) []edge {
	s := &r.p.Stages[i]
	edges := []edge{{to: target{stage: i + 1}, pos: s.Pos}}
	_, sink := m.New().(Sink)
	switch last := s.Last || i == len(r.p.Stages)-1; {
	case sink && !last:
		r.report(s.Pos, "stage %s takes all packets, and so must be the last of its chain", m.Name)
	case sink && s.To.Name != "":
		r.report(s.To.Pos, "stage %s takes all packets: nothing goes on to %q; leave that out", m.Name, s.To.Name)
	case sink:
		edges[0].to = target{stage: -1}
	case last && s.To.Name != "":
		edges[0].to, edges[0].pos = r.target(s.To), s.To.Pos
	case last && r.p.To == "":
		r.report(r.p.Pos, "pipelines: to is missing (the port packets go to): the chain that ends with stage %s is no sink", m.Name)
	case last:
		edges[0].to = target{stage: -1, port: r.p.To}
	}
	var known []string
	for _, o := range m.Outputs {
		known = append(known, o.Name)
		n := slices.IndexFunc(s.Outputs, func(c OutputSpec) bool { return c.Name == o.Name })
		switch {
		case n >= 0:
			edges = append(edges, edge{o.Name, r.target(s.Outputs[n].To), s.Outputs[n].Pos})
		case !o.Optional:
			r.report(s.Pos, "stage %s: its output %q (%s) leads nowhere; connect it: outputs: {%s: TARGET}, or %s->TARGET in the quick form", m.Name, o.Name, o.Doc, o.Name, o.Name)
		}
	}
	for j, c := range s.Outputs {
		if !slices.Contains(known, c.Name) {
			d := decoder{}
			d.unknown(c.Pos, "stage "+m.Name, "output", c.Name, known)
			r.report(c.Pos, "%s", d.errs[0].Message)
		} else if slices.ContainsFunc(s.Outputs[:j], func(b OutputSpec) bool { return b.Name == c.Name }) {
			r.report(c.Pos, "stage %s: output %q is there twice", m.Name, c.Name)
		}
	}
	return edges
}

// target finds a label or port.
func (r *resolver) target(n NameConfig) target {
	if i, ok := r.labels[n.Name]; ok {
		return target{stage: i}
	}
	if slices.Contains(r.ports, n.Name) {
		return target{stage: -1, port: n.Name}
	}
	known := slices.Clone(r.ports)
	for label := range r.labels {
		known = append(known, label)
	}
	slices.Sort(known)
	d := decoder{}
	d.unknown(n.Pos, "stages", "branch, label or port", n.Name, known)
	r.report(n.Pos, "%s", d.errs[0].Message)
	return target{stage: -1}
}

// sort orders the stages so that every edge leads forward, and reports cycles and
// stages that nothing leads to.
func (g *graph) sort(r *resolver) {
	const (
		unseen = iota
		open
		done
	)
	state := make([]int, len(g.edges))
	var path []int
	cyclic := false
	var visit func(i int, via Pos)
	visit = func(i int, via Pos) {
		if state[i] == open && !cyclic {
			cyclic = true
			var names []string
			for _, j := range append(path[slices.Index(path, i):], i) {
				names = append(names, g.pipe.stageName(j))
			}
			r.report(via, "stages: packets would go round in a cycle: %s", strings.Join(names, " → "))
		}
		if state[i] != unseen {
			return
		}
		state[i] = open
		path = append(path, i)
		for _, e := range g.edges[i] {
			if e.to.stage >= 0 {
				visit(e.to.stage, e.pos)
			}
		}
		path = path[:len(path)-1]
		state[i] = done
		g.order = append(g.order, i)
	}
	if len(g.edges) > 0 {
		visit(0, g.pipe.Stages[0].Pos)
	}
	slices.Reverse(g.order)
	for i := range g.edges {
		if s := &g.pipe.Stages[i]; state[i] == unseen && (i == 0 || g.pipe.Stages[i-1].Last) {
			if s.Label == "" {
				r.report(s.Pos, "stages: nothing leads to stage %s; give it a label and send an output there", s.Type)
			} else {
				r.report(s.LabelPos, "stages: nothing leads to %q; connect an output or the end of a chain to it", s.Label)
			}
		}
	}
}

// stageName is the name of the i-th stage in the status.
func (p *Pipeline) stageName(i int) string {
	return fmt.Sprintf("%s/%d:%s", p.Name, i+1, p.Stages[i].Type)
}

// hands reports whether packets change workers within the pipeline.
func (g *graph) hands() bool {
	return slices.ContainsFunc(g.modules, func(m Module) bool { return m.Hands })
}

// entries returns the stages that packets enter otherwise than from the stage
// before them in the list, in topological order.
func (g *graph) entries() []int {
	into := make([]bool, len(g.edges))
	for i, edges := range g.edges {
		for n, e := range edges {
			if e.to.stage >= 0 && (n > 0 || e.to.stage != i+1 || g.pipe.Stages[i].Last) {
				into[e.to.stage] = true
			}
		}
	}
	var list []int
	for _, i := range g.order {
		if into[i] {
			list = append(list, i)
		}
	}
	return list
}
