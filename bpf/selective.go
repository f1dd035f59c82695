package bpf

import (
	"errors"
	"fmt"
	"net/netip"
)

// Shorter prefixes than these are taken to hold the machine's own address or
// those of the people who manage it.
const (
	narrowBits4 = 16
	narrowBits6 = 32
)

// Neighbour discovery uses these, whatever else the network's addresses are.
var discovery = []netip.Prefix{
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("ff00::/8"),
}

// Received traffic without which a machine cannot be managed, beside ARP and
// neighbour discovery. The ports at the far end of a connection to the machine
// are unprivileged ones; those at its own end of one it opened are Linux's
// net.ipv4.ip_local_port_range.
var management = []struct {
	what     string
	network  uint16 // ethertype; 0 for IPv4 and IPv6
	protocol uint8
	src, dst PortRange
}{
	{"SSH", 0, ProtocolTCP, PortRange{1024, 65535}, Port(22)},
	{"SSH", 0, ProtocolTCP, Port(22), PortRange{32768, 65535}},
	{"DHCP", EtherTypeIPv4, ProtocolUDP, PortRange{67, 68}, PortRange{67, 68}},
	{"DHCPv6", EtherTypeIPv6, ProtocolUDP, PortRange{546, 547}, PortRange{546, 547}},
}

// Selective reports whether the policy leaves management traffic alone, as far
// as the policy itself can tell; CheckSelective says why not.
func (p Policy) Selective() bool {
	return p.CheckSelective() == nil
}

// CheckSelective returns an error that names the rule and the traffic when the
// policy may cut the machine off: when All is set, or when a rule that redirects
// or drops, or the filter, can match ARP, IPv6 neighbour discovery, SSH or DHCP.
//
// A rule is harmless if it names a VLAN; or a protocol, ports or an ethertype
// that none of these use; or a prefix of at least /16 for IPv4 or /32 for IPv6.
// (fe80::/10 and ff00::/8 are neighbour discovery's, however long the prefix.)
//
// Rules that pass are not taken into account, also where they come first: the
// answer errs towards not selective. The machine's addresses are not known here:
// a narrow prefix in a rule that holds them goes unnoticed.
//
// A filter is harmless if it can match none of that traffic whatever the
// addresses, lengths and contents are, nor ICMP errors, on which path MTU
// discovery depends. So it has to name a protocol, ports, a VLAN or an ethertype;
// hosts and networks do not make it harmless, however few they are.
func (p Policy) CheckSelective() error {
	if p.All {
		return errors.New("policy is not selective: it redirects all packets")
	}
	for i, rule := range p.Rules {
		if what := rule.threatens(); what != "" {
			return fmt.Errorf("policy is not selective: rule %d (%s) can take %s; name a VLAN, a narrower prefix, or a protocol and ports", i, rule, what)
		}
	}
	if p.Filter != "" {
		f, err := compileFilter(p.Filter)
		if err != nil {
			return err
		}
		if what := threatenedBy(f); what != "" {
			return fmt.Errorf("policy is not selective: the filter (%s) can take %s; name a VLAN, an ethertype, or a protocol and ports", p.Filter, what)
		}
	}
	return nil
}

// threatens returns the management traffic that the rule may take, or "". The
// rule is valid, so that one without ethertype needs IP or a VLAN.
func (r Rule) threatens() string {
	if r.Action == Pass || r.VLAN != 0 {
		return ""
	}
	network := r.etherType()
	if network == EtherTypeARP {
		return "ARP"
	}
	if network != 0 && network != EtherTypeIPv4 && network != EtherTypeIPv6 {
		return ""
	}
	if network != EtherTypeIPv4 && !r.hasPorts() && (r.Protocol == 0 || r.Protocol == ProtocolICMPv6) &&
		mayHoldDiscovery(r.Src) && mayHoldDiscovery(r.Dst) {
		return "IPv6 neighbour discovery"
	}
	if narrow(r.Src) || narrow(r.Dst) {
		return ""
	}
	for _, flow := range management {
		if network != 0 && flow.network != 0 && network != flow.network {
			continue
		}
		if r.Protocol != 0 && r.Protocol != flow.protocol {
			continue
		}
		if r.SrcPort.takes(flow.src) && r.DstPort.takes(flow.dst) && (r.Port.takes(flow.src) || r.Port.takes(flow.dst)) {
			return flow.what
		}
	}
	return ""
}

// takes reports whether r matches the ports of a flow. One port out of thousands
// that a connection may have by chance does not count.
func (r PortRange) takes(ports PortRange) bool {
	if r.IsZero() {
		return true
	}
	if r.From == r.To && ports.To-ports.From > 1000 {
		return false
	}
	return r.From <= ports.To && ports.From <= r.To
}

func mayHoldDiscovery(prefix netip.Prefix) bool {
	if !narrow(prefix) {
		return true
	}
	for _, used := range discovery {
		if used.Overlaps(prefix) {
			return true
		}
	}
	return false
}

func narrow(prefix netip.Prefix) bool {
	switch {
	case !prefix.IsValid():
		return false
	case prefix.Addr().Is4():
		return prefix.Bits() >= narrowBits4
	}
	return prefix.Bits() >= narrowBits6
}
