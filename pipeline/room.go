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

// Extend adds n bytes of zeros at the end of the packet, within its frame.
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
	return true
}

// Trim takes n bytes off the end of the packet. At least one byte stays.
func (b *Batch) Trim(i, n int) bool {
	d := &b.desc[i]
	if uint64(n) >= uint64(d.Len) || d.Options&contd != 0 {
		b.Drop(i, ReasonTooShort)
		return false
	}
	d.Len -= uint32(n)
	b.meta[i].cut(int(d.Len))
	return true
}

// shift moves the offsets by n bytes. Headers that are gone are not known any
// more.
func (m *Meta) shift(n int) {
	if n < 0 && int(m.L3) < -n {
		m.Flags &= MetaMulti
		return
	}
	m.L3 = uint16(int(m.L3) + n)
	m.End = uint16(int(m.End) + n)
	if m.Flags&MetaL4 != 0 {
		m.L4 = uint16(int(m.L4) + n)
	}
}

// cut notes that the packet ends at the offset.
func (m *Meta) cut(end int) {
	if m.Flags&MetaParsed == 0 {
		return
	}
	if end < int(m.L3) || m.Flags&MetaL4 != 0 && end < int(m.L4) {
		m.Flags &= MetaMulti
		return
	}
	m.End = uint16(min(int(m.End), end))
}
