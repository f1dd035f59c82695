package traffic

import (
	"sync/atomic"
	"time"
)

// meter counts arrivals for Options.Progress. Any goroutine may add to it.
type meter struct {
	packets, bytes atomic.Uint64
}

const progressInterval = 100 * time.Millisecond

func (m *meter) add(packets, bytes int) {
	m.packets.Add(uint64(packets))
	m.bytes.Add(uint64(bytes))
}

// start reports to f until the returned function is called, which reports once
// more and returns when f is no longer running.
func (m *meter) start(f func(packets, bytes uint64)) (stop func()) {
	if f == nil {
		return func() {}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(progressInterval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				f(m.packets.Load(), m.bytes.Load())
			case <-quit:
				f(m.packets.Load(), m.bytes.Load())
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}
