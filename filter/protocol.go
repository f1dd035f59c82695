package filter

// IP protocol numbers (IANA).
const (
	ipICMP     = 1
	ipIGMP     = 2
	ipTCP      = 6
	ipIGRP     = 9
	ipUDP      = 17
	ipFragment = 44
	ipESP      = 50
	ipAH       = 51
	ipICMPv6   = 58
	ipPIM      = 103
	ipVRRP     = 112 // CARP uses the same number
	ipSCTP     = 132
)

// IS-IS PDU types (ISO/IEC 10589).
const (
	isisL1Hello  = 15
	isisL2Hello  = 16
	isisPTPHello = 17
	isisL1LSP    = 18
	isisL2LSP    = 20
	isisL1CSNP   = 24
	isisL2CSNP   = 25
	isisL1PSNP   = 26
	isisL2PSNP   = 27
)

// linkProtocols are the protocols that the link layer names.
var linkProtocols = map[proto]uint32{
	protoIP: etherTypeIPv4, protoARP: etherTypeARP, protoRARP: etherTypeRARP, protoAtalk: etherTypeAtalk,
	protoAARP: etherTypeAARP, protoDECnet: etherTypeDECnet, protoSCA: etherTypeSCA, protoLAT: etherTypeLAT,
	protoMOPDL: etherTypeMOPDL, protoMOPRC: etherTypeMOPRC, protoIPv6: etherTypeIPv6,
	protoISO: sapISO, protoSTP: sapSTP, protoIPX: sapIPX, protoNetBEUI: sapNetBEUI,
}

// carriedProtocols are the protocols inside another one.
var carriedProtocols = map[proto]struct {
	carrier proto
	numbers []uint32 // tested in this order
}{
	protoSCTP: {protoDefault, []uint32{ipSCTP}}, protoTCP: {protoDefault, []uint32{ipTCP}},
	protoUDP: {protoDefault, []uint32{ipUDP}}, protoPIM: {protoDefault, []uint32{ipPIM}},
	protoAH: {protoDefault, []uint32{ipAH}}, protoESP: {protoDefault, []uint32{ipESP}},
	protoICMP: {protoIP, []uint32{ipICMP}}, protoIGMP: {protoIP, []uint32{ipIGMP}},
	protoIGRP: {protoIP, []uint32{ipIGRP}}, protoVRRP: {protoIP, []uint32{ipVRRP}},
	protoCARP: {protoIP, []uint32{ipVRRP}}, protoICMPv6: {protoIPv6, []uint32{ipICMPv6}},
	protoESIS: {protoISO, []uint32{nlpidESIS}}, protoISIS: {protoISO, []uint32{nlpidISIS}},
	protoCLNP:     {protoISO, []uint32{nlpidCLNP}},
	protoISISL1:   {protoISIS, []uint32{isisL1PSNP, isisL1CSNP, isisL1LSP, isisL1Hello, isisPTPHello}},
	protoISISL2:   {protoISIS, []uint32{isisL2PSNP, isisL2CSNP, isisL2LSP, isisL2Hello, isisPTPHello}},
	protoISISIIH:  {protoISIS, []uint32{isisPTPHello, isisL1Hello, isisL2Hello}},
	protoISISLSP:  {protoISIS, []uint32{isisL1LSP, isisL2LSP}},
	protoISISSNP:  {protoISIS, []uint32{isisL2PSNP, isisL1PSNP, isisL1CSNP, isisL2CSNP}},
	protoISISCSNP: {protoISIS, []uint32{isisL1CSNP, isisL2CSNP}},
	protoISISPSNP: {protoISIS, []uint32{isisL1PSNP, isisL2PSNP}},
}

// protocol generates a protocol that stands alone, such as "tcp".
func (g *generator) protocol(p proto, at int) *condition {
	if value, ok := linkProtocols[p]; ok {
		return g.linkProtocol(value, at)
	}
	carried, ok := carriedProtocols[p]
	if !ok {
		fail(at, "%s is no protocol to test for; say more, as in \"ether host\" or \"ether proto\"", p)
	}
	var c *condition
	for _, number := range carried.numbers {
		c = or(c, g.carried(number, carried.carrier, at))
	}
	return c
}

// carried tests for protocol number value inside the carrier.
func (g *generator) carried(value uint32, carrier proto, at int) *condition {
	switch carrier {
	case protoDefault:
		return or(g.carried(value, protoIP, at), g.carried(value, protoIPv6, at))
	case protoLink:
		return g.linkProtocol(value, at)
	case protoIP:
		return and(g.linkProtocol(etherTypeIPv4, at), g.equal(fromNetwork, 9, 1, value))
	case protoIPv6:
		// Directly, or behind a fragment header.
		return and(g.linkProtocol(etherTypeIPv6, at), or(
			g.equal(fromNetwork, 6, 1, value),
			and(g.equal(fromNetwork, 6, 1, ipFragment), g.equal(fromNetwork, 40, 1, value))))
	case protoISO:
		return and(g.linkProtocol(sapISO, at), g.equal(fromNetworkLLC, 0, 1, value))
	case protoISIS:
		return and(g.carried(nlpidISIS, protoISO, at), g.equal(fromNetworkLLC, 4, 1, value))
	}
	fail(at, "\"%s proto\" makes no sense: no protocol is named inside %s", carrier, carrier)
	return nil
}

// protocolNumber looks a name up.
func protocolNumber(name string, carrier proto, at int) uint32 {
	table, kind := ipProtocols, "an IP protocol"
	switch carrier {
	case protoDefault, protoIP, protoIPv6:
	case protoLink:
		table, kind = etherTypes, "a protocol over Ethernet"
	case protoISO:
		table, kind = isoProtocols, "an OSI protocol"
	default:
		fail(at, "\"%s proto\" takes no name", carrier)
	}
	value, ok := table[name]
	if !ok {
		fail(at, "%q is not the name of %s (a number works too)", name, kind)
	}
	return value
}

// String returns the keyword.
func (p proto) String() string {
	name := "this"
	for word, k := range keywords {
		if k.kind == tokenProto && k.proto == p && (name == "this" || p == protoLink && word == "ether") {
			name = word
		}
	}
	return name
}
