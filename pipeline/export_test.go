package pipeline

import "golang.org/x/sys/unix"

// Round runs one round of the first worker on the calling goroutine, for
// benchmarks without a second thread.
func (e *Engine) Round() int { return e.RoundOf(0) }

// RoundOf runs one round of a worker on the calling goroutine, for tests that decide
// who is when.
func (e *Engine) RoundOf(worker int) int {
	n, err := e.workers[worker].turn()
	if err != nil {
		panic(err)
	}
	return n
}

// Asleep reports whether the worker sleeps.
func (e *Engine) Asleep(worker int) bool { return e.workers[worker].asleep.Load() }

// Tracing reports whether a trace runs.
func (e *Engine) Tracing() bool { return e.tracer.Load() != nil }

// Stopping reports whether the engine was told to stop.
func (e *Engine) Stopping() bool { return e.stopping.Load() }

// PretendAsleep makes others take the worker for asleep, and Roused reports whether
// it was woken since.
func (e *Engine) PretendAsleep(worker int) { e.workers[worker].asleep.Store(true) }

// Roused: see PretendAsleep.
func (e *Engine) Roused(worker int) bool {
	var count [8]byte
	n, _ := unix.Read(e.workers[worker].wake, count[:])
	return n == len(count)
}
