package acl

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/xdpipe/xdpipe/pipeline"
)

// An Action is what a rule does with the packets it matches.
type Action uint8

// The actions.
const (
	Permit Action = iota
	Deny
)

func (a Action) String() string {
	if a == Deny {
		return "deny"
	}
	return "permit"
}

// A Direction is which way packets go, as seen from the inside of the network.
type Direction uint8

// The directions. A rule with NoDirection is for both; a set compiled for
// NoDirection has no other rules.
const (
	NoDirection Direction = iota
	In                    // they came by the port that faces outside
	Out                   // all others
)

func (d Direction) String() string { return [...]string{"", "in", "out"}[d] }

// A Fragment is what a rule wants a packet to be a part of.
type Fragment uint8

// What a rule can want. NoFragment is no condition.
const (
	NoFragment Fragment = iota
	AnyFragment
	FirstFragment // the one with the transport header
	LaterFragment // the others
)

func (f Fragment) String() string {
	return [...]string{"", "fragment", "first_fragment", "later_fragment"}[f]
}

// Ports is a range of ports, both ends included.
type Ports struct{ From, To uint16 }

func (p Ports) String() string {
	if p.From == p.To {
		return strconv.Itoa(int(p.From))
	}
	return fmt.Sprintf("%d-%d", p.From, p.To)
}

// A Rule matches the packets that agree with each of its conditions. A pointer
// that is nil, a Prefix that is not valid and other zero values are no condition.
type Rule struct {
	Action    Action
	Direction Direction
	Fragment  Fragment
	VLAN      *uint16 // id of the outermost tag, 0 to 4094; with 0 only priority-tagged packets
	EtherType uint16  // after all VLAN tags
	Protocol  *uint8  // after IPv6 extension headers
	Src, Dst  netip.Prefix
	SrcPort   *Ports
	DstPort   *Ports
	Port      *Ports // the source or the destination port

	// Line is where the rule begins in its file, from 1; of inline rules their
	// rank.
	Line int
}

// String returns the rule in the form that Parse reads, the same for rules that
// differ only in how they are written.
func (r *Rule) String() string {
	words := []string{r.Action.String()}
	add := func(word string) { words = append(words, word) }
	if r.Direction != NoDirection {
		add(r.Direction.String())
	}
	conditions := len(words)
	if r.VLAN != nil {
		add(fmt.Sprintf("vlan=%d", *r.VLAN))
	}
	if r.EtherType != 0 {
		add(etherTypeText(r.EtherType))
	}
	if r.Fragment != NoFragment {
		add(r.Fragment.String())
	}
	if r.Protocol != nil {
		add(protocolText(*r.Protocol))
	}
	if r.Src.IsValid() {
		add("src=" + r.Src.String())
	}
	if r.Dst.IsValid() {
		add("dst=" + r.Dst.String())
	}
	for _, p := range r.ports() {
		if p.ports != nil {
			add(p.key + "=" + p.ports.String())
		}
	}
	if len(words) == conditions {
		add("any")
	}
	return strings.Join(words, " ")
}

type keyedPorts struct {
	key   string
	ports *Ports
}

func (r *Rule) ports() [3]keyedPorts {
	return [3]keyedPorts{{"src_port", r.SrcPort}, {"dst_port", r.DstPort}, {"port", r.Port}}
}

func (r *Rule) hasPorts() bool { return r.SrcPort != nil || r.DstPort != nil || r.Port != nil }

// Unconditional reports whether every packet of the rule's direction matches.
func (r *Rule) Unconditional() bool {
	return r.Fragment == NoFragment && r.VLAN == nil && r.EtherType == 0 && !r.needsIP()
}

// needsIP reports whether a condition other than the ethertype is about IP.
func (r *Rule) needsIP() bool {
	return r.Fragment != NoFragment || r.Protocol != nil || r.Src.IsValid() || r.Dst.IsValid() || r.hasPorts()
}

// Family returns the ethertype that the rule names or its addresses imply, or 0.
func (r *Rule) Family() uint16 {
	for _, p := range []netip.Prefix{r.Src, r.Dst} {
		switch {
		case !p.IsValid():
		case p.Addr().Is4():
			return pipeline.EtherTypeIPv4
		default:
			return pipeline.EtherTypeIPv6
		}
	}
	return r.EtherType
}

// protocolHasPorts says of which protocols ports are known.
func protocolHasPorts(protocol uint8) bool {
	return protocol == pipeline.ProtocolTCP || protocol == pipeline.ProtocolUDP || protocol == pipeline.ProtocolSCTP
}
