package pipeline

import (
	"github.com/xdpipe/xdpipe/umem"
	"github.com/xdpipe/xdpipe/xsk"
)

// A Port is where batches come from and go to, under a name that pipelines use.
type Port struct {
	Name   string
	Queues []Queue
	// Workers are the indices of the workers that own the queues, in their order,
	// beginning again when there are fewer. None: queue i is worker i's, modulo their
	// number.
	Workers []int
}

// A Queue is one queue of a port. After New its owner is one worker: all methods
// but Close are called by that worker's goroutine, or by another while the worker
// stands between two batches.
type Queue interface {
	// Receive appends packets that arrived to b, which holds them from then on,
	// and returns how many. It does not wait.
	Receive(b *Batch) int

	// Transmit hands the packets of b on, from the first, and returns how many
	// it took; the queue holds their frames from then on. If it did not take all,
	// why says the reason for the rest, which the engine drops. It does not wait.
	Transmit(b *Batch) (taken int, why Reason)

	// Service is called once in every round, after all batches of the round: it
	// submits what is to be sent, gives frames that were sent back to the cache
	// and takes frames to receive into from it. An error means that the port is
	// of no more use, with the reason.
	Service(cache *umem.Cache) error

	// Poll returns a descriptor that polls readable when Receive would find
	// something, or -1 if there is none and the worker must not sleep. busy says
	// that Service has work soon even if nothing arrives.
	Poll() (fd int, busy bool)

	// PollError is called now and then while nothing arrives, since poll tells
	// nothing of an interface that was removed. A non-nil result means that the
	// port is of no more use.
	PollError() error

	// Info says what the queue is and what was granted to it.
	Info() QueueInfo

	// Counters returns what passed, and Places where the frames of the engine's
	// memory are that the queue holds.
	Counters() QueueCounters
	Places() xsk.Places

	// Close ends the queue and gives back every frame it holds. It is called
	// after the worker has ended.
	Close() error
}

// QueueInfo describes a queue for the status.
type QueueInfo struct {
	Interface  string
	Queue      int
	Mode       string // native, generic, or what else it is
	ZeroCopy   bool
	NeedWakeup bool
	State      string // up, or what is wrong and why
}

// QueueCounters are a queue's counters since it was opened. What it was given to
// transmit is counted when it is taken; what the kernel refused of it is in
// Kernel and Socket.
type QueueCounters struct {
	RxPackets, RxBytes uint64
	TxPackets, TxBytes uint64
	Copied             uint64 // packets whose bytes were copied between memories
	// Kernel has the kernel's statistics of the socket, if it is one.
	Kernel *xsk.KernelStats
	// Socket has the socket's own, if it is one.
	Socket *xsk.Stats
}
