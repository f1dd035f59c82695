package xdpipe

import "sync"

// What a linkState says while nothing is wrong with the port itself.
const (
	stateUp   = "up"
	stateDown = "link down: waiting for it to come up"
)

// linkState is what the control plane knows of a port, in words for the status.
type linkState struct {
	mu   sync.Mutex
	text string
}

func (s *linkState) set(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = text
}

func (s *linkState) get() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text
}
