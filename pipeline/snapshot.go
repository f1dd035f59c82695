package pipeline

import (
	"maps"

	"github.com/xdpipe/xdpipe/xsk"
)

// A Snapshot is the engine's counters and the place of every frame, taken while
// all workers stood between two batches. Its JSON is that of `xdpipe status`.
type Snapshot struct {
	Memory    MemoryStatus     `json:"memory"`
	Ports     []PortStatus     `json:"ports"`
	Stages    []StageStatus    `json:"stages"`
	Pipelines []PipelineStatus `json:"pipelines"`
	// Packets counts those that did not come by a port, and those that did not end
	// at one.
	Packets PacketStatus `json:"packets"`
}

// PipelineStatus is one pipeline.
type PipelineStatus struct {
	Name    string `json:"name"`
	From    string `json:"from,omitempty"`
	To      string `json:"to,omitempty"`
	State   string `json:"state"` // running; dropping, passing or stopped after too many panics
	Panics  uint64 `json:"panics"`
	Dropped uint64 `json:"dropped"` // while it is not running
}

// PacketStatus has what the ports do not count, over all stages, those that a
// reload has taken away included.
type PacketStatus struct {
	Created  uint64            `json:"created"`  // by stages
	Teed     uint64            `json:"teed"`     // further references, each of which counts as a packet from then on
	Consumed uint64            `json:"consumed"` // by sinks
	Copied   uint64            `json:"copied"`   // for stages that write to packets with other holders
	Drops    map[string]uint64 `json:"drops"`    // by pipelines that are disabled and stages that are gone
}

// MemoryStatus is the memory and where its frames are.
type MemoryStatus struct {
	Frames    int    `json:"frames"`
	FrameSize int    `json:"frame_size"`
	Pages     string `json:"pages"`
	PagesWhy  string `json:"pages_why,omitempty"`
	Places    Places `json:"places"`
}

// Places counts the frames by where they are. Each is counted where it was
// found, and the sum is the total unless frames were lost.
type Places struct {
	Free       int `json:"free"`       // in the pool and the workers' caches
	Fill       int `json:"fill"`       // given to the kernel to receive into
	Rx         int `json:"rx"`         // received, not yet taken
	Tx         int `json:"tx"`         // given to the kernel to transmit
	Completion int `json:"completion"` // transmitted, not yet taken back
	Batch      int `json:"batch"`      // in a worker's hands
	Foreign    int `json:"foreign"`    // held by someone else
	Total      int `json:"total"`
}

// Sum returns the frames found.
func (p Places) Sum() int {
	return p.Free + p.Fill + p.Rx + p.Tx + p.Completion + p.Batch + p.Foreign
}

// PortStatus is one queue of a port.
type PortStatus struct {
	Name          string            `json:"name"`
	Interface     string            `json:"interface"`
	Queue         int               `json:"queue"`
	Worker        int               `json:"worker"`
	Mode          string            `json:"mode"`
	ZeroCopy      bool              `json:"zero_copy"`
	NeedWakeup    bool              `json:"need_wakeup"`
	State         string            `json:"state"` // up, or what is wrong and why
	RxPackets     uint64            `json:"rx_packets"`
	RxBytes       uint64            `json:"rx_bytes"`
	TxPackets     uint64            `json:"tx_packets"` // without those of Drops
	TxBytes       uint64            `json:"tx_bytes"`   // of all that the kernel was given
	CopiedPackets uint64            `json:"copied_packets"`
	Drops         map[string]uint64 `json:"drops"`
	XDPStatistics *xsk.KernelStats  `json:"xdp_statistics,omitempty"`
	Socket        *SocketStatus     `json:"socket,omitempty"`
}

// SocketStatus is the socket's own count of its system calls.
type SocketStatus struct {
	Kicks      uint64 `json:"kicks"`
	Wakes      uint64 `json:"wakes"`
	SendAgain  uint64 `json:"send_eagain"`
	SendBusy   uint64 `json:"send_ebusy"`
	SendNoBufs uint64 `json:"send_enobufs"`
	SendErrors uint64 `json:"send_errors"`
}

// StageStatus is one stage instance.
type StageStatus struct {
	Name        string  `json:"name"`
	Type        string  `json:"type"`
	Worker      int     `json:"worker"`
	Calls       uint64  `json:"calls"`
	Packets     uint64  `json:"packets"`
	NsPerPacket float64 `json:"ns_per_packet"`
	// Some calls are timed: these are their packets and their nanoseconds. Of two
	// snapshots they give the time for a packet between them.
	TimedPackets uint64            `json:"timed_packets"`
	TimedNs      uint64            `json:"timed_ns"`
	Created      uint64            `json:"created,omitempty"`  // packets it made
	Consumed     uint64            `json:"consumed,omitempty"` // packets that ended in it
	Teed         uint64            `json:"teed,omitempty"`     // references to packets that it added
	Copied       uint64            `json:"copied,omitempty"`   // packets copied for it to write to
	Drops        map[string]uint64 `json:"drops"`
	Values       map[string]uint64 `json:"values,omitempty"`
}

// Snapshot reads everything. It may be called at any time, also before Run and
// after it; after Close it returns what there was at Close.
func (e *Engine) Snapshot() Snapshot {
	var s Snapshot
	e.Between(func() {
		if e.closed {
			s = e.last
		} else {
			s = e.snapshot()
		}
	})
	return s
}

func (e *Engine) snapshot() Snapshot {
	pages := e.mem.Pages()
	s := Snapshot{
		Memory: MemoryStatus{
			Frames: e.mem.Frames(), FrameSize: e.mem.FrameSize(), Pages: pages.Kind.String(), PagesWhy: pages.Reasons(),
		},
		Ports:     []PortStatus{},
		Stages:    []StageStatus{},
		Pipelines: []PipelineStatus{},
		Packets: PacketStatus{
			Created: e.retired.created, Teed: e.retired.teed, Consumed: e.retired.consumed, Copied: e.retired.copied,
			Drops: maps.Clone(e.retired.drops),
		},
	}
	places := Places{Total: e.mem.Frames(), Free: e.mem.Free()}
	for _, w := range e.workers {
		places.Free += w.cache.Len()
		places.Batch += w.batch.n
		for _, q := range w.queues {
			p := q.queue.Places()
			places.Fill += p.Fill
			places.Rx += p.Rx
			places.Tx += p.Tx
			places.Completion += p.Completion
			s.Ports = append(s.Ports, e.portStatus(w, q))
		}
		for _, in := range w.inbound {
			places.Batch += in.ring.frames(e.segs)
		}
		for _, n := range w.nodes {
			s.Stages = append(s.Stages, e.stageStatus(w, n))
			s.Packets.Created += n.created
			s.Packets.Teed += n.teed
			s.Packets.Consumed += n.consumed
			s.Packets.Copied += n.copied
		}
	}
	if e.graph != nil {
		for _, p := range e.graph.pipes {
			s.Pipelines = append(s.Pipelines, p.status())
			if n := p.disabled.Load(); n > 0 {
				s.Packets.Drops[e.reasons.info(ReasonDisabled).Name] += n
			}
		}
	}
	places.once(e.mem.ExtraRefs())
	s.Memory.Places = places
	return s
}

// once counts frames with several holders once: further holders are on their way
// out, or between workers.
func (p *Places) once(further int) {
	for _, place := range []*int{&p.Tx, &p.Completion, &p.Batch} {
		n := min(further, *place)
		*place -= n
		further -= n
	}
}

func (e *Engine) portStatus(w *worker, q *workerQueue) PortStatus {
	info, c := q.queue.Info(), q.queue.Counters()
	p := PortStatus{
		Name: q.port, Interface: info.Interface, Queue: info.Queue, Worker: w.id,
		Mode: info.Mode, ZeroCopy: info.ZeroCopy, NeedWakeup: info.NeedWakeup, State: info.State,
		RxPackets: c.RxPackets, RxBytes: c.RxBytes, TxPackets: c.TxPackets, TxBytes: c.TxBytes,
		CopiedPackets: c.Copied,
		Drops:         e.reasons.named(q.drops),
		XDPStatistics: c.Kernel,
	}
	for _, other := range e.workers { // what others could not hand to its worker
		for _, o := range other.outlets {
			if o.queue == q {
				for name, n := range e.reasons.named(o.drops) {
					p.Drops[name] += n
				}
			}
		}
	}
	if q.ended != nil {
		p.State = q.ended.Error()
	}
	for name, n := range KernelDrops(p) {
		p.Drops[name] = n
	}
	for name, n := range sendDrops(p, c) {
		p.Drops[name] = n
		p.TxPackets -= min(n, p.TxPackets)
	}
	if c := c.Socket; c != nil {
		p.Socket = &SocketStatus{c.Kicks, c.Wakes, c.SendAgain, c.SendBusy, c.SendNoBufs, c.SendErrors}
	}
	return p
}

func (e *Engine) stageStatus(w *worker, n *node) StageStatus {
	s := StageStatus{
		Name: n.name, Type: n.kind, Worker: w.id,
		Calls: n.calls, Packets: n.packets, Drops: e.reasons.named(n.drops),
		TimedPackets: n.timed, TimedNs: uint64(n.nanos),
		Created: n.created, Consumed: n.consumed, Teed: n.teed, Copied: n.copied,
	}
	if n.timed > 0 {
		s.NsPerPacket = float64(n.nanos) / float64(n.timed)
	}
	if r, ok := n.stage.(Reporter); ok {
		s.Values = e.report(n.name, r)
	}
	return s
}

// report asks a stage for its counters. One that panics has none.
func (e *Engine) report(stage string, r Reporter) (values map[string]uint64) {
	defer e.recovered(stage)
	return maps.Clone(r.Report())
}

// Reasons returns what is known of every drop reason, by name.
func (e *Engine) Reasons() map[string]string {
	docs := map[string]string{}
	for r := range e.reasons.len() {
		if info := e.reasons.info(Reason(r)); info.Doc != "" {
			docs[info.Name] = info.Doc
		}
	}
	return docs
}

// KernelDrops returns what the kernel dropped on its way to the socket, before
// it was received, by reason and without zeros.
//
// In copy mode a packet for which the fill ring has no frame is counted twice by
// the kernel, as rx_fill_ring_empty and as rx_dropped (xsk_rcv, net/xdp/xsk.c):
// here it is under the first. In zero-copy mode an empty fill ring is an occasion
// and no packet: the NIC counts what it drops.
func KernelDrops(p PortStatus) map[string]uint64 {
	drops := map[string]uint64{}
	k := p.XDPStatistics
	if k == nil {
		return drops
	}
	noFrame := k.RxFillRingEmpty
	if p.ZeroCopy {
		noFrame = 0
	}
	for name, n := range map[string]uint64{
		"rx_dropped":         k.RxDropped - min(noFrame, k.RxDropped),
		"rx_ring_full":       k.RxRingFull,
		"rx_fill_ring_empty": noFrame,
	} {
		if n > 0 {
			drops[name] = n
		}
	}
	return drops
}

// sendDrops returns what the kernel took from the queue and did not transmit, by
// reason and without zeros.
func sendDrops(p PortStatus, c QueueCounters) map[string]uint64 {
	drops := map[string]uint64{}
	if c.Kernel != nil && c.Kernel.TxInvalidDescs > 0 {
		drops["tx_invalid_descs"] = c.Kernel.TxInvalidDescs
	}
	// In copy mode a wakeup ends with EBUSY when the driver dropped a packet
	// (__xsk_generic_xmit, net/xdp/xsk.c); in zero-copy mode it says nothing of packets.
	if c.Socket != nil && c.Socket.SendBusy > 0 && !p.ZeroCopy {
		drops["tx_dropped"] = c.Socket.SendBusy
	}
	return drops
}

// KernelDropDocs says of the drops that the kernel counts for a socket, mostly
// under the names of struct xdp_statistics, what causes them and what to do.
var KernelDropDocs = map[string]string{
	"rx_dropped":         "the packet did not fit a frame; raise memory.frame_size or lower the MTU",
	"rx_ring_full":       "packets arrive faster than the worker takes them; add workers and queues, or raise rings.rx",
	"rx_fill_ring_empty": "no frame was there to receive into; raise rings.fill and memory.frames",
	"tx_invalid_descs":   "a stage made a packet empty or longer than its frame",
	"tx_dropped":         "the driver dropped it: it is longer than the MTU of the outgoing link or its peer, or the peer is down or slower than what arrives",
}
