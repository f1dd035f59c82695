// Package acltest makes rules and packets for tests of access control lists.
package acltest

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"

	"github.com/xdpipe/xdpipe/internal/acl"
	"github.com/xdpipe/xdpipe/pipeline"
)

// Few values, so that random rules and random packets meet often.
var (
	someVLANs      = []uint16{0, 1, 100, 4094}
	someEtherTypes = []uint16{pipeline.EtherTypeIPv4, pipeline.EtherTypeIPv6, pipeline.EtherTypeARP, 0x88cc, 0xffff}
	someProtocols  = []uint8{0, 1, 6, 17, 47, 50, 51, 58, 59, 60, 132, 255}
	somePorts      = []uint16{0, 1, 22, 53, 80, 443, 1023, 1024, 65534, 65535}
	someBits4      = []int{0, 1, 8, 16, 23, 24, 25, 31, 32}
	someBits6      = []int{0, 1, 10, 31, 32, 48, 63, 64, 65, 96, 127, 128}
)

// Random makes things up, the same for the same seed.
type Random struct{ *rand.Rand }

// NewRandom returns a Random of that seed.
func NewRandom(seed uint64) Random { return Random{rand.New(rand.NewPCG(seed, 1))} }

// Pick returns one of them.
func Pick[T any](r Random, from []T) T { return from[r.IntN(len(from))] }

// OneIn is true once in n times.
func (r Random) OneIn(n int) bool { return r.IntN(n) == 0 }

// Addr returns an address, of which there are few or many.
func (r Random) Addr(ip4, many bool) netip.Addr {
	if ip4 {
		a := [4]byte{byte(r.IntN(256)), byte(r.IntN(256)), byte(r.IntN(256)), byte(r.IntN(256))}
		if !many {
			a = [4]byte{Pick(r, []byte{10, 11, 138}), Pick(r, []byte{0, 128}), byte(r.IntN(3)), Pick(r, []byte{0, 1, 128, 255})}
		}
		return netip.AddrFrom4(a)
	}
	a := [16]byte{0x20, 0x01, 0x0d, 0xb8}
	if many {
		binary.BigEndian.PutUint64(a[4:], r.Uint64())
	} else {
		a[0], a[5], a[9], a[15] = Pick(r, []byte{0x20, 0xfe}), byte(r.IntN(3)), Pick(r, []byte{0, 128}), Pick(r, []byte{0, 1, 128, 255})
	}
	return netip.AddrFrom16(a)
}

func (r Random) prefix(ip4, many bool) netip.Prefix {
	bits := Pick(r, someBits6)
	if ip4 {
		bits = Pick(r, someBits4)
	}
	return netip.PrefixFrom(r.Addr(ip4, many), bits).Masked()
}

func (r Random) ports(many bool) *acl.Ports {
	a, b := Pick(r, somePorts), Pick(r, somePorts)
	if many {
		a = uint16(r.Uint32())
		b = a + min(uint16(r.IntN(2000)), 65535-a)
	}
	if r.OneIn(2) {
		b = a
	}
	return &acl.Ports{From: min(a, b), To: max(a, b)}
}

// rule returns a rule that Parse accepts.
func (r Random) rule(many bool) acl.Rule {
	for {
		rule := acl.Rule{Action: acl.Action(r.IntN(2)), Line: 1}
		ip4 := r.OneIn(2)
		if r.OneIn(8) {
			rule.Direction = acl.Direction(1 + r.IntN(2))
		}
		if r.OneIn(8) {
			rule.Fragment = acl.Fragment(1 + r.IntN(3))
		}
		if r.OneIn(6) {
			v := Pick(r, someVLANs)
			rule.VLAN = &v
		}
		if r.OneIn(6) {
			rule.EtherType = Pick(r, someEtherTypes)
		}
		if r.OneIn(2) {
			p := Pick(r, someProtocols)
			if r.OneIn(2) {
				p = Pick(r, []uint8{6, 17, 132})
			}
			rule.Protocol = &p
		}
		if r.OneIn(2) {
			rule.Src = r.prefix(ip4, many)
		}
		if r.OneIn(2) {
			rule.Dst = r.prefix(ip4, many)
		}
		if r.OneIn(4) {
			rule.SrcPort = r.ports(many)
		}
		if r.OneIn(3) {
			rule.DstPort = r.ports(many)
		}
		if r.OneIn(6) {
			rule.Port = r.ports(many)
		}
		if rule.Unconditional() && !r.OneIn(20) {
			continue
		}
		if parsed, err := acl.Parse("", []byte(rule.String()), acl.Options{Directions: true}); err == nil {
			return parsed[0]
		}
	}
}

// Rules returns rules that Parse accepts. many is whether addresses and ports are of
// all there are, or few that meet often.
func (r Random) Rules(n int, many bool) []acl.Rule {
	rules := make([]acl.Rule, n)
	for i := range rules {
		rules[i] = r.rule(many)
		rules[i].Line = i + 1
	}
	return rules
}

// Packet returns a packet, most often one that a rule is about.
func (r Random) Packet(rules []acl.Rule, many bool) []byte {
	p := Packet{Protocol: Pick(r, someProtocols), SrcPort: Pick(r, somePorts), DstPort: Pick(r, somePorts)}
	if r.OneIn(2) {
		p.Protocol = Pick(r, []uint8{6, 17, 132})
	}
	ip4 := r.OneIn(2)
	p.Src, p.Dst = r.Addr(ip4, many), r.Addr(ip4, many)
	for range Pick(r, []int{0, 0, 0, 1, 1, 2, 3}) {
		p.Tags = append(p.Tags, 3<<13|Pick(r, someVLANs))
	}
	if r.OneIn(10) {
		p.EtherType = Pick(r, someEtherTypes)
		if r.OneIn(2) {
			p.Src = netip.Addr{}
		}
	}
	if len(rules) > 0 && r.OneIn(2) {
		r.aim(&p, &rules[r.IntN(len(rules))])
	}
	switch r.IntN(6) {
	case 0:
		p.More = true
	case 1:
		p.Offset, p.More = uint16(1+r.IntN(100)), r.OneIn(2)
	}
	p.Destination = r.OneIn(3)
	if r.OneIn(12) {
		p.Cut = r.IntN(80)
	}
	b := p.Bytes()
	if r.OneIn(30) {
		b[r.IntN(len(b))] ^= 1 << r.IntN(8)
	}
	return b
}

// aim gives the packet what the rule asks for.
func (r Random) aim(p *Packet, rule *acl.Rule) {
	family := rule.Family()
	ip4 := family == pipeline.EtherTypeIPv4 || family != pipeline.EtherTypeIPv6 && r.OneIn(2)
	p.Src, p.Dst = r.Addr(ip4, true), r.Addr(ip4, true)
	p.EtherType = 0
	if family != 0 && family != pipeline.EtherTypeIPv4 && family != pipeline.EtherTypeIPv6 {
		p.EtherType = family
	}
	within := func(to *netip.Addr, prefix netip.Prefix) {
		if !prefix.IsValid() {
			return
		}
		a, random := prefix.Addr().AsSlice(), to.AsSlice()
		for bit := prefix.Bits(); bit < len(a)*8; bit++ {
			a[bit/8] |= random[bit/8] & (0x80 >> (bit % 8))
		}
		*to, _ = netip.AddrFromSlice(a)
	}
	within(&p.Src, rule.Src)
	within(&p.Dst, rule.Dst)
	port := func(to *uint16, ports *acl.Ports) {
		if ports != nil {
			*to = ports.From + uint16(r.IntN(int(ports.To-ports.From)+1))
		}
	}
	if rule.SrcPort != nil || rule.DstPort != nil || rule.Port != nil {
		p.Protocol = Pick(r, []uint8{6, 17, 132})
	}
	port(&p.SrcPort, rule.SrcPort)
	port(&p.DstPort, rule.DstPort)
	port(Pick(r, []*uint16{&p.SrcPort, &p.DstPort}), rule.Port)
	if rule.Protocol != nil {
		p.Protocol = *rule.Protocol
	}
	if rule.VLAN != nil {
		p.Tags = []uint16{*rule.VLAN}
	}
}
