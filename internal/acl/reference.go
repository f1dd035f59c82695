package acl

import (
	"net/netip"

	"github.com/xdpipe/xdpipe/pipeline"
)

// An answer is what is known of a condition.
type answer int

const (
	no answer = iota
	maybe
	yes
)

func answerOf(known, holds bool) answer {
	switch {
	case !known:
		return maybe
	case holds:
		return yes
	}
	return no
}

// Reference is what a set has to say of a packet, by the principle alone: rule for
// rule and condition for condition. It is what rules mean, and for tests of what is
// faster.
func Reference(rules []Rule, d Direction, data []byte) Verdict {
	var m pipeline.Meta
	m.Parse(data)
	if m.Flags&pipeline.MetaMalformed != 0 || m.EtherType == pipeline.EtherTypeVLAN || m.EtherType == pipeline.EtherTypeQinQ {
		return Unreadable
	}
	for i := range rules {
		a := rules[i].matches(d, &m, data)
		if a == yes || a == maybe && rules[i].Action == Deny {
			return verdictOf(i, rules[i].Action)
		}
	}
	return NoMatch
}

func (r *Rule) matches(d Direction, m *pipeline.Meta, data []byte) answer {
	all := yes
	and := func(a answer) { all = min(all, a) }
	if r.Direction != NoDirection {
		and(answerOf(true, r.Direction == d))
	}
	if r.VLAN != nil {
		and(answerOf(true, m.VLANs > 0 && m.VLAN[0]&0xfff == *r.VLAN))
	}
	if r.EtherType != 0 {
		and(answerOf(true, m.EtherType == r.EtherType))
	}
	isIP := m.Flags&(pipeline.MetaIPv4|pipeline.MetaIPv6) != 0
	fragment := m.Flags&pipeline.MetaFragment != 0
	later := fragment && m.Flags&pipeline.MetaL4 == 0
	switch r.Fragment {
	case AnyFragment:
		and(answerOf(true, fragment))
	case FirstFragment:
		and(answerOf(true, fragment && !later))
	case LaterFragment:
		and(answerOf(true, later))
	}
	var src, dst netip.Addr
	switch l3 := int(m.L3); {
	case m.Flags&pipeline.MetaIPv4 != 0:
		src, _ = netip.AddrFromSlice(data[l3+12 : l3+16])
		dst, _ = netip.AddrFromSlice(data[l3+16 : l3+20])
	case m.Flags&pipeline.MetaIPv6 != 0:
		src, _ = netip.AddrFromSlice(data[l3+8 : l3+24])
		dst, _ = netip.AddrFromSlice(data[l3+24 : l3+40])
	}
	if r.Src.IsValid() {
		and(answerOf(true, isIP && r.Src.Contains(src)))
	}
	if r.Dst.IsValid() {
		and(answerOf(true, isIP && r.Dst.Contains(dst)))
	}
	// Behind the header of a later fragment there may be extension headers.
	protocolKnown := !isIP || !(later && m.Flags&pipeline.MetaIPv6 != 0 && isExtension(m.Protocol))
	if r.Protocol != nil {
		and(answerOf(protocolKnown, isIP && m.Protocol == *r.Protocol))
	}
	if r.hasPorts() {
		and(answerOf(protocolKnown, isIP && (m.Protocol == 6 || m.Protocol == 17 || m.Protocol == 132)))
		in := func(p *Ports, port uint16) bool { return p == nil || p.From <= port && port <= p.To }
		holds := m.Flags&pipeline.MetaPorts != 0 && in(r.SrcPort, m.SrcPort) && in(r.DstPort, m.DstPort) &&
			(in(r.Port, m.SrcPort) || in(r.Port, m.DstPort))
		and(answerOf(!later, holds))
	}
	return all
}
