package pipeline

import (
	"reflect"

	"go.yaml.in/yaml/v4"
)

// BranchConfigs are the branches of a pipeline in the order of the file.
type BranchConfigs []BranchConfig

// A BranchConfig is a chain of stages that outputs lead to by its name. It ends at
// To, a port or another branch or label; if that has no name, where the pipeline
// ends.
type BranchConfig struct {
	Name   string
	Stages []StageSpec `yaml:"stages" required:"true" doc:"at least one"`
	To     NameConfig  `yaml:"to"`
	Pos    Pos
}

func (c *BranchConfigs) decodeNode(d *decoder, n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		d.errorf(posOf(n), "branches: found %s, want a mapping from names to lists of stages", describe(n))
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], resolve(n.Content[i+1])
		b := BranchConfig{Name: key.Value}
		what := "branch " + b.Name
		if !isName(b.Name) {
			d.errorf(posOf(key), "branches: found %q, want a name of lower-case letters, digits, _ and -", b.Name)
		}
		before := len(d.errs)
		switch {
		case value.Kind == yaml.SequenceNode:
			d.decodeValue(value, reflect.ValueOf(&b.Stages).Elem(), "yaml", what)
		case value.Kind == yaml.MappingNode:
			d.decodeStruct(value, reflect.ValueOf(&b).Elem(), "yaml", what)
		default:
			d.errorf(posOf(value), "%s: found %s, want a list of stages, or {stages: [STAGE], to: TARGET}", what, describe(value))
		}
		b.Pos = posOf(key)
		if len(b.Stages) == 0 && len(d.errs) == before {
			d.errorf(posOf(value), "%s: it has no stages; lead the output to where it ends", what)
		}
		if len(b.Stages) > 0 && b.Stages[0].Label != "" {
			d.errorf(b.Stages[0].LabelPos, "%s: its first stage is labelled %q, and goes by the branch's name already; leave as out", what, b.Stages[0].Label)
		}
		*c = append(*c, b)
	}
}

// flatten appends the branches' stages to the pipeline's.
func (p *PipelineConfig) flatten() {
	for _, b := range p.Branches {
		if len(b.Stages) == 0 {
			continue
		}
		if n := len(p.Stages); n > 0 {
			p.Stages[n-1].Last = true
		}
		first, last := &b.Stages[0], &b.Stages[len(b.Stages)-1]
		first.Label, first.LabelPos = b.Name, b.Pos
		last.Last, last.To = true, b.To
		p.Stages = append(p.Stages, b.Stages...)
	}
	p.Branches = nil
}
