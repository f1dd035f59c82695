package pipeline

import (
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
	From   NameConfig  `yaml:"from"` // the port packets come from; none if the first stage makes them
	Stages []StageSpec `yaml:"stages"`
	// Branches are further chains of stages by name, which outputs lead to. Reading a
	// configuration appends their stages to Stages.
	Branches BranchConfigs `yaml:"branches"`
	To       NameConfig    `yaml:"to"` // the port packets go to; none if the chains end in sinks
	OnPanic  PanicAction   `yaml:"on_panic"`
	Worker   int           `yaml:"worker" min:"0"` // that runs a pipeline without from
	Pos      Pos

	broken bool // reading it found mistakes
}

func (p *PipelineConfig) decodeNode(d *decoder, n *yaml.Node) {
	before := len(d.errs)
	d.decodeStruct(n, reflect.ValueOf(p).Elem(), "yaml", "pipelines")
	p.broken = len(d.errs) > before
}

// Pipeline returns what the engine takes.
func (p *PipelineConfig) Pipeline() Pipeline {
	return Pipeline{
		Name: p.Name, From: p.From.Name, Stages: p.Stages, To: p.To.Name, OnPanic: p.OnPanic, Worker: p.Worker,
		Pos: p.Pos, FromPos: p.From.Pos, ToPos: p.To.Pos,
	}
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
	d := &decoder{file: file, source: data}
	c := &Config{file: file}
	at := d.decodeStruct(root, reflect.ValueOf(c).Elem(), "yaml", "")
	c.check(d, at)
	if len(d.errs) > 0 {
		return nil, d.errs.sorted()
	}
	return c, nil
}

// PortNames returns the names of the ports, in their order.
func (c *Config) PortNames() []string {
	var names []string
	for _, p := range c.Ports {
		names = append(names, p.Name)
	}
	return names
}

// setName gives a pipeline without a name that of its ends.
func (p *PipelineConfig) setName() {
	if p.Name != "" {
		return
	}
	from, to := p.From.Name, p.To.Name
	if from == "" && len(p.Stages) > 0 {
		from = p.Stages[0].Type
	}
	if to == "" && len(p.Stages) > 0 {
		to = p.Stages[len(p.Stages)-1].Type
	}
	p.Name = from + "-" + to
}

// File returns the name of the file that the configuration was read from; "" if
// it was none.
func (c *Config) File() string { return c.file }

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
	workers := max(c.Workers.Count, 1)
	for _, p := range c.Ports {
		for _, w := range p.Workers {
			if w >= workers {
				d.errorf(p.Pos, "port %s: workers: there is no worker %d: there are %d, from 0", p.Name, w, workers)
			}
		}
	}
	ports := c.PortNames()
	from, named := map[string]bool{}, map[string]bool{}
	for i := range c.Pipelines {
		p := &c.Pipelines[i]
		if len(p.Stages) == 0 && len(p.Branches) > 0 && !p.broken { // the first would be taken for the stages
			d.errorf(p.Branches[0].Pos, "branch %s: nothing leads to it, since the pipeline has no stages", p.Branches[0].Name)
			p.broken = true
		}
		p.flatten()
		for _, end := range []NameConfig{p.From, p.To} {
			if end.Name != "" && len(ports) > 0 && !slices.Contains(ports, end.Name) {
				d.unknown(end.Pos, "pipelines", "port", end.Name, ports)
			}
		}
		if p.From.Name != "" && from[p.From.Name] {
			d.errorf(p.From.Pos, "pipelines: a second pipeline takes packets from port %q; each port feeds one", p.From.Name)
			continue
		}
		from[p.From.Name] = true
		p.setName()
		if !p.broken {
			pl := p.Pipeline()
			pl.resolve(ports, d.errorf)
		}
		if p.Worker >= workers {
			d.errorf(p.Pos, "pipelines: worker %d runs it, and there are %d, from 0", p.Worker, workers)
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

// QuickPipeline is the pipeline that the quick form stands for between two ports:
// without the first if its first stage makes the packets, and without the second if
// all its chains end in sinks or say where they lead.
func QuickPipeline(specs []StageSpec, from, to string) PipelineConfig {
	p := PipelineConfig{Stages: specs, From: NameConfig{Name: from}, To: NameConfig{Name: to}, Name: from + "-" + to}
	if len(specs) == 0 {
		return p
	}
	if _, ok := specs[0].sample().(Source); ok {
		p.From.Name = ""
	}
	for i := range specs {
		s := &specs[i]
		if _, sink := s.sample().(Sink); !sink && s.To.Name == "" && (s.Last || i == len(specs)-1) {
			return p
		}
	}
	p.To.Name = ""
	return p
}

// Check looks for what is wrong with a configuration that was not read from a file;
// file is its name for messages. ParseConfig does it for those that were.
func (c *Config) Check(file string) error {
	d := &decoder{file: file}
	c.check(d, map[string]Pos{})
	if len(d.errs) > 0 {
		return d.errs.sorted()
	}
	return nil
}
