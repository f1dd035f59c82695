package stages

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// trafficFile is the capture that the golden cases start from: commonTraffic.
const trafficFile = "../../testdata/traffic.pcap"

// The hosts of the common traffic: a asks, b is asked, c is somebody else.
var (
	macA, macB, macC = net.HardwareAddr{2, 0, 0, 0, 0, 0xa}, net.HardwareAddr{2, 0, 0, 0, 0, 0xb}, net.HardwareAddr{2, 0, 0, 0, 0, 0xc}
	ipA, ipB, ipC    = net.IP{192, 0, 2, 1}, net.IP{192, 0, 2, 2}, net.IP{192, 0, 2, 3}
	ip6A, ip6B, ip6C = net.ParseIP("2001:db8::1"), net.ParseIP("2001:db8::2"), net.ParseIP("2001:db8::3")
	linkLocalA       = net.ParseIP("fe80::a")
	macAll           = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	macSolicitedB    = net.HardwareAddr{0x33, 0x33, 0xff, 0, 0, 2}
	solicitedB       = net.ParseIP("ff02::1:ff00:2")
)

// A sample is a packet with a name that says what is in it.
type sample struct {
	name string
	data []byte
}

// build serializes the layers with right lengths and checksums, padded to what
// Ethernet sends.
func build(ls ...gopacket.SerializableLayer) []byte {
	var network gopacket.NetworkLayer
	for _, l := range ls {
		if n, ok := l.(gopacket.NetworkLayer); ok {
			network = n
		}
		if c, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			if err := c.SetNetworkLayerForChecksum(network); err != nil {
				panic(err)
			}
		}
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...); err != nil {
		panic(err)
	}
	p := bytes.Clone(buf.Bytes())
	return append(p, make([]byte, max(0, 60-len(p)))...)
}

// The parts that packets of the common traffic are built of.

func ether(dst net.HardwareAddr, t layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: macA, DstMAC: dst, EthernetType: t}
}

func tag(id uint16, pcp uint8, t layers.EthernetType) *layers.Dot1Q {
	return &layers.Dot1Q{VLANIdentifier: id, Priority: pcp, Type: t}
}

func ip4(protocol layers.IPProtocol, dst net.IP) *layers.IPv4 {
	return &layers.IPv4{Version: 4, IHL: 5, TTL: 63, Id: 0x1234, Flags: layers.IPv4DontFragment, Protocol: protocol, SrcIP: ipA, DstIP: dst}
}

func ip6(next layers.IPProtocol, src, dst net.IP, hops uint8) *layers.IPv6 {
	return &layers.IPv6{Version: 6, TrafficClass: 0x28, FlowLabel: 0x12345, NextHeader: next, HopLimit: hops, SrcIP: src, DstIP: dst}
}

func arp(operation uint16, senderMAC net.HardwareAddr, sender, target net.IP) *layers.ARP {
	return &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: operation,
		SourceHwAddress: senderMAC, SourceProtAddress: sender.To4(), DstHwAddress: make([]byte, 6), DstProtAddress: target.To4(),
	}
}

func icmp6(kind uint8) *layers.ICMPv6 {
	return &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}
}

func sourceOption(mac net.HardwareAddr) layers.ICMPv6Options {
	return layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: mac}}
}

func payload(n int) gopacket.Payload {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i)
	}
	return p
}

func ping(id uint16) *layers.ICMPv4 {
	return &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: id, Seq: 1}
}

// arpRequest asks who has the address.
func arpRequest(target net.IP) []byte {
	return build(ether(macAll, layers.EthernetTypeARP), arp(1, macA, ipA, target))
}

// solicit asks for b's IPv6 address by multicast.
func solicit(src net.IP, hops uint8, options layers.ICMPv6Options) []byte {
	return build(ether(macSolicitedB, layers.EthernetTypeIPv6), ip6(layers.IPProtocolICMPv6, src, solicitedB, hops),
		icmp6(135), &layers.ICMPv6NeighborSolicitation{TargetAddress: ip6B, Options: options})
}

// ping4 and ping6 are echo requests to b with n bytes of data.
func ping4(n int) []byte {
	return build(ether(macB, layers.EthernetTypeIPv4), ip4(layers.IPProtocolICMPv4, ipB), ping(1), payload(n))
}

func ping6(n int) []byte {
	return build(ether(macB, layers.EthernetTypeIPv6), ip6(layers.IPProtocolICMPv6, ip6A, ip6B, 63),
		icmp6(128), &layers.ICMPv6Echo{Identifier: 1, SeqNumber: 1}, payload(n))
}

// with returns the packet with the bytes at the offset replaced.
func with(p []byte, at int, b ...byte) []byte {
	p = bytes.Clone(p)
	copy(p[at:], b)
	return p
}

// fixIPv4 computes the checksum of an untagged packet's IPv4 header anew.
func fixIPv4(p []byte) []byte {
	header := p[14 : 14+int(p[14]&15)*4]
	header[10], header[11] = 0, 0
	sum := uint32(0)
	for i := 0; i < len(header); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(header[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(header[10:], ^uint16(sum))
	return p
}

// fragments4 cuts an untagged IPv4 packet's payload at the offsets, which are
// multiples of 8.
func fragments4(p []byte, offsets ...int) (all [][]byte) {
	total := int(binary.BigEndian.Uint16(p[16:]))
	body := p[34 : 14+total]
	for i, from := range offsets {
		to, more := len(body), byte(0)
		if i+1 < len(offsets) {
			to, more = offsets[i+1], 0x20
		}
		f := append(bytes.Clone(p[:34]), body[from:to]...)
		binary.BigEndian.PutUint16(f[16:], uint16(20+to-from))
		binary.BigEndian.PutUint16(f[20:], uint16(from/8))
		f[20] |= more
		f = fixIPv4(f)
		all = append(all, append(f, make([]byte, max(0, 60-len(f)))...))
	}
	return all
}

// fragment6 is a fragment of an ICMPv6 or UDP payload over IPv6.
func fragment6(next layers.IPProtocol, offset uint16, more bool, body []byte) []byte {
	h := make([]byte, 8)
	h[0] = byte(next)
	binary.BigEndian.PutUint16(h[2:], offset)
	if more {
		h[3] |= 1
	}
	h[7] = 77 // identification
	return build(ether(macB, layers.EthernetTypeIPv6), ip6(layers.IPProtocolIPv6Fragment, ip6A, ip6B, 64), gopacket.Payload(append(h, body...)))
}

// commonTraffic is one packet or more of every kind that stages tell apart: all
// from a, most to b. It is the same at every call.
func commonTraffic() []sample {
	var all []sample
	add := func(name string, p []byte) { all = append(all, sample{name, p}) }
	var (
		eth4, eth6 = ether(macB, layers.EthernetTypeIPv4), ether(macB, layers.EthernetTypeIPv6)
		ethARP     = ether(macAll, layers.EthernetTypeARP)
		ethVLAN    = ether(macB, layers.EthernetTypeDot1Q)
		ethQinQ    = ether(macB, layers.EthernetTypeQinQ)
		discard    = &layers.UDP{SrcPort: 40000, DstPort: 9}
		toDNS      = &layers.UDP{SrcPort: 40000, DstPort: 53}
		query      = &layers.DNS{ID: 7, RD: true, Questions: []layers.DNSQuestion{{Name: []byte("www.example.com"), Type: layers.DNSTypeA, Class: layers.DNSClassIN}}}
		syn        = &layers.TCP{SrcPort: 40001, DstPort: 80, Seq: 1000, SYN: true, Window: 64240,
			Options: []layers.TCPOption{{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{5, 0xb4}}}}
		data = &layers.TCP{SrcPort: 40001, DstPort: 80, Seq: 1001, Ack: 5000, ACK: true, PSH: true, Window: 502}
		udp  = func(n int) []byte { return build(eth4, ip4(layers.IPProtocolUDP, ipB), discard, payload(n)) }
	)

	add("ARP request", arpRequest(ipB))
	add("ARP request for another", arpRequest(ipC))
	add("ARP request to one host", build(ether(macB, layers.EthernetTypeARP), arp(1, macA, ipA, ipB)))
	add("ARP probe", build(ethARP, arp(1, macA, net.IPv4zero, ipB)))
	add("ARP announcement", build(ethARP, arp(1, macA, ipB, ipB)))
	add("ARP reply", build(ether(macB, layers.EthernetTypeARP), arp(2, macA, ipA, ipB)))
	add("ARP request, cut short", arpRequest(ipB)[:40])
	add("ARP request for hardware of 8 bytes", with(arpRequest(ipB), 18, 8))
	add("ARP request in a VLAN", build(ether(macAll, layers.EthernetTypeDot1Q), tag(7, 0, layers.EthernetTypeARP), arp(1, macA, ipA, ipB)))
	add("ARP request in two VLANs", build(ether(macAll, layers.EthernetTypeQinQ), tag(100, 0, layers.EthernetTypeDot1Q), tag(7, 0, layers.EthernetTypeARP), arp(1, macA, ipA, ipB)))

	add("ND solicitation", solicit(ip6A, 255, sourceOption(macA)))
	add("ND solicitation from a link-local address", solicit(linkLocalA, 255, sourceOption(macA)))
	add("ND solicitation to one host", build(eth6, ip6(layers.IPProtocolICMPv6, ip6A, ip6B, 255), icmp6(135), &layers.ICMPv6NeighborSolicitation{TargetAddress: ip6B}))
	add("ND solicitation for another", build(ether(net.HardwareAddr{0x33, 0x33, 0xff, 0, 0, 3}, layers.EthernetTypeIPv6),
		ip6(layers.IPProtocolICMPv6, ip6A, net.ParseIP("ff02::1:ff00:3"), 255), icmp6(135), &layers.ICMPv6NeighborSolicitation{TargetAddress: ip6C, Options: sourceOption(macA)}))
	add("ND duplicate address detection", solicit(net.IPv6unspecified, 255, nil))
	add("ND duplicate address detection with an option", solicit(net.IPv6unspecified, 255, sourceOption(macA)))
	add("ND solicitation from beyond a router", solicit(ip6A, 254, sourceOption(macA)))
	add("ND solicitation with a wrong checksum", with(solicit(ip6A, 255, sourceOption(macA)), 56, 0xde, 0xad))
	add("ND solicitation in a VLAN", build(ether(macSolicitedB, layers.EthernetTypeDot1Q), tag(7, 5, layers.EthernetTypeIPv6),
		ip6(layers.IPProtocolICMPv6, ip6A, solicitedB, 255), icmp6(135), &layers.ICMPv6NeighborSolicitation{TargetAddress: ip6B, Options: sourceOption(macA)}))
	add("ND advertisement", build(eth6, ip6(layers.IPProtocolICMPv6, ip6A, ip6B, 255), icmp6(136), &layers.ICMPv6NeighborAdvertisement{Flags: 0x60, TargetAddress: ip6A,
		Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: macA}}}))
	add("ND router solicitation", build(ether(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 2}, layers.EthernetTypeIPv6),
		ip6(layers.IPProtocolICMPv6, linkLocalA, net.ParseIP("ff02::2"), 255), icmp6(133), &layers.ICMPv6RouterSolicitation{Options: sourceOption(macA)}))

	add("ICMP echo request", ping4(56))
	add("ICMP echo request without data", ping4(0))
	add("ICMP echo request for another", build(eth4, ip4(layers.IPProtocolICMPv4, ipC), ping(1), payload(56)))
	add("ICMP echo request to all", build(ether(macAll, layers.EthernetTypeIPv4), ip4(layers.IPProtocolICMPv4, net.IPv4bcast.To4()), ping(1), payload(56)))
	add("ICMP echo request with a wrong checksum", with(ping4(56), 36, 0xde, 0xad))
	add("ICMP echo request with a wrong IPv4 checksum", with(ping4(56), 24, 0xde, 0xad))
	route := ip4(layers.IPProtocolICMPv4, ipB)
	route.Options = []layers.IPv4Option{{OptionType: 7, OptionLength: 7, OptionData: []byte{4, 0, 0, 0, 0}}, {OptionType: 0}}
	add("ICMP echo request that records its route", build(eth4, route, ping(1), payload(32)))
	add("ICMP echo request in a VLAN", build(ethVLAN, tag(7, 3, layers.EthernetTypeIPv4), ip4(layers.IPProtocolICMPv4, ipB), ping(1), payload(56)))
	add("ICMP echo reply", build(eth4, ip4(layers.IPProtocolICMPv4, ipB), &layers.ICMPv4{Id: 1, Seq: 1}, payload(56)))
	add("ICMP time exceeded", build(eth4, ip4(layers.IPProtocolICMPv4, ipB), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(11, 0)}, gopacket.Payload(udp(8)[14:42])))
	for i, f := range fragments4(ping4(200), 0, 104) {
		add([]string{"ICMP echo request, first fragment", "ICMP echo request, last fragment"}[i], f)
	}

	add("ICMPv6 echo request", ping6(56))
	add("ICMPv6 echo request for another", build(eth6, ip6(layers.IPProtocolICMPv6, ip6A, ip6C, 64), icmp6(128), &layers.ICMPv6Echo{Identifier: 1, SeqNumber: 1}, payload(8)))
	add("ICMPv6 echo request with a wrong checksum", with(ping6(56), 56, 0xde, 0xad))
	add("ICMPv6 echo reply", build(eth6, ip6(layers.IPProtocolICMPv6, ip6A, ip6B, 64), icmp6(129), &layers.ICMPv6Echo{Identifier: 1, SeqNumber: 1}, payload(56)))
	echo := ping6(200)[54:]
	add("ICMPv6 echo request, first fragment", fragment6(layers.IPProtocolICMPv6, 0, true, echo[:104]))
	add("ICMPv6 echo request, last fragment", fragment6(layers.IPProtocolICMPv6, 104, false, echo[104:]))
	add("ICMPv6 echo request in an atomic fragment", fragment6(layers.IPProtocolICMPv6, 0, false, echo))
	hop := build(eth6, ip6(layers.IPProtocolIPv6HopByHop, ip6A, ip6B, 64), gopacket.Payload(append([]byte{58, 0, 5, 2, 0, 0, 1, 0}, ping6(8)[54:]...)))
	add("ICMPv6 echo request with a router alert", hop)
	add("ICMPv6 packet too big", build(eth6, ip6(layers.IPProtocolICMPv6, ip6A, ip6B, 64), icmp6(2), gopacket.Payload(append([]byte{0, 0, 5, 0}, ping6(8)[14:]...))))

	add("TCP SYN", build(eth4, ip4(layers.IPProtocolTCP, ipB), syn))
	add("TCP data", build(eth4, ip4(layers.IPProtocolTCP, ipB), data, payload(100)))
	add("TCP with a wrong checksum", with(build(eth4, ip4(layers.IPProtocolTCP, ipB), data, payload(100)), 50, 0xde, 0xad))
	add("TCP, its header cut short", with(build(eth4, ip4(layers.IPProtocolTCP, ipB), syn), 17, 30))
	fixIPv4(all[len(all)-1].data)
	add("TCP over IPv6", build(eth6, ip6(layers.IPProtocolTCP, ip6A, ip6B, 64), syn))
	add("TCP in a VLAN", build(ethVLAN, tag(7, 0, layers.EthernetTypeIPv4), ip4(layers.IPProtocolTCP, ipB), data, payload(20)))
	add("TCP over IPv6 in two VLANs", build(ethQinQ, tag(100, 1, layers.EthernetTypeDot1Q), tag(7, 0, layers.EthernetTypeIPv6), ip6(layers.IPProtocolTCP, ip6A, ip6B, 64), data, payload(20)))

	add("DNS query", build(eth4, ip4(layers.IPProtocolUDP, ipB), toDNS, query))
	add("DNS query over IPv6", build(eth6, ip6(layers.IPProtocolUDP, ip6A, ip6B, 64), toDNS, query))
	add("UDP", udp(30))
	add("UDP, short and padded", udp(4))
	add("UDP without a checksum", with(udp(30), 40, 0, 0))
	add("UDP with a wrong checksum", with(udp(30), 40, 0xde, 0xad))
	add("UDP of 1500 bytes", udp(1472))
	add("UDP over IPv6", build(eth6, ip6(layers.IPProtocolUDP, ip6A, ip6B, 64), discard, payload(30)))
	add("UDP in a VLAN", build(ethVLAN, tag(8, 0, layers.EthernetTypeIPv4), ip4(layers.IPProtocolUDP, ipB), discard, payload(30)))
	add("UDP in two VLANs", build(ethQinQ, tag(100, 0, layers.EthernetTypeDot1Q), tag(8, 0, layers.EthernetTypeIPv4), ip4(layers.IPProtocolUDP, ipB), discard, payload(30)))
	add("UDP in three VLANs", build(ethQinQ, tag(100, 0, layers.EthernetTypeDot1Q), tag(8, 0, layers.EthernetTypeDot1Q), tag(9, 0, layers.EthernetTypeIPv4), ip4(layers.IPProtocolUDP, ipB), discard, payload(30)))
	add("UDP with a priority tag", build(ethVLAN, tag(0, 6, layers.EthernetTypeIPv4), ip4(layers.IPProtocolUDP, ipB), discard, payload(30)))
	add("UDP to a multicast group", build(ether(net.HardwareAddr{1, 0, 0x5e, 0, 0, 0xfb}, layers.EthernetTypeIPv4), ip4(layers.IPProtocolUDP, net.IP{224, 0, 0, 251}), discard, payload(30)))
	for i, f := range fragments4(udp(292), 0, 104, 208) {
		add([]string{"UDP, first fragment", "UDP, middle fragment", "UDP, last fragment"}[i], f)
	}
	long := build(eth6, ip6(layers.IPProtocolUDP, ip6A, ip6B, 64), discard, payload(200))[54:]
	add("UDP over IPv6, first fragment", fragment6(layers.IPProtocolUDP, 0, true, long[:104]))
	add("UDP over IPv6, last fragment", fragment6(layers.IPProtocolUDP, 104, false, long[104:]))

	add("SCTP", build(eth4, ip4(layers.IPProtocolSCTP, ipB), &layers.SCTP{SrcPort: 40002, DstPort: 36412, VerificationTag: 1},
		&layers.SCTPHeartbeat{SCTPChunk: layers.SCTPChunk{Type: layers.SCTPChunkTypeHeartbeat}}))
	add("IGMP", build(ether(net.HardwareAddr{1, 0, 0x5e, 0, 0, 1}, layers.EthernetTypeIPv4), ip4(layers.IPProtocolIGMP, net.IP{224, 0, 0, 1}), gopacket.Payload{0x11, 0x64, 0xee, 0x9b, 0, 0, 0, 0}))
	add("IPv6 without a next header", build(eth6, ip6(layers.IPProtocolNoNextHeader, ip6A, ip6B, 64)))
	add("LLDP", build(ether(net.HardwareAddr{1, 0x80, 0xc2, 0, 0, 0xe}, layers.EthernetTypeLinkLayerDiscovery), gopacket.Payload{2, 7, 4, 2, 0, 0, 0, 0, 10, 4, 2, 7, 49, 6, 2, 0, 120, 0, 0}))
	add("local experimental EtherType", build(ether(macB, 0x88b5), payload(46)))

	add("one byte", []byte{0x55})
	add("cut within the Ethernet header", udp(30)[:13])
	add("Ethernet header alone", udp(30)[:14])
	add("cut within the VLAN tag", build(ethVLAN, tag(7, 0, layers.EthernetTypeIPv4))[:17])
	add("cut within the IPv4 header", udp(30)[:30])
	add("cut within the UDP header", udp(30)[:40])
	add("cut within the UDP data", udp(30)[:50])
	add("cut within the IPv6 header", ping6(8)[:40])
	add("cut within the ICMPv6 message", ping6(56)[:100])
	add("IPv4 of version 5", with(udp(30), 14, 0x55))
	add("IPv4 with a header of 16 bytes", with(udp(30), 14, 0x44))
	add("IPv6 with a payload length beyond the packet", with(ping6(8), 18, 0xff, 0xff))
	noise := make([]byte, 60)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	add("noise", noise)
	add("noise in an IPv4 packet", append(bytes.Clone(udp(30)[:14]), noise...))
	add("noise in an IPv6 packet", append(bytes.Clone(ping6(8)[:14]), noise...))
	add("ones", bytes.Repeat([]byte{0xff}, 64))
	return all
}

// packetNamed returns the packet of that name of the common traffic.
func packetNamed(t testing.TB, name string) []byte {
	t.Helper()
	for _, s := range commonTraffic() {
		if s.name == name {
			return s.data
		}
	}
	t.Fatalf("no packet is named %q", name)
	return nil
}

// writePcap writes a capture in which packets are a millisecond apart.
func writePcap(t testing.TB, name string, packets [][]byte) {
	t.Helper()
	var buf bytes.Buffer
	w := pcapgo.NewWriter(&buf)
	must(t, w.WriteFileHeader(65535, layers.LinkTypeEthernet))
	for i, p := range packets {
		at := time.UnixMilli(946684800000 + int64(i))
		must(t, w.WritePacket(gopacket.CaptureInfo{Timestamp: at, CaptureLength: len(p), Length: len(p)}, p))
	}
	must(t, os.WriteFile(name, buf.Bytes(), 0o644))
}

// readPcap reads what writePcap wrote.
func readPcap(t testing.TB, name string) (packets [][]byte) {
	t.Helper()
	f, err := os.Open(name)
	must(t, err)
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	must(t, err)
	for {
		p, _, err := r.ReadPacketData()
		if err != nil {
			return packets
		}
		packets = append(packets, p)
	}
}

func TestTrafficCaptureIsWhatItsGeneratorMakes(t *testing.T) {
	var want [][]byte
	names := map[string]bool{}
	for _, s := range commonTraffic() {
		if names[s.name] {
			t.Errorf("two packets are named %q", s.name)
		}
		names[s.name] = true
		want = append(want, s.data)
	}
	if *update {
		writePcap(t, trafficFile, want)
	}
	got := readPcap(t, trafficFile)
	if len(got) != len(want) {
		t.Fatalf("%s has %d packets, want %d (go test -update writes it anew)", trafficFile, len(got), len(want))
	}
	for i, s := range commonTraffic() {
		if !bytes.Equal(got[i], s.data) {
			t.Errorf("%s: packet %d, %s, is %x, want %x (go test -update writes it anew)", trafficFile, i+1, s.name, got[i], s.data)
		}
	}
}
