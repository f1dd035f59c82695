package xsk

import (
	"fmt"
	"math/bits"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ringNeedWakeup is XDP_RING_NEED_WAKEUP of linux/if_xdp.h (Linux 5.4).
const ringNeedWakeup = unix.XDP_RING_NEED_WAKEUP

// ZeroCopy says whether the NIC is to write into the memory itself.
type ZeroCopy int

// The ways to ask for zero-copy.
const (
	ZeroCopyPrefer  ZeroCopy = iota // zero-copy if the driver grants it, else copy
	ZeroCopyRequire                 // zero-copy or an error
	ZeroCopyNever                   // copy mode: the kernel copies each packet once
)

var zeroCopyNames = [...]string{"prefer", "require", "never"}

func (z ZeroCopy) String() string {
	if z < 0 || int(z) >= len(zeroCopyNames) {
		return fmt.Sprintf("ZeroCopy(%d)", int(z))
	}
	return zeroCopyNames[z]
}

// ParseZeroCopy reads the names that String writes: prefer, require, never.
func ParseZeroCopy(s string) (ZeroCopy, error) {
	for z, name := range zeroCopyNames {
		if s == name {
			return ZeroCopy(z), nil
		}
	}
	return 0, fmt.Errorf("unknown zero-copy choice %q: want one of %s", s, strings.Join(zeroCopyNames[:], ", "))
}

// DefaultRingSize is the size of a ring that asks for none. Rings of 2048 hold
// what a core forwards in about two milliseconds.
const DefaultRingSize = 2048

// MaxRingSize is the largest ring accepted here. The kernel's own limit is what
// it can allocate.
const MaxRingSize = 1 << 20

// Options say what to ask of the kernel for a socket. The zero value asks for
// rings of DefaultRingSize, zero-copy where there is, and wakeups only when
// needed.
type Options struct {
	// Interface is the interface's name, for messages only.
	Interface string

	// Sizes of the rings in descriptors; 0 means DefaultRingSize. Others are
	// rounded up to a power of two, as the kernel requires.
	RxSize, TxSize, FillSize, CompletionSize int

	ZeroCopy ZeroCopy

	// NoNeedWakeup gives up XDP_USE_NEED_WAKEUP, so that the kernel is woken
	// for every batch.
	NoNeedWakeup bool

	// BusyPoll, if set, makes the socket prefer busy polling.
	BusyPoll BusyPoll

	// TxBudget is how many descriptors one wakeup may transmit in copy mode
	// (XDP_MAX_TX_SKB_BUDGET, Linux 6.17), from 32 to TxSize; 0 means TxSize.
	// Older kernels have 32, fixed; see Socket.Granted.
	TxBudget int

	// SendBuffer is the socket's SO_SNDBUF in bytes, which bounds what copy
	// mode has in flight; 0 means 4 MiB.
	SendBuffer int

	// DrainTimeout is how long Close waits for packets being transmitted;
	// 0 means 100 ms.
	DrainTimeout time.Duration
}

// BusyPoll makes the owner's system calls drive the NIC's queue in place of its
// interrupts (SO_PREFER_BUSY_POLL, Linux 5.11). It is inert on a queue without
// a NAPI id.
type BusyPoll struct {
	Timeout time.Duration // SO_BUSY_POLL, whole microseconds; 0 leaves busy polling off
	Budget  int           // SO_BUSY_POLL_BUDGET in packets; 0 means 64
}

// An OptionError says which option of a socket is out of range, and the range.
type OptionError struct {
	Option string
	Value  int
	Want   string
}

func (e *OptionError) Error() string {
	return fmt.Sprintf("xsk: %s %d is out of range: want %s", e.Option, e.Value, e.Want)
}

// normalize fills defaults in, rounds ring sizes up and checks ranges.
func (o *Options) normalize() error {
	for _, r := range []struct {
		name string
		size *int
	}{{"rx_size", &o.RxSize}, {"tx_size", &o.TxSize}, {"fill_size", &o.FillSize}, {"completion_size", &o.CompletionSize}} {
		switch {
		case *r.size == 0:
			*r.size = DefaultRingSize
		case *r.size < 1 || *r.size > MaxRingSize:
			return &OptionError{r.name, *r.size, fmt.Sprintf("1 to %d descriptors", MaxRingSize)}
		default:
			*r.size = 1 << bits.Len(uint(*r.size-1))
		}
	}
	// TX_BATCH_SIZE in net/xdp/xsk.c is the least the kernel accepts.
	const minBudget = 32
	switch {
	case o.TxBudget == 0:
		o.TxBudget = max(o.TxSize, minBudget)
	case o.TxBudget < minBudget || o.TxBudget > o.TxSize:
		return &OptionError{"tx_budget", o.TxBudget, fmt.Sprintf("%d to the TX ring's size, %d", minBudget, o.TxSize)}
	}
	if o.ZeroCopy < ZeroCopyPrefer || o.ZeroCopy > ZeroCopyNever {
		return &OptionError{"zero_copy", int(o.ZeroCopy), "prefer, require or never"}
	}
	if o.BusyPoll.Timeout < 0 || o.BusyPoll.Timeout > time.Second {
		return &OptionError{"busy_poll timeout", int(o.BusyPoll.Timeout.Microseconds()), "0 to 1000000 µs"}
	}
	if o.BusyPoll.Budget == 0 {
		o.BusyPoll.Budget = 64
	}
	// The kernel keeps the budget in 16 bits (sk_busy_poll_budget).
	if o.BusyPoll.Budget < 1 || o.BusyPoll.Budget > 65535 {
		return &OptionError{"busy_poll budget", o.BusyPoll.Budget, "1 to 65535 packets"}
	}
	if o.SendBuffer == 0 {
		o.SendBuffer = 4 << 20
	}
	if o.DrainTimeout == 0 {
		o.DrainTimeout = 100 * time.Millisecond
	}
	return nil
}

// FramesNeeded returns how many frames sockets with these options can hold at
// once. A Memory with fewer than the sum over its sockets, and a batch for each
// worker, stalls one ring for another.
func (o Options) FramesNeeded() (int, error) {
	if err := o.normalize(); err != nil {
		return 0, err
	}
	// A frame is in the fill or RX ring on its way in, and in the TX or
	// completion ring on its way out; filling stops when the fill ring is full.
	return o.FillSize + o.RxSize + o.TxSize, nil
}

// Granted says what the kernel granted, read back from it.
type Granted struct {
	ZeroCopy   bool // XDP_OPTIONS says the driver works in zero-copy mode
	NeedWakeup bool // wakeups only when the rings' flags ask for them
	Shared     bool // bound with XDP_SHARED_UMEM
	BusyPoll   bool // all three busy-poll options were accepted
	TxBudget   int  // descriptors per wakeup in copy mode; 0 where it has no meaning
}
