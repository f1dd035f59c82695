package acltest

import (
	"net/netip"

	"github.com/xdpipe/xdpipe/internal/acl"
)

// Realistic returns rules as firewalls have them: services of hosts and of
// networks, networks that may talk to each other, hosts that are kept out, and
// some that are for all addresses.
func (r Random) Realistic(n int) []acl.Rule {
	services := []uint16{22, 25, 53, 80, 123, 143, 161, 389, 443, 445, 587, 993, 3306, 3389, 5060, 5432, 6379, 8080, 8443, 9100}
	ranges := []acl.Ports{
		{From: 1024, To: 65535}, {From: 8000, To: 8999}, {From: 0, To: 1023}, {From: 6000, To: 6063},
		{From: 30000, To: 32767}, {From: 49152, To: 65535}, {From: 16384, To: 32767},
	}
	action := func(deny int) acl.Action {
		if r.IntN(100) < deny {
			return acl.Deny
		}
		return acl.Permit
	}
	inside := func(ip4 bool) netip.Prefix { // networks of ours, and their hosts
		if ip4 {
			a := netip.AddrFrom4([4]byte{10, byte(r.IntN(64)), byte(r.IntN(256)), byte(r.IntN(256))})
			return netip.PrefixFrom(a, Pick(r, []int{16, 20, 22, 24, 24, 24, 28, 32, 32, 32, 32})).Masked()
		}
		a := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, byte(r.IntN(64)), byte(r.IntN(256)), byte(r.IntN(256)), 0, 0, 0, 0, 0, 0, byte(r.IntN(4)), byte(r.IntN(256))})
		return netip.PrefixFrom(a, Pick(r, []int{48, 56, 64, 64, 64, 64, 128, 128, 128})).Masked()
	}
	outside := func(ip4 bool) netip.Prefix {
		if ip4 {
			a := netip.AddrFrom4([4]byte{byte(11 + r.IntN(212)), byte(r.IntN(256)), byte(r.IntN(256)), byte(r.IntN(256))})
			return netip.PrefixFrom(a, Pick(r, []int{8, 12, 16, 16, 18, 20, 22, 24, 24, 24, 24, 28, 32, 32, 32})).Masked()
		}
		a := netip.AddrFrom16([16]byte{0x24 | byte(r.IntN(4)), byte(r.IntN(256)), byte(r.IntN(256)), byte(r.IntN(256)), byte(r.IntN(256)), byte(r.IntN(256)), 0, byte(r.IntN(4))})
		return netip.PrefixFrom(a, Pick(r, []int{29, 32, 32, 36, 40, 48, 48, 48, 64, 64})).Masked()
	}
	tcp, udp, icmp := uint8(6), uint8(17), uint8(1)
	protocol := func() *uint8 {
		if r.IntN(10) < 7 {
			return &tcp
		}
		return &udp
	}
	ports := func() *acl.Ports {
		if r.OneIn(5) {
			p := Pick(r, ranges)
			return &p
		}
		s := Pick(r, services)
		if r.OneIn(3) {
			s = uint16(r.IntN(10000))
		}
		return &acl.Ports{From: s, To: s}
	}
	rules := make([]acl.Rule, n)
	for i := range rules {
		ip4 := !r.OneIn(5)
		rule := acl.Rule{Line: i + 1}
		switch k := r.IntN(100); {
		case k < 40: // a service for everyone
			rule = acl.Rule{Action: action(10), Protocol: protocol(), Dst: inside(ip4), DstPort: ports()}
		case k < 65: // a service for some
			rule = acl.Rule{Action: action(20), Protocol: protocol(), Src: outside(ip4), Dst: inside(ip4), DstPort: ports()}
		case k < 75: // networks of ours with each other
			rule = acl.Rule{Action: action(30), Src: inside(ip4), Dst: inside(ip4)}
		case k < 92: // who is kept out
			rule = acl.Rule{Action: action(95), Src: outside(ip4)}
		case k < 97: // out of our networks
			rule = acl.Rule{Action: action(30), Protocol: protocol(), Src: inside(ip4), DstPort: ports()}
		case k < 99: // answers
			rule = acl.Rule{Action: acl.Permit, Protocol: protocol(), SrcPort: ports(), Dst: inside(ip4), DstPort: &acl.Ports{From: 1024, To: 65535}}
		case r.OneIn(4) && i > n/2: // for all
			rule = acl.Rule{Action: action(90), Protocol: protocol(), DstPort: ports()}
		default:
			rule = acl.Rule{Action: acl.Permit, Protocol: &icmp, Dst: inside(true)}
		}
		rule.Line = i + 1
		rules[i] = rule
	}
	return rules
}

// Hitting returns packets of which most match a rule, each another one.
func (r Random) Hitting(rules []acl.Rule, n int, ip4 bool) [][]byte {
	var packets [][]byte
	for len(packets) < n {
		p := Packet{Src: r.Addr(ip4, true), Dst: r.Addr(ip4, true), Protocol: 6, SrcPort: uint16(1024 + r.IntN(60000)), DstPort: 443}
		if !r.OneIn(10) {
			rule := &rules[r.IntN(len(rules))]
			r.aim(&p, rule)
			if p.Src.Is4() != ip4 {
				continue
			}
			if rule.SrcPort == nil {
				p.SrcPort = uint16(1024 + r.IntN(60000))
			}
		}
		p.Tags = nil
		packets = append(packets, p.Bytes())
	}
	return packets
}
