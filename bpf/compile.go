package bpf

import (
	"net/netip"
	"slices"
)

// tables are a policy as the program reads it.
type tables struct {
	bank      steerBank
	prefixes4 map[steerPrefix4]uint64
	prefixes6 map[steerPrefix6]uint64
}

// The bank's flags for Policy.All and Policy.Filter (BANK_… in steer.c).
const (
	redirectUnmatched = 1
	filterUnmatched   = 2
)

// The key's bits before the address: generation and direction.
const prefixBits = 64

// compile turns a valid policy into tables of the generation.
func compile(policy Policy, generation uint32) *tables {
	rules := policy.Rules
	t := &tables{
		prefixes4: make(map[steerPrefix4]uint64),
		prefixes6: make(map[steerPrefix6]uint64),
	}
	b := &t.bank
	b.Generation = generation
	if policy.All {
		b.Flags |= redirectUnmatched
	}
	if policy.Filter != "" {
		b.Flags |= filterUnmatched
	}
	for i, rule := range rules {
		bit := uint64(1) << i
		b.Rules |= bit
		switch rule.Action {
		case Redirect:
			b.Redirect |= bit
		case Drop:
			b.Drop |= bit
		}
		mark := func(uses *uint64, named bool) {
			if named {
				*uses |= bit
			}
		}
		mark(&b.UsesVlan, rule.VLAN != 0)
		mark(&b.UsesEthertype, rule.etherType() != 0)
		mark(&b.UsesProtocol, rule.Protocol != 0)
		mark(&b.UsesSrc, rule.Src.IsValid())
		mark(&b.UsesDst, rule.Dst.IsValid())
		mark(&b.UsesPorts, rule.hasPorts())
	}
	for protocol := range b.ProtocolMask {
		b.ProtocolMask[protocol] = b.Rules &^ b.UsesProtocol
	}
	for i, rule := range rules {
		if rule.Protocol != 0 {
			b.ProtocolMask[rule.Protocol] |= 1 << i
		}
	}

	one := func(value uint16) PortRange { return PortRange{From: value, To: value} }
	classify(b.VlanClass[:], &b.VlanMask, rules, func(r Rule) PortRange { return one(r.VLAN) })
	classify(b.EthertypeClass[:], &b.EthertypeMask, rules, func(r Rule) PortRange { return one(r.etherType()) })
	classify(b.SrcPortClass[:], &b.SrcPortMask, rules, func(r Rule) PortRange { return r.SrcPort })
	classify(b.DstPortClass[:], &b.DstPortMask, rules, func(r Rule) PortRange { return r.DstPort })
	classify(b.PortClass[:], &b.PortMask, rules, func(r Rule) PortRange { return r.Port })

	t.addPrefixes(rules, steerDirectionDIRECTION_SRC, func(r Rule) netip.Prefix { return r.Src })
	t.addPrefixes(rules, steerDirectionDIRECTION_DST, func(r Rule) netip.Prefix { return r.Dst })
	return t
}

// classify fills class and mask for one field, of which each rule names a range
// of values (the zero range: any). mask[class[value]] are the rules that value
// does not rule out. A rule's range has two ends, so there are at most
// 2*MaxRules+1 classes, which fit a byte.
func classify(class []uint8, mask *[256]uint64, rules []Rule, named func(Rule) PortRange) {
	starts := []int{0} // where a stretch of values of one class begins
	for _, rule := range rules {
		if values := named(rule); !values.IsZero() {
			starts = append(starts, int(values.From), int(values.To)+1)
		}
	}
	slices.Sort(starts)
	starts = slices.Compact(starts)

	classes := make(map[uint64]uint8)
	for i, start := range starts {
		end := len(class)
		if i+1 < len(starts) {
			end = starts[i+1]
		}
		if start == end { // a range that ends with the last value
			continue
		}
		var left uint64
		for j, rule := range rules {
			if named(rule).Contains(uint16(start)) {
				left |= 1 << j
			}
		}
		index, known := classes[left]
		if !known {
			index = uint8(len(classes))
			classes[left] = index
			mask[index] = left
		}
		for value := start; value < end; value++ {
			class[value] = index
		}
	}
}

// addPrefixes adds the prefixes that rules name in one direction. The trie finds
// the longest alone, so each entry also has the rules of all shorter prefixes
// around it, and those that name none.
func (t *tables) addPrefixes(rules []Rule, direction steerDirection, named func(Rule) netip.Prefix) {
	for _, rule := range rules {
		prefix := named(rule)
		if !prefix.IsValid() {
			continue
		}
		var left uint64
		for i, other := range rules {
			around := named(other)
			if !around.IsValid() || around.Bits() <= prefix.Bits() && around.Contains(prefix.Addr()) {
				left |= 1 << i
			}
		}
		bits := uint32(prefixBits + prefix.Bits())
		if prefix.Addr().Is4() {
			t.prefixes4[steerPrefix4{Bits: bits, Generation: t.bank.Generation, Direction: direction, Address: prefix.Addr().As4()}] = left
		} else {
			t.prefixes6[steerPrefix6{Bits: bits, Generation: t.bank.Generation, Direction: direction, Address: prefix.Addr().As16()}] = left
		}
	}
}
