package pipeline

// Round runs one round of the first worker on the calling goroutine, for
// benchmarks without a second thread.
func (e *Engine) Round() int {
	w := e.workers[0]
	n := 0
	for _, l := range w.lines {
		n += l.run(w)
	}
	for _, q := range w.queues {
		if err := q.service(w.cache); err != nil {
			panic(err)
		}
	}
	return n
}
