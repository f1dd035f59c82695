package xdpipe

import "sync"

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
