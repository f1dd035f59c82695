package filter

// maxOffset is the largest constant offset of a load from where its header
// starts. No frame is longer, and offsets that would be negative are above it.
const maxOffset = 0x7fff

func (g *generator) checkOffset(offset uint32, at int) {
	if offset > maxOffset {
		refuse(at, "a load at offset %d lies outside of any frame and", int64(int32(offset)))
	}
}

// scratchWords is how many words of memory a classic BPF program has.
const scratchWords = 16

// relation generates the comparison of two numbers, behind the tests that the
// packet has the headers they are loaded from.
func (g *generator) relation(e *relationExpr) *condition {
	left, leftPresent := g.arith(e.left)
	right, rightPresent := g.arith(e.right)
	t := &test{}
	negate := false
	switch e.op {
	case tokenEQ:
		t.jump = opJumpEQ
	case tokenNE:
		t.jump, negate = opJumpEQ, true
	case tokenGT:
		t.jump = opJumpGT
	case tokenLE:
		t.jump, negate = opJumpGT, true
	case tokenGE:
		t.jump = opJumpGE
	case tokenLT:
		t.jump, negate = opJumpGE, true
	}
	l, leftConstant := left.(*numberArith)
	r, rightConstant := right.(*numberArith)
	var c *condition
	switch {
	case leftConstant && rightConstant:
		c = constant(compareValues(t.jump, l.value, r.value))
	case rightConstant:
		t.load, t.k = g.compute(left, 0), r.value
		c = &condition{test: t}
	default:
		t.load = append(g.compute(right, 0), ins(opStore, 0))
		t.load = append(t.load, g.compute(left, 1)...)
		t.load = append(t.load, ins(opLoadXMem, 0))
		t.jump |= operandX
		c = &condition{test: t}
	}
	if negate {
		c = not(c)
	}
	return and(leftPresent, rightPresent, c)
}

func compareValues(jump uint16, a, b uint32) bool {
	switch jump {
	case opJumpEQ:
		return a == b
	case opJumpGT:
		return a > b
	case opJumpGE:
		return a >= b
	}
	return a&b != 0
}

// arith folds constants, and returns the tests that the headers a number is
// loaded from are there. As in libpcap, of "a + b" only a's are tested.
func (g *generator) arith(a arith) (arith, *condition) {
	switch a := a.(type) {
	case *negArith:
		operand, present := g.arith(a.operand)
		if n, ok := operand.(*numberArith); ok {
			return &numberArith{a.pos, -n.value}, present
		}
		return &negArith{a.pos, operand}, present
	case *loadArith:
		offset, present := g.arith(a.offset)
		return &loadArith{a.pos, a.proto, offset, a.size}, g.headerPresent(a, present)
	case *binaryArith:
		left, present := g.arith(a.left)
		right, _ := g.arith(a.right)
		l, leftConstant := left.(*numberArith)
		r, rightConstant := right.(*numberArith)
		if rightConstant {
			checkOperand(a.op, r)
		}
		if leftConstant && rightConstant {
			return &numberArith{a.pos, calculate(aluOps[a.op], l.value, r.value)}, present
		}
		return &binaryArith{a.pos, a.op, left, right}, present
	}
	return a, nil
}

func checkOperand(op tokenKind, right *numberArith) {
	switch {
	case right.value == 0 && (op == tokenSlash || op == tokenPercent):
		fail(right.at(), "division by zero")
	case right.value > 31 && (op == tokenShiftLeft || op == tokenShiftRight):
		fail(right.at(), "a shift by %d bits; 31 are the most", right.value)
	}
}

var aluOps = map[tokenKind]uint16{
	tokenPlus: aluAdd, tokenMinus: aluSub, tokenStar: aluMul, tokenSlash: aluDiv, tokenPercent: aluMod,
	tokenAmpersand: aluAnd, tokenPipe: aluOr, tokenCaret: aluXor, tokenShiftLeft: aluLsh, tokenShiftRight: aluRsh,
}

// calculate is what A op value gives. The caller keeps zero divisors out.
func calculate(op uint16, a, value uint32) uint32 {
	switch op {
	case aluAdd:
		return a + value
	case aluSub:
		return a - value
	case aluMul:
		return a * value
	case aluDiv:
		return a / value
	case aluMod:
		return a % value
	case aluAnd:
		return a & value
	case aluOr:
		return a | value
	case aluXor:
		return a ^ value
	case aluLsh:
		return a << value
	}
	return a >> value
}

// headerPresent tests that the header a load is relative to is there; inner
// are the tests for the loads inside its offset.
func (g *generator) headerPresent(a *loadArith, inner *condition) *condition {
	at := a.at()
	switch a.proto {
	case protoLink:
		return inner
	case protoIP, protoARP, protoRARP, protoAtalk, protoDECnet, protoSCA, protoLAT, protoMOPRC, protoMOPDL, protoIPv6:
		return and(inner, g.protocol(a.proto, at))
	case protoSCTP, protoTCP, protoUDP, protoICMP, protoIGMP, protoIGRP, protoPIM, protoVRRP, protoCARP:
		return and(g.protocol(protoIP, at), inner, g.protocol(a.proto, at), g.firstFragment())
	case protoICMPv6:
		return and(inner, g.protocol(protoIPv6, at), g.equal(fromNetwork, 6, 1, ipICMPv6))
	}
	refuse(at, "an access into %s", a.proto)
	return nil
}

// compute generates code that leaves a number in A. Words of memory from free
// on may be used.
func (g *generator) compute(a arith, free uint32) code {
	if free >= scratchWords-4 {
		fail(a.at(), "too many intermediate values")
	}
	switch a := a.(type) {
	case *numberArith:
		return code{ins(opLoadImm, a.value)}
	case *lengthArith:
		return code{ins(opLoadLen, 0)}
	case *negArith:
		// Not the negation instruction: bpf.VM does not know it.
		return append(g.compute(a.operand, free), ins(opALU|aluMul, 0xffffffff))
	case *loadArith:
		return g.computeLoad(a, free)
	case *binaryArith:
		op := aluOps[a.op]
		if r, ok := a.right.(*numberArith); ok {
			return append(g.compute(a.left, free), ins(opALU|op, r.value))
		}
		if op == aluLsh || op == aluRsh {
			return g.computeShift(a, op, free)
		}
		if needsNoScratch(a.right) {
			// So that a long sum needs one word, not one for each operand.
			c := append(g.compute(a.left, free), ins(opStore, free))
			c = append(c, g.compute(a.right, free+1)...)
			return append(c, ins(opTAX, 0), ins(opLoadMem, free), ins(opALU|operandX|op, 0))
		}
		c := append(g.compute(a.right, free), ins(opStore, free))
		c = append(c, g.compute(a.left, free+1)...)
		return append(c, ins(opLoadXMem, free), ins(opALU|operandX|op, 0))
	}
	panic("unknown arithmetic")
}

func needsNoScratch(a arith) bool {
	switch a := a.(type) {
	case *negArith:
		return needsNoScratch(a.operand)
	case *loadArith:
		return needsNoScratch(a.offset)
	case *binaryArith:
		_, ok := a.right.(*numberArith)
		return ok && needsNoScratch(a.left)
	}
	return true
}

// computeShift shifts by a number from the packet. Machines differ on shifts
// by 32 bits or more; here, as in libpcap, they give 0, by way of
// (a << (b & 31)) * (1 / ((b >> 5) + 1)).
func (g *generator) computeShift(a *binaryArith, op uint16, free uint32) code {
	c := append(g.compute(a.right, free), ins(opStore, free))
	c = append(c, g.compute(a.left, free+1)...)
	return append(c,
		ins(opStore, free+1),
		ins(opLoadMem, free), ins(opALU|aluRsh, 5), ins(opALU|aluAdd, 1), ins(opTAX, 0),
		ins(opLoadImm, 1), ins(opALU|operandX|aluDiv, 0), ins(opStore, free+2),
		ins(opLoadMem, free), ins(opALU|aluAnd, 31), ins(opTAX, 0),
		ins(opLoadMem, free+1), ins(opALU|operandX|op, 0),
		ins(opLoadXMem, free+2), ins(opALU|operandX|aluMul, 0))
}

func (g *generator) computeLoad(a *loadArith, free uint32) code {
	from := fromNetwork
	transport := false
	switch a.proto {
	case protoLink:
		from = fromLink
	case protoICMPv6:
		from = fromTransport6
	case protoSCTP, protoTCP, protoUDP, protoICMP, protoIGMP, protoIGRP, protoPIM, protoVRRP, protoCARP:
		transport = true
	}
	start, size := g.offset(from), loadSize(a.size)
	header := ins(opLoadXHead, start)
	if offset, ok := a.offset.(*numberArith); ok {
		g.checkOffset(offset.value, a.at())
		if transport {
			return code{header, ins(opLoadInd|size, start+offset.value)}
		}
		return code{ins(opLoadAbs|size, start+offset.value)}
	}
	// The whole sum is made in A, in 32 bits, and not by the load: there,
	// machines differ on whether a negative offset and start wrap around.
	c := g.compute(a.offset, free)
	if transport {
		c = append(c, header, ins(opALU|operandX|aluAdd, 0))
	}
	if start != 0 {
		c = append(c, ins(opALU|aluAdd, start))
	}
	return append(c, ins(opTAX, 0), ins(opLoadInd|size, 0))
}
