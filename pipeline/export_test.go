package pipeline

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
