package asavie

import (
	"errors"
	"fmt"
	"time"

	"github.com/asavie/xdp"
	"golang.org/x/sys/unix"

	"github.com/xdpipe/xdpipe/pipeline"
	"github.com/xdpipe/xdpipe/umem"
	"github.com/xdpipe/xdpipe/xsk"
)

// Options say what a socket of the library does not tell of itself, for the
// status, and how to divide its frames. The zero value is usable.
type Options struct {
	Interface string // its name
	Queue     int    // the queue the socket is bound to
	Mode      string // of the XDP program: native or generic

	// Reserve is how many of the socket's frames are kept for transmission; 0
	// means half of them, and it is never all.
	Reserve int
}

// queue is a pipeline.Queue over a socket of the library. All its frames are the
// library's: ours are given back as soon as they are copied.
type queue struct {
	sock *xdp.Socket
	info pipeline.QueueInfo
	rx   bool // the socket has an RX ring
	tx   bool // the socket has a TX ring

	frameSize int // bytes of the socket's frames
	fillLimit int // frames that may be out for reception
	fillLeast int // frames worth a scan of the library's free list
	txSize    int // descriptors of the TX ring

	c       pipeline.QueueCounters
	socket  xsk.Stats
	tooLong uint64 // arrived and did not fit the engine's frames
	long    []xsk.Desc
	down    bool  // the last kick said that the link is down
	gone    error // why the port cannot transmit any more
	closed  bool
}

// New returns a Queue over a socket as xdp.NewSocket made it, with all of its
// frames free. The Queue owns the socket and closes it.
func New(sock *xdp.Socket, opts Options) pipeline.Queue {
	all := sock.GetDescs(int(^uint32(0) >> 1))
	q := &queue{
		sock: sock,
		info: pipeline.QueueInfo{Interface: opts.Interface, Queue: opts.Queue, Mode: opts.Mode},
		rx:   exists(func() { sock.NumReceived() }),
		tx:   exists(func() { sock.NumFreeTxSlots() }),
		long: make([]xsk.Desc, 0, pipeline.MaxBatch),
	}
	if len(all) > 0 {
		q.frameSize = int(all[0].Len)
	}
	if q.tx {
		q.txSize = sock.NumFreeTxSlots()
	}
	reserve := opts.Reserve
	if reserve <= 0 {
		reserve = len(all) / 2
	}
	q.fillLimit = min(max(len(all)-reserve, 1), sock.NumFreeFillSlots())
	q.fillLeast = max(1, min(32, q.fillLimit/4))
	// What the kernel granted; a kernel that cannot say copies.
	flags, err := unix.GetsockoptInt(sock.FD(), unix.SOL_XDP, unix.XDP_OPTIONS)
	q.info.ZeroCopy = err == nil && flags&unix.XDP_OPTIONS_ZEROCOPY != 0
	q.fill() // now, so that what arrives before the first round waits in the ring
	return q
}

// exists reports whether look works: the library has nil pointers in place of a
// ring that was not asked for.
func exists(look func()) (ok bool) {
	defer func() { ok = recover() == nil }()
	look()
	return true
}

// Receive implements pipeline.Queue. It takes no more packets from the socket
// than there are frames to copy them into; the others wait in the RX ring, and
// the kernel counts what arrives while it is full.
func (q *queue) Receive(b *pipeline.Batch) int {
	if !q.rx {
		return 0
	}
	free := b.Free()
	n := min(q.sock.NumReceived(), len(free))
	if n == 0 {
		return 0
	}
	cache := b.Cache()
	mem := cache.Memory()
	for i := range n {
		addr, ok := cache.Get()
		if !ok {
			n = i
			break
		}
		free[i].Addr = mem.DataStart(addr)
	}
	room := mem.MaxPacket()
	kept := 0
	// The library reuses the slice at the next Receive, and gives the frames out
	// again at the next Fill.
	for _, d := range q.sock.Receive(n) {
		if int(d.Len) > room {
			q.tooLong++
			continue
		}
		free[kept] = xsk.Desc{Addr: free[kept].Addr, Len: d.Len}
		copy(mem.Bytes(free[kept].Addr, d.Len), q.sock.GetFrame(d))
		q.c.RxBytes += uint64(d.Len)
		kept++
	}
	for _, d := range free[kept:n] {
		cache.Put(d.Addr)
	}
	q.fill() // the socket's frames are free as soon as they are copied
	b.Append(kept)
	q.c.RxPackets += uint64(kept)
	q.c.Copied += uint64(kept)
	return kept
}

// txRetries is how often Transmit makes the kernel take packets when the ring or
// the socket's frames are used up. One send moves 32 descriptors in copy mode.
const txRetries = 3

// Transmit implements pipeline.Queue.
func (q *queue) Transmit(b *pipeline.Batch) (int, pipeline.Reason) {
	if !q.tx || q.gone != nil {
		return 0, pipeline.ReasonPortGone
	}
	descs := b.Descs()
	fitting := q.longLast(descs)
	taken := 0
	for try := 0; ; try++ {
		taken += q.copyOut(b, descs[taken:fitting])
		if taken == fitting || try == txRetries || q.down || q.gone != nil {
			break
		}
		q.send(nil)
		q.complete()
	}
	switch {
	case q.gone != nil:
		return taken, pipeline.ReasonPortGone
	case taken < fitting && q.down:
		return taken, pipeline.ReasonLinkDown
	case taken < fitting:
		return taken, pipeline.ReasonTxFull
	case taken < len(descs):
		return taken, pipeline.ReasonTooLong
	}
	return taken, 0
}

// longLast moves packets that the socket's frames cannot hold behind the others
// and returns the number of those. So are empty ones: the kernel refuses them,
// and then their frame never comes back.
func (q *queue) longLast(descs []xsk.Desc) int {
	q.long = q.long[:0]
	fitting := 0
	for i, d := range descs {
		if d.Len == 0 || int(d.Len) > q.frameSize {
			q.long = append(q.long, d)
			continue
		}
		if fitting != i {
			descs[fitting] = d
		}
		fitting++
	}
	copy(descs[fitting:], q.long)
	return fitting
}

// copyOut copies as many packets as there is room for into the socket's frames,
// gives ours back, and returns how many.
func (q *queue) copyOut(b *pipeline.Batch, descs []xsk.Desc) int {
	q.complete()
	theirs := q.sock.GetDescs(min(len(descs), q.sock.NumFreeTxSlots()))
	if len(theirs) == 0 {
		return 0
	}
	cache := b.Cache()
	mem := cache.Memory()
	for i := range theirs {
		d := descs[i]
		theirs[i].Len = uint32(copy(q.sock.GetFrame(theirs[i]), mem.Bytes(d.Addr, d.Len)))
	}
	n := q.send(theirs)
	for _, d := range descs[:n] {
		q.c.TxBytes += uint64(d.Len)
		cache.Put(d.Addr)
	}
	q.c.TxPackets += uint64(n)
	q.c.Copied += uint64(n)
	return n
}

// send puts the packets into the TX ring and kicks the kernel, which with no
// packets is all it does. It returns how many are in the ring. The library
// panics on most errnos, after the packets were put there.
func (q *queue) send(descs []xdp.Desc) (n int) {
	before := q.sock.NumTransmitted()
	defer func() {
		if cause := recover(); cause != nil {
			n = q.sock.NumTransmitted() - before
			q.failed(cause)
		}
	}()
	q.socket.Kicks++
	n = q.sock.Transmit(descs)
	q.down = false
	return n
}

// failed notes what the library's panic says of the link.
func (q *queue) failed(cause any) {
	switch errno := errnoOf(cause); errno {
	case unix.ENETDOWN: // may come up again
		q.down = true
		q.socket.SendErrors++
	case unix.ENOBUFS, unix.ENOMEM: // nothing was lost: the next kick tries again
		q.socket.SendNoBufs++
	case 0:
		q.gone = fmt.Errorf("asavie: transmit on %s queue %d: panic in the library: %v", q.info.Interface, q.info.Queue, cause)
	default:
		q.socket.SendErrors++
		q.gone = &xsk.SendError{Interface: q.info.Interface, Queue: q.info.Queue, Errno: errno}
	}
}

// errnoOf reads the errno out of what the library panics with, which wraps
// nothing; 0 if it is another panic.
func errnoOf(cause any) unix.Errno {
	err, ok := cause.(error)
	if !ok {
		return 0
	}
	var rc, errno uint64
	if _, scan := fmt.Sscanf(err.Error(), "sendto failed with rc=%d and errno=%d", &rc, &errno); scan != nil {
		return 0
	}
	return unix.Errno(errno)
}

// complete takes back the socket's frames that were transmitted.
func (q *queue) complete() {
	if n := q.sock.NumCompleted(); n > 0 {
		q.sock.Complete(n)
		q.socket.Completed += uint64(n)
	}
}

// waiting returns how many packets the kernel has not taken from the TX ring.
func (q *queue) waiting() int {
	if !q.tx {
		return 0
	}
	return q.txSize - q.sock.NumFreeTxSlots()
}

// Service implements pipeline.Queue.
func (q *queue) Service(*umem.Cache) error {
	q.complete()
	// One send moves part of the ring at most; go on while it moves anything.
	for left := q.waiting(); left > 0 && q.gone == nil; {
		q.send(nil)
		q.complete()
		now := q.waiting()
		if now >= left {
			break
		}
		left = now
	}
	if q.gone != nil {
		return q.gone
	}
	q.fill()
	return nil
}

// fill gives the kernel the socket's frames to receive into, up to the limit.
func (q *queue) fill() {
	if n := q.fillLimit - q.sock.NumFilled(); n >= q.fillLeast {
		n = q.sock.Fill(q.sock.GetDescs(min(n, q.sock.NumFreeFillSlots())))
		q.socket.Filled += uint64(n)
	}
}

// Poll implements pipeline.Queue.
func (q *queue) Poll() (fd int, busy bool) {
	return q.sock.FD(), !q.down && q.waiting() > 0
}

// PollError implements pipeline.Queue. The kernel sets ENETDOWN on the socket
// when it unregisters the interface (xsk_notifier, net/xdp/xsk.c).
func (q *queue) PollError() error {
	errno, err := unix.GetsockoptInt(q.sock.FD(), unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil || errno == 0 {
		return err
	}
	q.gone = fmt.Errorf("asavie: %s queue %d: %w: the interface was removed", q.info.Interface, q.info.Queue, unix.Errno(errno))
	return q.gone
}

// Info implements pipeline.Queue.
func (q *queue) Info() pipeline.QueueInfo {
	info := q.info
	switch {
	case q.gone != nil:
		info.State = "ended: " + q.gone.Error()
	case q.down:
		info.State = "link down: waiting for it to come up"
	default:
		info.State = "up"
	}
	return info
}

// Counters implements pipeline.Queue. Packets that were too long for the
// engine's frames are among the kernel's rx_dropped, which has the same cause.
func (q *queue) Counters() pipeline.QueueCounters {
	c := q.c
	socket := q.socket
	socket.Received, socket.Transmitted = c.RxPackets+q.tooLong, c.TxPackets
	c.Socket = &socket
	c.Kernel = &xsk.KernelStats{RxDropped: q.tooLong}
	if !q.rx { // the library reads that ring without asking
		return c
	}
	if s, err := q.sock.Stats(); err == nil {
		k := s.KernelStats
		c.Kernel = &xsk.KernelStats{
			RxDropped: k.Rx_dropped + q.tooLong, RxInvalidDescs: k.Rx_invalid_descs, TxInvalidDescs: k.Tx_invalid_descs,
			RxRingFull: k.Rx_ring_full, RxFillRingEmpty: k.Rx_fill_ring_empty_descs, TxRingEmpty: k.Tx_ring_empty_descs,
		}
	}
	return c
}

// Places implements pipeline.Queue: it keeps none of the engine's frames.
func (q *queue) Places() xsk.Places { return xsk.Places{} }

// drainLimit bounds how long Close waits for packets in the TX ring to leave.
const drainLimit = 100 * time.Millisecond

// Close implements pipeline.Queue. Packets that were handed over are sent first,
// unless the link does not take them in time.
func (q *queue) Close() error {
	if q.closed {
		return nil
	}
	q.closed = true
	for end := time.Now().Add(drainLimit); q.waiting() > 0 && !q.down && q.gone == nil && time.Now().Before(end); {
		q.send(nil)
		if q.complete(); q.waiting() > 0 {
			time.Sleep(time.Millisecond)
		}
	}
	var stat unix.Stat_t
	if err := unix.Fstat(q.sock.FD(), &stat); err != nil {
		return errors.Join(fmt.Errorf("asavie: fstat of the socket: %w", err), q.sock.Close())
	}
	return errors.Join(q.sock.Close(), unmapSocket(stat.Ino))
}
