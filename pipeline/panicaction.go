package pipeline

import (
	"fmt"
	"slices"
	"strings"
)

// A PanicAction is what becomes of a pipeline whose stages panic again and again:
// PanicLimit times, with less than PanicWindow between one and the next.
type PanicAction int

// The choices for PanicAction.
const (
	PanicDrop PanicAction = iota // its packets are dropped
	PanicPass                    // its packets go to the port it ends at without passing its stages; dropped if it has no from or no to
	PanicStop                    // the engine stops
)

var panicActionNames = []string{"drop", "pass", "stop"}

func (a PanicAction) String() string { return panicActionNames[a] }

// UnmarshalText reads drop, pass or stop.
func (a *PanicAction) UnmarshalText(b []byte) error {
	n := slices.Index(panicActionNames, string(b))
	if n < 0 {
		return fmt.Errorf("found %q, want one of %s", b, strings.Join(panicActionNames, ", "))
	}
	*a = PanicAction(n)
	return nil
}
