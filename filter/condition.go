package filter

import "golang.org/x/net/bpf"

// Classic BPF opcodes, as in linux/bpf_common.h.
const (
	opLoadImm   = 0x00 // A = k
	opLoadLen   = 0x80 // A = length of the packet
	opLoadMem   = 0x60 // A = M[k]
	opLoadAbs   = 0x20 // A = packet[k:], with a size
	opLoadInd   = 0x40 // A = packet[X+k:], with a size
	opLoadXMem  = 0x61 // X = M[k]
	opLoadXHead = 0xb1 // X = 4*(packet[k]&0xf), an IPv4 header's length
	opStore     = 0x02 // M[k] = A
	opALU       = 0x04 // A = A op k
	opJump      = 0x05 // forward by k
	opJumpEQ    = 0x15
	opJumpGT    = 0x25
	opJumpGE    = 0x35
	opJumpSet   = 0x45
	opReturn    = 0x06
	opTAX       = 0x07

	operandX = 0x08 // in opALU and jumps: X instead of k

	sizeWord = 0x00
	sizeHalf = 0x08
	sizeByte = 0x10

	aluAdd = 0x00
	aluSub = 0x10
	aluMul = 0x20
	aluDiv = 0x30
	aluOr  = 0x40
	aluAnd = 0x50
	aluLsh = 0x60
	aluRsh = 0x70
	aluMod = 0x90
	aluXor = 0xa0
)

// code is a run of instructions without jumps.
type code []bpf.RawInstruction

func ins(op uint16, k uint32) bpf.RawInstruction { return bpf.RawInstruction{Op: op, K: k} }

// test loads a value into A and compares it. A load outside of the packet ends
// the program: the packet does not match, whatever the rest would say. That
// is why conditions are evaluated strictly in the order they are written.
type test struct {
	index code // sets X, or is empty; uses neither A nor memory
	load  code // sets A
	jump  uint16
	k     uint32
}

type conditionKind uint8

const (
	conditionTest conditionKind = iota
	conditionAnd
	conditionOr
	conditionNot
	conditionTrue
	conditionFalse
)

// condition is a tree of tests.
type condition struct {
	kind        conditionKind
	left, right *condition
	test        *test
}

var (
	always = &condition{kind: conditionTrue}
	never  = &condition{kind: conditionFalse}
)

func constant(truth bool) *condition {
	if truth {
		return always
	}
	return never
}

// and joins conditions; the ones that are nil are left out.
func and(conditions ...*condition) *condition { return join(conditionAnd, conditions) }

func or(conditions ...*condition) *condition { return join(conditionOr, conditions) }

func join(kind conditionKind, conditions []*condition) *condition {
	var joined *condition
	for _, c := range conditions {
		switch {
		case c == nil:
		case joined == nil:
			joined = c
		default:
			joined = &condition{kind: kind, left: joined, right: c}
		}
	}
	return joined
}

func not(c *condition) *condition { return &condition{kind: conditionNot, left: c} }
