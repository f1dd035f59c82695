package filter

import (
	"fmt"

	"golang.org/x/net/bpf"
)

// Filter is a compiled expression. It does not change after Compile; any number
// of goroutines may use it at once.
type Filter struct {
	expression string
	program    []bpf.RawInstruction
	first      *step // the program for Match
	scratch    bool  // the program uses memory words
}

// Compile compiles an expression of the pcap-filter language for Ethernet
// frames. The empty expression matches every packet. The error is an *Error;
// errors.Is(err, ErrUnsupported) tells what cannot be compiled from what is
// wrong.
func Compile(expression string) (f *Filter, err error) {
	defer func() {
		switch failure := recover().(type) {
		case nil:
		case *Error:
			failure.Expr = expression
			f, err = nil, failure
		default:
			panic(failure)
		}
	}()
	if len(expression) > maxExpression {
		fail(0, "the expression has %d bytes, %d are the most", len(expression), maxExpression)
	}
	c := always
	if e := parse(expression); e != nil {
		c = newGenerator().expression(e)
	}
	program, ok := assemble(newGraph(c))
	if !ok {
		failTooLong()
	}
	f = &Filter{expression: expression, program: program}
	f.first, f.scratch = translate(program)
	return f, nil
}

// maxExpression bounds the work a hostile expression can cause, in bytes.
const maxExpression = 1 << 16

// MustCompile is Compile for expressions fixed in a program; it panics if the
// expression is refused.
func MustCompile(expression string) *Filter {
	f, err := Compile(expression)
	if err != nil {
		panic(err)
	}
	return f
}

// String returns the expression as it was given to Compile.
func (f *Filter) String() string { return f.expression }

// Raw returns a copy of the classic BPF program, as SO_ATTACH_FILTER takes it.
// It returns 262144 for a packet that matches, 0 for one that does not.
func (f *Filter) Raw() []bpf.RawInstruction {
	return append([]bpf.RawInstruction(nil), f.program...)
}

// Instructions returns the classic BPF program in the form bpf.NewVM takes it.
func (f *Filter) Instructions() []bpf.Instruction {
	instructions, ok := bpf.Disassemble(f.program)
	if !ok {
		panic(fmt.Sprintf("filter: program of %q has an instruction that is none", f.expression))
	}
	return instructions
}
