package bpf

import (
	"maps"
	"slices"
	"testing"
)

// An extension chain of n destination options headers.
func options(n int) []extension {
	return slices.Repeat([]extension{{kind: destination}}, n)
}

func TestRulesMatchPackets(t *testing.T) {
	dns4 := packet{src: "192.0.2.1", dst: "198.51.100.1", protocol: ProtocolUDP, srcPort: 4000, dstPort: 53}
	dns6 := packet{src: "2001:db8::1", dst: "2001:db8:1::1", protocol: ProtocolUDP, srcPort: 4000, dstPort: 53}
	with := func(p packet, change func(*packet)) packet {
		change(&p)
		return p
	}
	tests := []struct {
		name    string
		rule    string
		packet  packet
		matches bool
		beside  string // the counter beside the verdict, "" for none
	}{
		{"destination port in IPv4", "udp dst_port=53", dns4, true, ""},
		{"destination port in IPv6", "udp dst_port=53", dns6, true, ""},
		{"another protocol with that port", "tcp dst_port=53", dns4, false, ""},
		{"the source port is not the destination port", "src_port=53", dns4, false, ""},
		{"either port is the destination", "port=53", dns4, true, ""},
		{"either port is the source", "port=4000", dns4, true, ""},
		{"either port and one port", "port=4000 dst_port=53", dns4, true, ""},
		{"either port, the other one wrong", "port=53 src_port=53", dns4, false, ""},
		{"a range's last port", "dst_port=0-53", dns4, true, ""},
		{"past a range's last port", "dst_port=0-52", dns4, false, ""},
		{"a range's first port", "dst_port=53-65535", dns4, true, ""},
		{"before a range's first port", "dst_port=54-65535", dns4, false, ""},
		{"ports without protocol are those of SCTP", "dst_port=53", with(dns4, func(p *packet) { p.protocol = ProtocolSCTP }), true, ""},
		{"ports without protocol are not those of ICMP", "dst_port=53", with(dns4, func(p *packet) { p.protocol = ProtocolICMP }), false, ""},

		{"source prefix", "src=192.0.2.0/24", dns4, true, ""},
		{"destination prefix is not the source's", "dst=192.0.2.0/24", dns4, false, ""},
		{"both prefixes", "src=192.0.2.1 dst=198.51.100.0/22", dns4, true, ""},
		{"IPv6 prefix", "src=2001:db8::/64 dst=2001:db8:1::1", dns6, true, ""},
		{"IPv6 prefix of another network", "src=2001:db8:2::/64", dns6, false, ""},
		{"every IPv4 address", "src=0.0.0.0/0", dns4, true, ""},
		{"every IPv4 address is not IPv6", "src=0.0.0.0/0", dns6, false, ""},
		{"every IPv6 address is not IPv4", "dst=::/0", dns4, false, ""},

		{"ARP", "arp", packet{etherType: EtherTypeARP}, true, ""},
		{"a numbered ethertype", "ethertype=0x88cc", packet{etherType: 0x88cc}, true, ""},
		{"a protocol rule is not about ARP", "protocol=udp", packet{etherType: EtherTypeARP}, false, ""},

		{"VLAN", "vlan=100", with(dns4, func(p *packet) { p.tags = []uint16{100} }), true, ""},
		{"another VLAN", "vlan=101", with(dns4, func(p *packet) { p.tags = []uint16{100} }), false, ""},
		{"VLAN of an untagged packet", "vlan=100", dns4, false, ""},
		{"a priority tag is no VLAN", "vlan=100", with(dns4, func(p *packet) { p.tags = []uint16{0} }), false, ""},
		{"the outer VLAN of two", "vlan=100", with(dns4, func(p *packet) { p.tags = []uint16{100, 200} }), true, ""},
		{"not the inner VLAN of two", "vlan=200", with(dns4, func(p *packet) { p.tags = []uint16{100, 200} }), false, ""},
		{"ports behind a service tag", "udp dst_port=53", with(dns4, func(p *packet) { p.tags, p.tpid = []uint16{100}, etherTypeQinQ }), true, ""},
		{"ports behind two tags", "vlan=100 udp dst_port=53", with(dns6, func(p *packet) { p.tags = []uint16{100, 200} }), true, ""},
		{"nothing is seen behind three tags", "udp dst_port=53", with(dns4, func(p *packet) { p.tags = []uint16{1, 2, 3} }), false, ""},

		{"ports behind IPv4 options", "udp dst_port=53", with(dns4, func(p *packet) { p.options = 40 }), true, ""},
		{"ports in a first fragment", "udp dst_port=53", with(dns4, func(p *packet) { p.more = true }), true, ""},
		{"no ports in a later fragment", "udp dst_port=53", with(dns4, func(p *packet) { p.offset = 1 }), false, ""},
		{"the protocol of a later fragment", "protocol=udp", with(dns4, func(p *packet) { p.offset = 1 }), true, ""},

		{"ports behind each extension header", "udp dst_port=53", with(dns6, func(p *packet) {
			p.extensions = []extension{{kind: hopByHop, length: 1}, {kind: routing, length: 2}, {kind: fragment}, {kind: authentication, length: 4}, {kind: destination}}
		}), true, ""},
		{"ports behind extension headers of the greatest length", "udp dst_port=53", with(dns6, func(p *packet) {
			p.extensions = []extension{{kind: hopByHop, length: 255}}
		}), true, ""},
		{"ports behind eight extension headers", "udp dst_port=53", with(dns6, func(p *packet) { p.extensions = options(8) }), true, ""},
		{"nine extension headers are too deep", "udp dst_port=53", with(dns6, func(p *packet) { p.extensions = options(9) }), false, "too_deep"},
		{"addresses before nine extension headers", "src=2001:db8::/64", with(dns6, func(p *packet) { p.extensions = options(9) }), true, ""},
		{"no ports in a later IPv6 fragment", "udp dst_port=53", with(dns6, func(p *packet) { p.extensions = []extension{{kind: fragment, offset: 1}} }), false, ""},
		{"the protocol of a later IPv6 fragment", "protocol=udp", with(dns6, func(p *packet) { p.extensions = []extension{{kind: fragment, offset: 1}} }), true, ""},

		{"ports cut off", "udp dst_port=53", with(dns4, func(p *packet) { p.cut = 5 }), false, "truncated"},
		{"the protocol with ports cut off", "protocol=udp", with(dns4, func(p *packet) { p.cut = 5 }), true, ""},
		{"the IPv4 header cut", "src=192.0.2.0/24", with(dns4, func(p *packet) { p.cut = 9 }), false, "truncated"},
		{"the ethertype with the IPv4 header cut", "ipv4", with(dns4, func(p *packet) { p.cut = 9 }), true, ""},
		{"the IPv6 header cut", "protocol=udp", with(dns6, func(p *packet) { p.cut = 9 }), false, "truncated"},
		{"an extension header cut", "protocol=udp", with(dns6, func(p *packet) { p.extensions, p.cut = options(1), 13 }), false, "truncated"},
		{"addresses with an extension header cut", "src=2001:db8::1", with(dns6, func(p *packet) { p.extensions, p.cut = options(1), 13 }), true, ""},
		{"a tag cut", "vlan=100", packet{tags: []uint16{100}, cut: 5}, false, "truncated"},
		{"the outer VLAN with the inner tag cut", "vlan=100", packet{tags: []uint16{100, 200}, cut: 5}, true, "truncated"},
		{"the ethertype with a tag cut", "ipv4", packet{tags: []uint16{100, 200}, etherType: EtherTypeIPv4, cut: 5}, false, "truncated"},
		{"an IPv4 header in a packet that says it is IPv6", "protocol=udp", with(dns4, func(p *packet) { p.etherType, p.payload = EtherTypeIPv6, 40 }), false, "malformed"},
		{"an IPv6 header in a packet that says it is IPv4", "protocol=udp", with(dns6, func(p *packet) { p.etherType = EtherTypeIPv4 }), false, "malformed"},
		{"an IPv4 header too short for itself", "protocol=udp", with(dns4, func(p *packet) { p.options = -4 }), false, "malformed"},
	}
	s := loadWithSocket(t)
	split := canFragment(t, s)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			setPolicy(t, s, Policy{Rules: rules(t, test.rule)})
			b := test.packet.bytes()
			lengths := []int{len(b)}
			if split {
				lengths = append(lengths, 14, 15, 20, 40, 54)
			}
			for _, linear := range lengths {
				before := counters(t, s)
				got := uint32(0)
				if linear < len(b) {
					got = verdictOfFragmented(t, s, b, linear)
				} else {
					got = verdict(t, s, b)
				}
				want, reason, hits := uint32(xdpPass), "pass_no_match", uint64(0)
				if test.matches {
					want, reason, hits = xdpRedirect, "redirect", 1
				}
				if got != want {
					t.Errorf("%d bytes linear: verdict %d, want %d", linear, got, want)
				}
				after := counters(t, s)
				if after.Rules[0]-before.Rules[0] != hits {
					t.Errorf("%d bytes linear: %d hits, want %d", linear, after.Rules[0]-before.Rules[0], hits)
				}
				counted := Counter{Packets: 1, Bytes: uint64(len(b))}
				expected := map[string]Counter{reason: counted}
				if test.beside != "" {
					expected[test.beside] = counted
				}
				if changed := difference(before, after); !maps.Equal(changed, expected) {
					t.Errorf("%d bytes linear: counted %v, want %v", linear, changed, expected)
				}
			}
			if reference := (Policy{Rules: rules(t, test.rule)}).match(b) == 0; reference != test.matches {
				t.Errorf("the reference says %v, want %v", reference, test.matches)
			}
		})
	}
}

// difference returns the counters that changed.
func difference(before, after Counters) map[string]Counter {
	old := before.ByReason()
	changed := make(map[string]Counter)
	for name, counter := range after.ByReason() {
		counter.Packets -= old[name].Packets
		counter.Bytes -= old[name].Bytes
		if counter != (Counter{}) {
			changed[name] = counter
		}
	}
	return changed
}

func TestTheFirstRuleThatMatchesDecides(t *testing.T) {
	web := packet{src: "192.0.2.1", dst: "198.51.100.1", protocol: ProtocolTCP, srcPort: 4000, dstPort: 80}.bytes()
	tests := []struct {
		name   string
		policy Policy
		want   uint32
		reason string
	}{
		{"no rules", Policy{}, xdpPass, "pass_no_match"},
		{"all", Policy{All: true}, xdpRedirect, "redirect"},
		{"all but what a rule lets pass", Policy{All: true, Rules: rules(t, "tcp dst_port=80 action=pass")}, xdpPass, "pass_rule"},
		{"all but what a rule drops", Policy{All: true, Rules: rules(t, "udp", "tcp action=drop")}, xdpDrop, "drop_rule"},
		{"all with rules that do not match", Policy{All: true, Rules: rules(t, "udp action=drop")}, xdpRedirect, "redirect"},
		{"drop before redirect", Policy{Rules: rules(t, "src=192.0.2.0/24 action=drop", "tcp")}, xdpDrop, "drop_rule"},
		{"redirect before drop", Policy{Rules: rules(t, "tcp", "src=192.0.2.0/24 action=drop")}, xdpRedirect, "redirect"},
		{"a wide prefix before a narrow one", Policy{Rules: rules(t, "src=192.0.0.0/16 action=drop", "src=192.0.2.0/24")}, xdpDrop, "drop_rule"},
		{"the last of 64", Policy{Rules: append(slices.Repeat(rules(t, "udp action=drop"), 63), rules(t, "port=80")...)}, xdpRedirect, "redirect"},
	}
	s := loadWithSocket(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			setPolicy(t, s, test.policy)
			before := counters(t, s)
			if got := verdict(t, s, web); got != test.want {
				t.Errorf("verdict %d, want %d", got, test.want)
			}
			want := map[string]Counter{test.reason: {1, uint64(len(web))}}
			if changed := difference(before, counters(t, s)); !maps.Equal(changed, want) {
				t.Errorf("counted %v, want %v", changed, want)
			}
		})
	}
}

func TestAPacketForAQueueWithoutSocketPasses(t *testing.T) {
	s := load(t)
	setPolicy(t, s, Policy{All: true})
	b := packet{etherType: EtherTypeARP}.bytes()
	run := func(want uint32, reason string) {
		t.Helper()
		before := counters(t, s)
		if got := verdict(t, s, b); got != want {
			t.Errorf("verdict %d, want %d", got, want)
		}
		expected := map[string]Counter{reason: {1, uint64(len(b))}}
		if changed := difference(before, counters(t, s)); !maps.Equal(changed, expected) {
			t.Errorf("counted %v, want %v", changed, expected)
		}
	}
	run(xdpPass, "pass_no_socket")
	if err := s.Register(1, socket(t)); err != nil {
		t.Fatal(err)
	}
	run(xdpPass, "pass_no_socket")
	if err := s.Register(0, socket(t)); err != nil {
		t.Fatal(err)
	}
	run(xdpRedirect, "redirect")
	if err := s.Unregister(0); err != nil {
		t.Fatal(err)
	}
	run(xdpPass, "pass_no_socket")
}

func TestCountersAreExact(t *testing.T) {
	s := loadWithSocket(t)
	setPolicy(t, s, Policy{Rules: rules(t, "udp dst_port=53", "tcp action=drop", "ipv6 action=pass")})
	flows := []struct {
		packet  packet
		packets int
	}{
		{packet{src: "192.0.2.1", dst: "192.0.2.2", protocol: ProtocolUDP, dstPort: 53, payload: 1000}, 1000},
		{packet{src: "2001:db8::1", dst: "2001:db8::2", protocol: ProtocolUDP, dstPort: 53}, 10},
		{packet{src: "2001:db8::1", dst: "2001:db8::2", protocol: ProtocolTCP, dstPort: 53}, 700},
		{packet{src: "2001:db8::1", dst: "2001:db8::2", protocol: ProtocolICMPv6}, 300},
		{packet{etherType: EtherTypeARP, payload: 42}, 5},
		// Longer than a page: most of it is in fragments.
		{packet{etherType: EtherTypeARP, payload: 8000}, 3},
	}
	for _, flow := range flows {
		for range flow.packets {
			verdict(t, s, flow.packet.bytes())
		}
	}
	bytes := func(i int) uint64 { return uint64(flows[i].packets * len(flows[i].packet.bytes())) }
	c := counters(t, s)
	want := Counters{
		Redirect:    Counter{1010, bytes(0) + bytes(1)},
		DropRule:    Counter{700, bytes(2)},
		PassRule:    Counter{300, bytes(3)},
		PassNoMatch: Counter{8, bytes(4) + bytes(5)},
		Rules:       []uint64{1010, 700, 300},
	}
	if !maps.Equal(c.ByReason(), want.ByReason()) || !slices.Equal(c.Rules, want.Rules) {
		t.Errorf("counters\n%+v, want\n%+v", c, want)
	}
	if total := c.Total(); total != (Counter{2018, bytes(0) + bytes(1) + bytes(2) + bytes(3) + bytes(4) + bytes(5)}) {
		t.Errorf("total %+v", total)
	}

	setPolicy(t, s, Policy{Rules: rules(t, "arp")})
	after := counters(t, s)
	if !slices.Equal(after.Rules, []uint64{0}) {
		t.Errorf("hits of the new policy %v, want none", after.Rules)
	}
	if changed := difference(c, after); len(changed) > 0 {
		t.Errorf("a new policy changed the counters: %v", changed)
	}
}

func TestReasonsNameEveryCounter(t *testing.T) {
	named := Counters{}.ByReason()
	for _, reason := range Reasons() {
		if _, ok := named[reason.Name]; !ok || reason.Doc == "" {
			t.Errorf("reason %+v has no counter or no description", reason)
		}
		delete(named, reason.Name)
	}
	if len(named) > 0 {
		t.Errorf("counters without a reason: %v", named)
	}
}
