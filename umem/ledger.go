package umem

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"sync"
)

// A Violation is a use of a frame by someone who does not own it, found by the
// ledger. It is a programming error somewhere, so the ledger panics with it at
// the transition that would corrupt packets.
type Violation struct {
	Frame   uint64 // index of the frame
	Addr    uint64 // the address as it was used
	What    string // what was attempted, and why it is wrong
	State   string // where the frame was
	History []Transition
}

// A Transition is one step of a frame's life.
type Transition struct {
	What string // get, put, ref, fill, receive, transmit, complete, reclaim
	From string // file:line of the caller outside package umem and xsk, where known
}

func (v *Violation) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "umem: frame %d (address %#x): %s; it was %s", v.Frame, v.Addr, v.What, v.State)
	if len(v.History) > 0 {
		b.WriteString("; last transitions, oldest first:")
		for _, t := range v.History {
			fmt.Fprintf(&b, " %s", t.What)
			if t.From != "" {
				fmt.Fprintf(&b, " (%s)", t.From)
			}
		}
	}
	return b.String()
}

// history is how many transitions are kept for each frame.
const history = 6

// poison is written over frames that are free: data read after the release is
// recognisable, and data written after it is noticed at the next Get.
const poison = 0xdb

// frameState counts a frame's references by where they are. A frame that is
// free has none; a received one has one held; a tee adds to held.
type frameState struct {
	held, fill, tx uint8
	last           [history]uint8
	lastPC         [history]uintptr
	steps          uint32
}

func (f *frameState) free() bool { return f.held == 0 && f.fill == 0 && f.tx == 0 }

func (f *frameState) String() string {
	if f.free() {
		return "free"
	}
	var parts []string
	for _, p := range []struct {
		n    uint8
		name string
	}{{f.held, "held by the program"}, {f.fill, "in the fill ring or the kernel's receive path"}, {f.tx, "in the transmit ring or the kernel's transmit path"}} {
		switch {
		case p.n == 1:
			parts = append(parts, p.name)
		case p.n > 1:
			parts = append(parts, fmt.Sprintf("%s ×%d", p.name, p.n))
		}
	}
	return strings.Join(parts, " and ")
}

// The steps of a frame's life, indices into stepNames.
const (
	stepGet = iota
	stepPut
	stepRef
	stepFill
	stepReceive
	stepTransmit
	stepComplete
	stepReclaim
)

var stepNames = [...]string{"get", "put", "ref", "fill", "receive", "transmit", "complete", "reclaim"}

// ledger checks every transition of every frame. It is slow on purpose and
// simple on purpose: one lock, one record per frame.
type ledger struct {
	mu     sync.Mutex
	mem    *Memory
	frames []frameState
	poison []byte // what a free frame holds
}

func newLedger(m *Memory) *ledger {
	l := &ledger{
		mem:    m,
		frames: make([]frameState, m.opts.Frames),
		poison: bytes.Repeat([]byte{poison}, m.opts.FrameSize),
	}
	for at := uint64(0); at < m.size; at += m.mask + 1 {
		copy(m.data[at:], l.poison)
	}
	return l
}

// step checks and notes one transition; apply returns what is wrong with it,
// or "" after having carried it out.
func (l *ledger) step(addr uint64, step uint8, apply func(*frameState) string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if addr >= l.mem.size {
		panic(&Violation{Frame: addr >> l.mem.shift, Addr: addr,
			What:  fmt.Sprintf("%s of an address outside the memory of %d bytes", stepNames[step], l.mem.size),
			State: "never one of its frames"})
	}
	i := addr >> l.mem.shift
	f := &l.frames[i]
	before := f.String()
	if wrong := apply(f); wrong != "" {
		panic(&Violation{Frame: i, Addr: addr, What: wrong, State: before, History: f.history()})
	}
	f.last[f.steps%history] = step
	f.lastPC[f.steps%history] = 0
	// Who filled, received and completed is the loop around the socket; walking
	// the stack for each would cost more than all the rest.
	switch step {
	case stepGet, stepPut, stepRef, stepTransmit:
		f.lastPC[f.steps%history] = caller()
	}
	f.steps++
}

func (l *ledger) get(addr uint64) {
	l.step(addr, stepGet, func(f *frameState) string {
		if !f.free() {
			return "taken from a cache while in use"
		}
		start := l.mem.Start(addr)
		frame := l.mem.data[start : start+l.mem.mask+1]
		if !bytes.Equal(frame, l.poison) {
			i := 0
			for frame[i] == poison {
				i++
			}
			return fmt.Sprintf("written to after its release, at byte %d", i)
		}
		f.held++
		return ""
	})
}

func (l *ledger) put(addr uint64) {
	l.step(addr, stepPut, func(f *frameState) string {
		if f.held == 0 {
			return "released by someone who does not hold it"
		}
		f.held--
		if f.free() {
			copy(l.mem.data[l.mem.Start(addr):], l.poison)
		}
		return ""
	})
}

func (l *ledger) ref(addr uint64) {
	l.step(addr, stepRef, func(f *frameState) string {
		switch {
		case f.held == 0:
			return "referenced by someone who does not hold it"
		case int(f.held)+int(f.tx) >= maxHolders:
			return fmt.Sprintf("referenced by more than %d holders", maxHolders)
		}
		f.held++
		return ""
	})
}

// NoteFill tells the ledger that the program gives the frames at addrs to the
// kernel to receive into. NoteReceive, NoteTransmit, NoteComplete and
// NoteReclaim tell of the frame coming back with a packet, going out with one,
// coming back sent, and coming back because its socket was closed. They do
// nothing unless Verifying, and panic with a *Violation. For package xsk.
func (m *Memory) NoteFill(addr uint64) {
	if m.ledger == nil {
		return
	}
	m.ledger.step(addr, stepFill, func(f *frameState) string {
		switch {
		case f.fill > 0:
			return "put into a fill ring twice"
		case f.tx > 0:
			return "put into a fill ring while being transmitted"
		case f.held == 0:
			return "put into a fill ring by someone who does not hold it"
		case f.held > 1:
			return "put into a fill ring while others hold it"
		}
		f.held, f.fill = 0, 1
		return ""
	})
}

// NoteReceive: see NoteFill.
func (m *Memory) NoteReceive(addr uint64, n uint32) {
	if m.ledger == nil {
		return
	}
	m.ledger.step(addr, stepReceive, func(f *frameState) string {
		switch {
		case f.fill == 0:
			return "received though it was not in a fill ring"
		case !m.Contains(addr, n):
			return fmt.Sprintf("received with %d bytes, across the frame's end", n)
		}
		f.fill, f.held = 0, 1
		return ""
	})
}

// NoteTransmit: see NoteFill.
func (m *Memory) NoteTransmit(addr uint64, n uint32) {
	if m.ledger == nil {
		return
	}
	m.ledger.step(addr, stepTransmit, func(f *frameState) string {
		switch {
		case f.held == 0 && f.tx > 0:
			return "transmitted twice"
		case f.held == 0:
			return "transmitted by someone who does not hold it"
		case n == 0:
			return "transmitted with no bytes, which the kernel refuses and never completes"
		case !m.Contains(addr, n):
			return fmt.Sprintf("transmitted with %d bytes, across the frame's end", n)
		}
		f.held--
		f.tx++
		return ""
	})
}

// NoteComplete: see NoteFill.
func (m *Memory) NoteComplete(addr uint64) {
	if m.ledger == nil {
		return
	}
	m.ledger.step(addr, stepComplete, func(f *frameState) string {
		if f.tx == 0 {
			return "completed though it was not being transmitted"
		}
		f.tx--
		f.held++
		return ""
	})
}

// NoteReclaim: see NoteFill.
func (m *Memory) NoteReclaim(addr uint64) {
	if m.ledger == nil {
		return
	}
	m.ledger.step(addr, stepReclaim, func(f *frameState) string {
		switch {
		case f.fill > 0:
			f.fill--
		case f.tx > 0:
			f.tx--
		default:
			return "reclaimed from the kernel, which did not have it"
		}
		f.held++
		return ""
	})
}

func (f *frameState) history() []Transition {
	var h []Transition
	for i := f.steps - min(f.steps, history); i < f.steps; i++ {
		h = append(h, Transition{What: stepNames[f.last[i%history]], From: place(f.lastPC[i%history])})
	}
	return h
}

// leaks describes some of the frames that are not free; "" without a ledger.
func (l *ledger) leaks() string {
	if l == nil {
		return ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	shown := 0
	for i := range l.frames {
		f := &l.frames[i]
		if f.free() {
			continue
		}
		if shown++; shown > 3 {
			break
		}
		v := Violation{Frame: uint64(i), Addr: uint64(i) << l.mem.shift, What: "never returned", State: f.String(), History: f.history()}
		fmt.Fprintf(&b, "\n\t%v", &v)
	}
	return b.String()
}

// caller returns the first program counter outside the code that only passes
// frames on, for the report.
func caller() uintptr {
	var pcs [12]uintptr
	n := runtime.Callers(4, pcs[:])
	for _, pc := range pcs[:n] {
		f := runtime.FuncForPC(pc - 1)
		if f == nil {
			continue
		}
		if name := f.Name(); !strings.Contains(name, "xdpipe/umem.(") && !strings.Contains(name, "xdpipe/xsk.(") {
			return pc
		}
	}
	return 0
}

func place(pc uintptr) string {
	f := runtime.FuncForPC(pc - 1)
	if pc == 0 || f == nil {
		return ""
	}
	file, line := f.FileLine(pc - 1)
	if i := strings.LastIndexByte(file, '/'); i >= 0 {
		file = file[i+1:]
	}
	return fmt.Sprintf("%s:%d", file, line)
}
