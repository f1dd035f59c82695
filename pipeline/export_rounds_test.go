package pipeline

// RoundOf runs one round of a worker on the calling goroutine.
func (e *Engine) RoundOf(worker int) int {
	n, err := e.workers[worker].turn()
	if err != nil {
		panic(err)
	}
	return n
}
