package acl

import (
	"encoding/binary"

	"github.com/xdpipe/xdpipe/pipeline"
)

// Chunk is the most packets that Match decides on at a time. Enough to overlap
// their cache misses, and few enough for the first-level cache.
const Chunk = 64

// The keys have more words than there are fields in, so that a leaf can have a word
// that is 0 and any two or three bits are an index.
type (
	key4 [4]uint64
	key6 [8]uint64
)

// Scratch is the memory Match works in. Each worker has its own; it begins as its
// zero value.
type Scratch struct {
	// Verdicts are the results of the last Match, by packet of the chunk.
	Verdicts [Chunk]Verdict

	ipv4, ipv4Later, other lane[key4]
	ipv6, ipv6Later        lane[key6]
}

// A lane is the packets of a chunk that are for one table.
type lane[K any] struct {
	n    int
	keys [Chunk]K
	at   [Chunk]uint8 // places in the chunk
	best [Chunk]Verdict

	searches [Chunk]search // of match
}

// sort reads the headers of up to Chunk packets, from the first on, into the
// lanes, and returns how many. Those that cannot be judged have their verdict
// already.
func (s *Scratch) sort(b *pipeline.Batch, first int) int {
	s.ipv4.n, s.ipv4Later.n, s.other.n, s.ipv6.n, s.ipv6Later.n = 0, 0, 0, 0, 0
	n := min(b.Len()-first, Chunk)
	for i := range n {
		m := b.Meta(first + i)
		p := b.Data(first + i)
		if m.Flags&pipeline.MetaParsed == 0 {
			m.Parse(p)
		}
		// The common cases first: whole packets without tags.
		const judged = pipeline.MetaIPv4 | pipeline.MetaIPv6 | pipeline.MetaPorts | pipeline.MetaFragment | pipeline.MetaMalformed | pipeline.MetaVLAN
		if l3 := int(m.L3); m.Flags&judged == pipeline.MetaIPv4|pipeline.MetaPorts && len(p) >= l3+20 {
			l := &s.ipv4
			at := l.n & (Chunk - 1)
			k := &l.keys[at]
			k[0], k[wordMisc] = binary.BigEndian.Uint64(p[l3+12:]), misc(m)
			l.at[at] = uint8(i)
			l.n++
			continue
		}
		if l3 := int(m.L3); m.Flags&judged == pipeline.MetaIPv6|pipeline.MetaPorts && len(p) >= l3+40 {
			l := &s.ipv6
			at := l.n & (Chunk - 1)
			k, ip := &l.keys[at], p[l3+8:]
			k[0], k[wordMisc], k[2] = binary.BigEndian.Uint64(ip), misc(m), binary.BigEndian.Uint64(ip[8:])
			k[3], k[4] = binary.BigEndian.Uint64(ip[16:]), binary.BigEndian.Uint64(ip[24:])
			l.at[at] = uint8(i)
			l.n++
			continue
		}
		s.sortOther(m, p, i)
	}
	return n
}

// misc returns the word of a key that all kinds have, without the VLAN.
func misc(m *pipeline.Meta) uint64 {
	w := uint64(m.Protocol)
	if m.Flags&pipeline.MetaPorts != 0 {
		w |= 1<<shiftPorts | uint64(m.DstPort)<<shiftDst | uint64(m.SrcPort)<<shiftSrc
	}
	return w
}

// sortOther is sort for what is not the common case.
func (s *Scratch) sortOther(m *pipeline.Meta, p []byte, i int) {
	flags := m.Flags
	ip := p[min(int(m.L3), len(p)):]
	w := misc(m)
	if flags&pipeline.MetaVLAN != 0 {
		w |= (vlanTag | uint64(m.VLAN[0]&0xfff)) << shiftVLAN
	}
	isIP := flags&(pipeline.MetaIPv4|pipeline.MetaIPv6) != 0
	later := isIP && flags&(pipeline.MetaFragment|pipeline.MetaL4) == pipeline.MetaFragment
	switch {
	case flags&pipeline.MetaMalformed != 0,
		// A tag below those that Parse steps over hides the rest.
		m.EtherType == pipeline.EtherTypeVLAN, m.EtherType == pipeline.EtherTypeQinQ,
		// A stage changed the packet and left its metadata as they were.
		isIP && !later && protocolHasPorts(m.Protocol) && flags&pipeline.MetaPorts == 0:
		s.Verdicts[i] = Unreadable
		return
	case later:
		// What a stage may have left there of another packet is not of this one.
		w &= 1<<shiftDst - 1&^(1<<shiftPorts)
		if flags&pipeline.MetaIPv6 != 0 && isExtension(m.Protocol) {
			w = w&^0x1ff | protocolUnknown
		} else if protocolHasPorts(m.Protocol) {
			w |= 1 << shiftPorts
		}
	case flags&pipeline.MetaFragment != 0:
		w |= 1 << shiftFirst
	}
	switch {
	case flags&pipeline.MetaIPv4 != 0 && len(ip) >= 20:
		l := &s.ipv4
		if later {
			l = &s.ipv4Later
		}
		l.add(key4{binary.BigEndian.Uint64(ip[12:]), w}, i)
	case flags&pipeline.MetaIPv6 != 0 && len(ip) >= 40:
		l := &s.ipv6
		if later {
			l = &s.ipv6Later
		}
		l.add(key6{
			binary.BigEndian.Uint64(ip[8:]), w, binary.BigEndian.Uint64(ip[16:]),
			binary.BigEndian.Uint64(ip[24:]), binary.BigEndian.Uint64(ip[32:]),
		}, i)
	case isIP: // cut by a stage, without its metadata
		s.Verdicts[i] = Unreadable
	default:
		s.other.add(key4{uint64(m.EtherType), w & (0x1fff << shiftVLAN)}, i)
	}
}

func (l *lane[K]) add(k K, i int) {
	l.keys[l.n], l.at[l.n] = k, uint8(i)
	l.n++
}

// isExtension reports whether the number is that of an IPv6 extension header that
// Parse walks over: behind it there is another protocol.
func isExtension(next uint8) bool {
	switch next {
	case 0, 43, 44, 51, 60, 135, 139, 140:
		return true
	}
	return false
}
