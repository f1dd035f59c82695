package pipeline

// Round runs one round of the first worker on the calling goroutine, for
// benchmarks without a second thread.
func (e *Engine) Round() int {
	n, err := e.workers[0].turn()
	if err != nil {
		panic(err)
	}
	return n
}
