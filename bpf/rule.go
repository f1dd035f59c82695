package bpf

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Ethertypes that rules are usually about (IEEE 802 numbers).
const (
	EtherTypeIPv4 uint16 = 0x0800
	EtherTypeARP  uint16 = 0x0806
	EtherTypeIPv6 uint16 = 0x86dd
)

// IP protocols that rules are usually about (IANA numbers).
const (
	ProtocolICMP   uint8 = 1
	ProtocolTCP    uint8 = 6
	ProtocolUDP    uint8 = 17
	ProtocolICMPv6 uint8 = 58
	ProtocolSCTP   uint8 = 132
)

const (
	etherTypeVLAN = 0x8100
	etherTypeQinQ = 0x88a8
	minEtherType  = 0x0600 // below, the field is an 802.3 length
	maxVLAN       = 4094   // 4095 is reserved
)

// Action is what happens to a packet that a rule matches.
type Action uint8

const (
	// Redirect gives the packet to the AF_XDP socket of its queue, or to the
	// kernel where the queue has none.
	Redirect Action = iota

	// Pass gives the packet to the kernel.
	Pass

	// Drop discards the packet.
	Drop
)

// String returns the action as ParseRule reads it.
func (a Action) String() string {
	switch a {
	case Redirect:
		return "redirect"
	case Pass:
		return "pass"
	case Drop:
		return "drop"
	}
	return fmt.Sprintf("Action(%d)", uint8(a))
}

// PortRange is the ports From to To, both included. The zero value is any port,
// also of packets that have none.
type PortRange struct {
	From, To uint16
}

// Port returns the range of one port. Port 0 alone cannot be expressed: the
// result means any.
func Port(port uint16) PortRange {
	return PortRange{From: port, To: port}
}

// IsZero reports whether r is any port.
func (r PortRange) IsZero() bool {
	return r == PortRange{}
}

// Contains reports whether port is in the range.
func (r PortRange) Contains(port uint16) bool {
	return r.IsZero() || r.From <= port && port <= r.To
}

// String returns "N", "N-M", or "any".
func (r PortRange) String() string {
	switch {
	case r.IsZero():
		return "any"
	case r.From == r.To:
		return strconv.Itoa(int(r.From))
	}
	return fmt.Sprintf("%d-%d", r.From, r.To)
}

// Rule matches the packets that agree with every field it names. A field's zero
// value names nothing: it is any, also absent.
type Rule struct {
	Action Action

	// VLAN is the id of the outermost 802.1Q or 802.1ad tag, 1 to 4094. A rule
	// without it matches tagged and untagged packets alike.
	VLAN uint16

	// EtherType is what follows the Ethernet header and up to two VLAN tags.
	EtherType uint16

	// Protocol is the IP protocol: the one after IPv6's extension headers.
	Protocol uint8

	// Src and Dst are the prefixes of the IP addresses; they imply EtherType.
	Src, Dst netip.Prefix

	// SrcPort and DstPort are those of TCP, UDP or SCTP; they imply that Protocol
	// is one of the three.
	SrcPort, DstPort PortRange

	// Port is a range that the source port or the destination port is in.
	Port PortRange
}

// Validate returns nil for a rule that can be loaded and a *RuleError otherwise:
// for values out of range and for fields that contradict each other.
func (r Rule) Validate() error {
	if err := r.validate(); err != nil {
		return err
	}
	return nil
}

func (r Rule) validate() *RuleError {
	if r.Action > Drop {
		return ruleError("action", "%d is no action; use redirect, pass or drop", uint8(r.Action))
	}
	if (r == Rule{Action: r.Action}) {
		return ruleError("", "it names no field, so every packet would match; name one, or ask for all packets in the policy")
	}
	if r.VLAN > maxVLAN {
		return ruleError("vlan", "%d is out of range; ids are 1 to %d", r.VLAN, maxVLAN)
	}
	switch {
	case r.EtherType == etherTypeVLAN || r.EtherType == etherTypeQinQ:
		return ruleError("ethertype", "%#04x is a VLAN tag, which is stepped over; use vlan for its id", r.EtherType)
	case r.EtherType != 0 && r.EtherType < minEtherType:
		return ruleError("ethertype", "%#04x is an 802.3 length; ethertypes begin at %#04x", r.EtherType, minEtherType)
	}
	for _, prefix := range []struct {
		field string
		value netip.Prefix
	}{{"src", r.Src}, {"dst", r.Dst}} {
		if err := validatePrefix(prefix.field, prefix.value); err != nil {
			return err
		}
	}
	for _, ports := range []struct {
		field string
		value PortRange
	}{{"src_port", r.SrcPort}, {"dst_port", r.DstPort}, {"port", r.Port}} {
		if ports.value.To < ports.value.From {
			return ruleError(ports.field, "%d-%d ends before it begins; for one port give it as both ends", ports.value.From, ports.value.To)
		}
	}
	return r.contradiction()
}

func validatePrefix(field string, prefix netip.Prefix) *RuleError {
	switch {
	case prefix == netip.Prefix{}:
		return nil
	case !prefix.IsValid():
		return ruleError(field, "the prefix is invalid: its length does not fit its address")
	case prefix.Addr().Is4In6():
		return ruleError(field, "%s is an IPv4 address written as IPv6; write the IPv4 prefix", prefix)
	case prefix != prefix.Masked():
		return ruleError(field, "%s has bits set beyond its length; write %s, or a longer prefix", prefix, prefix.Masked())
	}
	return nil
}

// contradiction finds fields that no packet can have together.
func (r Rule) contradiction() *RuleError {
	if r.Src.IsValid() && r.Dst.IsValid() && r.Src.Addr().Is4() != r.Dst.Addr().Is4() {
		return ruleError("dst", "%s and src %s are of different IP versions; no packet has both", r.Dst, r.Src)
	}
	network := r.etherType()
	if r.EtherType != 0 && r.EtherType != network {
		return ruleError("ethertype", "%s contradicts the address, which is of %s", etherTypeName(r.EtherType), etherTypeName(network))
	}
	hasPorts := r.hasPorts()
	if network != 0 && network != EtherTypeIPv4 && network != EtherTypeIPv6 && (r.Protocol != 0 || hasPorts) {
		return ruleError("ethertype", "%s packets have no IP protocol or ports; use ipv4 or ipv6, or leave it out", etherTypeName(network))
	}
	switch {
	case hasPorts && r.Protocol != 0 && !protocolHasPorts(r.Protocol):
		return ruleError("protocol", "%s has no ports; use tcp, udp or sctp, or leave it out for all three", protocolName(r.Protocol))
	case r.Protocol == ProtocolICMPv6 && network == EtherTypeIPv4:
		return ruleError("protocol", "icmp6 does not occur in ipv4; use icmp")
	case r.Protocol == ProtocolICMP && network == EtherTypeIPv6:
		return ruleError("protocol", "icmp does not occur in ipv6; use icmp6")
	}
	return nil
}

// etherType returns the ethertype that the rule names or its addresses imply.
func (r Rule) etherType() uint16 {
	for _, prefix := range []netip.Prefix{r.Src, r.Dst} {
		if !prefix.IsValid() {
			continue
		}
		if prefix.Addr().Is4() {
			return EtherTypeIPv4
		}
		return EtherTypeIPv6
	}
	return r.EtherType
}

func (r Rule) hasPorts() bool {
	return !r.SrcPort.IsZero() || !r.DstPort.IsZero() || !r.Port.IsZero()
}

func protocolHasPorts(protocol uint8) bool {
	return protocol == ProtocolTCP || protocol == ProtocolUDP || protocol == ProtocolSCTP
}

// String returns the rule as ParseRule reads it, every named field and the
// action.
func (r Rule) String() string {
	var fields []string
	add := func(key, value string) { fields = append(fields, key+"="+value) }
	if r.VLAN != 0 {
		add("vlan", strconv.Itoa(int(r.VLAN)))
	}
	if r.EtherType != 0 {
		add("ethertype", etherTypeName(r.EtherType))
	}
	if r.Protocol != 0 {
		add("protocol", protocolName(r.Protocol))
	}
	if r.Src.IsValid() {
		add("src", r.Src.String())
	}
	if r.Dst.IsValid() {
		add("dst", r.Dst.String())
	}
	if !r.SrcPort.IsZero() {
		add("src_port", r.SrcPort.String())
	}
	if !r.DstPort.IsZero() {
		add("dst_port", r.DstPort.String())
	}
	if !r.Port.IsZero() {
		add("port", r.Port.String())
	}
	add("action", r.Action.String())
	return strings.Join(fields, ",")
}

// MarshalText returns the rule as String does, so that rules are strings in JSON.
func (r Rule) MarshalText() ([]byte, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	return []byte(r.String()), nil
}

// UnmarshalText reads what ParseRule reads.
func (r *Rule) UnmarshalText(text []byte) error {
	rule, err := ParseRule(string(text))
	if err == nil {
		*r = rule
	}
	return err
}
