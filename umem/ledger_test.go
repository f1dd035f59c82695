package umem

import (
	"errors"
	"strings"
	"testing"
)

// violation runs f and returns the Violation it panics with.
func violation(t *testing.T, f func()) (v *Violation) {
	t.Helper()
	defer func() {
		err, _ := recover().(error)
		if !errors.As(err, &v) {
			t.Errorf("got %v, want a Violation", err)
			v = &Violation{}
		}
	}()
	f()
	return nil
}

func TestLedgerNamesEachViolation(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(m *Memory, c *Cache, addr uint64)
		what string
		last string // the last transition in the history
	}{
		{"double fill", func(m *Memory, c *Cache, a uint64) { m.NoteFill(a); m.NoteFill(a) }, "fill ring twice", "fill"},
		{"double transmit", func(m *Memory, c *Cache, a uint64) { m.NoteTransmit(a, 60); m.NoteTransmit(a, 60) }, "transmitted twice", "transmit"},
		{"transmit of a free frame", func(m *Memory, c *Cache, a uint64) { c.Put(a); m.NoteTransmit(a, 60) }, "does not hold it", "put"},
		{"double release", func(m *Memory, c *Cache, a uint64) { c.Put(a); c.Put(a) }, "released by someone", "put"},
		{"write after release", func(m *Memory, c *Cache, a uint64) {
			b := m.Bytes(a, 60)
			c.Put(a)
			b[7] = 1
			c.Get()
		}, "after its release, at byte 7", "put"},
		{"completion never submitted", func(m *Memory, c *Cache, a uint64) { m.NoteComplete(a) }, "not being transmitted", "get"},
		{"completion twice", func(m *Memory, c *Cache, a uint64) { m.NoteTransmit(a, 60); m.NoteComplete(a); m.NoteComplete(a) }, "not being transmitted", "complete"},
		{"across the frame's end", func(m *Memory, c *Cache, a uint64) { m.NoteTransmit(a+2000, 60) }, "across the frame's end", "get"},
		{"empty packet", func(m *Memory, c *Cache, a uint64) { m.NoteTransmit(a, 0) }, "with no bytes", "get"},
		{"too many holders", func(m *Memory, c *Cache, a uint64) {
			for range 300 {
				m.Ref(a)
			}
		}, "more than 255 holders", "ref"},
		{"outside the memory", func(m *Memory, c *Cache, a uint64) { m.NoteTransmit(1<<40, 60) }, "outside the memory", ""},
		{"received but never filled", func(m *Memory, c *Cache, a uint64) { m.NoteReceive(a, 60) }, "not in a fill ring", "get"},
		{"filled while shared", func(m *Memory, c *Cache, a uint64) { m.Ref(a); m.NoteFill(a) }, "while others hold it", "ref"},
		{"referenced when free", func(m *Memory, c *Cache, a uint64) { c.Put(a); m.Ref(a) }, "does not hold it", "put"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, err := New(Options{Frames: 8, Pages: Pages4K, Verify: true})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			c := m.NewCache(4)
			addr, _ := c.Get()
			v := violation(t, func() { tc.do(m, c, addr) })
			if !strings.Contains(v.What, tc.what) {
				t.Errorf("%v: does not say %q", v, tc.what)
			}
			if tc.last != "" {
				if v.Frame != m.Frame(addr) || len(v.History) == 0 || v.History[len(v.History)-1].What != tc.last {
					t.Errorf("%v: want frame %d with %q as its last transition", v, m.Frame(addr), tc.last)
				} else if from := v.History[0].From; !strings.HasPrefix(from, "ledger_test.go:") {
					t.Errorf("first transition is from %q, want this file", from)
				}
			}
		})
	}
}

func TestLedgerAcceptsAWholeLife(t *testing.T) {
	m := newMemory(t, Options{Frames: 8, Pages: Pages4K, Verify: true})
	c := m.NewCache(4)
	addr, _ := c.Get()
	data := m.DataStart(addr)
	m.NoteFill(addr)
	m.NoteReceive(data, 1500)
	m.Ref(data) // a tee: both holders transmit it
	m.NoteTransmit(data, 1500)
	m.NoteTransmit(data+14, 1486)
	m.NoteComplete(data)
	c.Put(data)
	m.NoteReclaim(data + 14) // its socket was closed
	c.Put(data)
	c.Close()
}

func TestLeakAtCloseNamesFrameAndHistory(t *testing.T) {
	m, err := New(Options{Frames: 8, Pages: Pages4K, Verify: true})
	if err != nil {
		t.Fatal(err)
	}
	c := m.NewCache(4)
	addr, _ := c.Get()
	m.NoteTransmit(addr, 60)
	c.Close()
	err = m.Close()
	if !errors.Is(err, ErrLeak) || !strings.Contains(err.Error(), "in the transmit ring") || !strings.Contains(err.Error(), "get (ledger_test.go:") {
		t.Errorf("Close = %v, want the leaked frame, where it is and how it got there", err)
	}
}
