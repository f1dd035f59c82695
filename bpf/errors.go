package bpf

import (
	"errors"
	"fmt"
)

// Errors that callers branch on. They come wrapped: use errors.Is.
var (
	// ErrNotPermitted: the process lacks the capabilities for the operation.
	ErrNotPermitted = errors.New("not permitted")

	// ErrKernelTooOld: the kernel lacks something the program needs.
	ErrKernelTooOld = errors.New("kernel too old")

	// ErrNoSuchQueue: the queue is outside of what Options.Queues asked for.
	ErrNoSuchQueue = errors.New("no such queue")

	// ErrNotSocket: the file descriptor is not an AF_XDP socket.
	ErrNotSocket = errors.New("not an AF_XDP socket")

	// ErrNotPinned: the directory holds no complete set of pins.
	ErrNotPinned = errors.New("not pinned")

	// ErrIncompatible: the pins were made by another version of this package.
	ErrIncompatible = errors.New("incompatible version")

	// ErrClosed: the Steering was closed.
	ErrClosed = errors.New("steering is closed")
)

// RuleError says what is wrong with a rule.
type RuleError struct {
	// Index is the rule's place in its policy, from 0; -1 for a rule on its own.
	Index int

	// Field is the key the problem is with, as ParseRule spells it; empty when it
	// is the rule as a whole.
	Field string

	// Reason says what is wrong and what is allowed.
	Reason string
}

func (e *RuleError) Error() string {
	where := "rule"
	if e.Index >= 0 {
		where = fmt.Sprintf("rule %d", e.Index)
	}
	if e.Field != "" {
		where += ": " + e.Field
	}
	return where + ": " + e.Reason
}

func ruleError(field, format string, arguments ...any) *RuleError {
	return &RuleError{Index: -1, Field: field, Reason: fmt.Sprintf(format, arguments...)}
}
