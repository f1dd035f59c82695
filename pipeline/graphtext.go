package pipeline

import (
	"fmt"
	"strings"
)

// A Graph is a pipeline as nodes and edges, for people and tools.
type Graph struct {
	Name  string      `json:"name"`
	Nodes []GraphNode `json:"nodes"`
	Edges []GraphEdge `json:"edges"`
}

// A GraphNode is a stage, by its name in the status, or a port.
type GraphNode struct {
	ID    string `json:"id"`
	Kind  string `json:"kind"` // stage or port
	Type  string `json:"type,omitempty"`
	Label string `json:"label,omitempty"`
}

// A GraphEdge leads from a node to another; Output is "" for the next stage.
type GraphEdge struct {
	From   string `json:"from"`
	Output string `json:"output,omitempty"`
	To     string `json:"to"`
}

// GraphOf returns the graph of a pipeline without mistakes among the ports.
func GraphOf(p Pipeline, ports []string) Graph {
	g := p.resolve(ports, func(Pos, string, ...any) {})
	out := Graph{Name: p.Name, Nodes: []GraphNode{}, Edges: []GraphEdge{}}
	seen := map[string]bool{}
	port := func(name string) string {
		if !seen[name] {
			seen[name] = true
			out.Nodes = append(out.Nodes, GraphNode{ID: name, Kind: "port"})
		}
		return name
	}
	if p.From != "" {
		to := p.To
		if len(p.Stages) > 0 {
			to = p.stageName(0)
		}
		out.Edges = append(out.Edges, GraphEdge{From: port(p.From), To: to})
	}
	for i, s := range p.Stages {
		out.Nodes = append(out.Nodes, GraphNode{p.stageName(i), "stage", s.Type, s.Label})
		for _, e := range g.edges[i] {
			switch {
			case e.to.stage >= 0:
				out.Edges = append(out.Edges, GraphEdge{p.stageName(i), e.output, p.stageName(e.to.stage)})
			case e.to.port != "":
				out.Edges = append(out.Edges, GraphEdge{p.stageName(i), e.output, port(e.to.port)})
			}
		}
	}
	if len(p.Stages) == 0 {
		port(p.To)
	}
	return out
}

// Graphs returns the graphs of the pipelines of a configuration without mistakes.
func (c *Config) Graphs() []Graph {
	graphs := []Graph{}
	for i := range c.Pipelines {
		graphs = append(graphs, GraphOf(c.Pipelines[i].Pipeline(), c.PortNames()))
	}
	return graphs
}

// next returns what follows a node by its output 0, or "".
func (g Graph) next(id string) string {
	for _, e := range g.Edges {
		if e.From == id && e.Output == "" {
			return e.To
		}
	}
	return ""
}

func (g Graph) node(id string) GraphNode {
	for _, n := range g.Nodes {
		if n.ID == id {
			return n
		}
	}
	return GraphNode{ID: id}
}

func (n GraphNode) short() string {
	switch {
	case n.Kind == "port":
		return n.ID
	case n.Label != "":
		return n.Label + ":" + n.Type
	}
	return n.Type
}

// String is the graph as text: the chain from where packets enter, and below it a
// line for each chain that an output leads to.
func (g Graph) String() string {
	var b strings.Builder
	shown := map[string]bool{}
	// chain writes what follows id, up to a port or what was shown.
	chain := func(id string, entered bool) {
		for first := true; id != ""; first = false {
			n := g.node(id)
			if !first {
				b.WriteString(" → ")
			}
			b.WriteString(n.short())
			if n.Kind == "port" && (!first || !entered) || shown[id] {
				break
			}
			shown[id] = n.Kind != "port"
			id = g.next(id)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "pipeline %s: ", g.Name)
	switch {
	case len(g.Edges) > 0 && g.node(g.Edges[0].From).Kind == "port":
		chain(g.Edges[0].From, true)
	case len(g.Nodes) > 0:
		chain(g.Nodes[0].ID, true)
	}
	for _, e := range g.Edges {
		if e.Output != "" {
			fmt.Fprintf(&b, "  %s %s → ", g.node(e.From).short(), e.Output)
			chain(e.To, false)
		}
	}
	return b.String()
}

// DOT returns graphs in the language of Graphviz.
func DOT(graphs []Graph) string {
	var b strings.Builder
	b.WriteString("digraph xdpipe {\n\trankdir=LR;\n\tnode [shape=box];\n")
	ports := map[string]bool{}
	for _, g := range graphs {
		for _, n := range g.Nodes {
			if n.Kind == "port" && !ports[n.ID] {
				ports[n.ID] = true
				fmt.Fprintf(&b, "\t%q [shape=cds];\n", n.ID)
			}
		}
	}
	for i, g := range graphs {
		fmt.Fprintf(&b, "\tsubgraph cluster_%d {\n\t\tlabel=%q;\n", i, g.Name)
		for _, n := range g.Nodes {
			if n.Kind == "stage" {
				fmt.Fprintf(&b, "\t\t%q [label=%q];\n", n.ID, n.short())
			}
		}
		b.WriteString("\t}\n")
	}
	for _, g := range graphs {
		for _, e := range g.Edges {
			fmt.Fprintf(&b, "\t%q -> %q", e.From, e.To)
			if e.Output != "" {
				fmt.Fprintf(&b, " [label=%q]", e.Output)
			}
			b.WriteString(";\n")
		}
	}
	b.WriteString("}\n")
	return b.String()
}
