package filter

import (
	"errors"
	"fmt"
)

// ErrUnsupported is what an *Error unwraps to when the expression is good
// pcap-filter language, but this package cannot compile it: names that need a
// lookup, header chains that need a loop, link types other than Ethernet.
var ErrUnsupported = errors.New("cannot be compiled")

// Error says why an expression was refused, and where.
type Error struct {
	Expr    string // the whole expression, as given to Compile
	Column  int    // in bytes, the first is 1; one past the end if the expression stops too early
	Message string // lower case, without the expression and the column
	cause   error  // nil, or ErrUnsupported
}

func (e *Error) Error() string {
	return fmt.Sprintf("compiling filter %q, column %d: %s", e.Expr, e.Column, e.Message)
}

// Unwrap returns ErrUnsupported, or nil for an expression that is wrong.
func (e *Error) Unwrap() error { return e.cause }

// fail ends the compilation. It panics with an *Error, which Compile recovers,
// so that the parser and the generator stay readable; the panic never leaves
// the package.
func fail(pos int, format string, args ...any) {
	panic(&Error{Column: pos + 1, Message: fmt.Sprintf(format, args...)})
}

// refuse is fail for what the language has and this package does not compile.
func refuse(pos int, format string, args ...any) {
	panic(&Error{
		Column:  pos + 1,
		Message: fmt.Sprintf(format, args...) + " cannot be compiled",
		cause:   ErrUnsupported,
	})
}
