package pipeline

import (
	"fmt"
	"log/slog"
	"sync"
)

// A Stage processes batches. See the package documentation for what it may rely
// on, and Batch for what it can do.
type Stage interface {
	Process(b *Batch)
}

// The life of a stage: its module's New, options decoded, Validate, then for
// each worker Provision, Process any number of times, and Close. Each of the
// following is optional.
type (
	// A Validator checks its options once they are decoded. It must not touch
	// anything outside: `xdpipe check` calls it.
	Validator interface{ Validate() error }

	// A Provisioner prepares: registers its reasons, opens what it needs.
	Provisioner interface{ Provision(ctx *Context) error }

	// A Closer lets go of what Provision acquired. It is called once for each
	// instance, after the last Process; also for one whose Provision failed.
	Closer interface{ Close() error }

	// A Reporter has counters of its own, by name, for the status. Report is
	// called between two batches.
	Reporter interface{ Report() map[string]uint64 }
)

// An OptionError is returned by Validate or Provision to blame one option; the
// engine adds its position in the configuration.
type OptionError struct {
	Option string
	Err    error
}

// BadOption returns an OptionError for the option, with a formatted message.
func BadOption(option, format string, args ...any) error {
	return &OptionError{Option: option, Err: fmt.Errorf(format, args...)}
}

func (e *OptionError) Error() string { return fmt.Sprintf("option %s: %v", e.Option, e.Err) }
func (e *OptionError) Unwrap() error { return e.Err }

// A Context is what a stage instance is provisioned with. The zero value serves
// tests that provision a stage without an engine.
type Context struct {
	// Stage is the instance's name in the status: pipeline, position and type.
	Stage string
	// Worker is the index of the worker the instance belongs to, of Workers.
	Worker, Workers int
	// Log is for rare events. Never log per packet. It is nil in a zero Context.
	Log *slog.Logger

	reasons *reasonTable
	shared  *sharedValues
	err     error
}

// Reason returns the drop reason of that name, in lower case with words joined
// by _. doc says cause and remedy, for people.
func (c *Context) Reason(name, doc string) Reason {
	if c.reasons == nil {
		c.reasons = newReasonTable()
	}
	r, err := c.reasons.add(name, doc)
	if err != nil && c.err == nil {
		c.err = err
	}
	return r
}

// Shared returns the value that all workers' instances of this stage share,
// such as an open file: create makes it for the first that asks. If the value is
// a Closer it is closed after the last instance.
func (c *Context) Shared(create func() (any, error)) (any, error) {
	return c.values().get(c.Stage, create)
}

// SharedBy is Shared for all stages of the engine that give the same key, which
// begins with the module's name.
func (c *Context) SharedBy(key string, create func() (any, error)) (any, error) {
	return c.values().get("by "+key, create)
}

func (c *Context) values() *sharedValues {
	if c.shared == nil {
		c.shared = &sharedValues{}
	}
	return c.shared
}

// sharedValues are the values that instances share, by stage name or key.
type sharedValues struct {
	mu     sync.Mutex
	values map[string]any
}

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

func (s *sharedValues) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var first error
	for _, v := range s.values {
		if c, ok := v.(Closer); ok {
			if err := c.Close(); err != nil && first == nil {
				first = err
			}
		}
	}
	s.values = nil
	return first
}
