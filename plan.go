package xdpipe

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/xdpipe/xdpipe/bpf"
	"github.com/xdpipe/xdpipe/control"
	"github.com/xdpipe/xdpipe/pipeline"
	"github.com/xdpipe/xdpipe/umem"
	"github.com/xdpipe/xdpipe/xsk"
)

// A Plan is what Open would do: a configuration held against the machine. Making
// one changes nothing.
type Plan struct {
	Name      string
	Memory    umem.Options
	Reserve   bool // reserve missing hugepages
	Ports     []PortPlan
	Pipelines []pipeline.Pipeline
	Workers   pipeline.WorkersConfig

	config *pipeline.Config
}

// A PortPlan is what Open would do with one interface.
type PortPlan struct {
	Name         string
	Link         *control.Link
	Queues       []int // to bind to
	DeviceQueues int   // that packets arrive on
	Workers      []int // that own the queues; see pipeline.AssignQueues
	Policy       bpf.Policy
	Mode         control.Mode
	Promiscuous  bool
	Receives     bool // some pipeline takes packets from it
	Replace      bool
	Socket       xsk.Options

	pos pipeline.Pos
}

// DefaultName is the name of an instance whose configuration gives none.
const DefaultName = "xdpipe"

// frameOverhead is what a frame needs besides the MTU: the Ethernet header and
// two VLAN tags.
const frameOverhead = 14 + 2*4

// NewPlan holds a configuration against the machine. Close the plan's namespaces
// with Plan.Close if it is not opened.
//
// The error joins everything found wrong, with positions where the mistake is in
// the configuration.
func NewPlan(cfg *pipeline.Config) (*Plan, error) {
	p := &Plan{
		Name:    cfg.Name,
		Reserve: cfg.Memory.Reserve,
		Workers: cfg.Workers,
		config:  cfg,
	}
	if p.Name == "" {
		p.Name = DefaultName
	}
	for i := range cfg.Pipelines {
		p.Pipelines = append(p.Pipelines, cfg.Pipelines[i].Pipeline())
	}
	var errs []error
	for _, pc := range cfg.Ports {
		port, err := planPort(cfg, pc)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		port.Receives = slices.ContainsFunc(cfg.Pipelines, func(pl pipeline.PipelineConfig) bool { return pl.From.Name == pc.Name })
		p.Ports = append(p.Ports, port)
	}
	if len(errs) == 0 {
		errs = append(errs, p.checkPorts(), p.planMemory(cfg))
	}
	if err := errors.Join(errs...); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// Close closes the namespaces that the plan opened.
func (p *Plan) Close() {
	for _, port := range p.Ports {
		port.Link.Namespace.Close()
	}
}

// planPort finds the interface and its queues and reads the rules.
func planPort(cfg *pipeline.Config, pc pipeline.PortConfig) (_ PortPlan, err error) {
	fail := func(at pipeline.Pos, format string, args ...any) (PortPlan, error) {
		return PortPlan{}, cfg.Errorf(at, "port %s: %s", pc.Name, fmt.Sprintf(format, args...))
	}
	ns, err := OpenNamespace(pc.NetNS)
	if err != nil {
		return fail(pc.Pos, "%v", err)
	}
	defer func() {
		if err != nil {
			ns.Close()
		}
	}()
	link, err := control.LinkByName(ns, pc.Interface)
	if err != nil {
		return fail(pc.Pos, "%v", err)
	}
	if !link.Up {
		return fail(pc.Pos, "interface %s is down; set it up with: ip link set dev %s up", link, link.Name)
	}
	port := PortPlan{
		Name: pc.Name, Link: link, Workers: pc.Workers, pos: pc.Pos,
		Mode: control.Mode(pc.Mode), Replace: pc.Replace, Promiscuous: !pc.Promisc.Off,
		Socket: xsk.Options{
			Interface: link.Name, ZeroCopy: pc.ZeroCopy.ZeroCopy,
			RxSize: pc.Rings.Rx, TxSize: pc.Rings.Tx, FillSize: pc.Rings.Fill, CompletionSize: pc.Rings.Completion,
		},
	}
	if port.Mode == "" {
		port.Mode = control.ModeAuto
	}
	if pc.BusyPoll {
		port.Socket.BusyPoll = xsk.BusyPoll{Timeout: busyPollTimeout}
	}
	if port.DeviceQueues, err = control.RXQueueCount(link); err != nil {
		return fail(pc.Pos, "%v", err)
	}
	if port.Queues, err = chooseQueues(pc.Queues.List, port.DeviceQueues, link); err != nil {
		return fail(pc.Queues.Pos, "%v", err)
	}
	port.Policy.All = pc.Steer.All
	for _, r := range pc.Steer.Rules {
		rule, err := bpf.ParseRule(r.Text)
		if err != nil {
			return fail(r.Pos, "steer: %v", err)
		}
		port.Policy.Rules = append(port.Policy.Rules, rule)
	}
	port.Policy.Filter = pc.Steer.Filter.Text
	if err := port.Policy.Validate(); err != nil {
		return fail(pc.Steer.Pos, "steer: %v", err)
	}
	if err := control.GuardDefaultRoute(link, port.Policy.Selective(), pc.Insist); err != nil {
		return fail(pc.Pos, "%v (%v)", err, port.Policy.CheckSelective())
	}
	return port, nil
}

// busyPollTimeout is how long a poll looks at the queue itself; the kernel's
// documentation suggests tens of microseconds (Documentation/networking/napi.rst).
const busyPollTimeout = 20 * time.Microsecond

// OpenNamespace opens a namespace by name or path; "" is the process's own.
func OpenNamespace(name string) (*control.Namespace, error) {
	if strings.ContainsRune(name, filepath.Separator) {
		return control.OpenNamespacePath(name)
	}
	return control.OpenNamespace(name)
}

func chooseQueues(chosen []int, count int, link *control.Link) ([]int, error) {
	if len(chosen) == 0 {
		for q := range count {
			chosen = append(chosen, q)
		}
		return chosen, nil
	}
	for _, q := range chosen {
		if q >= count {
			return nil, fmt.Errorf("queue %d is out of range: %s has %d, 0 to %d", q, link, count, count-1)
		}
	}
	return slices.Clone(chosen), nil
}

// checkPorts finds one interface named twice, queues for workers that there are
// not, and workers without anything to do.
func (p *Plan) checkPorts() error {
	type key struct {
		cookie uint64
		index  int
	}
	workers := max(p.Workers.Count, 1)
	seen, owners := map[key]string{}, map[string][]int{}
	for _, port := range p.Ports {
		k := key{port.Link.Namespace.Cookie(), port.Link.Index}
		if other, ok := seen[k]; ok {
			return p.config.Errorf(port.pos, "port %s: interface %s is port %s already", port.Name, port.Link, other)
		}
		seen[k] = port.Name
		for _, w := range port.Workers {
			if w >= workers {
				return p.config.Errorf(port.pos, "port %s: workers: there is no worker %d: there are %d, from 0", port.Name, w, workers)
			}
		}
		owners[port.Name] = pipeline.AssignQueues(len(port.Queues), workers, port.Workers)
	}
	for _, w := range pipeline.IdleWorkers(workers, owners, p.Pipelines) {
		return p.config.Errorf(cmp.Or(p.Workers.Pos, p.Ports[0].pos), "workers: %v", &pipeline.IdleWorkerError{Worker: w})
	}
	return nil
}

// planMemory chooses frame size and number for the ports.
func (p *Plan) planMemory(cfg *pipeline.Config) error {
	m := cfg.Memory
	p.Memory = umem.Options{Frames: m.Frames, FrameSize: m.FrameSize, Headroom: m.Headroom, Pages: m.Pages.PageKind}
	if err := p.Memory.Validate(); err != nil {
		return cfg.Errorf(m.Pos, "memory: %v", err)
	}
	for _, port := range p.Ports {
		if err := p.fitMTU(port); err != nil {
			return cfg.Errorf(port.pos, "port %s: %v", port.Name, err)
		}
	}
	need := 0
	for _, port := range p.Ports {
		n, err := port.Socket.FramesNeeded()
		if err != nil {
			return cfg.Errorf(port.pos, "port %s: %v", port.Name, err)
		}
		need += n * len(port.Queues)
	}
	need += max(p.Workers.Count, 1) * (umem.DefaultCacheSize + cmp.Or(p.Workers.Batch, pipeline.DefaultBatch))
	need += p.handoffs()
	switch {
	case p.Memory.Frames == 0:
		p.Memory.Frames = max(umem.DefaultFrames, need)
	case p.Memory.Frames < need:
		return cfg.Errorf(m.Pos, "memory: %d frames are too few: the rings of %d sockets and the workers can hold %d at once; set frames to %d or more, or use smaller rings",
			p.Memory.Frames, p.sockets(), need, need)
	}
	return nil
}

// handoffs returns how many frames the rings between workers can hold.
func (p *Plan) handoffs() int {
	workers := max(p.Workers.Count, 1)
	stages := 0
	for _, pl := range p.Pipelines {
		for _, s := range pl.Stages {
			if m, _ := pipeline.Lookup(s.Type); m.Hands {
				stages++
			}
		}
	}
	return stages * workers * (workers - 1) * pipeline.RingSize
}

func (p *Plan) sockets() int {
	n := 0
	for _, port := range p.Ports {
		n += len(port.Queues)
	}
	return n
}

// fitMTU makes frames as large as the port's MTU needs, or says why not.
func (p *Plan) fitMTU(port PortPlan) error {
	fixed := umem.KernelHeadroom + p.Memory.Headroom + frameOverhead
	need := port.Link.MTU + fixed
	size := p.Memory.FrameSize
	switch {
	case size == 0 && need <= umem.MinFrameSize:
	case size == 0 && need <= umem.MaxFrameSize:
		p.Memory.FrameSize = umem.MaxFrameSize // large enough for the ports before, too
	case size != 0 && need <= size:
	case size != 0 && size < umem.MaxFrameSize && need <= umem.MaxFrameSize:
		return fmt.Errorf("packets of MTU %d need %d bytes of a frame, and memory.frame_size is %d: set it to %d, or lower the MTU with: ip link set dev %s mtu %d",
			port.Link.MTU, need, size, umem.MaxFrameSize, port.Link.Name, size-fixed)
	default:
		return fmt.Errorf("MTU %d is out of range: packets must fit a frame of %d bytes less %d for headers and headroom; lower it with: ip link set dev %s mtu %d",
			port.Link.MTU, umem.MaxFrameSize, fixed, port.Link.Name, umem.MaxFrameSize-fixed)
	}
	return nil
}

// A PlanSummary is a plan in plain values, for JSON.
type PlanSummary struct {
	Name      string            `json:"name"`
	Frames    int               `json:"frames"`
	FrameSize int               `json:"frame_size"`
	Pages     string            `json:"pages"`
	Workers   int               `json:"workers"`
	Ports     []PortSummary     `json:"ports"`
	Pipelines []PipelineSummary `json:"pipelines"`
}

// A PortSummary is a port of a PlanSummary.
type PortSummary struct {
	Name      string `json:"name"`
	Interface string `json:"interface"`
	Driver    string `json:"driver"`
	MTU       int    `json:"mtu"`
	Queues    []int  `json:"queues"`
	Mode      string `json:"mode"`
	ZeroCopy  string `json:"zero_copy"`
	Steer     string `json:"steer"`
}

// A PipelineSummary is a pipeline of a PlanSummary.
type PipelineSummary struct {
	Name    string         `json:"name"`
	From    string         `json:"from"`
	Stages  []string       `json:"stages"`
	To      string         `json:"to"`
	OnPanic string         `json:"on_panic"`
	Graph   pipeline.Graph `json:"graph"`
}

// Summary returns the plan in plain values.
func (p *Plan) Summary() PlanSummary {
	s := PlanSummary{
		Name: p.Name, Frames: p.Memory.Frames, FrameSize: cmp.Or(p.Memory.FrameSize, umem.MinFrameSize),
		Pages: p.Memory.Pages.String(), Workers: max(p.Workers.Count, 1),
	}
	for _, port := range p.Ports {
		s.Ports = append(s.Ports, PortSummary{
			Name: port.Name, Interface: port.Link.Name, Driver: port.Link.Driver, MTU: port.Link.MTU, Queues: port.Queues,
			Mode: string(port.Mode), ZeroCopy: port.Socket.ZeroCopy.String(), Steer: port.Policy.Line(),
		})
	}
	ports := p.config.PortNames()
	for _, pl := range p.Pipelines {
		stages := []string{}
		for _, st := range pl.Stages {
			stages = append(stages, st.Type)
		}
		s.Pipelines = append(s.Pipelines, PipelineSummary{pl.Name, pl.From, stages, pl.To, pl.OnPanic.String(), pipeline.GraphOf(pl, ports)})
	}
	return s
}

// String describes the plan, a line for each thing that would be done.
func (p *Plan) String() string {
	s := p.Summary()
	var b strings.Builder
	fmt.Fprintf(&b, "instance %s\n", s.Name)
	fmt.Fprintf(&b, "memory: %d frames of %d bytes, %d MiB, pages %s\n", s.Frames, s.FrameSize, s.Frames*s.FrameSize>>20, s.Pages)
	fmt.Fprintf(&b, "workers: %d, batches of %d, idle %v\n", s.Workers, cmp.Or(p.Workers.Batch, pipeline.DefaultBatch), p.Workers.Idle)
	for i, port := range s.Ports {
		fmt.Fprintf(&b, "port %s: interface %s, driver %s, MTU %d, queues %v of %d, mode %s, zero-copy %s\n",
			port.Name, port.Interface, port.Driver, port.MTU, port.Queues, p.Ports[i].DeviceQueues, port.Mode, port.ZeroCopy)
		if p.Ports[i].Receives {
			fmt.Fprintf(&b, "  steer: %s\n", port.Steer)
		} else {
			fmt.Fprintf(&b, "  no pipeline takes packets from it: what arrives stays with the kernel\n")
		}
	}
	for _, pl := range s.Pipelines {
		b.WriteString(pl.Graph.String())
	}
	return b.String()
}
