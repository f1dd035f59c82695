package stages

import (
	"log/slog"
	"reflect"
	"slices"

	"github.com/xdpipe/xdpipe/internal/ranges"
	"github.com/xdpipe/xdpipe/internal/rate"
	"github.com/xdpipe/xdpipe/pipeline"
)

func init() {
	pipeline.Register(pipeline.Module{
		Name:    "generate",
		Doc:     "makes packets at a rate, numbered and timed for sink, or sends those of a capture",
		Help:    "docs/generate.md has rates, sizes, flows, captures and the values it reports.",
		Example: "generate rate=100kpps size=imix count=1000000",
		New:     func() pipeline.Stage { return newGenerate() },
		Writes:  true,
	})
}

// Generate makes packets. They are stamped at the start of their payload, see
// stamp, and have right checksums.
//
// Its clock is the engine's: packet k of a constant rate is due k/rate seconds
// after the first. What a stall of the worker makes it miss beyond a burst is
// counted as late and not made up for.
type Generate struct {
	Rate     rate.Rate        `stage:"rate" doc:"packets or bits a second, such as 250kpps or 1.5Gbps; max: as many as can be"`
	Layer    string           `stage:"layer" doc:"what bits of rate are: l2, the frame with its FCS (4 bytes); l1, also preamble and gap (20 more)"`
	Burst    int              `stage:"burst" unit:"packets" doc:"most packets made at once after a stall; what else it missed is counted as late"`
	Count    uint64           `stage:"count" unit:"packets" doc:"stop after so many; 0: never"`
	Size     []ranges.Sizes   `stage:"size" unit:"bytes" doc:"of the frame with its FCS, in turn: 64, 64-1518, 64,512,1518; imix: 64, 594 and 1518 as 7:4:1, fitted to the headers; default: 64, or what headers and stamp need"`
	Flows    uint64           `stage:"flows" doc:"number of flows, one packet each in turn; default: all combinations of src (fastest), dst, src_port, dst_port"`
	Protocol string           `stage:"protocol" doc:"udp, tcp or icmp (echo requests)"`
	Src      ranges.Addresses `stage:"src" doc:"source addresses: one, a prefix or a range; default 198.18.0.1 or 2001:2::1 (RFC 2544, RFC 5180)"`
	Dst      ranges.Addresses `stage:"dst" doc:"destination addresses; default 198.19.0.1 or 2001:2:0:1::1"`
	SrcPort  ranges.Ports     `stage:"src_port" doc:"source ports: one or a range; default 1024"`
	DstPort  ranges.Ports     `stage:"dst_port" doc:"destination ports; default 9 (discard)"`
	SrcMAC   string           `stage:"src_mac" doc:"source MAC address"`
	DstMAC   string           `stage:"dst_mac" doc:"destination MAC address"`
	VLAN     int              `stage:"vlan" min:"0" max:"4094" doc:"VLAN id; 0: untagged"`
	TTL      int              `stage:"ttl" min:"1" max:"255" doc:"time to live, or hop limit"`
	DSCP     int              `stage:"dscp" min:"0" max:"63" doc:"differentiated services code point"`
	TCPFlags []string         `stage:"tcp_flags" doc:"of syn, ack, fin, rst, psh, urg"`
	Payload  string           `stage:"payload" doc:"what follows the stamp: zero, count (0, 1, 2 and so on) or random (the same in each packet)"`
	Stamp    string           `stage:"stamp" doc:"long (36 bytes, with the flow), short (18), auto (the longest for which all sizes have room) or false"`
	ID       uint16           `stage:"id" doc:"of the generator, in its stamps: different for each whose packets meet in a sink"`
	Pcap     string           `stage:"pcap" doc:"send the packets of this pcap or pcapng file as they are, instead of all from size to id"`
	Loop     bool             `stage:"loop" doc:"with pcap: begin again at its end"`

	template *genTemplate // nil with pcap
	sizes    []genSize    // the schedule
	at       int          // position in it
	pace     pace
	flows    genFlows
	clock    stampClock
	log      *slog.Logger

	end     uint64 // packets to make, of both Count and a capture that does not loop
	seq     uint64 // of the next packet
	longest int    // packet in bytes that a frame holds; 0 until the first Process
	genCounters
}

// genCounters are what a Generate reports.
type genCounters struct {
	sent, bytes, noFrame, tooLong uint64
}

// longestPacket is what a frame of 4096 bytes holds beside the kernel's headroom.
const longestPacket = 4096 - 256

// leastPacket is the shortest packet that is made: the smallest Ethernet frame
// without its FCS.
const leastPacket = 60

func newGenerate() *Generate {
	return &Generate{
		Rate: rate.Rate{N: 1000, Unit: rate.Packets}, Layer: "l2", Burst: 64,
		Protocol: "udp", SrcMAC: "02:00:00:00:00:01", DstMAC: "02:00:00:00:00:02",
		TTL: 64, TCPFlags: []string{"syn"}, Payload: "zero", Stamp: "auto", ID: 1,
	}
}

// Validate implements pipeline.Validator.
func (s *Generate) Validate() error {
	plan := *s
	if s.Pcap != "" {
		return plan.checkPcap()
	}
	return plan.build()
}

// Provision implements pipeline.Provisioner.
func (s *Generate) Provision(ctx *pipeline.Context) error {
	s.clock, s.log = newStampClock(), ctx.Log
	if s.Pcap == "" {
		return s.build()
	}
	if err := s.checkPcap(); err != nil {
		return err
	}
	var err error
	if s.sizes, err = loadCapture(s.Pcap); err != nil {
		return &pipeline.OptionError{Option: "pcap", Err: err}
	}
	if n := uint64(len(s.sizes)); !s.Loop {
		s.end = min(s.end, n)
	}
	s.flows = genFlows{flows: 1, n: [4]uint64{1, 1, 1, 1}}
	s.setPace()
	return nil
}

// checkPacing checks what is about when packets are made.
func (s *Generate) checkPacing() error {
	switch {
	case s.Layer != "l1" && s.Layer != "l2":
		return pipeline.BadOption("layer", "found %q, want l1 or l2", s.Layer)
	case s.Burst < 1 || s.Burst > 1<<20:
		return pipeline.BadOption("burst", "found %d, want 1 to %d packets", s.Burst, 1<<20)
	}
	s.end = s.Count
	if s.end == 0 {
		s.end = ^uint64(0)
	}
	return nil
}

// checkPcap refuses options that would be ignored.
func (s *Generate) checkPcap() error {
	with := []string{"rate", "layer", "burst", "count", "pcap", "loop"}
	v, fresh := reflect.ValueOf(s).Elem(), reflect.ValueOf(newGenerate()).Elem()
	for _, f := range reflect.VisibleFields(v.Type()) {
		name := f.Tag.Get("stage")
		if name != "" && !slices.Contains(with, name) &&
			!reflect.DeepEqual(v.FieldByIndex(f.Index).Interface(), fresh.FieldByIndex(f.Index).Interface()) {
			return pipeline.BadOption(name, "is of no use with pcap, whose packets are sent as they are")
		}
	}
	return s.checkPacing()
}

// build makes the template and the schedule from the options.
func (s *Generate) build() error {
	if err := s.checkPacing(); err != nil {
		return err
	}
	if s.Loop {
		return pipeline.BadOption("loop", "is of no use without pcap")
	}
	header, err := s.header()
	if err != nil {
		return err
	}
	if err := s.setFlows(header); err != nil {
		return err
	}
	s.template = newGenTemplate(header)
	sizes, stamp, err := s.frameSizes(s.template.payload)
	if err != nil {
		return err
	}
	switch s.Payload {
	case "zero", "count", "random":
	default:
		return pipeline.BadOption("payload", "found %q, want zero, count or random", s.Payload)
	}
	s.template.fill(slices.Max(sizes), stamp, s.ID, s.Payload)
	s.sizes = make([]genSize, len(sizes))
	for i, n := range sizes {
		s.sizes[i] = s.template.size(n)
	}
	s.setPace()
	return nil
}

func (s *Generate) setPace() {
	lengths := make([]int, len(s.sizes))
	for i := range s.sizes {
		lengths[i] = s.sizes[i].n
	}
	s.pace = newPace(s.Rate, s.Layer == "l1", s.Burst, lengths)
}

// Due implements pipeline.Source.
func (s *Generate) Due() int64 {
	switch {
	case s.done():
		return pipeline.Never
	case s.pace.den == 0 || !s.pace.begun:
		return 0
	}
	return s.pace.next
}

// done reports whether all packets were made.
func (s *Generate) done() bool { return s.sent+s.tooLong >= s.end }

// Process implements pipeline.Stage.
func (s *Generate) Process(b *pipeline.Batch) { s.make(b, b.Now(), s.clock.now()) }

// make makes the packets that are due now, on the engine's clock, with the stamp's time.
func (s *Generate) make(b *pipeline.Batch, now, stampTime int64) {
	if s.longest == 0 {
		s.begin(b)
	}
	if s.done() {
		return
	}
	s.pace.catchUp(now, s.at)
	limited := s.pace.den != 0
	room := b.Room()
	if left := s.end - s.sent - s.tooLong; uint64(room) > left {
		room = int(left)
	}
	for range room {
		if limited && s.pace.next > now {
			return
		}
		z := &s.sizes[s.at]
		if z.n <= s.longest {
			p := b.Alloc(z.n)
			if p == nil {
				s.noFrame++
				return
			}
			if s.template != nil {
				copy(p, s.template.bytes)
				s.template.write(p, z, &s.flows, s.ID, s.seq, stampTime)
				s.flows.advance()
			} else {
				copy(p, z.inCapture)
			}
			s.seq++
			s.sent++
			s.bytes += uint64(z.n)
		} else {
			s.tooLong++
		}
		s.pace.step(s.at)
		if s.at++; s.at == len(s.sizes) {
			s.at = 0
		}
	}
}

// begin looks at the memory, which there is at the first Process.
func (s *Generate) begin(b *pipeline.Batch) {
	s.longest = b.Cache().Memory().MaxPacket()
	longest := 0
	for i := range s.sizes {
		longest = max(longest, s.sizes[i].n)
	}
	if longest > s.longest && s.log != nil {
		s.log.Error("some packets do not fit the memory's frames and are not sent; raise memory.frame_size",
			"bytes", longest, "frame_holds", s.longest)
	}
}

// Inherit implements pipeline.Heir: the sequence goes on, unless its flows are
// others, and so do the counters.
func (s *Generate) Inherit(old pipeline.Stage) {
	from, ok := old.(*Generate)
	if !ok || s.Pcap != from.Pcap || s.ID != from.ID {
		return
	}
	if s.Pcap != "" {
		s.at = from.at % len(s.sizes)
	}
	if s.flows.flows == from.flows.flows {
		s.seq = from.seq
		s.flows.seek(s.seq)
	}
	s.genCounters = from.genCounters
	s.pace.begun, s.pace.next, s.pace.late = from.pace.begun, from.pace.next, from.pace.late
}

// Report implements pipeline.Reporter.
func (s *Generate) Report() map[string]uint64 {
	return map[string]uint64{
		"sent": s.sent, "bytes": s.bytes,
		"late": s.pace.late, "intended": s.sent + s.pace.late + s.tooLong,
		"no_frame": s.noFrame, "too_long": s.tooLong,
	}
}

var (
	_ pipeline.Source      = (*Generate)(nil)
	_ pipeline.Validator   = (*Generate)(nil)
	_ pipeline.Provisioner = (*Generate)(nil)
	_ pipeline.Heir        = (*Generate)(nil)
	_ pipeline.Reporter    = (*Generate)(nil)
)
