package acl

import (
	"encoding/binary"
	"net/netip"

	"github.com/xdpipe/xdpipe/pipeline"
)

// A key is what tables look at of a packet, as words. Word 0 is source and
// destination of IPv4, the upper half of the source of IPv6, or the ethertype. Words
// 2 to 4 are the rest of IPv6 addresses. Word 1 is the same in all; from bit 0 on:
//
//	the protocol, or protocolUnknown       9 bits
//	whether that has ports                 1
//	whether it is the first fragment       1
//	vlanTag and the outermost tag's id    13
//	the destination port                  16
//	the source port                       16
//
// Above each of its fields is a bit that is 0, so that all fields are compared with
// a range of values at once: subtractions do not borrow beyond it.
const (
	wordMisc = 1

	shiftPorts = 10
	shiftFirst = 12
	shiftVLAN  = 14
	shiftDst   = 28
	shiftSrc   = 45

	// guards are the bits above the fields of word 1.
	guards = 1<<9 | 1<<11 | 1<<13 | 1<<27 | 1<<44 | 1<<61

	vlanTag         = 1 << 12
	protocolUnknown = 256
)

// A field is a range of bits of a key that boxes have a range of values of.
type field struct{ word, shift, width uint8 }

// fields are those of one kind of key. Those of word 1 come last.
type fields []field

const (
	sharedFields = 6 // of word 1
	maxFields    = 4 + sharedFields
)

func newFields(first ...field) fields {
	return append(first,
		field{wordMisc, 0, 9}, field{wordMisc, shiftPorts, 1}, field{wordMisc, shiftFirst, 1}, field{wordMisc, shiftVLAN, 13},
		field{wordMisc, shiftDst, 16}, field{wordMisc, shiftSrc, 16})
}

// Places of the shared fields, counted from the first of them.
const (
	fieldProtocol = iota
	fieldHasPorts
	fieldFirst
	fieldVLAN
	fieldDstPort
	fieldSrcPort
)

var (
	fieldsIPv4  = newFields(field{0, 32, 32}, field{0, 0, 32})                                  // source, destination
	fieldsIPv6  = newFields(field{0, 0, 64}, field{2, 0, 64}, field{3, 0, 64}, field{4, 0, 64}) // halves of both
	fieldsOther = newFields(field{0, 0, 16})                                                    // ethertype
)

// all returns the largest value of the field.
func (f field) all() uint64 { return 1<<f.width - 1 }

// A box is the values, from lo to hi of each field, that a rule matches.
type box struct {
	lo, hi  [maxFields]uint64
	verdict Verdict
}

func (f fields) box(v Verdict) box {
	b := box{verdict: v}
	for i := range f {
		b.hi[i] = f[i].all()
	}
	return b
}

// limit narrows a field of the box.
func (b *box) limit(field int, lo, hi uint64) { b.lo[field], b.hi[field] = lo, hi }

// given returns the value and mask of the bits of a field that the box gives: its
// range is one value, all, or those with a prefix.
func (b *box) given(f fields, i int) (value, mask uint64) {
	open := b.lo[i] ^ b.hi[i]
	return (b.lo[i] &^ open) << f[i].shift, (f[i].all() &^ open) << f[i].shift
}

// misc returns the range of word 1 in the form that outside takes.
func (b *box) misc(f fields) (low, high uint64) {
	lo, hi := uint64(0), uint64(0)
	for i := len(f) - sharedFields; i < len(f); i++ {
		lo |= b.lo[i] << f[i].shift
		hi |= b.hi[i] << f[i].shift
	}
	return guards - lo, guards + hi
}

// outside returns something other than 0 if a field of word 1 is outside of its
// range.
func outside(misc, low, high uint64) uint64 {
	// A field's guard is left in the first sum where the field is not below its
	// least value, and in the second where it is not above its greatest.
	return guards &^ ((misc + low) & (high - misc))
}

// A kind is a kind of packet with a table of its own.
type kind int

const (
	kindIPv4 kind = iota
	kindIPv4Later
	kindIPv6
	kindIPv6Later
	kindOther
	kinds
)

func (k kind) later() bool { return k == kindIPv4Later || k == kindIPv6Later }

func (k kind) ipv6() bool { return k == kindIPv6 || k == kindIPv6Later }

func (k kind) fields() fields {
	switch {
	case k == kindOther:
		return fieldsOther
	case k.ipv6():
		return fieldsIPv6
	}
	return fieldsIPv4
}

// appendBoxes appends the boxes of packets of the kind that the rule matches: for
// a permit those that certainly fit it, for a deny those that may.
func (r *Rule) appendBoxes(boxes []box, k kind, v Verdict) []box {
	f := k.fields()
	shared := len(f) - sharedFields
	b := f.box(v)
	if r.VLAN != nil {
		tagged := vlanTag | uint64(*r.VLAN)
		b.limit(shared+fieldVLAN, tagged, tagged)
	}
	if k == kindOther {
		switch {
		case r.needsIP() || r.EtherType == pipeline.EtherTypeIPv4 || r.EtherType == pipeline.EtherTypeIPv6:
			return boxes
		case r.EtherType != 0:
			b.limit(0, uint64(r.EtherType), uint64(r.EtherType))
		}
		return append(boxes, b)
	}
	family := uint16(pipeline.EtherTypeIPv4)
	if k.ipv6() {
		family = pipeline.EtherTypeIPv6
	}
	if named := r.Family(); named != 0 && named != family {
		return boxes
	}
	for end, prefix := range []netip.Prefix{r.Src, r.Dst} {
		if !prefix.IsValid() {
			continue
		}
		if !k.ipv6() {
			a := prefix.Addr().As4()
			lo, hi := prefixRange(uint64(binary.BigEndian.Uint32(a[:])), prefix.Bits(), 32)
			b.limit(end, lo, hi)
			continue
		}
		a := prefix.Addr().As16()
		lo, hi := prefixRange(binary.BigEndian.Uint64(a[:]), min(prefix.Bits(), 64), 64)
		b.limit(2*end, lo, hi)
		lo, hi = prefixRange(binary.BigEndian.Uint64(a[8:]), max(prefix.Bits()-64, 0), 64)
		b.limit(2*end+1, lo, hi)
	}
	if r.Protocol != nil {
		b.limit(shared+fieldProtocol, uint64(*r.Protocol), uint64(*r.Protocol))
	}
	if r.hasPorts() {
		b.limit(shared+fieldHasPorts, 1, 1)
	}
	if k.later() {
		return r.appendLater(boxes, b, shared)
	}
	switch r.Fragment {
	case LaterFragment:
		return boxes
	case AnyFragment, FirstFragment:
		b.limit(shared+fieldFirst, 1, 1)
	}
	return r.appendPorts(boxes, b, shared)
}

// appendLater appends the box of a rule's later fragments, whose ports are not
// known.
func (r *Rule) appendLater(boxes []box, b box, shared int) []box {
	if r.Fragment == FirstFragment || r.hasPorts() && r.Action == Permit {
		return boxes
	}
	boxes = append(boxes, b)
	// Nor is the protocol where the fragment begins in the middle of the extension
	// headers.
	if r.Action == Deny && (r.Protocol != nil || r.hasPorts()) {
		b.limit(shared+fieldProtocol, protocolUnknown, protocolUnknown)
		b.limit(shared+fieldHasPorts, 0, 0)
		boxes = append(boxes, b)
	}
	return boxes
}

// appendPorts appends the box with the rule's ports; two if one may be either.
func (r *Rule) appendPorts(boxes []box, b box, shared int) []box {
	src, dst := shared+fieldSrcPort, shared+fieldDstPort
	for _, p := range []struct {
		field int
		ports *Ports
	}{{src, r.SrcPort}, {dst, r.DstPort}} {
		if p.ports != nil {
			b.limit(p.field, uint64(p.ports.From), uint64(p.ports.To))
		}
	}
	if r.Port == nil {
		return append(boxes, b)
	}
	for _, end := range []int{src, dst} {
		either := b
		either.limit(end, max(b.lo[end], uint64(r.Port.From)), min(b.hi[end], uint64(r.Port.To)))
		if either.lo[end] <= either.hi[end] {
			boxes = append(boxes, either)
		}
	}
	return boxes
}

// prefixRange returns the least and the greatest value of width bits that begin as
// the first of value do.
func prefixRange(value uint64, bits, width int) (lo, hi uint64) {
	open := uint64(1)<<(width-bits) - 1 // of a shift by 64 all ones
	return value &^ open, value | open
}
