package umem

// maxHolders is how many holders a frame may have at once. Sockets count them in
// a byte.
const maxHolders = 255

// Ref adds a holder to the frame that addr lies in, which the caller must
// hold: one more Put, or one more completion given back, is needed before the
// frame is free. A frame with several holders is read-only for all of them. Only
// the ledger sees that there are more than 255.
//
// The count is in a side array and never in the frame, which the kernel may be
// reading.
func (m *Memory) Ref(addr uint64) {
	// Set before the reference can travel to another worker, so that whoever
	// receives it also sees the flag.
	if !m.shared.Load() {
		m.shared.Store(true)
	}
	m.refs[addr>>m.shift].Add(1)
	if m.ledger != nil {
		m.ledger.ref(addr)
	}
}

// Shared reports whether any frame has ever had several holders.
func (m *Memory) Shared() bool { return m.shared.Load() }

// Refs returns how many holders the frame that addr lies in has; a frame that
// is free has one as well.
func (m *Memory) Refs(addr uint64) int { return int(m.refs[addr>>m.shift].Load()) + 1 }

// ExtraRefs returns how many holders all frames have beyond the first of each.
// It looks at every frame, if any ever had two.
func (m *Memory) ExtraRefs() int {
	n := 0
	if m.shared.Load() {
		for i := range m.refs {
			n += max(int(m.refs[i].Load()), 0)
		}
	}
	return n
}

// lastRef gives back one reference and reports whether it was the last.
func (m *Memory) lastRef(addr uint64) bool {
	r := &m.refs[addr>>m.shift]
	// A sole holder cannot be joined by another while it gives the frame back:
	// only holders may call Ref.
	if r.Load() == 0 {
		return true
	}
	if r.Add(-1) < 0 {
		r.Store(0) // both holders gave back at once; this one was the last
		return true
	}
	return false
}
