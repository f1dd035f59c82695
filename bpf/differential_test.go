package bpf

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// Few values, so that random rules and random packets meet often.
var (
	someVLANs      = []uint16{1, 100, 200, 4094}
	someEtherTypes = []uint16{EtherTypeIPv4, EtherTypeIPv6, EtherTypeARP, 0x88cc, 0xffff}
	someProtocols  = []uint8{1, 6, 17, 47, 50, 58, 59, 132, 255}
	somePorts      = []uint16{0, 1, 22, 53, 80, 443, 1024, 65534, 65535}
	someAddresses4 = []string{"192.0.2.1", "192.0.2.129", "192.0.3.1", "198.51.100.7", "203.0.113.255", "0.0.0.0", "255.255.255.255"}
	someAddresses6 = []string{"2001:db8::1", "2001:db8::8000:0:0:1", "2001:db8:1::1", "fe80::1", "ff02::1", "::", "2001:db9::"}
	someBits4      = []int{0, 1, 8, 16, 23, 24, 25, 31, 32}
	someBits6      = []int{0, 1, 10, 31, 32, 48, 64, 65, 127, 128}
	someFilters    = []string{"udp", "port 53 or port 80", "ip6", "vlan and ip", "src net 192.0.2.0/24", "tcp[13] & 2 = 0", "not ip"}
	someExtensions = []uint8{hopByHop, routing, fragment, authentication, destination}
)

type random struct{ *rand.Rand }

func pick[T any](r random, from []T) T { return from[r.IntN(len(from))] }

func (r random) chance(oneIn int) bool { return r.IntN(oneIn) == 0 }

func (r random) ports() PortRange {
	a, b := pick(r, somePorts), pick(r, somePorts)
	return PortRange{From: min(a, b), To: max(a, b)}
}

func (r random) prefix(ip4 bool) netip.Prefix {
	address, bits := pick(r, someAddresses6), pick(r, someBits6)
	if ip4 {
		address, bits = pick(r, someAddresses4), pick(r, someBits4)
	}
	return netip.PrefixFrom(netip.MustParseAddr(address), bits).Masked()
}

// rule returns a valid rule.
func (r random) rule() Rule {
	for {
		rule := Rule{Action: pick(r, []Action{Redirect, Pass, Drop})}
		ip4 := r.chance(2)
		if r.chance(5) {
			rule.VLAN = pick(r, someVLANs)
		}
		if r.chance(4) {
			rule.EtherType = pick(r, someEtherTypes)
		}
		if r.chance(3) {
			rule.Protocol = pick(r, someProtocols)
		}
		if r.chance(3) {
			rule.Src = r.prefix(ip4)
		}
		if r.chance(3) {
			rule.Dst = r.prefix(ip4)
		}
		if r.chance(5) {
			rule.SrcPort = r.ports()
		}
		if r.chance(5) {
			rule.DstPort = r.ports()
		}
		if r.chance(5) {
			rule.Port = r.ports()
		}
		if rule.Validate() == nil {
			return rule
		}
	}
}

func (r random) policy() Policy {
	policy := Policy{All: r.chance(4)}
	if !policy.All && r.chance(2) {
		policy.Filter = pick(r, someFilters)
	}
	for range pick(r, []int{0, 1, 2, 5, 20, 63, 64}) {
		policy.Rules = append(policy.Rules, r.rule())
	}
	return policy
}

func (r random) packet() []byte {
	p := packet{
		protocol: pick(r, someProtocols),
		srcPort:  pick(r, somePorts),
		dstPort:  pick(r, somePorts),
		payload:  r.IntN(64),
	}
	if r.chance(2) {
		p.protocol = pick(r, []uint8{6, 17, 132})
	}
	for range pick(r, []int{0, 0, 0, 1, 1, 2, 3}) {
		p.tags = append(p.tags, pick(r, append(someVLANs, 0)))
	}
	if r.chance(2) {
		p.tpid = etherTypeQinQ
	}
	switch r.IntN(8) {
	case 0:
		p.etherType = pick(r, someEtherTypes) // with zeros behind
	case 1, 2, 3:
		p.src, p.dst = pick(r, someAddresses4), pick(r, someAddresses4)
		if r.chance(3) {
			p.options = 4 * r.IntN(11)
		}
		if r.chance(3) {
			p.more, p.offset = true, pick(r, []uint16{0, 1, 185})
		}
	default:
		p.src, p.dst = pick(r, someAddresses6), pick(r, someAddresses6)
		for range pick(r, []int{0, 0, 0, 1, 2, 3, 8, 9}) {
			e := extension{kind: pick(r, someExtensions), length: pick(r, []uint8{0, 0, 1, 4})}
			if e.kind == fragment && r.chance(2) {
				e.offset = 100
			}
			p.extensions = append(p.extensions, e)
		}
	}
	if r.chance(4) {
		p.cut = r.IntN(80)
	}
	b := p.bytes()
	if r.chance(20) && len(b) > 18 {
		b[14+r.IntN(4)] ^= byte(1 << r.IntN(8)) // spoil a version or a length
	}
	return b
}

func TestTheProgramDecidesLikeTheReference(t *testing.T) {
	s := loadWithSocket(t)
	policies, packets := 120, 300
	if testing.Short() {
		policies, packets = 20, 100
	}
	split, matched, ran := canFragment(t, s), 0, 0
	for seed := range uint64(policies) {
		r := random{rand.New(rand.NewPCG(seed, 1))}
		policy := r.policy()
		setPolicy(t, s, policy)
		hits := make([]uint64, len(policy.Rules))
		for range packets {
			b := r.packet()
			linear := 14 + r.IntN(60)
			var got uint32
			if split && linear < len(b) {
				got = verdictOfFragmented(t, s, b, linear)
			} else {
				linear = len(b)
				got = verdict(t, s, b)
			}
			want := policy.verdict(b, linear)
			ran++
			i := policy.match(b)
			if got != want {
				t.Fatalf("seed %d: verdict %d, the reference says %d (rule %d)\npacket % x\npolicy:\n%s", seed, got, want, i, b, policy)
			}
			if i >= 0 {
				hits[i]++
				matched++
			}
		}
		if got := counters(t, s).Rules; !slices.Equal(got, hits) {
			t.Fatalf("seed %d: hits of rules\n%v, the reference says\n%v\npolicy:\n%s", seed, got, hits, policy)
		}
	}
	// Were nearly all packets unmatched, the test would prove little.
	if matched < ran/4 {
		t.Errorf("only %d of %d packets matched a rule", matched, ran)
	}
}
