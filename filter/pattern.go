package filter

import "golang.org/x/net/bpf"

// A Pattern stands for many frames: those with the known bits of Bytes. The
// other bits may be anything, as may what comes behind Bytes, and the length.
type Pattern struct {
	Bytes []byte
	Known []byte // a bit that is set: that bit of Bytes counts; as long as Bytes
}

// MayMatch reports whether the filter matches some frame of the pattern. It errs
// on one side only: where it says no there is none, where it says yes there may
// be none after all.
//
// It follows the program with numbers of which only some bits are known, on both
// ways out of a test that those bits do not decide. All jumps lead forward, so
// each instruction is looked at once, with what is common to all ways to it.
func (f *Filter) MayMatch(p Pattern) bool {
	program := f.Instructions()
	ways := make([]*registers, len(program))
	ways[0] = &registers{}
	for i, instruction := range program {
		r := ways[i]
		if r == nil {
			continue // no way leads here
		}
		next := func(distance int) {
			to := i + 1 + distance
			if ways[to] == nil {
				copied := *r
				ways[to] = &copied
			} else {
				ways[to].merge(r)
			}
		}
		fork := func(result outcome, yes, no int) {
			if result != fails {
				next(yes)
			}
			if result != holds {
				next(no)
			}
		}
		switch ins := instruction.(type) {
		case bpf.RetConstant:
			if ins.Val != 0 {
				return true
			}
			continue
		case bpf.RetA:
			if r.a != exactly(0) {
				return true
			}
			continue
		case bpf.Jump:
			next(int(ins.Skip))
			continue
		case bpf.JumpIf:
			fork(r.a.test(ins.Cond, exactly(ins.Val)), int(ins.SkipTrue), int(ins.SkipFalse))
			continue
		case bpf.JumpIfX:
			fork(r.a.test(ins.Cond, r.x), int(ins.SkipTrue), int(ins.SkipFalse))
			continue
		case bpf.LoadConstant:
			r.set(ins.Dst, exactly(ins.Val))
		case bpf.LoadScratch:
			r.set(ins.Dst, r.scratch[ins.N])
		case bpf.StoreScratch:
			r.scratch[ins.N] = r.get(ins.Src)
		case bpf.LoadAbsolute:
			r.a = p.load(exactly(ins.Off), ins.Size)
		case bpf.LoadIndirect:
			r.a = p.load(r.x.add(exactly(ins.Off)), ins.Size)
		case bpf.LoadMemShift:
			r.x = p.load(exactly(ins.Off), 1).and(exactly(15)).shift(2)
		case bpf.TAX:
			r.x = r.a
		case bpf.TXA:
			r.a = r.x
		case bpf.NegateA:
			r.a = r.a.calculate(bpf.ALUOpMul, exactly(^uint32(0)))
		case bpf.ALUOpConstant:
			r.a = r.a.calculate(ins.Op, exactly(ins.Val))
		case bpf.ALUOpX:
			r.a = r.a.calculate(ins.Op, r.x)
		default: // the length, or what the compiler does not make
			r.a, r.x = bits{unknown: ^uint32(0)}, bits{unknown: ^uint32(0)}
		}
		next(0)
	}
	return false
}

// load returns the big-endian number at an offset.
func (p Pattern) load(offset bits, size int) bits {
	if offset.unknown != 0 {
		return bits{unknown: ^uint32(0) >> (32 - 8*size)}
	}
	var n bits
	for i := range uint64(size) {
		one := bits{unknown: 0xff}
		if at := uint64(offset.value) + i; at < uint64(len(p.Bytes)) {
			known := uint32(p.Known[at])
			one = bits{value: uint32(p.Bytes[at]) & known, unknown: 0xff &^ known}
		}
		n = bits{n.value<<8 | one.value, n.unknown<<8 | one.unknown}
	}
	return n
}

// registers are the state of the classic BPF machine.
type registers struct {
	a, x    bits
	scratch [16]bits
}

func (r *registers) set(which bpf.Register, to bits) {
	if which == bpf.RegX {
		r.x = to
	} else {
		r.a = to
	}
}

func (r *registers) get(which bpf.Register) bits {
	if which == bpf.RegX {
		return r.x
	}
	return r.a
}

func (r *registers) merge(o *registers) {
	r.a, r.x = r.a.or(o.a), r.x.or(o.x)
	for i := range r.scratch {
		r.scratch[i] = r.scratch[i].or(o.scratch[i])
	}
}

// bits is a number of which some bits are not known; those are 0 in value.
type bits struct{ value, unknown uint32 }

func exactly(value uint32) bits { return bits{value: value} }

// or returns what is common to two numbers: it may be one or the other.
func (b bits) or(o bits) bits {
	unknown := b.unknown | o.unknown | b.value ^ o.value
	return bits{b.value &^ unknown, unknown}
}

func (b bits) and(o bits) bits {
	value := b.value & o.value
	return bits{value, (b.value | b.unknown) & (o.value | o.unknown) &^ value}
}

func (b bits) add(o bits) bits { return b.calculate(bpf.ALUOpAdd, o) }

func (b bits) shift(left uint) bits { return bits{b.value << left, b.unknown << left} }

// calculate follows bits through and, and through shifts by a known distance. Of
// the other operations the result is known if both operands are.
func (b bits) calculate(op bpf.ALUOp, o bits) bits {
	exact := o.unknown == 0
	switch {
	case op == bpf.ALUOpAnd:
		return b.and(o)
	case op == bpf.ALUOpShiftLeft && exact && o.value < 32:
		return b.shift(uint(o.value))
	case op == bpf.ALUOpShiftRight && exact && o.value < 32:
		return bits{b.value >> o.value, b.unknown >> o.value}
	case exact && b.unknown == 0:
		switch op {
		case bpf.ALUOpAdd:
			return exactly(b.value + o.value)
		case bpf.ALUOpSub:
			return exactly(b.value - o.value)
		case bpf.ALUOpMul:
			return exactly(b.value * o.value)
		case bpf.ALUOpOr:
			return exactly(b.value | o.value)
		case bpf.ALUOpXor:
			return exactly(b.value ^ o.value)
		}
	}
	return bits{unknown: ^uint32(0)}
}

// outcome is what is known of a test.
type outcome uint8

const (
	undecided outcome = iota
	holds
	fails
)

func (o outcome) not() outcome {
	switch o {
	case holds:
		return fails
	case fails:
		return holds
	}
	return undecided
}

// test compares numbers as a conditional jump does.
func (b bits) test(condition bpf.JumpTest, o bits) outcome {
	least, most := b.value, b.value|b.unknown
	otherLeast, otherMost := o.value, o.value|o.unknown
	switch condition {
	case bpf.JumpEqual:
		switch {
		case (b.value^o.value)&^(b.unknown|o.unknown) != 0:
			return fails
		case b.unknown|o.unknown == 0:
			return holds
		}
	case bpf.JumpNotEqual:
		return b.test(bpf.JumpEqual, o).not()
	case bpf.JumpGreaterThan:
		switch {
		case most <= otherLeast:
			return fails
		case least > otherMost:
			return holds
		}
	case bpf.JumpLessOrEqual:
		return b.test(bpf.JumpGreaterThan, o).not()
	case bpf.JumpLessThan:
		return o.test(bpf.JumpGreaterThan, b)
	case bpf.JumpGreaterOrEqual:
		return o.test(bpf.JumpGreaterThan, b).not()
	case bpf.JumpBitsSet:
		switch {
		case most&otherMost == 0:
			return fails
		case least&otherLeast != 0:
			return holds
		}
	case bpf.JumpBitsNotSet:
		return b.test(bpf.JumpBitsSet, o).not()
	}
	return undecided
}
