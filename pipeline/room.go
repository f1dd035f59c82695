package pipeline

// The verbs that move a packet's ends. They move the descriptor and not the
// data, and shift the offsets of the metadata; what they uncover is zeroed. A
// stage whose module Writes may use all of them, any stage Pull and Trim.
//
// Each returns false when the packet cannot be changed so, and has then dropped
// it with a reason of the engine: the stage goes on with the next packet.

// Push moves the front of the packet n bytes into the headroom before it, so that
// Data begins with n new bytes. There are umem.KernelHeadroom (256) bytes and those
// of memory.headroom before a packet as it arrives.
func (b *Batch) Push(i, n int) bool {
	d := &b.desc[i]
	room := d.Addr - b.mem.Start(d.Addr)
	if uint64(n) > room {
		b.Drop(i, ReasonNoHeadroom)
		return false
	}
	d.Addr -= uint64(n)
	d.Len += uint32(n)
	clear(b.mem.Packet(d.Addr, uint32(n)))
	b.meta[i].shift(n)
	return true
}

// Pull takes n bytes off the front of the packet. At least one byte stays.
func (b *Batch) Pull(i, n int) bool {
	d := &b.desc[i]
	if uint64(n) >= uint64(d.Len) {
		b.Drop(i, ReasonTooShort)
		return false
	}
	d.Addr += uint64(n)
	d.Len -= uint32(n)
	b.meta[i].shift(-n)
	return true
}

// Extend adds n bytes of zeros at the end of the packet, within its frame. A packet
// of several descriptors cannot be extended. Where the IP packet ends does not
// change: a stage that makes it longer writes its length, and sets End.
func (b *Batch) Extend(i, n int) bool {
	d := &b.desc[i]
	end := d.Addr + uint64(d.Len)
	room := b.mem.Start(d.Addr) + uint64(b.mem.FrameSize()) - end
	if uint64(n) > room || d.Options&contd != 0 {
		b.Drop(i, ReasonNoTailroom)
		return false
	}
	d.Len += uint32(n)
	clear(b.mem.Packet(end, uint32(n)))
	if m := &b.meta[i]; m.Flags&(MetaParsed|MetaIPv4|MetaIPv6) == MetaParsed {
		m.End = uint16(min(d.Len, 0xffff)) // of what is not IP, End is the packet's
	}
	return true
}

// Trim takes n bytes off the end of the packet. At least one byte stays. A packet of
// several descriptors cannot be trimmed: others may hold those after the first.
func (b *Batch) Trim(i, n int) bool {
	d := &b.desc[i]
	if uint64(n) >= uint64(d.Len) || d.Options&contd != 0 {
		b.Drop(i, ReasonTooShort)
		return false
	}
	d.Len -= uint32(n)
	b.meta[i].cut(b.mem.Packet(d.Addr, d.Len))
	return true
}

// forget makes everything unknown that Parse and FlowHash found out.
func (m *Meta) forget() {
	m.Flags &= MetaMulti
	m.Checksum = ChecksumUnknown
}

// shift moves the offsets by n bytes. Headers that are gone are not known any
// more.
func (m *Meta) shift(n int) {
	if m.Flags&MetaParsed == 0 || n < 0 && int(m.L3) < -n {
		m.forget()
		return
	}
	m.L3 = uint16(int(m.L3) + n)
	m.End = uint16(min(int(m.End)+n, 0xffff))
	if m.Flags&MetaL4 != 0 {
		m.L4 = uint16(int(m.L4) + n)
	}
}

// cut notes that the packet ends where p does. A header that does not lie in it
// whole is not known any more, as Parse would not know it.
func (m *Meta) cut(p []byte) {
	if m.Flags&MetaParsed != 0 && len(p) >= int(m.End) {
		return // it was padding
	}
	need := int(m.L3)
	switch {
	case m.Flags&MetaParsed == 0:
		need = len(p) + 1
	case m.Flags&MetaL4 != 0:
		need = int(m.L4) + l4Size(m.Protocol, m.Flags&MetaFragment != 0)
	case m.Flags&MetaIPv6 != 0:
		need += 40
		if m.Flags&MetaFragment != 0 {
			need += 8
		}
	case m.Flags&MetaIPv4 != 0:
		need += 20
		if len(p) >= need {
			need = max(need, int(m.L3)+int(p[m.L3]&15)*4)
		}
	}
	if len(p) < need {
		m.forget()
		return
	}
	m.End = uint16(len(p))
	m.Checksum = ChecksumUnknown
}
