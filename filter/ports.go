package filter

import "strconv"

// transport returns the protocols a port number is looked for in, in order.
func transport(e *idExpr) []uint32 {
	switch e.qual.proto {
	case protoDefault:
		return []uint32{ipSCTP, ipTCP, ipUDP}
	case protoTCP:
		return []uint32{ipTCP}
	case protoUDP:
		return []uint32{ipUDP}
	case protoSCTP:
		return []uint32{ipSCTP}
	}
	fail(e.at(), "%s has no ports; \"tcp\", \"udp\", \"sctp\" or nothing fits", e.qual.proto)
	return nil
}

// restrict is transport for a service name, which may be of one transport only.
func restrict(e *idExpr, over uint8) []uint32 {
	all := transport(e)
	switch {
	case over == overBoth:
		return all
	case len(all) == 1 && (over == overTCP) != (all[0] == ipTCP), len(all) == 1 && all[0] == ipSCTP:
		name := "tcp"
		if over == overUDP {
			name = "udp"
		}
		fail(e.at(), "%q is over %s", e.text, name)
	case over == overTCP:
		return []uint32{ipTCP}
	}
	return []uint32{ipUDP}
}

// lookupPort reads a port's number or name.
func lookupPort(text string, e *idExpr) (port uint32, over uint8) {
	if n, err := strconv.ParseUint(text, 10, 16); err == nil {
		return uint32(n), overBoth
	}
	s, ok := services[text]
	if !ok {
		fail(e.at(), "%q is neither a port number (up to 65535) nor a service name known here", text)
	}
	return uint32(s.port), s.over
}

// ports tests for ports low to high. IPv6 is looked at first; there only the
// fixed header is skipped. In IPv4 fragments only the first one has ports.
func (g *generator) ports(low, high uint32, protocols []uint32, dir direction) *condition {
	atom := func(from base, offset uint32) *condition {
		if low == high {
			return g.equal(from, offset, 2, low)
		}
		return and(g.compare(from, offset, 2, opJumpGE, low),
			not(g.compare(from, offset, 2, opJumpGT, high)))
	}
	both := func(from base) *condition {
		return either(dir,
			func() *condition { return atom(from, 0) },
			func() *condition { return atom(from, 2) })
	}
	var in4, in6 *condition
	for _, p := range protocols {
		in6 = or(in6, and(g.equal(fromNetwork, 6, 1, p), both(fromTransport6)))
		in4 = or(in4, and(g.equal(fromNetwork, 9, 1, p), g.firstFragment(), both(fromTransport4)))
	}
	return or(and(g.linkProtocol(etherTypeIPv6, 0), in6), and(g.linkProtocol(etherTypeIPv4, 0), in4))
}

// firstFragment tests that an IPv4 packet is whole or a first fragment.
func (g *generator) firstFragment() *condition {
	return not(g.compare(fromNetwork, 6, 2, opJumpSet, 0x1fff))
}
