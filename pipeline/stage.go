package pipeline

import (
	"fmt"
	"log/slog"
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

	// An Heir takes over what the instance has learnt whose place it takes on a
	// reload: the one of the same worker, pipeline and type, by its label if it has
	// one and else by its rank among those of its type. Inherit is called between two
	// batches, which wait for it, after Provision and before the first Process. The
	// old instance is closed later: what both would close, Inherit takes away from it.
	Heir interface{ Inherit(old Stage) }
)

// A Source is a stage that makes packets. It is the first stage of a pipeline
// without a port to come from, runs on one worker, and its Process is called with an
// empty batch, which it fills with Batch.Alloc.
type Source interface {
	Stage
	// Due returns the time at which Process next has packets to make, on the clock
	// of Batch.Now; one that has passed means at once, and Never what it says.
	Due() int64
}

// Never is the Due of a source that has made all its packets.
const Never = int64(1<<63 - 1)

// A Sink is a stage in which packets end. It is the last of a pipeline without a
// port to go to; the engine takes back the packets that its Process does not drop.
type Sink interface {
	Stage
	// Sink does nothing; it says that packets are meant to end here.
	Sink()
}

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

// ReasonName returns the name of a reason that the context made, or of the
// engine's, for tests of stages without an engine.
func (c *Context) ReasonName(r Reason) string {
	if c.reasons == nil {
		c.reasons = newReasonTable()
	}
	return c.reasons.info(r).Name
}

// A Context is what a stage instance is provisioned with. The zero value serves
// tests that provision a stage without an engine.
type Context struct {
	// Stage is the instance's name in the status: pipeline, position and type.
	Stage string
	// Worker is the index of the worker the instance belongs to, of Workers.
	Worker, Workers int
	// From and To are the names of the pipeline's ports; "" for a source's or a
	// sink's.
	From, To string
	// Log is for rare events. Never log per packet. It is nil in a zero Context.
	Log *slog.Logger

	outputs map[string]Output // those that are connected
	now     func() int64
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

// Output returns the stage's output of that name, one of its module's Outputs, for
// Batch.To and Batch.Tee, and whether the configuration connects it. What is sent
// to one that is not connected is dropped.
func (c *Context) Output(name string) (out Output, connected bool) {
	out, connected = c.outputs[name]
	if !connected {
		out = noOutput
	}
	return out, connected
}

// noOutput is an output that leads nowhere.
const noOutput Output = 0xff

// Connect connects outputs for tests that provision a stage without an engine: the
// first is the Output 1, and so on.
func (c *Context) Connect(outputs ...string) {
	c.outputs = map[string]Output{}
	for i, name := range outputs {
		c.outputs[name] = Output(i + 1)
	}
}

// Now reads the engine's clock, which Batch.Now has for each round.
func (c *Context) Now() int64 {
	if c.now == nil {
		return clock()
	}
	return c.now()
}

// Shared returns the value that all workers' instances of this stage share,
// such as an open file: create makes it for the first that asks. If the value is
// a Closer it is closed after the last instance.
func (c *Context) Shared(create func() (any, error)) (any, error) {
	return c.values().get(c.Stage, create)
}

// SharedBy is Shared for all stages of the engine that give the same key, which
// begins with the module's name and says everything that the value depends on:
// after a reload stages that give it get the same value.
func (c *Context) SharedBy(key string, create func() (any, error)) (any, error) {
	return c.values().getBy(key, create)
}

func (c *Context) values() *sharedValues {
	if c.shared == nil {
		c.shared = &sharedValues{}
	}
	return c.shared
}
