// Package xsktest is an in-memory kernel side for the four rings of an AF_XDP
// socket, so that programs on package xsk are tested and benchmarked without
// root, without an interface and without the kernel's costs.
//
//	mem, _ := umem.New(umem.Options{Frames: 1024})
//	sock, k, _ := xsktest.New(mem, xsk.Options{})
//	k.Deliver(packet)         // as if it had arrived on the wire
//	...                       // the program receives, changes, transmits
//	out := k.Transmitted()    // what it would have put on the wire
//
// The Kernel may be driven from another goroutine than the socket's owner: the
// rings are the only thing they share, as with the real one.
package xsktest

import (
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/xdpipe/xdpipe/umem"
	"github.com/xdpipe/xdpipe/xsk"
)

// A Kernel is the other side of a socket's rings. It has one owner goroutine,
// except for the methods of xsk.Kernel, which the socket's owner calls.
type Kernel struct {
	mem        *umem.Memory
	fill       xsk.Consumer[uint64]
	completion xsk.Producer[uint64]
	rx         xsk.Producer[xsk.Desc]
	tx         xsk.Consumer[xsk.Desc]
	txFlags    *uint32

	sendErrno  atomic.Uint32
	sends      atomic.Uint64
	recvs      atomic.Uint64
	closed     atomic.Bool
	rxDropped  atomic.Uint64
	rxRingFull atomic.Uint64
	fillEmpty  atomic.Uint64
	txInvalid  atomic.Uint64
}

// New returns a socket on mem and the kernel side of its rings. The rings'
// sizes are those of opts; their indices start shortly before the point where
// 32 bits wrap, so that every longer test crosses it.
func New(mem *umem.Memory, opts xsk.Options) (*xsk.Socket, *Kernel, error) {
	return NewAt(mem, opts, ^uint32(0)-100)
}

// NewAt is New with the indices of all rings starting at start.
func NewAt(mem *umem.Memory, opts xsk.Options, start uint32) (*xsk.Socket, *Kernel, error) {
	size := func(n int) int {
		if n == 0 {
			return xsk.DefaultRingSize
		}
		p := 1
		for p < n {
			p *= 2
		}
		return p
	}
	r := xsk.Rings{
		Fill:       xsk.NewRingMemory[uint64](size(opts.FillSize), start),
		Completion: xsk.NewRingMemory[uint64](size(opts.CompletionSize), start),
		Rx:         xsk.NewRingMemory[xsk.Desc](size(opts.RxSize), start),
		Tx:         xsk.NewRingMemory[xsk.Desc](size(opts.TxSize), start),
	}
	k := &Kernel{
		mem:        mem,
		fill:       xsk.NewConsumer(r.Fill),
		completion: xsk.NewProducer(r.Completion),
		rx:         xsk.NewProducer(r.Rx),
		tx:         xsk.NewConsumer(r.Tx),
		txFlags:    r.Tx.Flags,
	}
	atomic.StoreUint32(k.txFlags, unix.XDP_RING_NEED_WAKEUP) // set from the start in copy mode
	if opts.Interface == "" {
		opts.Interface = "simulated"
	}
	s, err := xsk.New(mem, r, k, opts)
	return s, k, err
}

// Deliver puts packets into frames from the fill ring and their descriptors
// into the RX ring. It returns how many arrived; the others are counted as the
// kernel counts them: too long for a frame, fill ring empty, RX ring full.
func (k *Kernel) Deliver(packets ...[]byte) int {
	n := 0
	for _, p := range packets {
		if len(p) > k.mem.MaxPacket() {
			k.rxDropped.Add(1)
			continue
		}
		if k.rx.Free(1) == 0 {
			k.rxRingFull.Add(1)
			continue
		}
		if k.fill.Available(1) == 0 {
			k.fillEmpty.Add(1)
			continue
		}
		a, _ := k.fill.Slots(1)
		addr := k.mem.DataStart(a[0])
		k.fill.Release(1)
		copy(k.mem.Bytes(addr, uint32(len(p))), p)
		r, _ := k.rx.Slots(1)
		r[0] = xsk.Desc{Addr: addr, Len: uint32(len(p))}
		k.rx.Submit(1)
		n++
	}
	return n
}

// Refill moves up to n frames from the fill ring to the RX ring as packets of
// the given length, with whatever the frames hold, and returns how many. It is
// the cheap arrival for benchmarks.
func (k *Kernel) Refill(n int, length uint32) int {
	n = min(n, k.fill.Available(n), k.rx.Free(n))
	fa, fb := k.fill.Slots(n)
	ra, rb := k.rx.Slots(n)
	start, offset := ^uint64(k.mem.FrameSize()-1), k.mem.DataStart(0)
	pairwise(fa, fb, ra, rb, func(addrs []uint64, descs []xsk.Desc) {
		for i, addr := range addrs[:len(descs)] {
			descs[i] = xsk.Desc{Addr: addr&start + offset, Len: length}
		}
	})
	k.fill.Release(n)
	k.rx.Submit(n)
	return n
}

// Transmitted takes all packets from the TX ring, completes them, and returns
// copies of them. Descriptors the kernel would refuse (empty, or not within one
// frame) are counted and, as with the kernel, never complete.
func (k *Kernel) Transmitted() [][]byte {
	var out [][]byte
	for k.tx.Available(1) > 0 && k.completion.Free(1) > 0 {
		a, _ := k.tx.Slots(1)
		d := a[0]
		k.tx.Release(1)
		if d.Len == 0 || !k.mem.Contains(d.Addr, d.Len) {
			k.txInvalid.Add(1)
			continue
		}
		out = append(out, append([]byte(nil), k.mem.Bytes(d.Addr, d.Len)...))
		c, _ := k.completion.Slots(1)
		c[0] = d.Addr
		k.completion.Submit(1)
	}
	return out
}

// Drain completes up to n packets of the TX ring without looking at them and
// returns how many. It is the cheap departure for benchmarks.
func (k *Kernel) Drain(n int) int {
	n = min(n, k.tx.Available(n), k.completion.Free(n))
	ta, tb := k.tx.Slots(n)
	ca, cb := k.completion.Slots(n)
	pairwise(ca, cb, ta, tb, func(addrs []uint64, descs []xsk.Desc) {
		for i := range addrs[:len(descs)] {
			addrs[i] = descs[i].Addr
		}
	})
	k.tx.Release(n)
	k.completion.Submit(n)
	return n
}

// pairwise calls f for the stretches of two rings' slots that are contiguous in
// both. Both have the same number of slots in all.
func pairwise(a1, a2 []uint64, d1, d2 []xsk.Desc, f func([]uint64, []xsk.Desc)) {
	for len(a1) > 0 {
		n := min(len(a1), len(d1))
		f(a1[:n], d1[:n])
		if a1 = a1[n:]; len(a1) == 0 {
			a1, a2 = a2, nil
		}
		if d1 = d1[n:]; len(d1) == 0 {
			d1, d2 = d2, nil
		}
	}
}

// FailSend makes every wakeup of the transmit side return errno; 0 ends it.
func (k *Kernel) FailSend(errno unix.Errno) { k.sendErrno.Store(uint32(errno)) }

// SetNeedWakeup sets or clears the TX ring's need_wakeup flag.
func (k *Kernel) SetNeedWakeup(on bool) {
	v := uint32(0)
	if on {
		v = unix.XDP_RING_NEED_WAKEUP
	}
	atomic.StoreUint32(k.txFlags, v)
}

// Sends returns how often the transmit side was woken.
func (k *Kernel) Sends() uint64 { return k.sends.Load() }

// Closed reports whether the socket was closed.
func (k *Kernel) Closed() bool { return k.closed.Load() }

// Send implements xsk.Kernel.
func (k *Kernel) Send() unix.Errno {
	k.sends.Add(1)
	return unix.Errno(k.sendErrno.Load())
}

// Recv implements xsk.Kernel.
func (k *Kernel) Recv() unix.Errno {
	k.recvs.Add(1)
	return 0
}

// Statistics implements xsk.Kernel.
func (k *Kernel) Statistics() (xsk.KernelStats, error) {
	return xsk.KernelStats{
		RxDropped:       k.rxDropped.Load(),
		RxRingFull:      k.rxRingFull.Load(),
		RxFillRingEmpty: k.fillEmpty.Load(),
		TxInvalidDescs:  k.txInvalid.Load(),
	}, nil
}

// FD implements xsk.Kernel.
func (k *Kernel) FD() int { return -1 }

// Close implements xsk.Kernel.
func (k *Kernel) Close() error {
	if k.closed.Swap(true) {
		return fmt.Errorf("xsktest: closed twice")
	}
	return nil
}

var _ xsk.Kernel = (*Kernel)(nil)
