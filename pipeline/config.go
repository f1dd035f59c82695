package pipeline

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/xdpipe/xdpipe/umem"
)

// Config is a whole configuration as YAML files write it. It is data: reading
// it touches nothing, and its positions are kept for later errors.
type Config struct {
	Name      string           `yaml:"name" doc:"of the instance, for status and messages"`
	Memory    MemoryConfig     `yaml:"memory"`
	Workers   WorkersConfig    `yaml:"workers"`
	Ports     PortConfigs      `yaml:"ports" required:"true" doc:"by name, at least one"`
	Pipelines []PipelineConfig `yaml:"pipelines" required:"true" doc:"at least one"`

	file string
}

// MemoryConfig is the memory all ports share.
type MemoryConfig struct {
	Frames    int         `yaml:"frames" min:"0"`     // 0: umem.DefaultFrames
	FrameSize int         `yaml:"frame_size" min:"0"` // bytes; 0: what the ports' MTUs need
	Headroom  int         `yaml:"headroom" min:"0"`   // bytes
	Pages     PagesConfig `yaml:"pages"`
	Reserve   bool        `yaml:"reserve_hugepages"` // reserve missing 2 MiB pages, and put them back at the end
	Pos       Pos
}

// PagesConfig is a umem.PageKind as configurations write it.
type PagesConfig struct{ umem.PageKind }

// UnmarshalText reads auto, 1g, 2m, thp or 4k.
func (p *PagesConfig) UnmarshalText(b []byte) (err error) {
	p.PageKind, err = umem.ParsePageKind(string(b))
	return err
}

// Idle says what a worker does when no packet is waiting.
type Idle int

// The choices for Idle.
const (
	IdleAdaptive Idle = iota // spin for a while, then sleep until a packet comes
	IdleSpin                 // never sleep: lowest latency, a whole core
	IdleSleep                // sleep at once: least CPU
)

var idleNames = []string{"adaptive", "spin", "sleep"}

func (i Idle) String() string { return idleNames[i] }

// UnmarshalText reads adaptive, spin or sleep.
func (i *Idle) UnmarshalText(b []byte) error {
	n := slices.Index(idleNames, string(b))
	if n < 0 {
		return fmt.Errorf("found %q, want one of %s", b, strings.Join(idleNames, ", "))
	}
	*i = Idle(n)
	return nil
}

// WorkersConfig says how many workers there are, where, and how they wait.
type WorkersConfig struct {
	Count int           `yaml:"count" min:"0"` // 0: 1
	CPUs  []int         `yaml:"cpus" min:"0"`  // one for each worker; none: chosen from the process's
	Pin   PinConfig     `yaml:"pin"`           // false: let the scheduler move the workers
	Idle  Idle          `yaml:"idle"`
	Spin  time.Duration `yaml:"spin" min:"0"`            // how long adaptive spins before it sleeps; 0: DefaultSpin
	Batch int           `yaml:"batch" min:"0" max:"256"` // packets, at most MaxBatch; 0: DefaultBatch
	Pos   Pos
}

// PinConfig is a bool that is true when it is not set.
type PinConfig struct{ Off bool }

// UnmarshalText reads true or false.
func (p *PinConfig) UnmarshalText(b []byte) error {
	on, err := strconv.ParseBool(string(b))
	if err != nil {
		return fmt.Errorf("found %q, want true or false", b)
	}
	p.Off = !on
	return nil
}

// PipelineConfig is one pipeline: packets from the port From run through the
// stages and leave by the port To.
type PipelineConfig struct {
	Name   string      `yaml:"name"` // default: from-to
	From   NameConfig  `yaml:"from" required:"true" doc:"the port packets come from"`
	Stages []StageSpec `yaml:"stages"`
	To     NameConfig  `yaml:"to" required:"true" doc:"the port packets go to"`
	Pos    Pos
}

// NameConfig is the name of something else in the file, and where it stands.
type NameConfig struct {
	Name string
	Pos  Pos
}

func (c *NameConfig) decodeNode(d *decoder, n *yaml.Node) {
	c.Pos = posOf(n)
	if n.Kind != yaml.ScalarNode || isNull(n) || n.Value == "" {
		d.errorf(c.Pos, "pipelines: found %s, want the name of a port", describe(n))
		return
	}
	c.Name = n.Value
}

// A StageSpec is one stage of a pipeline: its module and its options, which were
// checked.
type StageSpec struct {
	Type    string
	Pos     Pos
	options *yaml.Node
	file    string
}

func (s *StageSpec) decodeNode(d *decoder, n *yaml.Node) {
	s.Pos, s.file = posOf(n), d.file
	switch {
	case n.Kind == yaml.ScalarNode && !isNull(n):
		s.Type = n.Value
	case n.Kind == yaml.MappingNode && len(n.Content) == 2:
		s.Type, s.options = n.Content[0].Value, n.Content[1]
		s.Pos = posOf(n.Content[0])
	case n.Kind == yaml.MappingNode && len(n.Content) > 2:
		d.errorf(s.Pos, "stages: found %d stages in one item of the list; put each in an item of its own", len(n.Content)/2)
		return
	default:
		d.errorf(s.Pos, "stages: found %s, want a stage: its name, or {name: {option: value}}", describe(n))
		return
	}
	s.build(d)
}

// build makes a stage as the spec says, and reports what is wrong with it.
func (s *StageSpec) build(d *decoder) Stage {
	m, ok := Lookup(s.Type)
	if !ok {
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

// LoadConfig reads a configuration file.
func LoadConfig(file string) (*Config, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return ParseConfig(file, data)
}

// ParseConfig reads a configuration; file is its name for messages. The error,
// if any, is ConfigErrors with every mistake found.
func ParseConfig(file string, data []byte) (*Config, error) {
	root, errs := parseYAML(file, data)
	switch {
	case len(errs) > 0:
		return nil, errs.sorted()
	case root == nil || isNull(root):
		return nil, ConfigErrors{{file, 1, 1, "empty: want ports and pipelines"}}
	}
	d := &decoder{file: file}
	c := &Config{file: file}
	at := d.decodeStruct(root, reflect.ValueOf(c).Elem(), "yaml", "")
	c.check(d, at)
	if len(d.errs) > 0 {
		return nil, d.errs.sorted()
	}
	return c, nil
}

// Errorf returns a ConfigError at a position of this configuration, for what
// can only be checked later, against the machine.
func (c *Config) Errorf(at Pos, format string, args ...any) error {
	if c.file == "" || at.Line == 0 {
		return fmt.Errorf(format, args...)
	}
	return &ConfigError{c.file, at.Line, at.Column, fmt.Sprintf(format, args...)}
}

// check looks for what single values cannot show, and fills in names. at has the
// positions of the top-level keys.
func (c *Config) check(d *decoder, at map[string]Pos) {
	if pos, ok := at["ports"]; ok && len(c.Ports) == 0 && !d.failedAt(pos) {
		d.errorf(pos, "ports: none; want at least one")
	}
	if pos, ok := at["pipelines"]; ok && len(c.Pipelines) == 0 && !d.failedAt(pos) {
		d.errorf(pos, "pipelines: none; want at least one")
	}
	var ports []string
	for _, p := range c.Ports {
		ports = append(ports, p.Name)
	}
	from, named := map[string]bool{}, map[string]bool{}
	for i := range c.Pipelines {
		p := &c.Pipelines[i]
		for _, end := range []NameConfig{p.From, p.To} {
			if end.Name != "" && len(ports) > 0 && !slices.Contains(ports, end.Name) {
				d.unknown(end.Pos, "pipelines", "port", end.Name, ports)
			}
		}
		if p.From.Name == "" || p.To.Name == "" {
			continue // reported already
		}
		if from[p.From.Name] {
			d.errorf(p.From.Pos, "pipelines: a second pipeline takes packets from port %q; each port feeds one", p.From.Name)
			continue
		}
		from[p.From.Name] = true
		if p.Name == "" {
			p.Name = p.From.Name + "-" + p.To.Name
		}
		if named[p.Name] {
			d.errorf(p.Pos, "pipelines: a second pipeline is named %q; status could not tell them apart", p.Name)
		}
		named[p.Name] = true
	}
	if w := c.Workers; len(d.errs) == 0 && len(w.CPUs) > 0 && len(w.CPUs) != max(w.Count, 1) {
		d.errorf(w.Pos, "workers: %d CPUs for %d workers; want one each", len(w.CPUs), max(w.Count, 1))
	}
}
