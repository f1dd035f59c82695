package filter

// linkProtocol tests what the link layer carries: an EtherType, or for values
// up to 1500 an LLC service access point.
func (g *generator) linkProtocol(value uint32, at int) *condition {
	switch {
	case g.labels > 0:
		return g.mplsProtocol(value, at)
	case g.ppp:
		if p, ok := pppProtocols[value]; ok {
			value = p
		}
		return g.equal(fromType, 0, 2, value)
	}
	isLength := func() *condition {
		return not(g.compare(fromType, 0, 2, opJumpGT, maxEtherLength))
	}
	switch value {
	case sapISO, sapIP, sapNetBEUI:
		return and(isLength(), g.equal(fromLLC, 0, 2, value<<8|value))
	case sapIPX:
		// Ethernet II, SNAP, raw 802.3 and 802.2, in this order.
		return or(g.equal(fromType, 0, 2, etherTypeIPX),
			and(isLength(), or(g.snap(0, etherTypeIPX),
				or(g.equal(fromLLC, 0, 1, sapIPX), g.equal(fromLLC, 0, 2, 0xffff)))))
	case etherTypeAtalk:
		return or(g.equal(fromType, 0, 2, value), and(isLength(), g.snap(0x080007, value)))
	case etherTypeAARP:
		return or(g.equal(fromType, 0, 2, value), and(isLength(), g.snap(0, value)))
	}
	if value <= maxEtherLength {
		return and(isLength(), g.equal(fromType, 2, 1, value))
	}
	return g.equal(fromType, 0, 2, value)
}

// pppProtocols maps EtherTypes to PPP protocol numbers (IANA).
var pppProtocols = map[uint32]uint32{
	etherTypeIPv4: 0x0021, etherTypeIPv6: 0x0057, etherTypeDECnet: 0x0027, etherTypeAtalk: 0x0029,
	etherTypeNS: 0x0025, sapISO: 0x0023, sapSTP: 0x0031, sapIPX: 0x002b,
}

const pppMPLSUnicast = 0x0281

// snap tests an LLC header with SNAP: the organisation and its protocol.
func (g *generator) snap(organisation, protocol uint32) *condition {
	return g.bytes(fromLLC, 0, []byte{sapSNAP, sapSNAP, 3,
		byte(organisation >> 16), byte(organisation >> 8), byte(organisation),
		byte(protocol >> 8), byte(protocol)})
}

// mplsProtocol tests what follows the last label. MPLS has no field for it, so
// the bottom-of-stack bit and the IP version are looked at.
func (g *generator) mplsProtocol(value uint32, at int) *condition {
	version := uint32(4)
	switch value {
	case etherTypeIPv4:
	case etherTypeIPv6:
		version = 6
	default:
		fail(at, "after mpls only IPv4 and IPv6 can be told apart")
	}
	const bottomOfStack = ^uint32(0) - 1 // 2 bytes before the network header
	return and(g.masked(fromNetwork, bottomOfStack, 1, 1, 1),
		g.masked(fromNetwork, 0, 1, version<<4, 0xf0))
}

// vlan tests for a tag, and moves what follows behind it.
func (g *generator) vlan(e *specialExpr) *condition {
	if g.labels > 0 {
		fail(e.at(), "no vlan after mpls")
	}
	if g.ppp {
		fail(e.at(), "no vlan after pppoes")
	}
	c := or(g.linkProtocol(etherTypeVLAN, e.at()), g.linkProtocol(etherTypeProvider, e.at()),
		g.linkProtocol(etherTypeQinQ, e.at()))
	if e.has {
		if e.number > 0xfff {
			fail(e.at(), "vlan id %d is above 4095", e.number)
		}
		c = and(c, g.masked(fromNetwork, 0, 2, e.number, 0xfff))
	}
	g.payload += 4
	g.linkType += 4
	return c
}

// mpls tests for a label, and moves what follows behind it.
func (g *generator) mpls(e *specialExpr) *condition {
	var c *condition
	switch {
	case g.labels > 0:
		// The label before this one is not the last.
		const previousBottom = ^uint32(0) - 1
		c = g.masked(fromNetwork, previousBottom, 1, 0, 1)
	case g.ppp:
		c = g.linkProtocol(pppMPLSUnicast, e.at())
	default:
		c = g.linkProtocol(etherTypeMPLS, e.at())
	}
	if e.has {
		if e.number > 0xfffff {
			fail(e.at(), "mpls label %d is above 1048575", e.number)
		}
		c = and(c, g.masked(fromNetwork, 0, 4, e.number<<12, 0xfffff000))
	}
	g.network += 4
	g.networkLLC += 4
	g.labels++
	return c
}

// pppoes tests for a PPPoE session, and moves what follows behind its header
// (6 bytes) and the PPP protocol number (2 bytes).
func (g *generator) pppoes(e *specialExpr) *condition {
	c := g.linkProtocol(etherTypePPPoES, e.at())
	if e.has {
		if e.number > 0xffff {
			fail(e.at(), "pppoe session %d is above 65535", e.number)
		}
		c = and(c, g.masked(fromNetwork, 0, 4, e.number, 0xffff))
	}
	g.linkHeader = g.payload + g.network + 6
	g.linkType = g.linkHeader
	g.payload = g.linkHeader + 2
	g.network, g.networkLLC, g.ppp = 0, 0, true
	return c
}

// llcTypes are the frame types llc takes: the control byte's value, and its
// bits that matter (IEEE 802.2).
var llcTypes = map[string]struct{ value, mask uint32 }{
	"s": {1, 3}, "u": {3, 3},
	"rr": {0x01, 0x0f}, "rnr": {0x05, 0x0f}, "rej": {0x09, 0x0f},
	"ui": {0x03, 0xef}, "ua": {0x63, 0xef}, "disc": {0x43, 0xef}, "dm": {0x0f, 0xef},
	"sabme": {0x6f, 0xef}, "test": {0xe3, 0xef}, "xid": {0xaf, 0xef}, "frmr": {0x87, 0xef},
}

func (g *generator) llc(e *specialExpr) *condition {
	if g.ppp {
		fail(e.at(), "no llc after pppoes")
	}
	// NetWare's raw 802.3 has a length, but ones where LLC would be.
	c := and(not(g.compare(fromType, 0, 2, opJumpGT, maxEtherLength)), not(g.equal(fromLLC, 0, 2, 0xffff)))
	switch e.text {
	case "":
		return c
	case "i":
		return and(c, not(g.compare(fromLLC, 2, 1, opJumpSet, 1)))
	}
	t, ok := llcTypes[e.text]
	if !ok {
		fail(e.at(), "%q is not a type of llc frame", e.text)
	}
	return and(c, g.masked(fromLLC, 2, 1, t.value, t.mask))
}

// special generates the primitives with a keyword of their own.
func (g *generator) special(e *specialExpr) *condition {
	switch e.keyword {
	case tokenLess:
		return not(&condition{test: &test{load: code{ins(opLoadLen, 0)}, jump: opJumpGT, k: e.number}})
	case tokenGreater:
		return &condition{test: &test{load: code{ins(opLoadLen, 0)}, jump: opJumpGE, k: e.number}}
	case tokenByte:
		g.checkOffset(e.index, e.at())
		switch e.op {
		case tokenLT:
			return not(g.compare(fromLink, e.index, 1, opJumpGE, e.number))
		case tokenGT:
			return g.compare(fromLink, e.index, 1, opJumpGT, e.number)
		}
		return g.equal(fromLink, e.index, 1, e.number)
	case tokenVLAN:
		return g.vlan(e)
	case tokenMPLS:
		return g.mpls(e)
	case tokenPPPoED:
		return g.linkProtocol(etherTypePPPoED, e.at())
	case tokenPPPoES:
		return g.pppoes(e)
	case tokenLLC:
		return g.llc(e)
	case tokenBroadcast:
		return g.broadcast(e)
	}
	return g.multicast(e)
}
