package stages

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/xdpipe/xdpipe/pipeline"
	"github.com/xdpipe/xdpipe/umem"
)

// newRespond returns a stage that answers for b, with what change sets.
func newRespond(change func(*Respond)) *Respond {
	m, _ := pipeline.Lookup("respond")
	s := m.New().(*Respond)
	s.Addresses = []string{"192.0.2.2", "2001:db8::2"}
	if change != nil {
		change(s)
	}
	return s
}

// respondTo runs a stage on the packet and returns what becomes of it and the
// names of the counters that are not zero.
func respondTo(t testing.TB, s *Respond, p []byte) (after []byte, answered bool, counted string) {
	t.Helper()
	provisioned(t, s, "reply")
	b := newBatch(t, p)
	s.Process(b)
	out, dropped, _ := b.Verdict(0)
	if dropped {
		t.Fatalf("%x was dropped", p)
	}
	var names []string
	for name, n := range s.Report() {
		if n > 0 {
			names = append(names, fmt.Sprintf("%s:%d", name, n))
		}
	}
	after = bytes.Clone(b.Data(0))
	checkMeta(t, b, 0)
	return after, out != pipeline.Next, strings.Join(names, " ")
}

// What b answers a, built by gopacket. B answers broadcasts from the MAC address
// made of its first IP address.
var localB = net.HardwareAddr{2, 0, 192, 0, 2, 2}

func answer(mac net.HardwareAddr, to net.HardwareAddr, t layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: mac, DstMAC: to, EthernetType: t}
}

func arpAnswer(mac net.HardwareAddr, to net.IP) *layers.ARP {
	a := arp(2, mac, ipB, to)
	a.DstHwAddress = macA
	return a
}

func ip4Answer() *layers.IPv4 {
	ip := ip4(layers.IPProtocolICMPv4, ipA)
	ip.SrcIP, ip.TTL = ipB, 64
	return ip
}

func ip6Answer(to net.IP, hops uint8) *layers.IPv6 {
	ip := ip6(layers.IPProtocolICMPv6, ip6B, to, hops)
	if hops == 255 { // an advertisement is a new packet
		ip.TrafficClass, ip.FlowLabel = 0, 0
	}
	return ip
}

func advertised(mac net.HardwareAddr, flags uint8) *layers.ICMPv6NeighborAdvertisement {
	return &layers.ICMPv6NeighborAdvertisement{Flags: flags, TargetAddress: ip6B,
		Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: mac}}}
}

// respondCases says what comes of the packets of the common traffic: those that
// are not here go on unchanged and uncounted.
func respondCases() map[string]struct {
	counted string
	reply   []byte
} {
	type outcome = struct {
		counted string
		reply   []byte
	}
	const v4, v6, v, qinq, a = layers.EthernetTypeIPv4, layers.EthernetTypeIPv6, layers.EthernetTypeDot1Q, layers.EthernetTypeQinQ, layers.EthernetTypeARP
	echoReply := &layers.ICMPv4{Id: 1, Seq: 1}
	echo6 := &layers.ICMPv6Echo{Identifier: 1, SeqNumber: 1}
	na := func(to net.IP) []byte {
		return build(answer(localB, macA, v6), ip6Answer(to, 255), icmp6(136), advertised(localB, 0x60))
	}
	allNodesMAC := net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
	return map[string]outcome{
		"ARP request":                         {"arp:1", build(answer(localB, macA, a), arpAnswer(localB, ipA))},
		"ARP request to one host":             {"arp:1", build(answer(macB, macA, a), arpAnswer(macB, ipA))},
		"ARP probe":                           {"arp:1", build(answer(localB, macA, a), arpAnswer(localB, net.IPv4zero))},
		"ARP request in a VLAN":               {"arp:1", build(answer(localB, macA, v), tag(7, 0, a), arpAnswer(localB, ipA))},
		"ARP request in two VLANs":            {"arp:1", build(answer(localB, macA, qinq), tag(100, 0, v), tag(7, 0, a), arpAnswer(localB, ipA))},
		"ARP announcement":                    {"ignored_announcement:1", nil},
		"ARP request for hardware of 8 bytes": {"ignored_malformed:1", nil},

		"ND solicitation": {"nd:1", na(ip6A)},
		"ND solicitation from a link-local address": {"nd:1", na(linkLocalA)},
		"ND solicitation to one host":               {"nd:1", build(answer(macB, macA, v6), ip6Answer(ip6A, 255), icmp6(136), advertised(macB, 0x60))},
		"ND solicitation in a VLAN":                 {"nd:1", build(answer(localB, macA, v), tag(7, 5, v6), ip6Answer(ip6A, 255), icmp6(136), advertised(localB, 0x60))},
		"ND duplicate address detection": {"nd:1", build(answer(localB, allNodesMAC, v6),
			ip6Answer(net.ParseIP("ff02::1"), 255), icmp6(136), advertised(localB, 0x20))},
		"ND duplicate address detection with an option": {"ignored_malformed:1", nil},
		"ND solicitation from beyond a router":          {"ignored_hop_limit:1", nil},
		"ND solicitation with a wrong checksum":         {"ignored_checksum:1", nil},

		"ICMP echo request":                            {"icmp:1", build(answer(macB, macA, v4), ip4Answer(), echoReply, payload(56))},
		"ICMP echo request without data":               {"icmp:1", build(answer(macB, macA, v4), ip4Answer(), echoReply)},
		"ICMP echo request in a VLAN":                  {"icmp:1", build(answer(macB, macA, v), tag(7, 3, v4), ip4Answer(), echoReply, payload(56))},
		"ICMP echo request with a wrong checksum":      {"ignored_checksum:1", nil},
		"ICMP echo request with a wrong IPv4 checksum": {"ignored_checksum:1", nil},
		"ICMP echo request that records its route":     {"ignored_options:1", nil},
		"ICMP echo request, first fragment":            {"ignored_fragment:1", nil},
		"ICMP echo request, last fragment":             {"ignored_fragment:1", nil},

		"ICMPv6 echo request":                          {"icmpv6:1", build(answer(macB, macA, v6), ip6Answer(ip6A, 64), icmp6(129), echo6, payload(56))},
		"ICMPv6 echo request with a wrong checksum":    {"ignored_checksum:1", nil},
		"ICMPv6 echo request, first fragment":          {"ignored_fragment:1", nil},
		"ICMPv6 echo request, last fragment":           {"ignored_fragment:1", nil},
		"ICMPv6 echo request in an atomic fragment":    {"ignored_options:1", nil},
		"ICMPv6 echo request with a router alert":      {"ignored_options:1", nil},
		"cut within the ICMPv6 message":                {"ignored_malformed:1", nil},
		"IPv6 with a payload length beyond the packet": {"ignored_malformed:1", nil},
	}
}

func TestRespondAnswersRequestsAndLeavesAllElseAlone(t *testing.T) {
	cases := respondCases()
	for _, s := range commonTraffic() {
		want := cases[s.name]
		delete(cases, s.name)
		t.Run(s.name, func(t *testing.T) {
			got, answered, counted := respondTo(t, newRespond(nil), s.data)
			if counted != want.counted || answered != (want.reply != nil) {
				t.Errorf("answered %v, counted %q, want %q", answered, counted, want.counted)
			}
			if want.reply == nil {
				want.reply = s.data
			}
			if !bytes.Equal(got, want.reply) {
				t.Errorf("became\n%x, want\n%x", got, want.reply)
			}
		})
	}
	for name := range cases {
		t.Errorf("no packet is named %q", name)
	}
}

// solicitation builds one to b with everything given.
func solicitation(to net.HardwareAddr, src, dst, target net.IP, options []byte) []byte {
	return build(ether(to, layers.EthernetTypeIPv6), ip6(layers.IPProtocolICMPv6, src, dst, 255), icmp6(135),
		&layers.ICMPv6NeighborSolicitation{TargetAddress: target}, gopacket.Payload(options))
}

func TestRespondValidatesRequests(t *testing.T) {
	var (
		mine = "\x01\x01\x02\x00\x00\x00\x00\x0a" // the option with a's MAC address
		ask  = func(src, dst net.IP, options string) []byte {
			return solicitation(macSolicitedB, src, dst, ip6B, []byte(options))
		}
		group    = net.ParseIP("ff02::1234")
		all      = net.ParseIP("ff02::1")
		loop     = net.IPv6loopback
		echoFrom = func(src net.IP) []byte {
			ip := ip4(layers.IPProtocolICMPv4, ipB)
			ip.SrcIP = src
			return build(ether(macB, layers.EthernetTypeIPv4), ip, ping(1), payload(8))
		}
		echo6From = func(src net.IP) []byte {
			return build(ether(macB, layers.EthernetTypeIPv6), ip6(layers.IPProtocolICMPv6, src, ip6B, 64),
				icmp6(128), &layers.ICMPv6Echo{Identifier: 1}, payload(8))
		}
		nsCode = build(ether(macSolicitedB, layers.EthernetTypeIPv6), ip6(layers.IPProtocolICMPv6, ip6A, solicitedB, 255),
			&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(135, 1)}, &layers.ICMPv6NeighborSolicitation{TargetAddress: ip6B})
		echoCode = build(ether(macB, layers.EthernetTypeIPv4), ip4(layers.IPProtocolICMPv4, ipB), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 1)})
		toGroup  = with(ping4(8), 0, 0x01, 0, 0x5e, 0, 0, 1)
	)
	for _, tc := range []struct {
		name    string
		packet  []byte
		counted string
	}{
		{"an ARP request from a multicast MAC address", with(arpRequest(ipB), 22, 3), "ignored_source:1"},
		{"an ARP request from no MAC address", with(arpRequest(ipB), 22, 0, 0, 0, 0, 0, 0), "ignored_source:1"},
		{"an ARP request from a multicast IP address", with(arpRequest(ipB), 28, 224), "ignored_source:1"},
		{"an ARP request from 0.0.0.1, which is no probe", with(arpRequest(ipB), 28, 0, 0, 0, 1), "ignored_source:1"},
		{"an ARP request of other hardware", with(arpRequest(ipB), 15, 6), "ignored_malformed:1"},
		{"an ARP request of another protocol", with(arpRequest(ipB), 16, 0x86, 0xdd), "ignored_malformed:1"},
		{"an InARP request", with(arpRequest(ipB), 21, 8), ""},
		{"an ARP request of just 42 bytes", arpRequest(ipB)[:42], "arp:1"},
		{"an ARP request of 41 bytes", arpRequest(ipB)[:41], ""},

		{"a solicitation without options", ask(ip6A, solicitedB, ""), "nd:1"},
		{"a solicitation with an option of another kind", ask(ip6A, solicitedB, "\x0e\x01nonce1"+mine), "nd:1"},
		{"a solicitation to all nodes", ask(ip6A, all, mine), "nd:1"},
		{"a solicitation to another group", ask(ip6A, group, mine), "ignored_destination:1"},
		{"a solicitation to another host", ask(ip6A, ip6C, mine), "ignored_destination:1"},
		{"a probe to all nodes", ask(net.IPv6unspecified, all, ""), "ignored_destination:1"},
		{"a probe to the address", ask(net.IPv6unspecified, ip6B, ""), "ignored_destination:1"},
		{"a probe with a nonce (RFC 7527)", ask(net.IPv6unspecified, solicitedB, "\x0e\x01nonce1"), "nd:1"},
		{"a solicitation with code 1", nsCode, "ignored_malformed:1"},
		{"a solicitation with an option of no length", ask(ip6A, solicitedB, "\x01\x00\x02\x00\x00\x00\x00\x0a"), "ignored_malformed:1"},
		{"a solicitation with an option beyond its end", ask(ip6A, solicitedB, "\x01\x02\x02\x00\x00\x00\x00\x0a"), "ignored_malformed:1"},
		{"a solicitation with a byte of an option", ask(ip6A, solicitedB, "\x01"), "ignored_malformed:1"},
		{"a solicitation with half an option", ask(ip6A, solicitedB, "\x01\x01\x02\x00"), "ignored_malformed:1"},
		{"a solicitation from a group", ask(group, solicitedB, mine), "ignored_source:1"},
		{"a solicitation from loopback", ask(loop, solicitedB, mine), "ignored_source:1"},
		{"a solicitation from the address itself", ask(ip6B, solicitedB, mine), "ignored_source:1"},
		{"a solicitation from a multicast MAC address", ask(ip6A, solicitedB, "\x01\x01\x03\x00\x00\x00\x00\x0a"), "ignored_source:1"},
		{"a solicitation of 23 bytes", func() []byte {
			p := ask(ip6A, solicitedB, "")
			return with(p[:77], 18, 0, 23)
		}(), ""},
		{"a solicitation that is a fragment", fragment6(layers.IPProtocolICMPv6, 0, true, ask(ip6A, solicitedB, "")[54:]), "ignored_fragment:1"},
		{"a solicitation in an atomic fragment", with(fragment6(layers.IPProtocolICMPv6, 0, false, ask(ip6A, solicitedB, "")[54:]), 21, 255), "ignored_options:1"},

		{"an echo request with code 1", echoCode, "ignored_malformed:1"},
		{"an echo request from 0.0.0.0", echoFrom(net.IP{0, 0, 0, 0}), "ignored_source:1"},
		{"an echo request from loopback", echoFrom(net.IP{127, 0, 0, 1}), "ignored_source:1"},
		{"an echo request from a group", echoFrom(net.IP{224, 0, 0, 1}), "ignored_source:1"},
		{"an echo request from broadcast", echoFrom(net.IP{255, 255, 255, 255}), "ignored_source:1"},
		{"an echo request from the address itself", echoFrom(ipB), "ignored_source:1"},
		{"an echo request from a multicast MAC address", with(ping4(8), 6, 3), "ignored_source:1"},
		{"an echo request to a multicast MAC address", toGroup, "ignored_destination:1"},
		{"an echo request to broadcast", with(ping4(8), 0, macAll...), "ignored_destination:1"},
		{"an echo request of 7 bytes", fixIPv4(with(ping4(0), 17, 27)), "ignored_malformed:1"},
		{"an echo request with Ethernet's padding", append(ping4(32), "padding"...), "icmp:1"},
		{"an ICMPv6 echo request from nowhere", echo6From(net.IPv6unspecified), "ignored_source:1"},
		{"an ICMPv6 echo request from loopback", echo6From(loop), "ignored_source:1"},
		{"an ICMPv6 echo request from a group", echo6From(group), "ignored_source:1"},
		{"an ICMPv6 echo request from the address itself", echo6From(ip6B), "ignored_source:1"},
		{"an ICMPv6 echo request with Ethernet's padding", append(ping6(32), "padding"...), "icmpv6:1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, answered, counted := respondTo(t, newRespond(nil), tc.packet)
			if isAnswer := tc.counted != "" && !strings.HasPrefix(tc.counted, "ignored"); counted != tc.counted || answered != isAnswer {
				t.Errorf("answered %v, counted %q, want %q", answered, counted, tc.counted)
			}
			if answered {
				checksums(t, got)
			} else if !bytes.Equal(got, tc.packet) {
				t.Errorf("is not answered, yet became\n%x, was\n%x", got, tc.packet)
			}
		})
	}
}

// checksums fails if gopacket computes other lengths or checksums than the packet
// has.
func checksums(t testing.TB, p []byte) {
	t.Helper()
	parsed := gopacket.NewPacket(p, layers.LayerTypeEthernet, gopacket.Default)
	if e := parsed.ErrorLayer(); e != nil {
		t.Fatalf("%x: %v", p, e.Error())
	}
	if l, ok := parsed.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok {
		must(t, l.SetNetworkLayerForChecksum(parsed.NetworkLayer()))
	}
	err, bad := parsed.VerifyChecksums()
	if err != nil || len(bad) > 0 {
		t.Fatalf("%x: checksums %+v, %v", p, bad, err)
	}
}

func TestRespondChecksumsAreRightForAllLengthsAndData(t *testing.T) {
	zeros := func(n int) []byte {
		return build(ether(macB, layers.EthernetTypeIPv4), ip4(layers.IPProtocolICMPv4, ipB), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0)}, gopacket.Payload(make([]byte, n)))
	}
	for n := range 200 {
		for _, p := range [][]byte{ping4(n), ping6(n), zeros(n)} {
			got, answered, _ := respondTo(t, newRespond(nil), p)
			if !answered {
				t.Fatalf("%x is not answered", p)
			}
			checksums(t, got)
		}
	}
	// Every value that the request's checksum can have.
	s := newRespond(nil)
	provisioned(t, s)
	b := newBatch(t, ping4(8))
	for id := range 1 << 16 {
		p := b.Data(0)
		copy(p, ping4Cached)
		binary.BigEndian.PutUint16(p[38:], uint16(id))
		binary.BigEndian.PutUint16(p[36:], 0)
		binary.BigEndian.PutUint16(p[36:], pipeline.FoldSum(pipeline.SumBytes(0, p[34:50])))
		s.Process(b)
		if p[34] != 0 || pipeline.FoldSum(pipeline.SumBytes(0, p[34:50])) != 0 {
			t.Fatalf("identifier %#x: became %x", id, p)
		}
	}
}

var ping4Cached = ping4(8)

func TestRespondUsesTheMACAddressItIsGiven(t *testing.T) {
	set := func(mac string) func(*Respond) { return func(s *Respond) { s.MAC = mac } }
	for _, tc := range []struct {
		name    string
		change  func(*Respond)
		packet  []byte
		counted string
		from    net.HardwareAddr
	}{
		{"broadcast, none given", nil, arpRequest(ipB), "arp:1", localB},
		{"unicast, none given", nil, ping4(8), "icmp:1", macB},
		{"unicast to no MAC address, none given", nil, with(ping4(8), 0, 0, 0, 0, 0, 0, 0), "ignored_mac:1", nil},
		{"broadcast, an IPv6 address first", func(s *Respond) { s.Addresses = []string{"2001:db8::102:2", "192.0.2.2"} }, arpRequest(ipB), "arp:1", net.HardwareAddr{2, 0, 1, 2, 0, 2}},
		{"broadcast, one given", set(macC.String()), arpRequest(ipB), "arp:1", macC},
		{"multicast, one given", set(macC.String()), solicit(ip6A, 255, nil), "nd:1", macC},
		{"unicast to the one given", set(macB.String()), ping4(8), "icmp:1", macB},
		{"unicast to another than given", set(macC.String()), ping4(8), "ignored_mac:1", nil},
		{"unicast ARP to another than given", set(macC.String()), with(arpRequest(ipB), 0, macB...), "ignored_mac:1", nil},
		{"unicast solicitation to another than given", set(macC.String()), with(solicit(ip6A, 255, nil), 0, macB...), "ignored_mac:1", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, answered, counted := respondTo(t, newRespond(tc.change), tc.packet)
			if counted != tc.counted || answered != (tc.from != nil) {
				t.Fatalf("answered %v, counted %q, want %q", answered, counted, tc.counted)
			}
			if !answered {
				return
			}
			checksums(t, got)
			if !bytes.Equal(got[6:12], tc.from) || !bytes.Equal(got[:6], macA) {
				t.Errorf("is from %x to %x, want from %x to %x", got[6:12], got[:6], tc.from, macA)
			}
			p := gopacket.NewPacket(got, layers.LayerTypeEthernet, gopacket.Default)
			if a, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP); ok && !bytes.Equal(a.SourceHwAddress, tc.from) {
				t.Errorf("says that the address is at %x, want %x", a.SourceHwAddress, tc.from)
			}
			if n, ok := p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement); ok && !bytes.Equal(n.Options[0].Data, tc.from) {
				t.Errorf("says that the address is at %x, want %x", n.Options[0].Data, tc.from)
			}
		})
	}
}

func TestRespondAdvertisementsHaveNothingOfTheSolicitation(t *testing.T) {
	p := solicit(ip6A, 255, nil)
	want, _, _ := respondTo(t, newRespond(nil), p)
	// The reserved field is ignored on receipt (RFC 4861, 4.3), and zero in the answer.
	p = with(p, 58, 1, 2, 3, 4)
	sum := binary.BigEndian.Uint16(p[56:])
	sum = pipeline.UpdateChecksum(pipeline.UpdateChecksum(sum, 0, 0x0102), 0, 0x0304)
	p = with(p, 56, byte(sum>>8), byte(sum))
	long := solicitation(macSolicitedB, ip6A, solicitedB, ip6B, []byte("\x0e\x01nonce1\x0e\x02fourteen bytes"))
	for _, request := range [][]byte{p, append(bytes.Clone(p), "padding"...), long} {
		got, answered, counted := respondTo(t, newRespond(nil), request)
		if !answered || !bytes.Equal(got, want) {
			t.Errorf("%x became\n%x (%s), want\n%x", request, got, counted, want)
		}
	}
}

func TestRespondSendsAdvertisementsToTheAddressOfTheOption(t *testing.T) {
	got, _, _ := respondTo(t, newRespond(nil), solicit(ip6A, 255, sourceOption(macC)))
	if !bytes.Equal(got[:6], macC) {
		t.Errorf("is sent to %x, want %x, which is in the solicitation's option", got[:6], macC)
	}
}

func TestRespondAnswersWhatIsSwitchedOn(t *testing.T) {
	requests := map[string][]byte{"arp": arpRequest(ipB), "nd": solicit(ip6A, 255, nil), "icmp": ping4(8), "icmpv6": ping6(8)}
	for _, tc := range []struct {
		change func(*Respond)
		want   string
	}{
		{nil, "arp icmp icmpv6 nd"},
		{func(s *Respond) { s.ARP = false }, "icmp icmpv6 nd"},
		{func(s *Respond) { s.ND = false }, "arp icmp icmpv6"},
		{func(s *Respond) { s.Echo = false }, "arp nd"},
	} {
		var got []string
		for _, name := range []string{"arp", "icmp", "icmpv6", "nd"} {
			_, answered, counted := respondTo(t, newRespond(tc.change), requests[name])
			if answered {
				got = append(got, name)
			} else if counted != "" {
				t.Errorf("%s is switched off and counted as %s", name, counted)
			}
		}
		if g := strings.Join(got, " "); g != tc.want {
			t.Errorf("answered %s, want %s", g, tc.want)
		}
	}
	router, _, _ := respondTo(t, newRespond(func(s *Respond) { s.Router = true }), requests["nd"])
	if flags := router[14+40+4]; flags != 0xe0 {
		t.Errorf("the advertisement of a router has flags %#x, want R, S and O", flags)
	}
}

func TestRespondAnswersForPrefixes(t *testing.T) {
	all := newRespond(func(s *Respond) {
		s.Addresses = []string{"0.0.0.0/0", "2001:db8::/127", "2001:db8:1::/60", "198.51.100.7"}
	})
	must(t, all.Validate())
	some := newRespond(func(s *Respond) { s.Addresses = []string{"192.0.2.128/25"} })
	must(t, some.Validate())
	for _, tc := range []struct {
		s       *Respond
		address string
		want    bool
	}{
		{some, "192.0.2.127", false},
		{some, "192.0.2.128", true},
		{some, "192.0.2.255", true},
		{some, "192.0.3.0", false},
		{some, "2001:db8::", false},
		{all, "192.0.2.255", true},
		{all, "0.0.0.0", false},
		{all, "0.1.2.3", false},
		{all, "224.0.0.1", false},
		{all, "255.255.255.255", false},
		{all, "2001:db8::", true},
		{all, "2001:db8::1", true},
		{all, "2001:db8::2", false},
		{all, "2001:db8:1:f:1234::", true},
		{all, "2001:db8:1:10::", false},
	} {
		a := netip.MustParseAddr(tc.address)
		got := false
		if a.Is4() {
			b := a.As4()
			got = tc.s.ours.has4(b[:])
		} else {
			b := a.As16()
			got = tc.s.ours.has6(b[:])
		}
		if got != tc.want {
			t.Errorf("%s is one of %v: %v, want %v", tc.address, tc.s.Addresses, got, tc.want)
		}
	}
	every := newRespond(func(s *Respond) { s.Addresses = []string{"::/0"} })
	must(t, every.Validate())
	for address, want := range map[string]bool{"::": false, "::1": true, "ff02::1": false, "fe80::1": true} {
		if b := netip.MustParseAddr(address).As16(); every.ours.has6(b[:]) != want {
			t.Errorf("%s is one of ::/0: %v, want %v", address, !want, want)
		}
	}
}

func TestRespondAnswersGoOnIfReplyLeadsNowhere(t *testing.T) {
	s := newRespond(nil)
	provisioned(t, s)
	b := newBatch(t, arpRequest(ipB), udpPacket())
	s.Process(b)
	for i := range 2 {
		if to, dropped, _ := b.Verdict(i); to != pipeline.Next || dropped {
			t.Errorf("packet %d goes to %d, dropped %v; want the next stage", i, to, dropped)
		}
	}
	if b.Data(0)[21] != 2 {
		t.Error("the request is not answered")
	}
}

func TestRespondForgetsTheFlowHashOfWhatIsAnotherFlow(t *testing.T) {
	for _, p := range [][]byte{arpRequest(ipB), solicit(ip6A, 255, nil), ping4(8), ping6(8)} {
		s := newRespond(nil)
		provisioned(t, s)
		b := newBatch(t, p)
		b.Parse()
		b.FlowHash(0)
		s.Process(b)
		got := b.FlowHash(0)
		fresh := newBatch(t, b.Data(0))
		fresh.Parse()
		if want := fresh.FlowHash(0); got != want {
			t.Errorf("%x has flow hash %#x, want %#x", b.Data(0), got, want)
		}
	}
}

func TestRespondDropsAnAdvertisementThatHasNoRoom(t *testing.T) {
	p := solicit(ip6A, 255, nil)
	for _, room := range []int{0, 7, 8} {
		s := newRespond(nil)
		ctx := provisioned(t, s, "reply")
		b := newBatch(t)
		all := b.Alloc(b.Cache().Memory().MaxPacket())
		at := len(all) - len(p) - room
		copy(all[at:], p)
		b.Pull(0, at)
		if room > 0 {
			b.Trim(0, room)
		}
		s.Process(b)
		_, dropped, why := b.Verdict(0)
		if dropped != (room < 8) || dropped && ctx.ReasonName(why) != "no_tailroom" {
			t.Errorf("with %d bytes behind it, dropped: %v %s", room, dropped, ctx.ReasonName(why))
		}
		if n := s.Report()["nd"]; n != 0 && dropped {
			t.Errorf("counted %d answers of none", n)
		}
	}
}

func TestRespondLeavesPacketsOfSeveralFramesAlone(t *testing.T) {
	for _, p := range [][]byte{arpRequest(ipB), solicit(ip6A, 255, nil), ping4(100), ping6(100)} {
		s := newRespond(nil)
		provisioned(t, s, "reply")
		b := newBatch(t, p)
		tail := newTail(t, b, 100)
		b.Parse()
		s.Process(b)
		if got := s.Report()["ignored_multi"]; got != 1 || !bytes.Equal(b.Data(0), p) || !bytes.Equal(b.Segment(0, 1), tail) {
			t.Errorf("%x became %x, counted %v", p, b.Data(0), s.Report())
		}
	}
}

func TestRespondRefusesOptionsThatMakeNoSense(t *testing.T) {
	for _, tc := range []struct{ options, want string }{
		{"addresses=192.0.2.0/24", ""},
		{"addresses=2001:db8::1 mac=02:00:00:00:00:01", ""},
		{"", "stages:1:1: stage respond: addresses is missing (IPv4 and IPv6 addresses to answer for, or prefixes: then for all addresses in them)"},
		{"addresses=router", `stages:1:19: stage respond: option addresses: found "router", want an IPv4 or IPv6 address or prefix such as 192.0.2.1 or 2001:db8::/64`},
		{"addresses=fe80::1%eth0", `stages:1:19: stage respond: option addresses: found "fe80::1%eth0", want an IPv4 or IPv6 address or prefix such as 192.0.2.1 or 2001:db8::/64`},
		{"addresses=192.0.2.1/24", `stages:1:19: stage respond: option addresses: found "192.0.2.1/24", want 192.0.2.1 for the one address, or 192.0.2.0/24 for all of the prefix`},
		{"addresses=::ffff:192.0.2.1", `stages:1:19: stage respond: option addresses: found "::ffff:192.0.2.1", an IPv4 address inside an IPv6 one; write 192.0.2.1`},
		{"addresses=224.0.0.1", `stages:1:19: stage respond: option addresses: found "224.0.0.1", want an address that one host can have`},
		{"addresses=::", `stages:1:19: stage respond: option addresses: found "::", want an address that one host can have`},
		{"addresses=192.0.2.1 mac=01:00:5e:00:00:01", `stages:1:33: stage respond: option mac: found "01:00:5e:00:00:01", want the MAC address of one host, such as 02:00:00:00:00:01`},
		{"addresses=192.0.2.1 mac=00:00:00:00:00:00", `stages:1:33: stage respond: option mac: found "00:00:00:00:00:00", want the MAC address of one host, such as 02:00:00:00:00:01`},
		{"addresses=192.0.2.1 mac=02-00", `stages:1:33: stage respond: option mac: found "02-00", want the MAC address of one host, such as 02:00:00:00:00:01`},
	} {
		_, err := pipeline.ParseQuick("stages", "respond "+tc.options)
		if got := fmt.Sprint(err); got != tc.want && !(err == nil && tc.want == "") {
			t.Errorf("respond %s:\n%s, want\n%s", tc.options, got, tc.want)
		}
	}
	c := newRespond(func(s *Respond) { s.Addresses = nil })
	if err := c.Validate(); err == nil || err.Error() != "option addresses: none; give at least one" {
		t.Errorf("no addresses: %v", err)
	}
}

func TestRespondDoesNotAllocate(t *testing.T) {
	s := newRespond(nil)
	provisioned(t, s)
	noAllocations(t, s)
	b := newBatch(t, ping4(56), ping6(56), arpRequest(ipB), solicit(ip6A, 255, nil))
	requests := [][]byte{ping4(56), ping6(56), arpRequest(ipB), solicit(ip6A, 255, nil)}
	b.Extend(3, 8) // as long as its answer
	if n := testing.AllocsPerRun(100, func() {
		for i, p := range requests {
			copy(b.Data(i), p)
			b.Meta(i).Flags = 0
		}
		s.Process(b)
	}); n != 0 {
		t.Errorf("Process allocates %v times", n)
	}
	if v := s.Report(); v["icmp"] < 100 || v["icmpv6"] < 100 || v["arp"] < 100 || v["nd"] < 100 {
		t.Errorf("did not answer all: %v", v)
	}
}

func BenchmarkRespond(b *testing.B) {
	s := newRespond(nil)
	provisioned(b, s)
	b.Run("nothing to answer", func(b *testing.B) { benchmark(b, s, &Parse{}) })
	for name, p := range map[string][]byte{"arp": arpRequest(ipB), "nd": solicit(ip6A, 255, sourceOption(macA)), "icmp": ping4(56), "icmpv6": ping6(56)} {
		b.Run(name, func(b *testing.B) {
			batch := newBatch(b, slices.Repeat([][]byte{p}, 64)...)
			batch.Parse()
			b.ReportAllocs()
			for b.Loop() { // the copy is of its price
				for i := range batch.Len() {
					copy(batch.Data(i), p)
				}
				s.Process(batch)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(batch.Len()), "ns/packet")
		})
	}
}

func FuzzRespond(f *testing.F) {
	for _, s := range commonTraffic() {
		f.Add(s.data, uint8(0))
	}
	for _, c := range respondCases() {
		f.Add(c.reply, uint8(1))
	}
	f.Fuzz(func(t *testing.T, p []byte, how uint8) {
		if len(p) == 0 || len(p) > umem.MinFrameSize-umem.KernelHeadroom {
			return
		}
		s := newRespond(func(s *Respond) {
			s.Addresses = append(s.Addresses, "198.51.100.0/24", "fe80::/10")
			if how&1 != 0 {
				s.MAC = macB.String()
			}
			s.Router = how&2 != 0
		})
		ctx := provisioned(t, s, "reply")
		checkWrites(t, p, func(b *pipeline.Batch) {
			if how&4 != 0 {
				b.Parse()
			}
			s.Process(b)
			out, dropped, why := b.Verdict(0)
			switch {
			case dropped:
				t.Fatalf("%x is dropped as %s", p, ctx.ReasonName(why))
			case out == pipeline.Next:
				if !bytes.Equal(b.Data(0), p) {
					t.Fatalf("%x is not answered and became %x", p, b.Data(0))
				}
			default:
				checkMeta(t, b, 0)
				b.Meta(0).Parse(b.Data(0))
				if sum := b.VerifyChecksum(0); sum != pipeline.ChecksumGood && b.Meta(0).Flags&pipeline.MetaARP == 0 {
					t.Fatalf("%x is answered with %x, whose checksum is %v", p, b.Data(0), sum)
				}
				// What answers is not asked again.
				again := newRespond(func(s *Respond) { s.Addresses = []string{"0.0.0.0/0", "::/0"} })
				provisioned(t, again)
				again.Process(b)
				if v := again.Report(); v["arp"]+v["nd"]+v["icmp"]+v["icmpv6"] != 0 {
					t.Fatalf("%x is answered with %x, which is answered: %v", p, b.Data(0), v)
				}
			}
		})
	})
}

func FuzzRespondInBatches(f *testing.F) {
	fuzzStage(f, func() pipeline.Stage { return newRespond(nil) })
}
