package pipeline

import (
	"errors"
	"sync"
)

// sharedValues are the values that the instances of an assembly share, by stage
// name or key.
type sharedValues struct {
	mu     sync.Mutex
	values map[string]any     // by stage name
	keyed  map[string]*shared // by key
	before *sharedValues      // of the assembly that this one replaces; nil once it is complete
}

// shared is a value that a reload may keep.
type shared struct {
	value any
	users int // assemblies that have it; guarded by sharedMu
}

// sharedMu guards the users of all values: assemblies come and go rarely.
var sharedMu sync.Mutex

func (s *sharedValues) get(stage string, create func() (any, error)) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.values[stage]; ok {
		return v, nil
	}
	v, err := create()
	if err != nil {
		return nil, err
	}
	if s.values == nil {
		s.values = map[string]any{}
	}
	s.values[stage] = v
	return v, nil
}

func (s *sharedValues) getBy(key string, create func() (any, error)) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.keyed[key]; ok {
		return v.value, nil
	}
	v := s.kept(key)
	if v == nil {
		value, err := create()
		if err != nil {
			return nil, err
		}
		v = &shared{value: value}
	}
	sharedMu.Lock()
	v.users++
	sharedMu.Unlock()
	if s.keyed == nil {
		s.keyed = map[string]*shared{}
	}
	s.keyed[key] = v
	return v.value, nil
}

// kept returns the value that the assembly before has under the key, or nil.
func (s *sharedValues) kept(key string) *shared {
	if s.before == nil {
		return nil
	}
	s.before.mu.Lock()
	defer s.before.mu.Unlock()
	return s.before.keyed[key]
}

// settle says that the assembly is complete.
func (s *sharedValues) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = nil
}

func (s *sharedValues) close(e *Engine) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	closeValue := func(name string, v any) {
		if c, ok := v.(Closer); ok {
			errs = append(errs, e.closeOne(name, c))
		}
	}
	for name, v := range s.values {
		closeValue(name, v)
	}
	for key, v := range s.keyed {
		sharedMu.Lock()
		v.users--
		last := v.users == 0
		sharedMu.Unlock()
		if last {
			closeValue(key, v.value)
		}
	}
	s.values, s.keyed = nil, nil
	return errors.Join(errs...)
}
