package filter

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"
)

// id generates a host, net, port, range or protocol.
func (g *generator) id(e *idExpr) *condition {
	q := e.qual
	switch q.addr {
	case addrUndef:
		fail(e.at(), "%q stands alone: say what it is (host, net, port, proto …)", e.text)
	case addrGateway:
		refuse(e.at(), "\"gateway\" needs names looked up and")
	case addrProtoChain:
		refuse(e.at(), "\"protochain\" follows headers in a loop, which filters have not: it")
	}
	if q.proto == protoDECnet && e.kind != tokenMAC && (q.addr == addrDefault || q.addr == addrHost || q.addr == addrNet) {
		refuse(e.at(), "a DECnet address")
	}
	switch e.kind {
	case tokenMAC:
		if q.proto != protoLink || q.addr != addrDefault && q.addr != addrHost {
			fail(e.at(), "%s is an Ethernet address; those follow \"ether host\", \"ether src\" or \"ether dst\"", e.text)
		}
		return g.linkHost(parseMAC(e.text), q.dir, e.at())
	case tokenIPv6:
		return g.host6(e)
	case tokenIPv4:
		return g.host4(e)
	case tokenNumber:
		return g.number(e)
	}
	return g.name(e)
}

// number generates an id that is a plain number.
func (g *generator) number(e *idExpr) *condition {
	q, v := e.qual, e.number
	switch q.addr {
	case addrPort, addrPortRange:
		if v > 65535 {
			fail(e.at(), "port %d is above 65535", v)
		}
		return g.ports(v, v, transport(e), q.dir)
	case addrProto:
		if q.dir != dirDefault {
			fail(e.at(), "a protocol has no source or destination")
		}
		return g.carried(v, q.proto, e.at())
	}
	if q.proto == protoLink {
		fail(e.at(), "%s is not an Ethernet address", e.text)
	}
	mask := ^uint32(0)
	if q.addr == addrNet {
		// "net 10" is 10.0.0.0/8.
		for v != 0 && v>>24 == 0 {
			v, mask = v<<8, mask<<8
		}
	}
	return g.network4(v, mask, e)
}

// name generates an id that is a name.
func (g *generator) name(e *idExpr) *condition {
	q := e.qual
	switch q.addr {
	case addrPort:
		port, over := lookupPort(e.text, e)
		return g.ports(port, port, restrict(e, over), q.dir)
	case addrPortRange:
		first, last, isRange := strings.Cut(e.text, "-")
		if !isRange {
			last = first
		}
		low, overLow := lookupPort(first, e)
		high, overHigh := lookupPort(last, e)
		if overLow != overHigh {
			overLow = overBoth
		}
		return g.ports(min(low, high), max(low, high), restrict(e, overLow), q.dir)
	case addrProto:
		if q.dir != dirDefault {
			fail(e.at(), "a protocol has no source or destination")
		}
		return g.carried(protocolNumber(e.text, q.proto, e.at()), q.proto, e.at())
	case addrNet:
		refuse(e.at(), "the network name %q would have to be looked up and", e.text)
	}
	refuse(e.at(), "the host name %q would have to be looked up (in DNS or /etc/ethers) and", e.text)
	return nil
}

// host4 generates an IPv4 host or network; missing bytes are a network's.
func (g *generator) host4(e *idExpr) *condition {
	value, bits := parseIPv4(e.text, e.at())
	switch e.qual.addr {
	case addrDefault, addrHost, addrNet:
	default:
		fail(e.at(), "%s is an IPv4 address, not what was announced before it", e.text)
	}
	masked := e.bits >= 0 || e.mask != ""
	if masked && e.qual.addr != addrNet {
		fail(e.at(), "a mask is for \"net\" only")
	}
	if e.qual.proto == protoLink {
		fail(e.at(), "%s is not an Ethernet address", e.text)
	}
	value <<= 32 - bits
	mask := ^uint32(0) << (32 - bits)
	switch {
	case e.bits > 32:
		fail(e.at(), "an IPv4 prefix is no longer than 32 bits, this has %d", e.bits)
	case e.bits >= 0:
		mask = uint32(uint64(0xffffffff) << (32 - e.bits))
	case e.mask != "":
		m, n := parseIPv4(e.mask, e.at())
		mask = m << (32 - n)
	}
	if masked && value&^mask != 0 {
		fail(e.at(), "%s has bits set outside of its mask", e.text)
	}
	return g.network4(value, mask, e)
}

// network4 tests the addresses in IPv4, ARP and RARP packets.
func (g *generator) network4(value, mask uint32, e *idExpr) *condition {
	in := func(etherType, source, destination uint32) *condition {
		link := g.linkProtocol(etherType, e.at())
		return either(e.qual.dir,
			func() *condition { return and(link, g.masked(fromNetwork, source, 4, value, mask)) },
			func() *condition { return and(link, g.masked(fromNetwork, destination, 4, value, mask)) })
	}
	switch e.qual.proto {
	case protoDefault:
		c := in(etherTypeIPv4, 12, 16)
		if g.labels > 0 {
			return c
		}
		return or(c, in(etherTypeARP, 14, 24), in(etherTypeRARP, 14, 24))
	case protoIP:
		return in(etherTypeIPv4, 12, 16)
	case protoARP:
		return in(etherTypeARP, 14, 24)
	case protoRARP:
		return in(etherTypeRARP, 14, 24)
	}
	fail(e.at(), "%s has no IPv4 addresses; \"ip\", \"arp\", \"rarp\" or nothing fits", e.qual.proto)
	return nil
}

// either joins the tests of source and destination as dir says.
func either(dir direction, source, destination func() *condition) *condition {
	switch dir {
	case dirSrc:
		return source()
	case dirDst:
		return destination()
	case dirAnd:
		return and(source(), destination())
	}
	return or(source(), destination())
}

// host6 generates an IPv6 host or network.
func (g *generator) host6(e *idExpr) *condition {
	addr, err := netip.ParseAddr(e.text)
	bits := 128
	if e.bits >= 0 {
		bits = int(min(e.bits, 129))
	}
	if err != nil || bits > 128 {
		fail(e.at(), "an IPv6 prefix is no longer than 128 bits, this has %d", e.bits)
	}
	prefix := netip.PrefixFrom(addr, bits)
	if prefix.Masked().Addr() != addr {
		fail(e.at(), "%s has bits set outside of its mask", prefix)
	}
	switch e.qual.addr {
	case addrDefault, addrHost:
		if bits != 128 {
			fail(e.at(), "a mask is for \"net\" only")
		}
	case addrNet:
	default:
		fail(e.at(), "%s is an IPv6 address, not what was announced before it", e.text)
	}
	if e.qual.proto != protoDefault && e.qual.proto != protoIPv6 {
		fail(e.at(), "%s has no IPv6 addresses; \"ip6\" or nothing fits", e.qual.proto)
	}
	value := addr.As16()
	in := func(offset uint32) *condition {
		c := g.linkProtocol(etherTypeIPv6, e.at())
		for i := range 4 {
			word := binary.BigEndian.Uint32(value[4*i:])
			mask := uint32(uint64(0xffffffff) << (32 - min(max(bits-32*i, 0), 32)))
			c = and(c, g.masked(fromNetwork, offset+uint32(4*i), 4, word, mask))
		}
		return c
	}
	return either(e.qual.dir,
		func() *condition { return in(8) },
		func() *condition { return in(24) })
}

// linkHost tests the Ethernet addresses.
func (g *generator) linkHost(mac []byte, dir direction, at int) *condition {
	if g.ppp {
		fail(at, "no Ethernet addresses after pppoes")
	}
	return either(dir,
		func() *condition { return g.bytes(fromLink, 6, mac) },
		func() *condition { return g.bytes(fromLink, 0, mac) })
}

func (g *generator) broadcast(e *specialExpr) *condition {
	switch e.proto {
	case protoDefault, protoLink:
		if g.ppp {
			fail(e.at(), "no broadcast after pppoes")
		}
		return g.bytes(fromLink, 0, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	case protoIP:
		// Without an interface there is no netmask; with mask 0 the
		// all-zeroes and all-ones addresses are the broadcast ones.
		return and(g.linkProtocol(etherTypeIPv4, e.at()),
			or(g.equal(fromNetwork, 16, 4, 0), g.equal(fromNetwork, 16, 4, 0xffffffff)))
	}
	fail(e.at(), "%s has no broadcast; \"ether\" and \"ip\" have", e.proto)
	return nil
}

func (g *generator) multicast(e *specialExpr) *condition {
	switch e.proto {
	case protoDefault, protoLink:
		if g.ppp {
			fail(e.at(), "no multicast after pppoes")
		}
		return g.compare(fromLink, 0, 1, opJumpSet, 1)
	case protoIP:
		return and(g.linkProtocol(etherTypeIPv4, e.at()), g.compare(fromNetwork, 16, 1, opJumpGE, 224))
	case protoIPv6:
		return and(g.linkProtocol(etherTypeIPv6, e.at()), g.equal(fromNetwork, 24, 1, 255))
	}
	fail(e.at(), "%s has no multicast; \"ether\", \"ip\" and \"ip6\" have", e.proto)
	return nil
}

// parseIPv4 reads one to four decimal bytes and returns how many bits they are.
func parseIPv4(text string, at int) (value uint32, bits int) {
	for part := range strings.SplitSeq(text, ".") {
		b, err := strconv.ParseUint(part, 10, 8)
		if err != nil {
			fail(at, "%q is not an IPv4 address: %q is not a number up to 255", text, part)
		}
		value, bits = value<<8|uint32(b), bits+8
	}
	return value, bits
}

// parseMAC reads what macPattern matched.
func parseMAC(text string) []byte {
	mac := make([]byte, 0, 6)
	for i := 0; i < len(text); {
		if !isHex(text[i]) {
			i++
			continue
		}
		n := 1
		if i+1 < len(text) && isHex(text[i+1]) {
			n = 2
		}
		b, _ := strconv.ParseUint(text[i:i+n], 16, 8) // one or two hexadecimal digits
		mac = append(mac, byte(b))
		i += n
	}
	return mac
}
