package pipeline

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/xdpipe/xdpipe/umem"
	"github.com/xdpipe/xdpipe/xsk"
)

// xskQueue is a Queue over an AF_XDP socket on the engine's memory. Packets pass
// it by descriptor.
type xskQueue struct {
	sock *xsk.Socket
	info QueueInfo

	kick  bool // the TX ring has packets that the kernel may not know of
	fresh bool // some of them are of this round
	down  bool // the last kick said the link is down
	gone  bool // the last kick said the interface is gone
}

// NewXSK returns a Queue over an AF_XDP socket on the engine's memory. name and
// mode are the interface's and the XDP program's, for the status. The Queue owns
// the socket and closes it.
func NewXSK(sock *xsk.Socket, name, mode string) Queue {
	g := sock.Granted()
	return &xskQueue{sock: sock, info: QueueInfo{
		Interface: name, Queue: sock.Queue(), Mode: mode, ZeroCopy: g.ZeroCopy, NeedWakeup: g.NeedWakeup,
	}}
}

func (q *xskQueue) Receive(b *Batch) int {
	n := q.sock.Receive(b.Free())
	b.Append(n)
	return n
}

// txRetries is how often Transmit makes the kernel take packets when the ring
// is full, and it takes none. In zero-copy mode it is how often at all: more would
// only wait for the wire.
const txRetries = 3

// roundKicks is how many kicks a round has at most while packets keep coming:
// as many as the largest batch needs where a kick moves 32 (before Linux 6.17).
const roundKicks = MaxBatch / 32

func (q *xskQueue) Transmit(b *Batch) (int, Reason) {
	if q.gone {
		return 0, ReasonPortGone
	}
	descs := b.Descs()
	taken := q.sock.Transmit(descs)
	for try := 0; taken < len(descs) && try < txRetries; try++ {
		if q.sock.Complete(b.cache); q.wakeup() != nil {
			break
		}
		q.sock.Complete(b.cache)
		n := q.sock.Transmit(descs[taken:])
		taken += n
		if n > 0 && !q.info.ZeroCopy {
			try = -1
		}
	}
	q.kick, q.fresh = true, true
	switch {
	case taken == len(descs):
		return taken, 0
	case q.gone:
		return taken, ReasonPortGone
	case q.down:
		return taken, ReasonLinkDown
	}
	return taken, ReasonTxFull
}

// wakeup kicks the kernel and remembers what it says of the link. A link that
// is down is not an error of the queue: it may come up again.
func (q *xskQueue) wakeup() error {
	err := q.sock.Kick()
	q.down = xsk.IsLinkDown(err)
	q.gone = err != nil && !q.down
	return err
}

func (q *xskQueue) Service(cache *umem.Cache) error {
	q.sock.Complete(cache)
	if q.kick {
		if err := q.flush(cache); err != nil {
			return err
		}
	}
	q.sock.Fill(cache)
	q.sock.Wake()
	return nil
}

// flush makes the kernel transmit. Copy mode does so within the kick, as many as
// the budget allows and up to the first that the driver drops: go on while it
// gets anywhere, in a round without packets up to the end, so that nothing waits
// in the ring while the worker sleeps. What is left is kicked in the next round.
// An error means that the interface was unregistered or cannot transmit.
func (q *xskQueue) flush(cache *umem.Cache) error {
	before := q.sock.TxPending()
	for kicks := 0; q.kick && (kicks < roundKicks || !q.fresh); kicks++ {
		err := q.wakeup()
		if q.gone {
			return err
		}
		q.sock.Complete(cache) // most frames are back now
		left := q.sock.TxPending()
		q.kick = left > 0
		if left == before || err != nil || q.info.ZeroCopy {
			break
		}
		before = left
	}
	q.fresh = false
	return nil
}

// Poll is also busy when the kernel has no frame to receive into, since nothing
// arrives then: frames that are on their way out, or with other workers, come
// back without an event.
func (q *xskQueue) Poll() (int, bool) {
	return q.sock.FD(), q.kick && !q.down || q.sock.Places().Fill == 0
}

// PollError reads the socket's error: the kernel sets ENETDOWN when it
// unregisters the interface and unbinds the socket (xsk_notifier, net/xdp/xsk.c).
func (q *xskQueue) PollError() error {
	if q.sock.FD() < 0 {
		return nil
	}
	errno, err := unix.GetsockoptInt(q.sock.FD(), unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil || errno == 0 {
		return err
	}
	q.gone = true
	return fmt.Errorf("%s queue %d: %w: the interface was removed", q.info.Interface, q.info.Queue, unix.Errno(errno))
}

// Info's State is what the last wakeup was told; the control plane knows of
// links that nobody transmits on.
func (q *xskQueue) Info() QueueInfo {
	info := q.info
	switch {
	case q.gone:
		info.State = "ended: the interface was removed or its driver does not transmit"
	case q.down:
		info.State = "link down: waiting for it to come up"
	default:
		info.State = "up"
	}
	return info
}

func (q *xskQueue) Counters() QueueCounters {
	socket := q.sock.Stats()
	c := QueueCounters{
		RxPackets: socket.Received, RxBytes: socket.RxBytes,
		TxPackets: socket.Transmitted, TxBytes: socket.TxBytes,
		Socket: &socket,
	}
	if k, err := q.sock.KernelStats(); err == nil {
		c.Kernel = &k
	}
	return c
}

func (q *xskQueue) Places() xsk.Places { return q.sock.Places() }

func (q *xskQueue) Close() error { return q.sock.Close() }
