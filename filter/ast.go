package filter

// proto is the protocol a qualifier or an index names (ip, tcp, ether …).
type proto uint8

const (
	protoDefault proto = iota // none written
	protoUndef                // no qualifier to inherit: a bare id is an error
	protoLink
	protoIP
	protoARP
	protoRARP
	protoSCTP
	protoTCP
	protoUDP
	protoICMP
	protoIGMP
	protoIGRP
	protoPIM
	protoVRRP
	protoCARP
	protoAtalk
	protoAARP
	protoDECnet
	protoLAT
	protoSCA
	protoMOPDL
	protoMOPRC
	protoIPv6
	protoICMPv6
	protoAH
	protoESP
	protoISO
	protoESIS
	protoISIS
	protoISISL1
	protoISISL2
	protoISISIIH
	protoISISLSP
	protoISISSNP
	protoISISCSNP
	protoISISPSNP
	protoCLNP
	protoSTP
	protoIPX
	protoNetBEUI
	protoRadio
)

// direction is the src/dst part of a qualifier.
type direction uint8

const (
	dirDefault direction = iota // either
	dirSrc
	dirDst
	dirOr
	dirAnd
)

// address is the kind of thing an id is (host, net, port …).
type address uint8

const (
	addrDefault address = iota
	addrUndef
	addrHost
	addrNet
	addrPort
	addrPortRange
	addrGateway
	addrProto
	addrProtoChain
)

// qualifier says what a bare id means. An id without one inherits the last
// one to its left: in "port 53 or 80" the 80 is a port.
type qualifier struct {
	proto proto
	dir   direction
	addr  address
}

var noQualifier = qualifier{proto: protoUndef, addr: addrUndef}

// expr is a node of the parsed expression. Nodes are generated in the order
// they were written, since vlan, mpls and pppoes move the offsets of whatever
// stands to their right.
type expr interface{ at() int }

type pos int

func (p pos) at() int { return int(p) }

type (
	// binaryExpr is "left and right" or "left or right". Both bind equally
	// tightly, to the left, as in every pcap-filter compiler.
	binaryExpr struct {
		pos
		and         bool
		left, right expr
	}
	notExpr struct {
		pos
		operand expr
	}
	// protoExpr is a protocol that stands alone, such as "tcp".
	protoExpr struct {
		pos
		proto proto
	}
	// idExpr is a host, net, port or protocol with its qualifier.
	idExpr struct {
		pos
		qual   qualifier
		kind   tokenKind // tokenNumber, tokenID, tokenIPv4, tokenIPv6 or tokenMAC
		text   string
		number uint32 // of a tokenNumber
		mask   string // dotted mask, or ""
		bits   int64  // prefix length, or -1
	}
	// relationExpr compares two numbers.
	relationExpr struct {
		pos
		op          tokenKind
		left, right arith
	}
	// specialExpr is a primitive with a keyword of its own.
	specialExpr struct {
		pos
		keyword tokenKind
		proto   proto  // of broadcast and multicast
		has     bool   // whether number was written
		number  uint32 // VLAN id, label, session, length, byte's value
		index   uint32 // byte's offset
		op      tokenKind
		text    string // llc's type
	}
)

// arith is a number computed from constants and the packet.
type arith interface{ at() int }

type (
	numberArith struct {
		pos
		value uint32
	}
	lengthArith struct{ pos }
	loadArith   struct {
		pos
		proto  proto
		offset arith
		size   uint32 // bytes
	}
	negArith struct {
		pos
		operand arith
	}
	binaryArith struct {
		pos
		op          tokenKind
		left, right arith
	}
)
