package bpf

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/xdpipe/xdpipe/filter"
)

const (
	maxRuleText = 1024 // the longest text ParseRule looks at, in bytes
	maxQuoted   = 40   // the most of it that an error repeats

	ruleKeys = "ethertype, protocol, src, dst, src_port, dst_port, port, vlan, action"
)

type name[N uint8 | uint16] struct {
	text  string
	value N
}

var etherTypeNames = []name[uint16]{
	{"arp", EtherTypeARP},
	{"ipv4", EtherTypeIPv4},
	{"ipv6", EtherTypeIPv6},
}

var protocolNames = []name[uint8]{
	{"tcp", ProtocolTCP},
	{"udp", ProtocolUDP},
	{"icmp", ProtocolICMP},
	{"icmp6", ProtocolICMPv6},
	{"sctp", ProtocolSCTP},
}

var actionNames = []name[uint8]{
	{"redirect", uint8(Redirect)},
	{"pass", uint8(Pass)},
	{"drop", uint8(Drop)},
}

func byText[N uint8 | uint16](names []name[N], text string) (N, bool) {
	i := slices.IndexFunc(names, func(n name[N]) bool { return n.text == text })
	if i < 0 {
		return 0, false
	}
	return names[i].value, true
}

func byValue[N uint8 | uint16](names []name[N], value N) string {
	i := slices.IndexFunc(names, func(n name[N]) bool { return n.value == value })
	if i < 0 {
		return ""
	}
	return names[i].text
}

func etherTypeName(etherType uint16) string {
	if text := byValue(etherTypeNames, etherType); text != "" {
		return text
	}
	return fmt.Sprintf("%#04x", etherType)
}

func protocolName(protocol uint8) string {
	if text := byValue(protocolNames, protocol); text != "" {
		return text
	}
	return strconv.Itoa(int(protocol))
}

// ParseRule reads a rule as it is written on a command line: fields as
// key=value, separated by commas or spaces.
//
//	protocol=udp,dst_port=53,dst=192.0.2.0/24
//	tcp port=8000-8999 action=drop
//
// The keys:
//
//	ethertype           arp, ipv4, ipv6 or a number such as 0x88cc
//	protocol            tcp, udp, icmp, icmp6, sctp or a number from 1 to 255
//	src, dst            an IPv4 or IPv6 address or prefix
//	src_port, dst_port  a port or a range, N-M
//	port                the same, of either direction
//	vlan                an id from 1 to 4094
//	action              redirect (as when left out), pass or drop
//
// The names of ethertypes, protocols and actions may stand without their key.
// Errors are of type *RuleError. The rule returned is valid.
func ParseRule(text string) (Rule, error) {
	if len(text) > maxRuleText {
		return Rule{}, ruleError("", "the text has %d bytes; at most %d are read", len(text), maxRuleText)
	}
	fields := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' })
	if len(fields) == 0 {
		return Rule{}, ruleError("", "the text is empty; write key=value, with the keys %s", ruleKeys)
	}
	var rule Rule
	seen := make(map[string]bool)
	for _, field := range fields {
		key, value, found := strings.Cut(field, "=")
		if !found {
			key, value = keyOf(field), field
			if key == "" {
				if _, err := filter.Compile(text); err == nil {
					return Rule{}, ruleError("", "%s is a filter expression, not a rule; give it as the filter (--filter, or filter: in a configuration)", quoted(text))
				}
				return Rule{}, ruleError("", "%s is neither key=value nor a known name; keys are %s", quoted(field), ruleKeys)
			}
		}
		if seen[key] {
			return Rule{}, ruleError(key, "it is given twice; give it once, or write two rules")
		}
		seen[key] = true
		if err := rule.set(key, value); err != nil {
			return Rule{}, err
		}
	}
	if err := rule.validate(); err != nil {
		return Rule{}, err
	}
	return rule, nil
}

// keyOf returns the key that a name standing alone belongs to, or "".
func keyOf(text string) string {
	if _, ok := byText(protocolNames, text); ok {
		return "protocol"
	}
	if _, ok := byText(etherTypeNames, text); ok {
		return "ethertype"
	}
	if _, ok := byText(actionNames, text); ok {
		return "action"
	}
	return ""
}

// set sets one field from text. It refuses values that would mean "any": a field
// that is written is meant to select something.
func (r *Rule) set(key, value string) *RuleError {
	switch key {
	case "ethertype":
		etherType, known := byText(etherTypeNames, value)
		if !known {
			number, err := strconv.ParseUint(value, 0, 16)
			if err != nil || number == 0 {
				return ruleError(key, "%s is unknown; use arp, ipv4, ipv6 or a number such as 0x88cc", quoted(value))
			}
			etherType = uint16(number)
		}
		r.EtherType = etherType
	case "protocol":
		protocol, known := byText(protocolNames, value)
		if !known {
			number, err := strconv.ParseUint(value, 10, 8)
			if err != nil || number == 0 {
				return ruleError(key, "%s is unknown; use tcp, udp, icmp, icmp6, sctp or a number from 1 to 255", quoted(value))
			}
			protocol = uint8(number)
		}
		r.Protocol = protocol
	case "action":
		action, known := byText(actionNames, value)
		if !known {
			return ruleError(key, "%s is unknown; use redirect, pass or drop", quoted(value))
		}
		r.Action = Action(action)
	case "vlan":
		id, err := strconv.ParseUint(value, 10, 16)
		if err != nil || id == 0 || id > maxVLAN {
			return ruleError(key, "%s is no VLAN id; ids are 1 to %d", quoted(value), maxVLAN)
		}
		r.VLAN = uint16(id)
	case "src":
		return parsePrefix(key, value, &r.Src)
	case "dst":
		return parsePrefix(key, value, &r.Dst)
	case "src_port":
		return parsePorts(key, value, &r.SrcPort)
	case "dst_port":
		return parsePorts(key, value, &r.DstPort)
	case "port":
		return parsePorts(key, value, &r.Port)
	default:
		return ruleError("", "key %s is unknown; keys are %s", quoted(key), ruleKeys)
	}
	return nil
}

func parsePrefix(key, value string, to *netip.Prefix) *RuleError {
	if address, err := netip.ParseAddr(value); err == nil && address.Zone() == "" {
		*to = netip.PrefixFrom(address, address.BitLen())
		return nil
	}
	prefix, err := netip.ParsePrefix(value)
	if err != nil {
		return ruleError(key, "%s is no address or prefix; write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32", quoted(value))
	}
	*to = prefix
	return nil
}

func parsePorts(key, value string, to *PortRange) *RuleError {
	first, last, isRange := strings.Cut(value, "-")
	if !isRange {
		last = first
	}
	from, err := strconv.ParseUint(first, 10, 16)
	until, err2 := strconv.ParseUint(last, 10, 16)
	switch {
	case errors.Join(err, err2) != nil:
		return ruleError(key, "%s is no port or range; write N or N-M with numbers from 0 to 65535", quoted(value))
	case until < from:
		return ruleError(key, "%s ends before it begins; write the lower port first", quoted(value))
	case until == 0:
		return ruleError(key, "port 0 cannot be matched alone; give a range such as 0-1")
	}
	*to = PortRange{From: uint16(from), To: uint16(until)}
	return nil
}

// quoted quotes what came from outside, cut so that an error stays readable.
func quoted(text string) string {
	if len(text) > maxQuoted {
		return strconv.Quote(text[:maxQuoted]) + "..."
	}
	return strconv.Quote(text)
}
