package filter

import "fmt"

// maxDepth bounds nesting, so that no expression can exhaust the stack.
const maxDepth = 200

// parser is a recursive-descent parser over the tokens of one expression.
type parser struct {
	tokens []token
	next   int
	depth  int
}

// parse returns nil for an empty expression, which matches every packet.
func parse(expression string) expr {
	p := &parser{tokens: lex(expression)}
	if p.peek().kind == tokenEnd {
		return nil
	}
	e, _ := p.expression(noQualifier)
	if t := p.peek(); t.kind != tokenEnd {
		p.unexpected("\"and\", \"or\" or the end")
	}
	return e
}

func (p *parser) peek() token { return p.tokens[p.next] }

func (p *parser) peekAt(n int) token {
	return p.tokens[min(p.next+n, len(p.tokens)-1)]
}

func (p *parser) take() token {
	t := p.tokens[p.next]
	if t.kind != tokenEnd {
		p.next++
	}
	return t
}

func (p *parser) accept(kind tokenKind) bool {
	if p.peek().kind != kind {
		return false
	}
	p.next++
	return true
}

func (p *parser) expect(kind tokenKind, name string) token {
	if p.peek().kind != kind {
		p.unexpected(name)
	}
	return p.take()
}

// unexpected reports the next token.
func (p *parser) unexpected(wanted string) {
	t := p.peek()
	switch {
	case t.kind == tokenEnd:
		fail(t.pos, "the expression ends where %s is expected", wanted)
	case t.kind == tokenUnsupported:
		refuse(t.pos, "%q is for other link types or for live capture, and", t.text)
	case t.kind >= tokenProto && t.kind < tokenLeftParen:
		fail(t.pos, "found the keyword %q where %s is expected (write \\%s for a name)", t.text, wanted, t.text)
	default:
		fail(t.pos, "found %q where %s is expected", t.text, wanted)
	}
}

func (p *parser) enter() {
	if p.depth++; p.depth > maxDepth {
		fail(p.peek().pos, "nested more than %d deep", maxDepth)
	}
}

func (p *parser) leave() { p.depth-- }

// expression reads terms joined by and and or. inherited is the qualifier in
// force before it; the one in force after it is returned.
func (p *parser) expression(inherited qualifier) (expr, qualifier) {
	left, qual := p.term(inherited)
	for {
		t := p.peek()
		if t.kind != tokenAnd && t.kind != tokenOr {
			return left, qual
		}
		p.take()
		var right expr
		right, qual = p.termOrID(qual)
		left = &binaryExpr{pos(t.pos), t.kind == tokenAnd, left, right}
	}
}

// termOrID reads what may follow and or or: a term, or an id that inherits.
func (p *parser) termOrID(inherited qualifier) (expr, qualifier) {
	if p.bareID() {
		return p.id(inherited), inherited
	}
	return p.term(inherited)
}

// bareID tells whether an id without qualifier of its own comes next, looking
// past parentheses and negations. A number is one, unless it is being
// computed with or compared.
func (p *parser) bareID() bool {
	i := p.next
	for p.tokens[i].kind == tokenLeftParen || p.tokens[i].kind == tokenNot {
		i++
	}
	switch p.tokens[i].kind {
	case tokenID, tokenIPv4, tokenIPv6, tokenMAC:
		return true
	case tokenNumber:
		for i++; p.tokens[i].kind == tokenRightParen; {
			i++
		}
		return p.tokens[i].kind < tokenPlus
	}
	return false
}

func (p *parser) term(inherited qualifier) (expr, qualifier) {
	p.enter()
	defer p.leave()
	t := p.peek()
	switch t.kind {
	case tokenNot:
		p.take()
		operand, qual := p.termOrID(inherited)
		return &notExpr{pos(t.pos), operand}, qual
	case tokenLeftParen:
		if e := p.tryRelation(); e != nil {
			return e, noQualifier
		}
		p.take()
		e, _ := p.expression(inherited)
		p.expect(tokenRightParen, "\")\"")
		// What stands in parentheses hands no qualifier out of them.
		return e, inherited
	case tokenNumber, tokenMinus, tokenLen:
		return p.relation(), noQualifier
	}
	if t.kind == tokenProto && p.peekAt(1).kind == tokenLeftBracket {
		return p.relation(), noQualifier
	}
	return p.primitive()
}

// tryRelation reads a relation that starts with a parenthesis, or nothing:
// "(ip[0] & 0xf) > 5" is one, "(ip and tcp)" and "(len > 5)" are not.
func (p *parser) tryRelation() (e expr) {
	start, depth := p.next, p.depth
	defer func() {
		switch failure := recover().(type) {
		case nil:
		case *Error:
			p.next, p.depth = start, depth
			// A number's own error is the better one to report.
			if p.parenthesisedNumber() {
				panic(failure)
			}
			e = nil
		default:
			panic(failure)
		}
	}()
	return p.relation()
}

// parenthesisedNumber tells whether the parentheses that start here enclose
// something only a number can start with, up to their end.
func (p *parser) parenthesisedNumber() bool {
	i := p.next
	for p.tokens[i].kind == tokenLeftParen {
		i++
	}
	if k := p.tokens[i].kind; k != tokenNumber && k != tokenLen && k != tokenMinus &&
		(k != tokenProto || p.tokens[min(i+1, len(p.tokens)-1)].kind != tokenLeftBracket) {
		return false
	}
	depth := 0
	for i = p.next; i < len(p.tokens); i++ {
		switch k := p.tokens[i].kind; {
		case k == tokenLeftParen:
			depth++
		case k == tokenRightParen:
			if depth--; depth == 0 {
				return true
			}
		case k >= tokenGT || k == tokenAnd || k == tokenOr:
			return false
		}
	}
	return false
}

// primitive reads a term that starts with a keyword.
func (p *parser) primitive() (expr, qualifier) {
	start := p.peek()
	at := pos(start.pos)
	qual := qualifier{}
	if start.kind == tokenProto {
		p.take()
		qual.proto = start.proto
	}
	switch t := p.peek(); t.kind {
	case tokenBroadcast, tokenMulticast:
		p.take()
		return &specialExpr{pos: at, keyword: t.kind, proto: qual.proto}, noQualifier
	case tokenSrc, tokenDst:
		qual.dir = p.direction()
		switch p.peek().kind {
		case tokenHost, tokenNet, tokenPort, tokenPortRange:
			qual.addr = addressKinds[p.take().kind]
		}
		return p.id(qual), qual
	case tokenHost, tokenNet, tokenPort, tokenPortRange, tokenProtoWord, tokenProtoChain, tokenGateway:
		qual.addr = addressKinds[p.take().kind]
		return p.id(qual), qual
	}
	if start.kind == tokenProto {
		if k := p.peek().kind; k == tokenNumber || k == tokenID || k >= tokenIPv4 && k <= tokenMAC {
			p.unexpected(fmt.Sprintf("what kind of address it is (\"%s host\", \"%s port\" …)", start.text, start.text))
		}
		return &protoExpr{at, start.proto}, noQualifier
	}
	return p.special(), noQualifier
}

var addressKinds = map[tokenKind]address{
	tokenHost: addrHost, tokenNet: addrNet, tokenPort: addrPort, tokenPortRange: addrPortRange,
	tokenProtoWord: addrProto, tokenProtoChain: addrProtoChain, tokenGateway: addrGateway,
}

// direction reads src, dst, or both joined by and or or.
func (p *parser) direction() direction {
	first := p.take().kind
	join, second := p.peek().kind, p.peekAt(1).kind
	if (join == tokenAnd || join == tokenOr) && first != second && (second == tokenSrc || second == tokenDst) {
		p.next += 2
		if join == tokenAnd {
			return dirAnd
		}
		return dirOr
	}
	if first == tokenSrc {
		return dirSrc
	}
	return dirDst
}

// id reads an id, or several in parentheses, that qual applies to.
func (p *parser) id(qual qualifier) expr {
	p.enter()
	defer p.leave()
	t := p.peek()
	at := pos(t.pos)
	e := &idExpr{pos: at, qual: qual, kind: t.kind, text: t.text, number: t.number, bits: -1}
	switch t.kind {
	case tokenNot:
		p.take()
		return &notExpr{at, p.id(qual)}
	case tokenLeftParen:
		p.take()
		left := p.id(qual)
		for {
			t := p.peek()
			if t.kind != tokenAnd && t.kind != tokenOr {
				break
			}
			p.take()
			left = &binaryExpr{pos(t.pos), t.kind == tokenAnd, left, p.id(qual)}
		}
		p.expect(tokenRightParen, "\")\"")
		return left
	case tokenIPv4, tokenIPv6:
		p.take()
		if p.accept(tokenSlash) {
			e.bits = int64(p.expect(tokenNumber, "a prefix length").number)
		} else if t.kind == tokenIPv4 && p.accept(tokenMask) {
			e.mask = p.expect(tokenIPv4, "a network mask").text
		}
	case tokenNumber, tokenID, tokenMAC:
		p.take()
	default:
		p.unexpected("an address, a number or a name")
	}
	return e
}

// special reads a primitive with a keyword of its own.
func (p *parser) special() expr {
	t := p.peek()
	e := &specialExpr{pos: pos(t.pos), keyword: t.kind}
	switch t.kind {
	case tokenLess, tokenGreater:
		p.take()
		e.number = p.expect(tokenNumber, "a length in bytes").number
	case tokenByte:
		p.take()
		e.index = p.expect(tokenNumber, "an offset in bytes").number
		switch k := p.peek().kind; k {
		case tokenEQ, tokenLT, tokenGT:
			e.op = k
		case tokenAmpersand, tokenPipe:
			refuse(p.peek().pos, "\"byte\" with %q (libpcap loads no byte for it) is ambiguous and", p.peek().text)
		default:
			p.unexpected("\"=\", \"<\" or \">\"")
		}
		p.take()
		e.number = p.expect(tokenNumber, "the byte's value").number
	case tokenVLAN, tokenMPLS, tokenPPPoES:
		p.take()
		if k := p.peek().kind; k == tokenNumber || k == tokenLeftParen {
			e.number, e.has = p.plainNumber(), true
		}
	case tokenPPPoED:
		p.take()
	case tokenLLC:
		p.take()
		if k := p.peek().kind; k == tokenID || k == tokenRNR {
			e.text = p.take().text
		}
	default:
		p.unexpected("a primitive (such as \"host\", \"port\" or a protocol)")
	}
	return e
}

// plainNumber reads a number, perhaps in parentheses.
func (p *parser) plainNumber() uint32 {
	depth := 0
	for p.accept(tokenLeftParen) {
		depth++
	}
	n := p.expect(tokenNumber, "a number").number
	for ; depth > 0; depth-- {
		p.expect(tokenRightParen, "\")\"")
	}
	return n
}
