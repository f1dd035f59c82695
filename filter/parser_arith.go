package filter

// relation reads "number op number".
func (p *parser) relation() expr {
	left := p.arith()
	t := p.peek()
	if t.kind < tokenGT {
		p.unexpected("a comparison (\"=\", \"!=\", \"<\", \">\", \"<=\" or \">=\")")
	}
	p.take()
	return &relationExpr{pos(t.pos), t.kind, left, p.arith()}
}

// precedence of the binary operators. % and ^ have none, as the language's
// grammar gives them none: whatever stands to their right is read first,
// and they bind to what stands directly to their left.
var precedence = map[tokenKind]int{
	tokenPipe: 1, tokenAmpersand: 2, tokenShiftLeft: 3, tokenShiftRight: 3,
	tokenPlus: 4, tokenMinus: 4, tokenStar: 5, tokenSlash: 5,
	tokenPercent: 0, tokenCaret: 0,
}

const negPrecedence = 6

// arith reads operands and operators, keeping those that wait for their right
// side on a stack.
func (p *parser) arith() arith {
	p.enter()
	defer p.leave()
	type waiting struct {
		left arith // nil for a negation
		op   token
	}
	var stack []waiting
	reduce := func(right arith) arith {
		top := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if top.left == nil {
			return &negArith{pos(top.op.pos), right}
		}
		return &binaryArith{pos(top.op.pos), top.op.kind, top.left, right}
	}
	for {
		for p.peek().kind == tokenMinus {
			stack = append(stack, waiting{op: p.take()})
			if len(stack) > maxDepth {
				fail(p.peek().pos, "nested more than %d deep", maxDepth)
			}
		}
		operand := p.operand()
		op := p.peek()
		prec, isOperator := precedence[op.kind]
		for len(stack) > 0 {
			top := stack[len(stack)-1]
			topPrec := negPrecedence
			if top.left != nil {
				topPrec = precedence[top.op.kind]
			}
			if isOperator && (prec == 0 || topPrec == 0 || topPrec < prec) {
				break
			}
			operand = reduce(operand)
		}
		if !isOperator {
			return operand
		}
		p.take()
		stack = append(stack, waiting{operand, op})
		if len(stack) > maxDepth {
			fail(op.pos, "nested more than %d deep", maxDepth)
		}
	}
}

func (p *parser) operand() arith {
	t := p.peek()
	switch t.kind {
	case tokenNumber:
		p.take()
		return &numberArith{pos(t.pos), t.number}
	case tokenLen:
		p.take()
		return &lengthArith{pos(t.pos)}
	case tokenLeftParen:
		p.take()
		a := p.arith()
		p.expect(tokenRightParen, "\")\"")
		return a
	case tokenProto:
		p.take()
		p.expect(tokenLeftBracket, "\"[\"")
		load := &loadArith{pos: pos(t.pos), proto: t.proto, size: 1}
		load.offset = p.arith()
		if p.accept(tokenColon) {
			size := p.expect(tokenNumber, "a size of 1, 2 or 4 bytes")
			if load.size = size.number; load.size != 1 && load.size != 2 && load.size != 4 {
				fail(size.pos, "a load of %d bytes; 1, 2 or 4 are possible", load.size)
			}
		}
		p.expect(tokenRightBracket, "\"]\"")
		return load
	}
	p.unexpected("a number, \"len\" or a packet access such as ip[0]")
	return nil
}
