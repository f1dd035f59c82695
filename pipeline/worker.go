package pipeline

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xdpipe/xdpipe/umem"
)

// DefaultSpin is how long an adaptive worker looks for packets before it sleeps,
// while they come in quick succession.
const DefaultSpin = 50 * time.Microsecond

// sleepCost is about what going to sleep and being woken costs a core. Looking
// for packets pays where the next one usually comes sooner. gapLimit bounds what
// a pause adds to the average, so that a dozen packets later it is forgotten.
const (
	sleepCost = 5 * time.Microsecond
	gapLimit  = 4 * sleepCost
)

// DefaultBatch is the number of packets a worker takes from a queue at once.
const DefaultBatch = 64

// sleepLimit bounds a sleep, for what no descriptor tells of: link down gives no
// event on a socket. busyLimit is the same while a queue has packets to submit.
const (
	sleepLimit = 100 * time.Millisecond
	busyLimit  = time.Millisecond
)

// lastRounds is how many rounds a worker makes at most, once it is to stop, for
// packets that have arrived: enough to empty a large ring.
const lastRounds = 1024

// finishPause is how long a worker that has nothing left to do waits between two
// looks at what others hand over.
const finishPause = 50 * time.Microsecond

// A worker runs lanes on one thread. Its fields are its goroutine's, except for
// those of the gate and asleep.
type worker struct {
	engine *Engine
	id     int
	cpu    int // -1: not pinned

	cache  *umem.Cache
	batch  *Batch
	queues []*workerQueue // all queues it owns, each once
	share                 // of the pipelines; changed by a reload, between two batches

	round  round
	rank   int   // of the queue that is worked on
	busy   *node // the stage that has a batch; nil outside stages
	pushed bool  // something was put into a ring to another worker
	failed error // why it has to stop

	stopping bool // the engine stops: sources make nothing more
	finished bool // it has nothing left to do but for others
	tracer   *tracer
	watch    watch

	idle    Idle
	spin    time.Duration
	gap     time.Duration // average wait for the next packet
	wake    int           // eventfd
	asleep  atomic.Bool
	pollfds []unix.PollFd

	gate gate
}

// A share is what a worker has of the pipelines.
type share struct {
	lanes     []*lane
	lines     []*line
	inbound   []*inbound
	feeds     []*ring // to other workers
	nodes     []*node // all stage instances of the lanes, each once
	ports     []*outlets
	outlets   []*outlet // those with rings
	sleepless bool      // a queue that lines read has nothing to poll
}

// workerQueue is a queue of this worker, and the drops made on its behalf.
type workerQueue struct {
	port  string
	owner *worker
	queue Queue
	multi bool     // it takes packets of several descriptors
	drops []uint64 // packets that could not be transmitted, by Reason
	ended error    // why the port is of no more use
	read  bool     // a line takes packets from it
	quiet int      // rounds since a packet arrived, up to quietRounds
}

// A gate stops the worker between two batches.
type gate struct {
	closed atomic.Bool   // asked to stop
	parked chan struct{} // the worker says it stopped
	open   chan struct{} // it may go on
}

// run works until the engine stops or a port ends, with the reason.
func (w *worker) run() error {
	// Never unlocked: the thread's affinity was changed, so it ends with the
	// goroutine.
	runtime.LockOSThread()
	if w.cpu >= 0 {
		var set unix.CPUSet
		set.Set(w.cpu)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			w.engine.log.Warn("worker not pinned", "worker", w.id, "cpu", w.cpu, "error", err)
			w.cpu = -1
		}
	}
	idleSince := time.Duration(-1)
	for rounds, last := 0, 0; ; rounds++ {
		w.stopping = w.engine.stopping.Load() // before the round, which then is one more
		if w.gate.closed.Load() {
			w.gate.parked <- struct{}{}
			<-w.gate.open
		}
		n, err := w.turn()
		if err != nil {
			return err
		}
		switch {
		case w.stopping:
			// What has arrived is not lost. Where packets keep coming, because the
			// program still sends them here, this ends all the same. Who has none goes on
			// for what others hand over until they have none either.
			if last++; n == 0 || last >= lastRounds {
				w.finish()
				if w.engine.working.Load() == 0 {
					return nil
				}
				if n == 0 {
					time.Sleep(finishPause)
				}
			}
			continue
		case n > 0:
			if idleSince >= 0 {
				w.gap += (min(time.Since(epoch)-idleSince, gapLimit) - w.gap) / 8
				idleSince = -1
			}
			continue
		case w.idle == IdleSpin:
			continue
		case idleSince < 0:
			idleSince = time.Since(epoch)
			rounds = 0
			if w.idle == IdleAdaptive && w.gap <= sleepCost {
				continue
			}
		case w.idle == IdleAdaptive && w.gap <= sleepCost && (rounds%16 != 0 || time.Since(epoch)-idleSince < w.spin):
			continue // the clock costs as much as looking
		}
		if err := w.sleep(); err != nil {
			return err
		}
	}
}

// finish notes, once, that the worker has nothing left to do but for others.
func (w *worker) finish() {
	if !w.finished {
		w.finished = true
		w.engine.working.Add(-1)
	}
}

// turn takes one batch from everything that packets come from, and services the
// queues. It returns how many packets there were.
func (w *worker) turn() (n int, err error) {
	w.round.now = 0
	w.tracer = w.engine.tracer.Load()
	for _, l := range w.lines {
		n += l.run(w)
	}
	for _, in := range w.inbound {
		n += in.run(w)
	}
	for _, q := range w.queues {
		if err := q.service(w.cache); err != nil {
			return n, fmt.Errorf("port %s: %w", q.port, err)
		}
	}
	if w.pushed {
		w.pushed = false
		for _, r := range w.feeds {
			if r.len() > 0 {
				r.to.rouseAsleep()
			}
		}
	}
	return n, w.failed
}

// sleep waits until a packet arrives, the engine wants something, or a limit
// has passed.
func (w *worker) sleep() error {
	limit := sleepLimit
	// Said before the rings are looked at: whoever puts something into one later
	// sees it. Both are sequentially consistent.
	w.asleep.Store(true)
	defer w.asleep.Store(false)
	for _, in := range w.inbound {
		if in.ring.len() > 0 {
			return nil
		}
	}
	for _, l := range w.lines {
		if l.in == nil {
			limit = min(limit, w.until(l.due(w)))
		}
	}
	fds := append(w.pollfds[:0], unix.PollFd{Fd: int32(w.wake), Events: unix.POLLIN})
	for _, q := range w.queues {
		fd, busy := q.queue.Poll()
		if busy {
			limit = min(limit, busyLimit)
		}
		q.quiet = quietRounds // there is time to look
		// What arrives where nobody takes it would end every sleep at once.
		if fd >= 0 && q.read {
			fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		}
	}
	w.pollfds = fds
	if w.sleepless {
		limit = 0
		runtime.Gosched()
	}
	if limit <= 0 && !w.sleepless {
		return nil
	}
	timeout := unix.NsecToTimespec(int64(limit))
	n, err := unix.Ppoll(fds, &timeout, nil)
	if err != nil && err != unix.EINTR {
		return fmt.Errorf("poll: %w", err)
	}
	if n > 0 && fds[0].Revents != 0 {
		var buf [8]byte
		unix.Read(w.wake, buf[:])
	}
	return nil
}

// quietRounds is how many rounds without a packet there are before a queue is
// asked whether its interface is still there: some milliseconds.
const quietRounds = 4096

// service does a queue's share of a round that is not packets. An error means
// that the port is of no more use.
func (q *workerQueue) service(cache *umem.Cache) error {
	err := q.queue.Service(cache)
	if q.quiet++; q.quiet > quietRounds && err == nil {
		q.quiet = 0
		err = q.queue.PollError()
	}
	q.ended = err
	return err
}

// until returns how long it is until a time of the engine's clock.
func (w *worker) until(due int64) time.Duration {
	if due == Never {
		return sleepLimit
	}
	return max(time.Duration(due-w.engine.clock()), 0)
}

// rouseAsleep ends a sleep if there is one.
func (w *worker) rouseAsleep() {
	if w.asleep.CompareAndSwap(true, false) {
		w.rouse()
	}
}

// rouse ends a sleep.
func (w *worker) rouse() {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	unix.Write(w.wake, one[:])
}
