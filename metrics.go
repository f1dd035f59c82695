package xdpipe

import (
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/xdpipe/xdpipe/bpf"
	"github.com/xdpipe/xdpipe/pipeline"
)

// MetricsHandler answers with the instance's metrics and those of its process,
// for Prometheus. The instance's socket has it under /metrics.
func (i *Instance) MetricsHandler() http.Handler {
	// Not the default registry: a program may hold several instances.
	r := prometheus.NewRegistry()
	r.MustRegister(i.Collector(), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
}

// Collector makes metrics of the instance's status, for a program's own registry.
// Every one of them has the instance's name as the label "name": Prometheus sets
// the label "instance" itself, to the address it asked.
func (i *Instance) Collector() prometheus.Collector { return &collector{status: i.Status} }

// collector makes metrics of what status returns.
type collector struct {
	status func() Status

	mu sync.Mutex
	// highest has what was told of drops that are the difference of two of the
	// kernel's counters, which are not read at the same moment: it may shrink by a
	// packet, and a counter that shrinks is taken to have started anew.
	highest map[string]uint64
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range families {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.status()
	e := emitter{ch, s.Name}
	e.instance(s)
	for _, p := range s.Ports {
		e.port(p, c.drops(p))
	}
	for _, pl := range s.Pipelines {
		e.pipeline(pl)
	}
	for _, st := range s.Stages {
		e.stage(st)
	}
	for _, is := range s.Interfaces {
		e.steering(is)
	}
}

// drops returns the port's drops, no less than what was told of them before. Those
// of the kernel are there also if they are zero: the first drop then is an
// increase and not a new series.
func (c *collector) drops(p pipeline.PortStatus) map[string]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.highest == nil {
		c.highest = map[string]uint64{}
	}
	drops := maps.Clone(p.Drops)
	if drops == nil {
		drops = map[string]uint64{}
	}
	for reason := range pipeline.KernelDropDocs {
		key := fmt.Sprintf("%s %d %s", p.Name, p.Queue, reason)
		c.highest[key] = max(c.highest[key], drops[reason])
		drops[reason] = c.highest[key]
	}
	return drops
}

// families are the descriptions of all metrics below.
var families []*prometheus.Desc

// family describes metrics of one name. Their first label is the instance's name.
func family(name, help string, labels ...string) *prometheus.Desc {
	d := prometheus.NewDesc("xdpipe_"+name, help, append([]string{"name"}, labels...), nil)
	families = append(families, d)
	return d
}

var (
	buildInfo         = family("build_info", "Constant 1, labelled with what the instance was built from.", "version", "goversion")
	instanceStart     = family("start_time_seconds", "When the instance was opened, in seconds since the epoch.")
	instanceFrames    = family("frames", "Packet frames by the place where they are.", "place")
	instanceFrameSize = family("frame_size_bytes", "Size of a frame.")

	sumCreated  = family("created_packets_total", "Packets that stages made.")
	sumTeed     = family("teed_packets_total", "Further references to packets that stages made, each of which counts as a packet from then on.")
	sumConsumed = family("consumed_packets_total", "Packets that ended in a sink.")
	sumCopied   = family("copied_packets_total", "Packets copied for stages that write to what others hold too.")
	sumRetired  = family("retired_drops_total", "Packets dropped by stages and pipelines that a reload has taken away since, by reason.", "reason")
)

func (e emitter) instance(s Status) {
	version := "(devel)"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		version = info.Main.Version
	}
	e.gauge(buildInfo, 1, version, runtime.Version())
	e.gauge(instanceStart, float64(s.Started.UnixMilli())/1e3)
	p := s.Memory.Places
	for place, n := range map[string]int{
		"free": p.Free, "fill": p.Fill, "rx": p.Rx, "tx": p.Tx,
		"completion": p.Completion, "batch": p.Batch, "foreign": p.Foreign,
	} {
		e.gauge(instanceFrames, float64(n), place)
	}
	e.gauge(instanceFrameSize, float64(s.Memory.FrameSize))

	e.counter(sumCreated, float64(s.Packets.Created))
	e.counter(sumTeed, float64(s.Packets.Teed))
	e.counter(sumConsumed, float64(s.Packets.Consumed))
	e.counter(sumCopied, float64(s.Packets.Copied))
	gone := map[string]uint64{}
	maps.Copy(gone, s.Packets.Drops) // with those of pipelines that are there
	for _, pl := range s.Pipelines {
		gone[pipelineDisabled] -= min(pl.Dropped, gone[pipelineDisabled])
	}
	e.byName(sumRetired, prometheus.CounterValue, gone)
}

// pipelineDisabled is the name of pipeline.ReasonDisabled.
const pipelineDisabled = "pipeline_disabled"

var (
	pipelineRunning = pipelineFamily("running", "1 while the pipeline runs, 0 if its stages panicked too often; the status has its state.")
	pipelinePanics  = pipelineFamily("panics_total", "Panics of the pipeline's stages, each of which lost a batch, since the last reload.")
	pipelineDrops   = pipelineFamily("drops_total", "Packets dropped because the pipeline does not run.", "reason")
)

// pipelineFamily describes metrics of one pipeline.
func pipelineFamily(name, help string, labels ...string) *prometheus.Desc {
	return family("pipeline_"+name, help, append([]string{"pipeline"}, labels...)...)
}

func (e emitter) pipeline(p pipeline.PipelineStatus) {
	running := 0.0
	if p.State == "running" {
		running = 1
	}
	e.gauge(pipelineRunning, running, p.Name)
	e.counter(pipelinePanics, float64(p.Panics), p.Name)
	e.counter(pipelineDrops, float64(p.Dropped), p.Name, pipelineDisabled)
}

var (
	portUp      = portFamily("up", "1 while the port and its link work, else 0; the status says why.")
	portInfo    = portFamily("info", "Constant 1, labelled with what was granted to the port.", "mode", "zero_copy", "worker")
	portRx      = portFamily("receive_packets_total", "Packets received.")
	portRxBytes = portFamily("receive_bytes_total", "Bytes received.")
	portTx      = portFamily("transmit_packets_total", "Packets given to the kernel to transmit: also those it then dropped, which are in drops_total as tx_dropped and tx_invalid_descs.")
	portTxBytes = portFamily("transmit_bytes_total", "Bytes of those packets.")
	portCopied  = portFamily("copied_packets_total", "Packets whose bytes were copied between memories.")
	portDrops   = portFamily("drops_total", "Packets dropped while receiving or transmitting, by reason; the status has cause and remedy.", "reason")
	portKicks   = portFamily("send_calls_total", "System calls that told the kernel to transmit.")
	portWakes   = portFamily("wake_calls_total", "System calls that told the kernel to receive.")
	portErrors  = portFamily("send_errors_total", "Calls to transmit that failed, by error. In copy mode EAGAIN and EBUSY are usual.", "error")
)

// portFamily describes metrics of one queue of a port.
func portFamily(name, help string, labels ...string) *prometheus.Desc {
	return family("port_"+name, help, append([]string{"port", "interface", "queue"}, labels...)...)
}

func (e emitter) port(p pipeline.PortStatus, drops map[string]uint64) {
	queue := []string{p.Name, p.Interface, strconv.Itoa(p.Queue)}
	with := func(more ...string) []string { return append(queue[:len(queue):len(queue)], more...) }
	up := 0.0
	if p.State == stateUp {
		up = 1
	}
	e.gauge(portUp, up, queue...)
	e.gauge(portInfo, 1, with(p.Mode, strconv.FormatBool(p.ZeroCopy), strconv.Itoa(p.Worker))...)
	e.counter(portRx, float64(p.RxPackets), queue...)
	e.counter(portRxBytes, float64(p.RxBytes), queue...)
	// Not p.TxPackets, which shrinks when the kernel drops what it had taken.
	e.counter(portTx, float64(p.TxPackets+p.Drops["tx_dropped"]+p.Drops["tx_invalid_descs"]), queue...)
	e.counter(portTxBytes, float64(p.TxBytes), queue...)
	e.counter(portCopied, float64(p.CopiedPackets), queue...)
	e.byName(portDrops, prometheus.CounterValue, drops, queue...)
	if s := p.Socket; s != nil {
		e.counter(portKicks, float64(s.Kicks), queue...)
		e.counter(portWakes, float64(s.Wakes), queue...)
		e.byName(portErrors, prometheus.CounterValue, map[string]uint64{
			"EAGAIN": s.SendAgain, "EBUSY": s.SendBusy, "ENOBUFS": s.SendNoBufs, "other": s.SendErrors,
		}, queue...)
	}
}

var (
	stagePackets      = stageFamily("packets_total", "Packets the stage was given.")
	stageCalls        = stageFamily("calls_total", "Calls of the stage, each with a batch of packets.")
	stageTimedPackets = stageFamily("timed_packets_total", "Packets of those calls that were timed, which are some of all.")
	stageTimedSeconds = stageFamily("timed_seconds_total", "Time that those calls took: by timed_packets_total it is the time for a packet.")
	stageDrops        = stageFamily("drops_total", "Packets the stage dropped, by reason; the status has cause and remedy.", "reason")
	// Some of a stage's values count and some measure; the engine cannot tell.
	stageValues = stageFamily("value", "Values that the stage itself reports.", "value")
)

// stageFamily describes metrics of one stage on one worker.
func stageFamily(name, help string, labels ...string) *prometheus.Desc {
	return family("stage_"+name, help, append([]string{"stage", "type", "worker"}, labels...)...)
}

func (e emitter) stage(s pipeline.StageStatus) {
	node := []string{s.Name, s.Type, strconv.Itoa(s.Worker)}
	e.counter(stagePackets, float64(s.Packets), node...)
	e.counter(stageCalls, float64(s.Calls), node...)
	e.counter(stageTimedPackets, float64(s.TimedPackets), node...)
	e.counter(stageTimedSeconds, float64(s.TimedNs)/1e9, node...)
	e.byName(stageDrops, prometheus.CounterValue, s.Drops, node...)
	e.byName(stageValues, prometheus.GaugeValue, s.Values, node...)
}

var (
	steerPackets = steeringFamily("packets_total", "Packets that the XDP program saw, by verdict and the reason for it. Each is in one of these.", "verdict", "reason")
	steerBytes   = steeringFamily("bytes_total", "Bytes of those packets.", "verdict", "reason")
	steerUnread  = steeringFamily("unreadable_packets_total", "Packets whose headers could not be read as far as the rules needed, beside their verdict.", "reason")
	steerFilter  = steeringFamily("filter_packets_total", "Packets that the filter matched, beside their verdict.")
	steerRules   = steeringFamily("rule_packets_total", "Packets that a rule decided, by its number in the policy, from 0.", "rule")
)

// steeringFamily describes metrics of the XDP program on a port's interface.
func steeringFamily(name, help string, labels ...string) *prometheus.Desc {
	return family("steering_"+name, help, append([]string{"port", "interface"}, labels...)...)
}

func (e emitter) steering(s InterfaceStatus) {
	for _, r := range bpf.Reasons() {
		c, ok := s.Steering[r.Name]
		switch verdict, _, _ := strings.Cut(r.Name, "_"); { // redirect, pass or drop
		case !ok:
		case r.Verdict:
			e.counter(steerPackets, float64(c.Packets), s.Port, s.Interface, verdict, r.Name)
			e.counter(steerBytes, float64(c.Bytes), s.Port, s.Interface, verdict, r.Name)
		case r.Name == "filter":
			e.counter(steerFilter, float64(c.Packets), s.Port, s.Interface)
		default:
			e.counter(steerUnread, float64(c.Packets), s.Port, s.Interface, r.Name)
		}
	}
	for rule, n := range s.RuleHits {
		e.counter(steerRules, float64(n), s.Port, s.Interface, strconv.Itoa(rule))
	}
}

// An emitter sends the metrics of one instance.
type emitter struct {
	ch   chan<- prometheus.Metric
	name string
}

func (e emitter) counter(d *prometheus.Desc, value float64, labels ...string) {
	e.emit(d, prometheus.CounterValue, value, labels...)
}

func (e emitter) gauge(d *prometheus.Desc, value float64, labels ...string) {
	e.emit(d, prometheus.GaugeValue, value, labels...)
}

// byName sends values whose last label is their name.
func (e emitter) byName(d *prometheus.Desc, kind prometheus.ValueType, values map[string]uint64, labels ...string) {
	named := make(map[string]uint64, len(values))
	for name, n := range values {
		named[strings.ToValidUTF8(name, "�")] += n // two names may become one
	}
	for name, n := range named {
		e.emit(d, kind, float64(n), append(labels[:len(labels):len(labels)], name)...)
	}
}

func (e emitter) emit(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
	all := append(make([]string, 0, 1+len(labels)), e.name)
	all = append(all, labels...)
	for i := range all {
		// An interface's name may be any bytes; one bad label would fail the answer.
		all[i] = strings.ToValidUTF8(all[i], "�")
	}
	e.ch <- prometheus.MustNewConstMetric(d, kind, value, all...)
}
