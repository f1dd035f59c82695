package filter

// EtherTypes (IEEE 802 numbers at IANA), and the largest value of that field
// that is a length instead (IEEE 802.3).
const (
	maxEtherLength = 1500

	etherTypeIPv4     = 0x0800
	etherTypeARP      = 0x0806
	etherTypeMOPDL    = 0x6001
	etherTypeMOPRC    = 0x6002
	etherTypeDECnet   = 0x6003
	etherTypeLAT      = 0x6004
	etherTypeSCA      = 0x6007
	etherTypeRARP     = 0x8035
	etherTypeAtalk    = 0x809b
	etherTypeAARP     = 0x80f3
	etherTypeVLAN     = 0x8100
	etherTypeIPX      = 0x8137
	etherTypeIPv6     = 0x86dd
	etherTypeMPLS     = 0x8847
	etherTypePPPoED   = 0x8863
	etherTypePPPoES   = 0x8864
	etherTypeProvider = 0x88a8 // 802.1ad
	etherTypeLoopback = 0x9000
	etherTypeQinQ     = 0x9100
	etherTypeNS       = 0x0600
)

// LLC service access points (IEEE 802.2).
const (
	sapIP      = 0x06
	sapSTP     = 0x42
	sapSNAP    = 0xaa
	sapIPX     = 0xe0
	sapNetBEUI = 0xf0
	sapISO     = 0xfe
)

// OSI network layer protocol identifiers (ISO/IEC TR 9577).
const (
	nlpidCLNP = 0x81
	nlpidESIS = 0x82
	nlpidISIS = 0x83
)

// generator turns the tree of an expression into conditions. Its offsets, all
// in bytes from the start of the frame, move when vlan, mpls or pppoes is
// generated, and stay moved for all that stands to the right of it.
type generator struct {
	linkHeader uint32 // what ether[0] means
	linkType   uint32 // the field that says what the payload is
	payload    uint32 // after the link header
	network    uint32 // the network header, from payload
	networkLLC uint32 // the same behind an LLC header without SNAP
	ppp        bool   // inside PPPoE: the type is a PPP protocol number
	labels     int    // MPLS labels passed
}

func newGenerator() *generator {
	return &generator{linkType: 12, payload: 14, networkLLC: 3}
}

func (g *generator) expression(e expr) *condition {
	switch e := e.(type) {
	case *binaryExpr:
		left := g.expression(e.left)
		right := g.expression(e.right)
		if e.and {
			return and(left, right)
		}
		return or(left, right)
	case *notExpr:
		return not(g.expression(e.operand))
	case *protoExpr:
		return g.protocol(e.proto, e.at())
	case *idExpr:
		return g.id(e)
	case *relationExpr:
		return g.relation(e)
	case *specialExpr:
		return g.special(e)
	}
	panic("unknown expression")
}

// Where a field is relative to.
type base uint8

const (
	fromLink       base = iota // the link header
	fromType                   // the link type field
	fromLLC                    // the link payload
	fromNetwork                // the network header
	fromNetworkLLC             // the network header after LLC without SNAP
	fromTransport4             // what follows the IPv4 header with its options
	fromTransport6             // what follows the fixed IPv6 header
)

func loadSize(size uint32) uint16 {
	switch size {
	case 1:
		return sizeByte
	case 2:
		return sizeHalf
	}
	return sizeWord
}

// offset is the constant part of a base's distance from the frame's start.
func (g *generator) offset(from base) uint32 {
	switch from {
	case fromLink:
		return g.linkHeader
	case fromType:
		return g.linkType
	case fromLLC:
		return g.payload
	case fromNetworkLLC:
		return g.payload + g.networkLLC
	case fromTransport6:
		return g.payload + g.network + ipv6HeaderLength
	}
	return g.payload + g.network
}

const ipv6HeaderLength = 40

// field starts a test of size bytes at offset from a header.
func (g *generator) field(from base, offset, size uint32) *test {
	k := g.offset(from) + offset
	if from == fromTransport4 {
		return &test{
			index: code{ins(opLoadXHead, g.offset(fromNetwork))},
			load:  code{ins(opLoadInd|loadSize(size), k)},
		}
	}
	return &test{load: code{ins(opLoadAbs|loadSize(size), k)}}
}

func (g *generator) compare(from base, offset, size uint32, jump uint16, value uint32) *condition {
	t := g.field(from, offset, size)
	t.jump, t.k = jump, value
	return &condition{test: t}
}

func (g *generator) equal(from base, offset, size, value uint32) *condition {
	return g.compare(from, offset, size, opJumpEQ, value)
}

// masked compares the bits of mask. No bits asked for need no load.
func (g *generator) masked(from base, offset, size, value, mask uint32) *condition {
	switch mask {
	case 0:
		return constant(value == 0)
	case 0xffffffff:
		return g.equal(from, offset, size, value)
	}
	t := g.field(from, offset, size)
	t.load = append(t.load, ins(opALU|aluAnd, mask))
	t.jump, t.k = opJumpEQ, value
	return &condition{test: t}
}

// bytes compares a string of bytes, the last ones first: in addresses they
// are the ones that differ.
func (g *generator) bytes(from base, offset uint32, want []byte) *condition {
	var all *condition
	for n := len(want); n > 0; {
		size := 4
		if n < 4 {
			size = 2
		}
		n -= size
		value := uint32(0)
		for _, b := range want[n : n+size] {
			value = value<<8 | uint32(b)
		}
		all = and(all, g.equal(from, offset+uint32(n), uint32(size), value))
	}
	return all
}
