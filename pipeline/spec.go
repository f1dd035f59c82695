package pipeline

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// A StageSpec is one stage of a pipeline: its module and its options, which were
// checked, and where it stands in the graph.
type StageSpec struct {
	Type string
	Pos  Pos

	// Label is the name by which outputs lead to the stage; "" if none does.
	Label    string
	LabelPos Pos
	// Outputs are the outputs that are connected.
	Outputs []OutputSpec
	// Last says that the stage is the last of its chain; its packets go to To, a
	// label or port, or, if that has no name, to the port where the pipeline ends.
	Last bool
	To   NameConfig

	options *yaml.Node
	file    string
}

// An OutputSpec connects an output of a stage with a label or port.
type OutputSpec struct {
	Name string
	Pos  Pos
	To   NameConfig
}

// stageKeys are the keys that may stand beside a stage's name in YAML, and so are
// no names of modules.
var stageKeys = []string{"as", "outputs"}

func (s *StageSpec) decodeNode(d *decoder, n *yaml.Node) {
	s.Pos, s.file = posOf(n), d.file
	switch {
	case n.Kind == yaml.ScalarNode && !isNull(n):
		s.Type = n.Value
	case n.Kind == yaml.MappingNode && len(n.Content) > 0:
		if !s.decodeMapping(d, n) {
			return
		}
	default:
		d.errorf(s.Pos, "stages: found %s, want a stage: its name, or {name: {option: value}}", describe(n))
		return
	}
	s.build(d)
}

// decodeMapping reads {name: options, as: label, outputs: {output: target}}.
func (s *StageSpec) decodeMapping(d *decoder, n *yaml.Node) bool {
	stages := 0
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], resolve(n.Content[i+1])
		if slices.Contains(stageKeys, key.Value) && seen[key.Value] {
			d.errorf(posOf(key), "stages: key %q is there twice", key.Value)
			continue
		}
		seen[key.Value] = true
		switch key.Value {
		case "as":
			s.LabelPos = posOf(value)
			if value.Kind != yaml.ScalarNode || isNull(value) || !isName(value.Value) {
				d.errorf(s.LabelPos, "stages: as: found %s, want a label of lower-case letters, digits, _ and -", describe(value))
				continue
			}
			s.Label = value.Value
		case "outputs":
			s.decodeOutputs(d, value)
		default:
			if stages++; stages == 1 {
				s.Type, s.options, s.Pos = key.Value, n.Content[i+1], posOf(key)
			}
		}
	}
	switch {
	case stages == 0:
		d.errorf(posOf(n), "stages: found %s and no stage, want its name beside them: {name: {option: value}, as: label, outputs: {output: target}}", strings.Join(stageKeys, " or "))
	case stages > 1:
		d.errorf(posOf(n), "stages: found %d stages in one item of the list; put each in an item of its own", stages)
	}
	return stages == 1
}

func (s *StageSpec) decodeOutputs(d *decoder, n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		d.errorf(posOf(n), "stages: outputs: found %s, want a mapping from outputs to branches, labels or ports", describe(n))
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], resolve(n.Content[i+1])
		if value.Kind != yaml.ScalarNode || isNull(value) || value.Value == "" {
			d.errorf(posOf(value), "stages: output %s: found %s, want a branch, label or port", key.Value, describe(value))
			continue
		}
		s.Outputs = append(s.Outputs, OutputSpec{key.Value, posOf(key), NameConfig{value.Value, posOf(value)}})
	}
}

// build makes a stage as the spec says, and reports what is wrong with it.
func (s *StageSpec) build(d *decoder) Stage {
	m, ok := Lookup(s.Type)
	if !ok {
		if err := refusal(s.Type); err != nil {
			d.errorf(s.Pos, "stages: %v", err)
			return nil
		}
		if !d.quick && strings.ContainsAny(s.Type, "! =") {
			d.errorf(s.Pos, "stages: found %q, want a list such as [parse, {drop: {every: 2}}]; the form with ! is for the command line", s.Type)
			return nil
		}
		var known []string
		for _, m := range Modules() {
			known = append(known, m.Name)
		}
		d.unknown(s.Pos, "stages", "stage", s.Type, known)
		return nil
	}
	stage := m.New()
	before := len(d.errs)
	at := map[string]Pos{}
	if s.options != nil {
		at = d.decodeStruct(s.options, reflect.ValueOf(stage).Elem(), "stage", "stage "+s.Type)
	} else {
		d.decodeStruct(&yaml.Node{Kind: yaml.MappingNode, Line: s.Pos.Line, Column: s.Pos.Column},
			reflect.ValueOf(stage).Elem(), "stage", "stage "+s.Type)
	}
	if v, ok := stage.(Validator); ok && len(d.errs) == before {
		if err := v.Validate(); err != nil {
			d.errorf(s.where(err, at), "stage %s: %v", s.Type, err)
		}
	}
	return stage
}

// where returns the position an error of the stage blames: the option's if it
// names one, else the stage's.
func (s *StageSpec) where(err error, at map[string]Pos) Pos {
	var oe *OptionError
	if errors.As(err, &oe) {
		if pos, ok := at[oe.Option]; ok {
			return pos
		}
	}
	return s.Pos
}

// blame gives an error of Provision the position of what it blames.
func (s *StageSpec) blame(err error) error {
	if s.file == "" {
		return fmt.Errorf("stage %s: %w", s.Type, err)
	}
	at := map[string]Pos{}
	if options := resolve(s.options); options != nil && options.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(options.Content); i += 2 {
			at[options.Content[i].Value] = posOf(options.Content[i+1])
		}
	}
	pos := s.where(err, at)
	return &ConfigError{s.file, pos.Line, pos.Column, fmt.Sprintf("stage %s: %v", s.Type, err)}
}

// New makes a stage as the spec says. The error, if any, is ConfigErrors.
func (s *StageSpec) New() (Stage, error) {
	d := &decoder{file: s.file}
	stage := s.build(d)
	if len(d.errs) > 0 {
		return nil, d.errs
	}
	return stage, nil
}

// sample returns a stage of the spec's module without its options; nil if there is
// no such module.
func (s *StageSpec) sample() Stage {
	if m, ok := Lookup(s.Type); ok {
		return m.New()
	}
	return nil
}
