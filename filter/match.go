package filter

import (
	"encoding/binary"

	"golang.org/x/net/bpf"
)

// step is an instruction of the fast matcher. A load and the jump behind it are
// one step, so that a typical test costs one round of the loop.
type step struct {
	op      stepOp
	head    uint32 // of stepHeadHalfEQ: where the IPv4 header starts; of others, see there
	offset  uint32 // of the load
	k       uint32
	yes, no *step // the next step; of those that do not compare, yes
}

type stepOp uint8

const (
	// Load, then compare A with k.
	stepByteEQ stepOp = iota
	stepHalfEQ
	stepWordEQ
	stepHalfSet
	stepWordMaskEQ // head is the mask
	stepIndHalfEQ
	stepHeadHalfEQ // sets X before
	stepMaskEQ     // compares A and head, without a load
	// Compare.
	stepEQ
	stepGT
	stepGE
	stepSet
	stepEQX
	stepGTX
	stepGEX
	stepSetX
	// The ends.
	stepAccept
	stepReject
	// Load.
	stepByte
	stepHalf
	stepWord
	stepIndByte
	stepIndHalf
	stepIndWord
	stepHead
	stepLen
	stepImm
	// Compute.
	stepAnd
	stepALU  // head says which operation
	stepALUX // the same with X
	stepTAX
	stepStore
	stepLoad
	stepLoadX
)

var stepOps = map[uint16]stepOp{
	opLoadAbs | sizeByte: stepByte, opLoadAbs | sizeHalf: stepHalf, opLoadAbs | sizeWord: stepWord,
	opLoadInd | sizeByte: stepIndByte, opLoadInd | sizeHalf: stepIndHalf, opLoadInd | sizeWord: stepIndWord,
	opLoadXHead: stepHead, opLoadLen: stepLen, opLoadImm: stepImm,
	opJumpEQ: stepEQ, opJumpGT: stepGT, opJumpGE: stepGE, opJumpSet: stepSet,
	opJumpEQ | operandX: stepEQX, opJumpGT | operandX: stepGTX,
	opJumpGE | operandX: stepGEX, opJumpSet | operandX: stepSetX,
	opALU | aluAnd: stepAnd, opTAX: stepTAX,
	opStore: stepStore, opLoadMem: stepLoad, opLoadXMem: stepLoadX,
}

// fusedOps are the pairs that become one step.
var fusedOps = map[[2]stepOp]stepOp{
	{stepByte, stepEQ}: stepByteEQ, {stepHalf, stepEQ}: stepHalfEQ, {stepWord, stepEQ}: stepWordEQ,
	{stepHalf, stepSet}: stepHalfSet, {stepIndHalf, stepEQ}: stepIndHalfEQ,
	{stepHead, stepIndHalfEQ}: stepHeadHalfEQ,
	{stepAnd, stepEQ}:         stepMaskEQ, {stepWord, stepMaskEQ}: stepWordMaskEQ,
}

// translate makes steps of a program, and returns the first one. A jump that
// was joined to the load before it stays a step of its own for those who jump
// to it.
func translate(program []bpf.RawInstruction) (first *step, scratch bool) {
	steps := make([]step, len(program))
	// target follows unconditional jumps from instruction i.
	target := func(i int) *step {
		for program[i].Op == opJump {
			i += 1 + int(program[i].K)
		}
		return &steps[i]
	}
	for i := len(program) - 1; i >= 0; i-- {
		in := program[i]
		s := &steps[i]
		s.offset, s.k = in.K, in.K
		op, ok := stepOps[in.Op]
		switch {
		case ok:
			s.op = op
		case in.Op == opJump:
			continue // never reached: target looks through it
		case in.Op == opReturn && in.K == 0:
			s.op = stepReject
		case in.Op == opReturn:
			s.op = stepAccept
		case in.Op&operandX != 0:
			s.op, s.head = stepALUX, uint32(in.Op&0xf0)
		default:
			s.op, s.head = stepALU, uint32(in.Op&0xf0)
		}
		switch {
		case in.Op&7 == opJump:
			s.yes, s.no = target(i+1+int(in.Jt)), target(i+1+int(in.Jf))
			continue
		case in.Op == opReturn:
			continue
		case s.op == stepStore || s.op == stepLoad || s.op == stepLoadX:
			scratch = true
		}
		next := target(i + 1)
		s.yes = next
		fused, ok := fusedOps[[2]stepOp{s.op, next.op}]
		if !ok {
			continue
		}
		switch fused {
		case stepHeadHalfEQ:
			s.head, s.offset = s.offset, next.offset
		case stepMaskEQ:
			s.head = s.k
		case stepWordMaskEQ:
			s.head = next.head
		}
		s.op, s.k, s.yes, s.no = fused, next.k, next.yes, next.no
	}
	return &steps[0], scratch
}

// Match tells whether a packet, from its Ethernet header on, matches. It reads
// nothing outside of the packet, keeps nothing of it and allocates nothing; a
// packet too short for what the expression looks at does not match.
func (f *Filter) Match(packet []byte) bool {
	if f.scratch {
		var memory [scratchWords]uint32
		return run(f.first, packet, &memory)
	}
	return run(f.first, packet, nil)
}

// run interprets steps. All of them lead forward, so it ends. Constant offsets
// are small (see maxOffset) and an IPv4 header's length is at most 60, so int
// holds them on any machine; X may be anything.
func run(s *step, packet []byte, memory *[scratchWords]uint32) bool {
	var a, x uint32
	for {
		switch s.op {
		case stepHalfEQ:
			at := int(s.offset)
			if at+1 >= len(packet) {
				return false
			}
			a = uint32(packet[at])<<8 | uint32(packet[at+1])
			if a == s.k {
				s = s.yes
			} else {
				s = s.no
			}
		case stepByteEQ:
			at := int(s.offset)
			if at >= len(packet) {
				return false
			}
			a = uint32(packet[at])
			if a == s.k {
				s = s.yes
			} else {
				s = s.no
			}
		case stepWordEQ:
			at := int(s.offset)
			if at+3 >= len(packet) {
				return false
			}
			a = binary.BigEndian.Uint32(packet[at : at+4])
			if a == s.k {
				s = s.yes
			} else {
				s = s.no
			}
		case stepWordMaskEQ:
			at := int(s.offset)
			if at+3 >= len(packet) {
				return false
			}
			a = binary.BigEndian.Uint32(packet[at:at+4]) & s.head
			if a == s.k {
				s = s.yes
			} else {
				s = s.no
			}
		case stepMaskEQ:
			a &= s.head
			if a == s.k {
				s = s.yes
			} else {
				s = s.no
			}
		case stepHalfSet:
			at := int(s.offset)
			if at+1 >= len(packet) {
				return false
			}
			a = uint32(packet[at])<<8 | uint32(packet[at+1])
			if a&s.k != 0 {
				s = s.yes
			} else {
				s = s.no
			}
		case stepHeadHalfEQ:
			at := int(s.head)
			if at >= len(packet) {
				return false
			}
			x = uint32(packet[at]&0xf) * 4
			at = int(s.offset) + int(x)
			if at+1 >= len(packet) {
				return false
			}
			a = uint32(packet[at])<<8 | uint32(packet[at+1])
			if a == s.k {
				s = s.yes
			} else {
				s = s.no
			}
		case stepIndHalfEQ:
			at := uint64(s.offset) + uint64(x)
			if at+1 >= uint64(len(packet)) {
				return false
			}
			a = uint32(packet[at])<<8 | uint32(packet[at+1])
			if a == s.k {
				s = s.yes
			} else {
				s = s.no
			}
		case stepEQ:
			if a == s.k {
				s = s.yes
			} else {
				s = s.no
			}
		case stepGT:
			if a > s.k {
				s = s.yes
			} else {
				s = s.no
			}
		case stepGE:
			if a >= s.k {
				s = s.yes
			} else {
				s = s.no
			}
		case stepSet:
			if a&s.k != 0 {
				s = s.yes
			} else {
				s = s.no
			}
		case stepEQX:
			if a == x {
				s = s.yes
			} else {
				s = s.no
			}
		case stepGTX:
			if a > x {
				s = s.yes
			} else {
				s = s.no
			}
		case stepGEX:
			if a >= x {
				s = s.yes
			} else {
				s = s.no
			}
		case stepSetX:
			if a&x != 0 {
				s = s.yes
			} else {
				s = s.no
			}
		case stepAccept:
			return true
		case stepReject:
			return false
		case stepByte, stepIndByte:
			at := uint64(s.offset)
			if s.op == stepIndByte {
				at += uint64(x)
			}
			if at >= uint64(len(packet)) {
				return false
			}
			a = uint32(packet[at])
			s = s.yes
		case stepHalf, stepIndHalf:
			at := uint64(s.offset)
			if s.op == stepIndHalf {
				at += uint64(x)
			}
			if at+1 >= uint64(len(packet)) {
				return false
			}
			a = uint32(packet[at])<<8 | uint32(packet[at+1])
			s = s.yes
		case stepWord, stepIndWord:
			at := uint64(s.offset)
			if s.op == stepIndWord {
				at += uint64(x)
			}
			if at+3 >= uint64(len(packet)) {
				return false
			}
			a = binary.BigEndian.Uint32(packet[at : at+4])
			s = s.yes
		case stepAnd:
			a &= s.k
			s = s.yes
		default:
			var ok bool
			if a, x, ok = s.rare(a, x, packet, memory); !ok {
				return false
			}
			s = s.yes
		}
	}
}

// rare does the steps that only arithmetic needs, away from the loop so that
// it stays small. It returns A, X, and false for a packet that does not match.
func (s *step) rare(a, x uint32, packet []byte, memory *[scratchWords]uint32) (uint32, uint32, bool) {
	switch s.op {
	case stepHead:
		if int(s.offset) >= len(packet) {
			return a, x, false
		}
		x = uint32(packet[s.offset]&0xf) * 4
	case stepALU, stepALUX:
		value := s.k
		if s.op == stepALUX {
			value = x
		}
		if value == 0 && (s.head == aluDiv || s.head == aluMod) {
			return a, x, false // in every machine a division by zero does not match
		}
		a = calculate(uint16(s.head), a, value)
	case stepTAX:
		x = a
	case stepImm:
		a = s.k
	case stepLen:
		a = uint32(len(packet))
	case stepStore:
		memory[s.k&(scratchWords-1)] = a
	case stepLoad:
		a = memory[s.k&(scratchWords-1)]
	case stepLoadX:
		x = memory[s.k&(scratchWords-1)]
	}
	return a, x, true
}
