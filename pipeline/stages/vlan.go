package stages

import (
	"encoding/binary"
	"slices"

	"github.com/xdpipe/xdpipe/pipeline"
)

func init() {
	pipeline.Register(pipeline.Module{
		Name: "vlan",
		Doc:  "pushes, pops or rewrites the outermost VLAN tag",
		Help: `push puts a tag between the addresses and what is behind them, into the room
before the packet; pop takes one off, and set changes parts of it. Packets that
have no tag to pop or set go on as they are, counted as untagged, and those of
VLANs that match does not have, as unmatched. What is popped may be shorter than
Ethernet's 60 bytes; whoever transmits pads it.

Packets need not be parsed before. Of those that are, what is known of the
headers stays true; behind more than two tags nothing is known of a packet.`,
		Example: "parse ! vlan op=push id=42 pcp=3 ! count",
		Writes:  true,
		Outputs: []pipeline.OutputInfo{{
			Name: "else", Optional: true,
			Doc: "packets left as they are: without a tag to pop or set, or of a VLAN not in match; they go on with the next stage if it is not connected",
		}},
		New: func() pipeline.Stage { return &VLAN{ID: asItIs, PCP: asItIs, DEI: asItIs} },
	})
}

// VLAN changes the outermost VLAN tag. It works on the bytes; the metadata of
// packets that are parsed stays what a parse of the packet would find.
type VLAN struct {
	Op    string `stage:"op" required:"true" doc:"push: put a tag before what is there; pop: take one off; set: change it"`
	ID    int    `stage:"id" min:"-1" max:"4094" doc:"VLAN id, 0 for a priority tag; required for push; -1: kept with set"`
	PCP   int    `stage:"pcp" min:"-1" max:"7" doc:"priority; -1: 0 with push, kept with set"`
	DEI   int    `stage:"dei" min:"-1" max:"1" doc:"drop eligible indicator; -1: 0 with push, kept with set"`
	Type  string `stage:"type" doc:"802.1q or 802.1ad (the outer tag of two, also called S-tag); empty: 802.1q with push, kept with set"`
	Match []int  `stage:"match" min:"0" max:"4094" doc:"only packets whose outermost tag has one of these ids; empty: all packets"`

	tpid uint16 // with push, and with set unless 0
	tci  uint16 // the bits that push or set write
	keep uint16 // the bits of the old tag that set keeps

	other     pipeline.Output // where packets go that are left as they are
	short     pipeline.Reason
	changed   uint64
	untagged  uint64
	unmatched uint64
}

// asItIs is the value of an option that leaves a part of a tag alone.
const asItIs = -1

// Bits of the tag control information (IEEE 802.1Q, 9.6).
const (
	vlanIDMask  = 0x0fff
	vlanDEI     = 0x1000
	vlanPCPMask = 0xe000
)

// Validate implements pipeline.Validator.
func (s *VLAN) Validate() error {
	switch s.Op {
	case "push":
		if s.ID == asItIs {
			return pipeline.BadOption("id", "missing; push needs the id of the tag, 0 to 4094")
		}
	case "set":
		if s.ID == asItIs && s.PCP == asItIs && s.DEI == asItIs && s.Type == "" {
			return pipeline.BadOption("op", "set changes nothing; give id, pcp, dei or type")
		}
	case "pop":
		if s.ID != asItIs || s.PCP != asItIs || s.DEI != asItIs || s.Type != "" {
			return pipeline.BadOption("op", "pop takes the tag off and writes none; give only match, which says of which ids")
		}
	default:
		return pipeline.BadOption("op", "found %q, want push, pop or set", s.Op)
	}
	switch s.Type {
	case "":
		s.tpid = 0
		if s.Op == "push" {
			s.tpid = pipeline.EtherTypeVLAN
		}
	case "802.1q":
		s.tpid = pipeline.EtherTypeVLAN
	case "802.1ad":
		s.tpid = pipeline.EtherTypeQinQ
	default:
		return pipeline.BadOption("type", "found %q, want 802.1q or 802.1ad", s.Type)
	}
	s.tci, s.keep = 0, 0
	for _, part := range []struct {
		value int
		mask  uint16
		shift int
	}{{s.ID, vlanIDMask, 0}, {s.DEI, vlanDEI, 12}, {s.PCP, vlanPCPMask, 13}} {
		if part.value == asItIs {
			s.keep |= part.mask
		} else {
			s.tci |= uint16(part.value) << part.shift & part.mask
		}
	}
	return nil
}

// Provision implements pipeline.Provisioner.
func (s *VLAN) Provision(ctx *pipeline.Context) error {
	s.short = ctx.Reason("too_short", "the packet ends within its Ethernet header or its VLAN tag")
	s.other = pipeline.Next
	if out, connected := ctx.Output("else"); connected {
		s.other = out
	}
	return nil
}

// Process implements pipeline.Stage.
func (s *VLAN) Process(b *pipeline.Batch) {
	switch s.Op {
	case "push":
		for i := range b.Len() {
			if p := b.Data(i); len(s.Match) == 0 || s.tagged(b, i, p) {
				s.push(b, i, p)
			}
		}
	case "pop":
		for i := range b.Len() {
			if p := b.Data(i); s.tagged(b, i, p) {
				s.pop(b, i, p)
			}
		}
	case "set":
		for i := range b.Len() {
			if p := b.Data(i); s.tagged(b, i, p) {
				s.set(b, i, p)
			}
		}
	}
}

// tagged reports whether the packet has a whole outermost tag of one of the ids
// wanted. Others it sends where they go.
func (s *VLAN) tagged(b *pipeline.Batch, i int, p []byte) bool {
	if len(p) < 14 {
		b.Drop(i, s.short)
		return false
	}
	if t := binary.BigEndian.Uint16(p[12:]); t != pipeline.EtherTypeVLAN && t != pipeline.EtherTypeQinQ {
		s.untagged++
		b.To(i, s.other)
		return false
	}
	if len(p) < 18 {
		b.Drop(i, s.short)
		return false
	}
	if len(s.Match) > 0 && !slices.Contains(s.Match, int(binary.BigEndian.Uint16(p[14:])&vlanIDMask)) {
		s.unmatched++
		b.To(i, s.other)
		return false
	}
	return true
}

// push moves the addresses four bytes forward and writes the tag into the gap.
func (s *VLAN) push(b *pipeline.Batch, i int, p []byte) {
	if len(p) < 14 {
		b.Drop(i, s.short)
		return
	}
	m := b.Meta(i)
	low, high := binary.NativeEndian.Uint64(p), binary.NativeEndian.Uint32(p[8:])
	if !b.Push(i, 4) {
		return
	}
	p = b.Data(i)
	binary.NativeEndian.PutUint64(p, low)
	binary.NativeEndian.PutUint32(p[8:], high)
	binary.BigEndian.PutUint32(p[12:], uint32(s.tpid)<<16|uint32(s.tci))
	s.changed++
	if m.Flags&(pipeline.MetaParsed|pipeline.MetaMalformed) != pipeline.MetaParsed || m.VLANs > 1 {
		parseAgain(m, p)
		return
	}
	m.Flags |= pipeline.MetaVLAN
	m.VLAN[1] = m.VLAN[0]
	m.VLAN[0] = s.tci
	m.VLANs++
}

// pop moves the addresses four bytes back, over the tag.
func (s *VLAN) pop(b *pipeline.Batch, i int, p []byte) {
	m := b.Meta(i)
	low, high := binary.NativeEndian.Uint64(p), binary.NativeEndian.Uint32(p[8:])
	binary.NativeEndian.PutUint64(p[4:], low)
	binary.NativeEndian.PutUint32(p[12:], high)
	known := m.Flags
	if !b.Pull(i, 4) { // never: there are 14 bytes behind it
		return
	}
	s.changed++
	if known&(pipeline.MetaParsed|pipeline.MetaMalformed) != pipeline.MetaParsed ||
		m.EtherType == pipeline.EtherTypeVLAN || m.EtherType == pipeline.EtherTypeQinQ {
		m.Flags |= known & pipeline.MetaParsed
		parseAgain(m, b.Data(i))
		return
	}
	m.VLAN[0], m.VLAN[1] = m.VLAN[1], 0
	if m.VLANs--; m.VLANs == 0 {
		m.Flags &^= pipeline.MetaVLAN
	}
}

// set writes the parts of the tag that are given.
func (s *VLAN) set(b *pipeline.Batch, i int, p []byte) {
	tci := binary.BigEndian.Uint16(p[14:])&s.keep | s.tci
	binary.BigEndian.PutUint16(p[14:], tci)
	if s.tpid != 0 {
		binary.BigEndian.PutUint16(p[12:], s.tpid)
	}
	b.Meta(i).VLAN[0] = tci // of a packet that is not parsed nobody reads it
	s.changed++
}

// parseAgain parses a packet whose headers were known to be odd. What was found
// of its checksums stays true.
func parseAgain(m *pipeline.Meta, p []byte) {
	if m.Flags&pipeline.MetaParsed == 0 {
		return
	}
	checksum := m.Checksum
	m.Parse(p)
	m.Checksum = checksum
}

// Report implements pipeline.Reporter.
func (s *VLAN) Report() map[string]uint64 {
	return map[string]uint64{"changed": s.changed, "untagged": s.untagged, "unmatched": s.unmatched}
}
