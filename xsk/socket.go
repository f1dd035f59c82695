package xsk

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/xdpipe/xdpipe/umem"
)

// A Socket is an AF_XDP socket on one queue. It has one owner goroutine; see
// the package's caveats.
type Socket struct {
	mem    *umem.Memory
	kernel Kernel

	fill       Producer[uint64]
	rx         Consumer[Desc]
	tx         Producer[Desc]
	completion Consumer[uint64]

	// inKernel counts, for each frame, how often the kernel has it through this
	// socket. It is what makes Close give every frame back, also those of
	// descriptors that the kernel took and never returned. A frame with one
	// holder is there once or not at all, so that the loops below only store;
	// frames that several hold may be transmitted twice at the same time, and
	// are counted.
	inKernel []uint8
	shift    uint // of an address to its index in inKernel

	opts    Options
	queue   int
	granted Granted
	bound   bool
	stats   Stats
}

// New returns a socket over rings whose other side is kernel. It is for
// simulations and tests; Open is what makes one on an interface.
func New(mem *umem.Memory, rings Rings, kernel Kernel, opts Options) (*Socket, error) {
	if err := opts.normalize(); err != nil {
		return nil, err
	}
	s := newSocket(mem, kernel, rings, opts, 0)
	s.granted = Granted{NeedWakeup: !opts.NoNeedWakeup}
	return s, nil
}

func newSocket(mem *umem.Memory, kernel Kernel, rings Rings, opts Options, queue int) *Socket {
	return &Socket{
		mem:        mem,
		kernel:     kernel,
		fill:       NewProducer(rings.Fill),
		rx:         NewConsumer(rings.Rx),
		tx:         NewProducer(rings.Tx),
		completion: NewConsumer(rings.Completion),
		inKernel:   make([]uint8, mem.Frames()),
		shift:      mem.FrameShift(),
		opts:       opts,
		queue:      queue,
	}
}

// FD returns the descriptor to poll and to put into an XSKMAP, or -1 for a
// simulated socket. It stays the Socket's: do not close it.
func (s *Socket) FD() int { return s.kernel.FD() }

// Memory returns the memory the socket's frames are in.
func (s *Socket) Memory() *umem.Memory { return s.mem }

// Queue returns the queue the socket is bound to.
func (s *Socket) Queue() int { return s.queue }

// Options returns the options in force, with defaults filled in and ring sizes
// rounded up.
func (s *Socket) Options() Options { return s.opts }

// Granted returns what the kernel granted.
func (s *Socket) Granted() Granted { return s.granted }

// Fill gives the kernel free frames from the cache to receive into, as many as
// the fill ring has room for, and returns how many.
func (s *Socket) Fill(cache *umem.Cache) int {
	// Small change is not worth the release of an index: wait for half a batch
	// of room, or a quarter of a small ring.
	least := max(1, min(32, s.fill.Size()/4))
	free := s.fill.Free(least)
	if free < least {
		return 0
	}
	a, b := s.fill.Slots(free)
	n := cache.GetN(a)
	s.noteFill(a[:n])
	if n == len(a) && len(b) > 0 {
		m := cache.GetN(b)
		s.noteFill(b[:m])
		n += m
	}
	if n > 0 {
		s.fill.Submit(n)
		s.stats.Filled += uint64(n)
	}
	return n
}

func (s *Socket) noteFill(addrs []uint64) {
	if s.mem.Verifying() {
		for _, addr := range addrs {
			s.mem.NoteFill(addr)
		}
	}
	inKernel, shift := s.inKernel, s.shift&63
	for _, addr := range addrs {
		inKernel[addr>>shift] = 1
	}
}

// Receive takes up to len(dst) packets from the RX ring and returns how many.
// The caller holds their frames until it transmits them or gives them back to a
// cache.
func (s *Socket) Receive(dst []Desc) int {
	n := s.rx.Available(len(dst))
	if n == 0 {
		return 0
	}
	a, b := s.rx.Slots(n)
	copy(dst, a)
	copy(dst[len(a):], b)
	s.rx.Release(n)
	dst = dst[:n]
	if s.mem.Verifying() {
		for _, d := range dst {
			s.mem.NoteReceive(d.Addr, d.Len)
		}
	}
	inKernel, shift := s.inKernel, s.shift&63
	var bytes uint64
	for i := range dst {
		bytes += uint64(dst[i].Len)
		inKernel[dst[i].Addr>>shift] = 0
	}
	s.stats.RxBytes += bytes
	s.stats.Received += uint64(n)
	return n
}

// Transmit puts packets into the TX ring, as many as it has room for, and
// returns how many; the kernel has their frames until they complete. Those that
// did not fit stay the caller's. Call Kick after the last Transmit of a round.
//
// Each descriptor must lie within one frame and not be empty: the kernel drops
// others and never completes them.
func (s *Socket) Transmit(descs []Desc) int {
	n := min(len(descs), s.tx.Free(len(descs)))
	if n == 0 {
		return 0
	}
	descs = descs[:n]
	if s.mem.Verifying() {
		for _, d := range descs {
			s.mem.NoteTransmit(d.Addr, d.Len)
		}
	}
	inKernel, shift := s.inKernel, s.shift&63
	var bytes uint64
	if s.mem.Shared() {
		for i := range descs {
			bytes += uint64(descs[i].Len)
			inKernel[descs[i].Addr>>shift]++
		}
	} else {
		for i := range descs {
			bytes += uint64(descs[i].Len)
			inKernel[descs[i].Addr>>shift] = 1
		}
	}
	s.stats.TxBytes += bytes
	a, b := s.tx.Slots(n)
	copy(a, descs)
	copy(b, descs[len(a):])
	s.tx.Submit(n)
	s.stats.Transmitted += uint64(n)
	return n
}

// Complete gives the frames of all packets that the kernel has transmitted back
// to the cache and returns how many.
func (s *Socket) Complete(cache *umem.Cache) int {
	n := s.completion.Available(s.completion.Size())
	if n == 0 {
		return 0
	}
	a, b := s.completion.Slots(n)
	s.noteComplete(a)
	s.noteComplete(b)
	cache.PutN(a)
	cache.PutN(b)
	s.completion.Release(n)
	s.stats.Completed += uint64(n)
	return n
}

func (s *Socket) noteComplete(addrs []uint64) {
	if s.mem.Verifying() {
		for _, addr := range addrs {
			s.mem.NoteComplete(addr)
		}
	}
	inKernel, shift := s.inKernel, s.shift&63
	if s.mem.Shared() {
		for _, addr := range addrs {
			inKernel[addr>>shift]--
		}
	} else {
		for _, addr := range addrs {
			inKernel[addr>>shift] = 0
		}
	}
}

// TxFree returns how many packets Transmit would take now.
func (s *Socket) TxFree() int { return s.tx.Free(s.tx.Size()) }

// TxPending returns how many packets the kernel has not taken from the TX ring.
func (s *Socket) TxPending() int { return s.tx.Pending() }

// InFlight returns how many packets were transmitted and have not completed.
func (s *Socket) InFlight() int { return int(s.stats.Transmitted - s.stats.Completed) }

// Kick makes the kernel transmit what is in the TX ring, if it asks to be woken
// or always without need_wakeup. It does not wait: what the kernel could not
// take now stays in the ring for the next Kick. Errors that pass by themselves
// are counted in Stats; a returned error is a *SendError.
func (s *Socket) Kick() error {
	if s.granted.NeedWakeup && !s.tx.NeedWakeup() {
		return nil
	}
	s.stats.Kicks++
	switch errno := s.kernel.Send(); errno {
	case 0, unix.EINTR:
	case unix.EAGAIN:
		s.stats.SendAgain++
	case unix.EBUSY:
		s.stats.SendBusy++
	case unix.ENOBUFS, unix.ENOMEM: // no memory for the kernel's copy of a packet, which stays in the ring
		s.stats.SendNoBufs++
	default:
		s.stats.SendErrors++
		return &SendError{Interface: s.opts.Interface, Queue: s.queue, Errno: errno}
	}
	return nil
}

// Wake makes the kernel take frames from the fill ring and, with busy polling,
// look for packets, if it asks to be woken.
func (s *Socket) Wake() {
	if s.granted.BusyPoll || (s.granted.NeedWakeup && s.fill.NeedWakeup()) {
		s.stats.Wakes++
		s.kernel.Recv() // nothing is read; its result says nothing that Receive does not
	}
}

// Stats returns the socket's counters.
func (s *Socket) Stats() Stats { return s.stats }

// KernelStats returns the kernel's counters.
func (s *Socket) KernelStats() (KernelStats, error) { return s.kernel.Statistics() }

// Places returns where the frames are that the socket was given. Their sum
// changes only by the owner's calls, so that between two of them it is exact.
func (s *Socket) Places() Places {
	rx := s.rx.Available(s.rx.Size())
	done := s.completion.Available(s.completion.Size())
	return Places{
		Rx:         rx,
		Fill:       int(s.stats.Filled-s.stats.Received) - rx,
		Completion: done,
		Tx:         s.InFlight() - done,
	}
}

// Close waits for packets being transmitted, up to Options.DrainTimeout, closes
// the socket, and gives all frames the kernel had back to the pool, with the
// packets that were received and not taken. Detach the program, or take the
// socket out of its XSKMAP, before.
func (s *Socket) Close() error {
	if s.kernel == nil {
		return nil
	}
	cache := s.mem.NewCache(0)
	defer cache.Close()
	for deadline := time.Now().Add(s.opts.DrainTimeout); s.InFlight() > 0 && time.Now().Before(deadline); {
		if s.Complete(cache) == 0 {
			if s.Kick() != nil {
				break // the link is down or gone: nothing will complete
			}
			time.Sleep(50 * time.Microsecond)
		}
	}
	if s.bound {
		s.mem.Unbind(s.FD())
	}
	// In copy mode the kernel receives into no frame after close returns, and a
	// packet that some NICs send straight from its frame was given the deadline.
	// Zero-copy drivers stop the queue a little later, see the package's caveats.
	err := s.kernel.Close()
	s.reclaim(cache)
	s.kernel = nil
	return err
}

// reclaim gives back the frames that the kernel still had.
func (s *Socket) reclaim(cache *umem.Cache) {
	for i, n := range s.inKernel {
		addr := uint64(i) * uint64(s.mem.FrameSize())
		for ; n > 0; n-- {
			s.mem.NoteReclaim(addr)
			cache.Put(addr)
		}
		s.inKernel[i] = 0
	}
}
