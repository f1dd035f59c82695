package bpf

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"github.com/xdpipe/xdpipe/filter"
)

// The function of steer.c that stands for the expression.
const filterFunction = "filter"

// xdp_md's fields of the packet's bounds, by their offsets.
const (
	xdpData    = 0
	xdpDataEnd = 4
)

// FilterError says why a policy's filter expression cannot be used.
type FilterError struct {
	Expr string
	Err  error // a *filter.Error where the expression itself is at fault
}

func (e *FilterError) Error() string {
	var wrong *filter.Error
	if errors.As(e.Err, &wrong) {
		return e.Err.Error() // names the expression and the column
	}
	return fmt.Sprintf("filter %q: %v", e.Expr, e.Err)
}

// Unwrap returns the cause.
func (e *FilterError) Unwrap() error { return e.Err }

// compileFilter compiles the expression of a policy that has one.
func compileFilter(expression string) (*filter.Filter, error) {
	if strings.Trim(expression, " \t\r\n") == "" {
		return nil, &FilterError{expression, errors.New("the expression is empty; to take all packets, say so instead")}
	}
	f, err := filter.Compile(expression)
	if err != nil {
		return nil, &FilterError{expression, err}
	}
	return f, nil
}

// loadFilter loads the program that decides by the expression, counts and
// redirects as the steering program does.
func (s *Steering) loadFilter(expression string) (*ebpf.Program, error) {
	f, err := compileFilter(expression)
	if err != nil {
		return nil, err
	}
	fail := func(err error) (*ebpf.Program, error) { return nil, &FilterError{expression, err} }
	switch calls, err := s.callsFilters(); {
	case err != nil:
		return fail(err)
	case !calls:
		return fail(fmt.Errorf("%w: it cannot mix tail calls with function calls, which filters need (Linux 5.18 on x86-64, 6.0 on arm64, with the JIT compiler on: sysctl net.core.bpf_jit_enable=1); choose packets by rules instead", ErrKernelTooOld))
	}
	body, err := filterBody(f)
	if err != nil {
		return fail(err)
	}
	spec := s.filter.Copy()
	if spec.Instructions, err = replaceFunction(spec.Instructions, filterFunction, body); err != nil {
		return fail(err)
	}
	for name, m := range map[string]*ebpf.Map{steerMapCounters: s.maps.Counters, steerMapXsks: s.maps.Xsks} {
		if err := spec.Instructions.AssociateMap(name, m); err != nil {
			return fail(fmt.Errorf("map %s: %w", name, err))
		}
	}
	program, err := ebpf.NewProgram(spec)
	var refused *ebpf.VerifierError
	switch {
	case errors.As(err, &refused) && !lacksPerfmon(err):
		return fail(fmt.Errorf("the kernel's verifier refuses its program of %d instructions: %w; write a shorter expression, or choose packets by rules", len(body), err))
	case err != nil:
		return fail(permission(err))
	}
	return program, nil
}

// filterBody is the body of the C function filter(ctx).
func filterBody(f *filter.Filter) (asm.Instructions, error) {
	body := asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, xdpData, asm.Word),
		asm.LoadMem(asm.R3, asm.R1, xdpDataEnd, asm.Word),
	}
	const end = "filter_end"
	code, err := f.EBPF(filter.EBPFOptions{Start: asm.R2, End: asm.R3, Result: asm.R0, Label: end, Prefix: filterFunction})
	if err != nil {
		return nil, err
	}
	return append(append(body, code...), asm.Return().WithSymbol(end)), nil
}

// replaceFunction replaces the instructions of a function. What the loader knows
// of the function, its name, type and source, stays with its first instruction.
func replaceFunction(program asm.Instructions, name string, body asm.Instructions) (asm.Instructions, error) {
	start := slices.IndexFunc(program, func(ins asm.Instruction) bool { return ins.Symbol() == name })
	if start < 0 {
		return nil, fmt.Errorf("the program has no function %s", name)
	}
	end := start + 1
	for end < len(program) && btf.FuncMetadata(&program[end]) == nil {
		end++
	}
	first := body[0]
	first.Metadata = program[start].Metadata
	return slices.Concat(program[:start], asm.Instructions{first}, body[1:], program[end:]), nil
}

// putFilter puts the program of a generation to come into its slot, from which
// no packet is served any more: the generation that had it before is gone. A nil
// program empties the slot.
func (s *Steering) putFilter(generation uint32, program *ebpf.Program) error {
	slot := generation % s.maps.Filters.MaxEntries()
	if program != nil {
		if err := s.maps.Filters.Put(slot, program); err != nil {
			return fmt.Errorf("put filter into its slot: %w", err)
		}
		return nil
	}
	if err := s.maps.Filters.Delete(slot); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("delete filter: %w", err)
	}
	return nil
}

// callsFilters reports whether the program in the kernel can reach filters. What
// withoutFilters made of it knows nothing of their map.
func (s *Steering) callsFilters() (bool, error) {
	program, err := s.program.Info()
	if err != nil {
		return false, err
	}
	filters, err := s.maps.Filters.Info()
	if err != nil {
		return false, err
	}
	id, _ := filters.ID()
	ids, _ := program.MapIDs()
	return slices.Contains(ids, id), nil
}

// withoutFilters takes the tail call out of the steering program, for kernels
// that refuse it beside function calls. Everything but filters works there.
func withoutFilters(program *ebpf.ProgramSpec) {
	for i := range program.Instructions {
		ins := &program.Instructions[i]
		var instead asm.Instruction
		switch {
		case ins.Reference() == steerMapFilters:
			instead = asm.LoadImm(ins.Dst, 0, asm.DWord)
		case ins.IsBuiltinCall() && ins.Constant == int64(asm.FnTailCall):
			instead = asm.Mov.Imm(asm.R0, 0)
		default:
			continue
		}
		*ins = instead.WithSource(ins.Source()).WithSymbol(ins.Symbol())
	}
}

// refusesTailCalls reports whether that is why the kernel refused the program.
func refusesTailCalls(err error) bool {
	var refused *ebpf.VerifierError
	return errors.As(err, &refused) &&
		slices.ContainsFunc(refused.Log, func(line string) bool { return strings.Contains(line, "tail_call") })
}
