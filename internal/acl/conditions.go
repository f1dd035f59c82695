package acl

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/xdpipe/xdpipe/pipeline"
)

// A columnError is about another column than that of the word being read.
type columnError struct {
	column int
	error
}

// conditions reads the conditions of one rule.
type conditions struct {
	rule *Rule
	opts Options
	at   map[string]int // column of each condition that was given
	any  bool
}

// read reads a condition from the front of the words, and returns how many of
// them it is.
func (c *conditions) read(words []word) (int, error) {
	w := words[0]
	key, value, hasValue := strings.Cut(w.text, "=")
	if !hasValue && slices.Contains(flagWords, key) {
		return 1, c.flag(w)
	}
	if !hasValue {
		if _, ok := byText(protocolNames, key); ok {
			return 1, c.set("protocol", key, w.column, w.column)
		}
		if _, ok := byText(etherTypeNames, key); ok {
			return 1, c.set("ethertype", key, w.column, w.column)
		}
	}
	switch {
	case !slices.Contains(keys, key) && hasValue && slices.Contains(flagWords, key):
		return 0, fmt.Errorf("found %s; %s has no value", quoted(w.text), key)
	case !slices.Contains(keys, key) && hasValue:
		return 0, fmt.Errorf("unknown condition %s: %s", quoted(key), didYouMean(key, keys))
	case !slices.Contains(keys, key) && key[0] >= '0' && key[0] <= '9':
		return 0, fmt.Errorf("found %s without a condition before it; each has one value: of several ports write a rule each, or a range N-M", quoted(key))
	case !slices.Contains(keys, key):
		known := slices.Concat(keys, flagWords, texts(protocolNames), texts(etherTypeNames))
		return 0, fmt.Errorf("unknown condition %s: %s", quoted(key), didYouMean(key, known))
	case hasValue:
		return 1, c.set(key, value, w.column, w.column+len(key)+1)
	case len(words) == 1:
		return 0, &columnError{w.column + len(key), fmt.Errorf("found nothing after %s, want %s", key, wanted(key))}
	}
	return 2, c.set(key, words[1].text, w.column, words[1].column)
}

// once notes that a condition is given, which it may be once.
func (c *conditions) once(key string, column int) error {
	if before, twice := c.at[key]; twice {
		return fmt.Errorf("%s is there twice, before in column %d; a rule has each condition once: write two rules", key, before)
	}
	c.at[key] = column
	return nil
}

func (c *conditions) flag(w word) error {
	switch w.text {
	case "any":
		c.any = true
		return c.once("any", w.column)
	case "in", "out":
		if !c.opts.Directions {
			return fmt.Errorf("found %q, but no port faces outside; name it with the option outside", w.text)
		}
		c.rule.Direction = In
		if w.text == "out" {
			c.rule.Direction = Out
		}
		return c.once("direction", w.column)
	}
	for _, f := range []Fragment{AnyFragment, FirstFragment, LaterFragment} {
		if f.String() == w.text {
			c.rule.Fragment = f
		}
	}
	return c.once("fragment", w.column)
}

// wanted says what the value of a key is.
func wanted(key string) string {
	switch key {
	case "src", "dst":
		return "an address or prefix such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32"
	case "protocol":
		return "a number from 0 to 255 or one of " + strings.Join(texts(protocolNames), ", ")
	case "ethertype":
		return "a number such as 0x88cc or one of " + strings.Join(texts(etherTypeNames), ", ")
	case "vlan":
		return fmt.Sprintf("an id from 0 to %d", maxVLAN)
	}
	return "a port or a range of ports such as 8000-8999, from 0 to 65535"
}

const (
	maxVLAN      = 4094   // 4095 is reserved
	minEtherType = 0x0600 // below, the field is an 802.3 length
)

// set sets a condition from the text of its value, which is in the column at.
func (c *conditions) set(key, value string, column, at int) error {
	if err := c.once(key, column); err != nil {
		return err
	}
	bad := func(format string, args ...any) error {
		return &columnError{at, fmt.Errorf(key+": "+format, args...)}
	}
	r := c.rule
	switch key {
	case "src", "dst":
		prefix, err := parsePrefix(value)
		if err != nil {
			return bad("%w", err)
		}
		if key == "src" {
			r.Src = prefix
		} else {
			r.Dst = prefix
		}
	case "src_port", "dst_port", "port":
		ports, err := parsePorts(value)
		if err != nil {
			return bad("%w", err)
		}
		switch key {
		case "src_port":
			r.SrcPort = &ports
		case "dst_port":
			r.DstPort = &ports
		default:
			r.Port = &ports
		}
	case "protocol":
		protocol, known := byText(protocolNames, value)
		if !known {
			n, err := strconv.ParseUint(value, 10, 8)
			if err != nil && value != "" && value[0] >= 'a' && value[0] <= 'z' {
				return bad("found %s, want a number from 0 to 255 or a name: %s", quoted(value), didYouMean(value, texts(protocolNames)))
			} else if err != nil {
				return bad("found %s, want %s", quoted(value), wanted(key))
			}
			protocol = uint8(n)
		}
		r.Protocol = &protocol
	case "ethertype":
		etherType, known := byText(etherTypeNames, value)
		if !known {
			n, err := strconv.ParseUint(value, 0, 16)
			if err != nil || n == 0 {
				return bad("found %s, want %s", quoted(value), wanted(key))
			}
			etherType = uint16(n)
		}
		if etherType == pipeline.EtherTypeVLAN || etherType == pipeline.EtherTypeQinQ {
			return bad("%#04x is a VLAN tag, which is stepped over; use vlan for its id", etherType)
		}
		if etherType < minEtherType {
			return bad("%#04x is an 802.3 length; ethertypes begin at %#04x", etherType, minEtherType)
		}
		r.EtherType = etherType
	case "vlan":
		n, err := strconv.ParseUint(value, 10, 16)
		if err != nil || n > maxVLAN {
			return bad("found %s, want %s", quoted(value), wanted(key))
		}
		id := uint16(n)
		r.VLAN = &id
	}
	return nil
}

func parsePrefix(value string) (netip.Prefix, error) {
	if value == "any" {
		return netip.Prefix{}, errors.New("found \"any\"; leave the condition out for any address")
	}
	prefix, err := netip.ParsePrefix(value)
	if address, err2 := netip.ParseAddr(value); err2 == nil && address.Zone() == "" {
		prefix, err = netip.PrefixFrom(address, address.BitLen()), nil
	}
	switch {
	case err != nil:
		return prefix, fmt.Errorf("found %s, want %s", quoted(value), wanted("src"))
	case prefix.Addr().Is4In6():
		return prefix, fmt.Errorf("%s is an IPv4 address written as IPv6; write the IPv4 prefix", quoted(value))
	case prefix != prefix.Masked():
		return prefix, fmt.Errorf("%s has bits set beyond its length; write %s, or a longer prefix", value, prefix.Masked())
	}
	return prefix, nil
}

func parsePorts(value string) (Ports, error) {
	first, last, isRange := strings.Cut(value, "-")
	if !isRange {
		last = first
	}
	from, err := strconv.ParseUint(first, 10, 16)
	to, err2 := strconv.ParseUint(last, 10, 16)
	switch {
	case err != nil || err2 != nil:
		return Ports{}, fmt.Errorf("found %s, want %s", quoted(value), wanted("port"))
	case to < from:
		return Ports{}, fmt.Errorf("%s ends before it begins; write the lower port first", value)
	}
	return Ports{uint16(from), uint16(to)}, nil
}

// check finds conditions that no packet can meet together, and a rule without
// any. It blames the condition that it names, or none.
func (c *conditions) check() (key string, err error) {
	r := c.rule
	given := len(c.at)
	for _, k := range []string{"any", "direction"} {
		if _, ok := c.at[k]; ok {
			given--
		}
	}
	switch {
	case c.any && given > 0:
		return "any", errors.New("any is every packet; leave it out where there are other conditions")
	case !c.any && given == 0:
		return "", errors.New("found no condition, want one; write any for every packet")
	}
	if r.Src.IsValid() && r.Dst.IsValid() && r.Src.Addr().Is4() != r.Dst.Addr().Is4() {
		return "dst", fmt.Errorf("dst %s and src %s are of different IP versions; no packet has both", r.Dst, r.Src)
	}
	family := r.Family()
	switch {
	case r.EtherType != 0 && r.EtherType != family:
		return "ethertype", fmt.Errorf("ethertype contradicts the address, which is of %s", etherTypeText(family))
	case family != 0 && family != pipeline.EtherTypeIPv4 && family != pipeline.EtherTypeIPv6 && r.needsIP():
		return "ethertype", fmt.Errorf("packets of %s have no IP protocol, ports or fragments; use ipv4 or ipv6, or leave it out", etherTypeText(family))
	case r.Protocol == nil:
	case r.hasPorts() && !protocolHasPorts(*r.Protocol):
		return "protocol", fmt.Errorf("%s has no ports that are looked at; use tcp, udp or sctp, or leave it out for all three", protocolText(*r.Protocol))
	case *r.Protocol == pipeline.ProtocolICMPv6 && family == pipeline.EtherTypeIPv4:
		return "protocol", errors.New("icmp6 does not occur in ipv4; use icmp")
	case *r.Protocol == pipeline.ProtocolICMP && family == pipeline.EtherTypeIPv6:
		return "protocol", errors.New("icmp does not occur in ipv6; use icmp6")
	}
	if r.hasPorts() && r.Fragment == LaterFragment {
		return "fragment", errors.New("later fragments have no ports; leave one of the two out")
	}
	return c.disjointPorts()
}

// disjointPorts finds an either port that the other conditions exclude on both
// ends.
func (c *conditions) disjointPorts() (key string, err error) {
	r := c.rule
	excluded := func(p *Ports) bool { return p != nil && (p.To < r.Port.From || p.From > r.Port.To) }
	if r.Port != nil && excluded(r.SrcPort) && excluded(r.DstPort) {
		return "port", errors.New("port is neither in src_port nor in dst_port; no packet has both")
	}
	return "", nil
}
