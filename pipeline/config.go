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
	"github.com/xdpipe/xdpipe/xsk"
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
	Frames    int         `yaml:"frames"`     // 0: umem.DefaultFrames
	FrameSize int         `yaml:"frame_size"` // bytes; 0: what the ports' MTUs need
	Headroom  int         `yaml:"headroom"`   // bytes
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
	Count int           `yaml:"count"` // 0: 1
	CPUs  []int         `yaml:"cpus"`  // one for each worker; none: chosen from the process's
	Pin   PinConfig     `yaml:"pin"`   // false: let the scheduler move the workers
	Idle  Idle          `yaml:"idle"`
	Spin  time.Duration `yaml:"spin"`  // how long adaptive spins before it sleeps; 0: DefaultSpin
	Batch int           `yaml:"batch"` // packets; 0: DefaultBatch
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

// PortConfigs are the ports in the order of the file.
type PortConfigs []PortConfig

// PortConfig is one interface to receive from and transmit to.
type PortConfig struct {
	Name      string
	Interface string         `yaml:"interface" required:"true"`
	NetNS     string         `yaml:"netns"`  // name or path of a network namespace; "" is the process's own
	Queues    QueuesConfig   `yaml:"queues"` // all, or a list
	Steer     SteerConfig    `yaml:"steer" required:"true" doc:"all, or rules such as protocol=udp,dst_port=53"`
	Mode      string         `yaml:"mode"`      // native, generic, or auto ("")
	ZeroCopy  ZeroCopyConfig `yaml:"zero_copy"` // prefer, require, never
	BusyPoll  bool           `yaml:"busy_poll"`
	Rings     RingsConfig    `yaml:"rings"`
	Promisc   PinConfig      `yaml:"promiscuous"` // false: only frames for the interface's own address
	Replace   bool           `yaml:"replace"`     // replace another XDP program
	Insist    bool           `yaml:"insist"`      // take the default route's interface though the rules are not selective
	Pos       Pos
}

// RingsConfig are ring sizes in descriptors; 0 is the default.
type RingsConfig struct {
	Rx         int `yaml:"rx"`
	Tx         int `yaml:"tx"`
	Fill       int `yaml:"fill"`
	Completion int `yaml:"completion"`
}

// ZeroCopyConfig is an xsk.ZeroCopy as configurations write it.
type ZeroCopyConfig struct{ xsk.ZeroCopy }

// UnmarshalText reads prefer, require or never.
func (z *ZeroCopyConfig) UnmarshalText(b []byte) (err error) {
	z.ZeroCopy, err = xsk.ParseZeroCopy(string(b))
	return err
}

// QueuesConfig is a choice of queues: all if List is empty.
type QueuesConfig struct {
	List []int
	Pos  Pos
}

func (q *QueuesConfig) decodeNode(d *decoder, n *yaml.Node) {
	q.Pos = posOf(n)
	if n.Kind == yaml.ScalarNode && n.Value == "all" {
		return
	}
	d.decodeValue(n, reflect.ValueOf(&q.List).Elem(), "yaml", "queues")
	seen := map[int]bool{}
	for _, queue := range q.List {
		if queue < 0 || seen[queue] {
			d.errorf(q.Pos, "queues: queue %d is negative or there twice", queue)
		}
		seen[queue] = true
	}
}

// SteerConfig says which packets a port takes from the kernel: all, or those
// that rules choose. Rules are in the text form of package bpf.
type SteerConfig struct {
	All   bool
	Rules []SteerRule
	Pos   Pos
}

// A SteerRule is the text of a rule and where it stands.
type SteerRule struct {
	Text string
	Pos  Pos
}

func (s *SteerConfig) decodeNode(d *decoder, n *yaml.Node) {
	s.Pos = posOf(n)
	items := []*yaml.Node{n}
	switch {
	case n.Kind == yaml.ScalarNode && n.Value == "all":
		s.All = true
		return
	case n.Kind == yaml.SequenceNode:
		items = n.Content
	}
	for _, item := range items {
		item = resolve(item)
		switch item.Kind {
		case yaml.ScalarNode:
			s.Rules = append(s.Rules, SteerRule{item.Value, posOf(item)})
		case yaml.MappingNode: // {protocol: udp, dst_port: 53} is protocol=udp,dst_port=53
			var parts []string
			for i := 0; i+1 < len(item.Content); i += 2 {
				parts = append(parts, item.Content[i].Value+"="+item.Content[i+1].Value)
			}
			s.Rules = append(s.Rules, SteerRule{strings.Join(parts, ","), posOf(item)})
		default:
			d.errorf(posOf(item), "steer: found %s, want all, a rule or a list of rules", describe(item))
		}
	}
}

func (p *PortConfigs) decodeNode(d *decoder, n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		d.errorf(posOf(n), "ports: found %s, want a mapping from names to ports", describe(n))
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		port := PortConfig{Name: key.Value}
		if slices.ContainsFunc(*p, func(other PortConfig) bool { return other.Name == port.Name }) {
			d.errorf(posOf(key), "ports: port %q is there twice", port.Name)
		}
		at := d.decodeStruct(value, reflect.ValueOf(&port).Elem(), "yaml", "port "+port.Name)
		if modes := []string{"", "auto", "native", "generic"}; !slices.Contains(modes, port.Mode) {
			d.unknown(at["mode"], "port "+port.Name, "mode", port.Mode, modes[1:])
		}
		port.Pos = posOf(key)
		*p = append(*p, port)
	}
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
	c.Name, c.Pos = n.Value, posOf(n)
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
	default:
		d.errorf(s.Pos, "stages: found %s, want a stage: its name, or {name: {options}}", describe(n))
		return
	}
	s.build(d)
}

// build makes a stage as the spec says, and reports what is wrong with it.
func (s *StageSpec) build(d *decoder) Stage {
	m, ok := Lookup(s.Type)
	if !ok {
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
	if s.options != nil {
		for i := 0; i+1 < len(s.options.Content); i += 2 {
			at[s.options.Content[i].Value] = posOf(s.options.Content[i+1])
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
	d := &decoder{file: file}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, ConfigErrors{yamlError(file, err)}
	}
	if len(doc.Content) == 0 {
		return nil, ConfigErrors{{file, 1, 1, "empty: want ports and pipelines"}}
	}
	c := &Config{file: file}
	d.decodeStruct(doc.Content[0], reflect.ValueOf(c).Elem(), "yaml", "configuration")
	c.check(d)
	if len(d.errs) > 0 {
		return nil, d.errs
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

// check looks for what single values cannot show, and fills in names.
func (c *Config) check(d *decoder) {
	var ports []string
	for _, p := range c.Ports {
		ports = append(ports, p.Name)
	}
	from := map[string]bool{}
	for i := range c.Pipelines {
		p := &c.Pipelines[i]
		for _, end := range []NameConfig{p.From, p.To} {
			if end.Name != "" && !slices.Contains(ports, end.Name) {
				d.unknown(end.Pos, "pipelines", "port", end.Name, ports)
			}
		}
		if p.From.Name != "" && from[p.From.Name] {
			d.errorf(p.From.Pos, "pipelines: a second pipeline takes packets from port %q; each port feeds one", p.From.Name)
		}
		from[p.From.Name] = true
		if p.Name == "" {
			p.Name = p.From.Name + "-" + p.To.Name
		}
	}
	if len(d.errs) == 0 && len(c.Pipelines) == 0 {
		d.errorf(Pos{1, 1}, "pipelines: none; want at least one")
	}
	if w := c.Workers; w.Count < 0 || w.Batch < 0 || w.Batch > MaxBatch || w.Spin < 0 {
		d.errorf(Pos{1, 1}, "workers: count, batch (at most %d) and spin must not be negative", MaxBatch)
	}
	if w := c.Workers; len(w.CPUs) > 0 && len(w.CPUs) != max(w.Count, 1) {
		d.errorf(Pos{1, 1}, "workers: %d CPUs for %d workers; want one each", len(w.CPUs), max(w.Count, 1))
	}
}

// yamlError keeps the position of an error of the YAML parser.
func yamlError(file string, err error) *ConfigError {
	e := &ConfigError{File: file, Line: 1, Column: 1, Message: strings.TrimPrefix(err.Error(), "yaml: ")}
	var line, column int
	if _, scan := fmt.Sscanf(e.Message, "line %d, column %d:", &line, &column); scan == nil {
		e.Line, e.Column = line, column
	} else if _, scan := fmt.Sscanf(e.Message, "line %d:", &line); scan == nil {
		e.Line = line
	}
	if _, rest, found := strings.Cut(e.Message, ": "); found && e.Line > 1 {
		e.Message = rest
	}
	return e
}
