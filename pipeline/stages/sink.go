package stages

import (
	"fmt"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/xdpipe/xdpipe/pipeline"
)

func init() {
	pipeline.Register(pipeline.Module{
		Name: "sink",
		Doc:  "ends packets, and measures those of generate: loss, duplicates, order, latency",
		Help: `It counts by generator what was lost, came twice or out of order, and how long it
took; docs/generate.md has the values. Where the flows of a generator are spread
over several workers, flows must be set: numbers that another worker sees are lost
ones to this.`,
		Example: "parse ! sink",
		New:     func() pipeline.Stage { return &Sink{Verify: true} },
	})
}

// Sink is the end of packets. Of those that a generate stage stamped, here or in
// another process of this host, it counts by generator what is lost, comes twice
// or out of order, and how long they took, from being made to Process of the sink.
//
// Each worker's instance counts what it sees. Where a generator's flows are spread
// over several workers, Flows must be set: numbers that another worker sees would
// be lost ones to this.
type Sink struct {
	Verify bool `stage:"verify" doc:"check the checksums of stamped packets; those that are wrong count as corrupted, and as lost"`
	Flows  int  `stage:"flows" min:"0" max:"1048576" doc:"follow so many flows of each generator by their own sequence numbers, of long stamps; 0: each generator as a whole"`

	clock stampClock
	sinkState
}

// sinkState is what a Sink has learnt.
type sinkState struct {
	packets, bytes                         uint64
	foreign, corrupted, untracked          uint64
	received, duplicates, reordered, stale uint64
	restarts, fromFuture                   uint64
	latencies                              *hdrhistogram.Histogram // nanoseconds
	shortest, longest                      int64
	generators                             []*sinkGenerator // in the order of their first packets
}

// A sinkGenerator is a generator that packets came from.
type sinkGenerator struct {
	id    uint16
	whole tracker
	flows []tracker

	received, duplicates, reordered uint64
}

const (
	// sinkGenerators is how many generators are followed.
	sinkGenerators = 16
	// sinkWindow and sinkFlowWindow are how far behind the largest number one may
	// be to be told from a duplicate, for a generator and for a flow.
	sinkWindow     = 1 << 16
	sinkFlowWindow = 64

	// longestLatency is what the histogram covers: a minute, in 221 KiB.
	longestLatency = 60_000_000_000
	latencyDigits  = 3
)

// Validate implements pipeline.Validator.
func (s *Sink) Validate() error {
	if s.Flows < 0 || s.Flows > 1<<20 {
		return pipeline.BadOption("flows", "found %d, want 0 to %d", s.Flows, 1<<20)
	}
	return nil
}

// Provision implements pipeline.Provisioner.
func (s *Sink) Provision(*pipeline.Context) error {
	s.clock = newStampClock()
	s.latencies = hdrhistogram.New(1, longestLatency, latencyDigits)
	return s.Validate()
}

// Sink implements pipeline.Sink.
func (*Sink) Sink() {}

// Process implements pipeline.Stage.
func (s *Sink) Process(b *pipeline.Batch) { s.take(b, s.clock.now()) }

// take takes the packets at the given time.
func (s *Sink) take(b *pipeline.Batch, now int64) {
	if b.Len() == 0 {
		return
	}
	if b.Meta(0).Flags&pipeline.MetaParsed == 0 {
		b.Parse()
	}
	s.packets += uint64(b.Len())
	// Packets that were made together and come together have one latency.
	latency, run := int64(0), int64(0)
	var st stamp
	for i := range b.Len() {
		s.bytes += uint64(b.Size(i))
		if !st.of(b, i) {
			s.foreign++
			continue
		}
		if s.Verify && b.Meta(i).Checksum != pipeline.ChecksumGood && b.VerifyChecksum(i) == pipeline.ChecksumBad {
			s.corrupted++
			continue
		}
		if !st.long {
			st.time = widen(st.time, uint64(now))
		}
		if !s.note(&st) {
			continue
		}
		took := now - int64(st.time)
		if took != latency {
			s.record(latency, run)
			latency, run = took, 0
		}
		run++
	}
	s.record(latency, run)
}

// note counts a stamped packet and reports whether it is one that was not there
// before.
func (s *Sink) note(st *stamp) bool {
	g := s.generator(st.id)
	if g == nil {
		s.untracked++
		return false
	}
	t, seq := &g.whole, st.seq
	switch {
	case !st.long:
		seq = widen(seq, t.last)
	case s.Flows > 0 && int64(st.flow) < int64(s.Flows):
		t, seq = &g.flows[st.flow], st.flowSeq
	case s.Flows > 0:
		s.untracked++
		return false
	}
	switch t.note(seq, st.time) {
	case arrivalDuplicate:
		s.duplicates++
		g.duplicates++
		return false
	case arrivalStale:
		s.stale++
		return false
	case arrivalReordered:
		s.reordered++
		g.reordered++
	case arrivalRestart:
		s.restarts++
	}
	s.received++
	g.received++
	return true
}

// generator returns the generator of that id, which may be new; nil if there are
// too many.
func (s *Sink) generator(id uint16) *sinkGenerator {
	for _, g := range s.generators {
		if g.id == id {
			return g
		}
	}
	if len(s.generators) == sinkGenerators {
		return nil
	}
	// Once for each generator.
	g := &sinkGenerator{id: id, whole: tracker{window: make([]uint64, sinkWindow/64)}, flows: make([]tracker, s.Flows)}
	windows := make([]uint64, s.Flows*sinkFlowWindow/64)
	for i := range g.flows {
		g.flows[i].window, windows = windows[:sinkFlowWindow/64:sinkFlowWindow/64], windows[sinkFlowWindow/64:]
	}
	s.generators = append(s.generators, g)
	return g
}

// record records the latency of n packets.
func (s *Sink) record(ns, n int64) {
	switch {
	case n == 0:
		return
	case ns < 0:
		s.fromFuture += uint64(n)
		return
	}
	if s.latencies.TotalCount() == 0 {
		s.shortest = ns
	}
	s.shortest, s.longest = min(s.shortest, ns), max(s.longest, ns)
	_ = s.latencies.RecordValues(min(ns, longestLatency), n) // fails for larger ones only
}

// missing returns how many numbers of the generator have not come.
func (g *sinkGenerator) missing() uint64 {
	n := g.whole.lost + g.whole.missing()
	for i := range g.flows {
		n += g.flows[i].lost + g.flows[i].missing()
	}
	return n
}

// Inherit implements pipeline.Heir.
func (s *Sink) Inherit(old pipeline.Stage) {
	if from, ok := old.(*Sink); ok && from.Flows == s.Flows {
		s.sinkState = from.sinkState
	}
}

// Report implements pipeline.Reporter.
func (s *Sink) Report() map[string]uint64 {
	values := map[string]uint64{
		"packets": s.packets, "bytes": s.bytes,
		"foreign": s.foreign, "corrupted": s.corrupted, "untracked": s.untracked,
		"received": s.received, "duplicates": s.duplicates, "reordered": s.reordered, "stale": s.stale,
		"restarts": s.restarts, "from_future": s.fromFuture,
		"generators":     uint64(len(s.generators)),
		"latency_min_ns": uint64(s.shortest), "latency_max_ns": uint64(s.longest),
	}
	lost := uint64(0)
	for _, g := range s.generators {
		n := g.missing()
		lost += n
		if len(s.generators) > 1 {
			name := fmt.Sprintf("generator_%d_", g.id)
			values[name+"received"], values[name+"lost"] = g.received, n
			values[name+"duplicates"], values[name+"reordered"] = g.duplicates, g.reordered
		}
	}
	values["lost"] = lost
	at := s.latencies.ValueAtPercentilesSlice([]float64{50, 90, 99, 99.9})
	for i, name := range []string{"p50", "p90", "p99", "p99_9"} {
		// The histogram has the upper end of what it cannot tell apart.
		values["latency_"+name+"_ns"] = uint64(min(at[i], s.longest))
	}
	return values
}

var (
	_ pipeline.Sink        = (*Sink)(nil)
	_ pipeline.Validator   = (*Sink)(nil)
	_ pipeline.Provisioner = (*Sink)(nil)
	_ pipeline.Heir        = (*Sink)(nil)
	_ pipeline.Reporter    = (*Sink)(nil)
)
