package pipeline

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/xdpipe/xdpipe/umem"
)

// serialized is a packet by gopacket with its checksums: that protocol over IPv4
// with random options, or over IPv6 behind the extension headers, of which the
// first has the number next. final is the destination that the checksum is for.
func serialized(t testing.TB, rng *rand.Rand, protocol layers.IPProtocol, ipv6 bool, next byte, ext []byte, final net.IP) []byte {
	t.Helper()
	stack := []gopacket.SerializableLayer{&layers.Ethernet{SrcMAC: net.HardwareAddr(testMACs[6:12]), DstMAC: net.HardwareAddr(testMACs[:6]), EthernetType: layers.EthernetTypeIPv4}}
	random := func(n int) []byte {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		return p
	}
	var network, pseudo gopacket.SerializableLayer
	if ipv6 {
		stack[0].(*layers.Ethernet).EthernetType = layers.EthernetTypeIPv6
		if next == 0 && ext == nil {
			next = byte(protocol)
		}
		ip := &layers.IPv6{Version: 6, NextHeader: layers.IPProtocol(next), HopLimit: 64, SrcIP: random(16), DstIP: random(16)}
		seen := *ip
		if seen.NextHeader = protocol; final != nil {
			seen.DstIP = final
		}
		network, pseudo = ip, &seen
	} else {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: protocol, SrcIP: random(4), DstIP: random(4)}
		for range rng.IntN(3) {
			ip.Options = append(ip.Options, layers.IPv4Option{OptionType: 7, OptionLength: 7, OptionData: append([]byte{4}, random(4)...)}, layers.IPv4Option{OptionType: 1})
		}
		network, pseudo = ip, ip
	}
	stack = append(stack, network, gopacket.Payload(ext))
	switch sums := pseudo.(gopacket.NetworkLayer); protocol {
	case layers.IPProtocolTCP:
		l := &layers.TCP{SrcPort: layers.TCPPort(rng.IntN(65536)), DstPort: 80, Seq: rng.Uint32(), ACK: true, Window: 100}
		for range rng.IntN(4) {
			l.Options = append(l.Options, layers.TCPOption{OptionType: 3, OptionLength: 3, OptionData: []byte{7}})
		}
		l.SetNetworkLayerForChecksum(sums)
		stack = append(stack, l)
	case layers.IPProtocolUDP:
		l := &layers.UDP{SrcPort: layers.UDPPort(rng.IntN(65536)), DstPort: 53}
		l.SetNetworkLayerForChecksum(sums)
		stack = append(stack, l)
	case layers.IPProtocolICMPv4:
		stack = append(stack, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: uint16(rng.Uint32())})
	case layers.IPProtocolICMPv6:
		l := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(128, 0)}
		l.SetNetworkLayerForChecksum(sums)
		stack = append(stack, l, gopacket.Payload(random(4)))
	}
	stack = append(stack, gopacket.Payload(random(rng.IntN(200))))
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, stack...); err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(buf.Bytes())
}

// routing is an IPv6 routing header of a type with the addresses, which is not at
// its end.
func routing(next, kind, left byte, addresses ...[]byte) []byte {
	h := []byte{next, byte(2 * len(addresses)), kind, left, byte(len(addresses) - 1), 0, 0, 0}
	return append(h, bytes.Join(addresses, nil)...)
}

var (
	address1 = bytes.Repeat([]byte{0x20, 0x01}, 8)
	address2 = bytes.Repeat([]byte{0x20, 0x02}, 8)
)

// A sumCase is a kind of packet with checksums.
type sumCase struct {
	name     string
	protocol layers.IPProtocol
	ipv6     bool
	next     byte   // of the first extension header
	ext      []byte // which lead to protocol
	final    net.IP
}

var sumCases = []sumCase{
	{name: "IPv4 TCP", protocol: layers.IPProtocolTCP},
	{name: "IPv4 UDP", protocol: layers.IPProtocolUDP},
	{name: "IPv4 ICMP", protocol: layers.IPProtocolICMPv4},
	{name: "IPv6 TCP", protocol: layers.IPProtocolTCP, ipv6: true},
	{name: "IPv6 UDP", protocol: layers.IPProtocolUDP, ipv6: true},
	{name: "IPv6 ICMPv6", protocol: layers.IPProtocolICMPv6, ipv6: true},
	{name: "IPv6 with hop-by-hop and destination options", protocol: layers.IPProtocolUDP, ipv6: true,
		next: 0, ext: []byte(ext(60, 1) + ext(17, 3))},
	{name: "IPv6 with an authentication header", protocol: layers.IPProtocolTCP, ipv6: true, next: 51, ext: []byte("\x06\x04" + string(make([]byte, 22)))},
	{name: "IPv6 atomic fragment", protocol: layers.IPProtocolICMPv6, ipv6: true, next: 44, ext: []byte(frag6(58, 0))},
	{name: "IPv6 at the end of its route", protocol: layers.IPProtocolUDP, ipv6: true, next: 43, ext: routing(17, 0, 0, address1, address2)},
	{name: "IPv6 on a route, whose last address is at the end of the list", protocol: layers.IPProtocolUDP, ipv6: true,
		next: 43, ext: routing(17, 0, 1, address1, address2), final: address2},
	{name: "IPv6 to a mobile node", protocol: layers.IPProtocolTCP, ipv6: true, next: 43, ext: routing(6, 2, 1, address1), final: address1},
	{name: "IPv6 segment routing, whose last address is at the beginning of the list", protocol: layers.IPProtocolTCP, ipv6: true,
		next: 43, ext: routing(6, 4, 1, address1, address2), final: address1},
	{name: "IPv6 segment routing at its last segment", protocol: layers.IPProtocolICMPv6, ipv6: true,
		next: 0, ext: append([]byte(ext(43, 0)), routing(58, 4, 0, address1, address2)...)},
}

// check parses the packet and verifies its checksums, in a slice that ends with it.
func check(data []byte) Checksum {
	var m Meta
	data = data[:len(data):len(data)]
	m.Parse(data)
	return m.verify(data)
}

// eachSumCase runs f on random packets of each kind, of even and odd lengths.
func eachSumCase(t *testing.T, f func(t *testing.T, rng *rand.Rand, tc sumCase, data []byte)) {
	for _, tc := range sumCases {
		t.Run(tc.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(11, uint64(len(tc.name))))
			for range 60 {
				f(t, rng, tc, serialized(t, rng, tc.protocol, tc.ipv6, tc.next, tc.ext, tc.final))
			}
		})
	}
}

func TestChecksumsOfGopacketAreGoodAndWithEachBitFlippedBad(t *testing.T) {
	eachSumCase(t, func(t *testing.T, rng *rand.Rand, tc sumCase, data []byte) {
		if got := check(data); got != ChecksumGood {
			t.Fatalf("%x is %v", data, got)
		}
		// Ethernet pads short packets, with anything.
		if got := check(append(bytes.Clone(data), 0xff, 0xff, 0xff)); got != ChecksumGood {
			t.Fatalf("%x with padding is %v", data, got)
		}
		var m Meta
		m.Parse(data)
		from := m.L4 // what the checksum covers, and it
		if !tc.ipv6 {
			from = 14
		}
		for bit := int(from) * 8; bit < int(m.End)*8; bit++ {
			flipped := bytes.Clone(data)
			flipped[bit/8] ^= 0x80 >> (bit % 8)
			var f Meta
			f.Parse(flipped)
			if got := f.verify(flipped); got != ChecksumBad && f.Flags&(MetaMalformed|MetaFragment) == 0 && got != zeroUDP(&f, flipped) {
				t.Fatalf("bit %d of %x flipped, and it is %v", bit, data, got)
			}
		}
	})
}

// zeroUDP is what is right of UDP that says that it has no checksum.
func zeroUDP(m *Meta, p []byte) Checksum {
	if m.Protocol == ProtocolUDP && binary.BigEndian.Uint16(p[m.L4+6:]) == 0 {
		return ChecksumUnknown
	}
	return ChecksumBad
}

func TestCompletedChecksumsAreThoseOfGopacket(t *testing.T) {
	b := newTestBatch(t, umem.Options{Frames: 4})
	put(t, b, make([]byte, b.mem.MaxPacket()))
	eachSumCase(t, func(t *testing.T, rng *rand.Rand, tc sumCase, data []byte) {
		d := &b.desc[0]
		d.Len = uint32(b.mem.MaxPacket())
		frame := b.Data(0)
		for i := copy(frame, data); i < len(frame); i++ {
			frame[i] = 0xaa
		}
		d.Len = uint32(len(data) + 3)
		want := bytes.Clone(b.Data(0))
		b.Parse()
		m := b.Meta(0)
		spoil, _ := m.transport(b.Data(0))
		spoil.sum[0], spoil.sum[1] = byte(rng.Uint32()), byte(rng.Uint32())
		if !tc.ipv6 {
			put16(b.Data(0)[m.L3+10:], uint16(rng.Uint32()))
		}
		if !b.CompleteChecksum(0) || m.Checksum != ChecksumGood {
			t.Fatalf("not completed: %x, now %v", data, m.Checksum)
		}
		if !bytes.Equal(b.Data(0), want) {
			t.Fatalf("is\n%x, want\n%x", b.Data(0), want)
		}
		for i := int(d.Len); i < len(frame); i++ {
			if frame[i] != 0xaa {
				t.Fatalf("byte %d of %d was written to", i, d.Len)
			}
		}
	})
}

func TestACompletedUDPChecksumIsNeverTheOneThatMeansNone(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	for _, ipv6 := range []bool{false, true} {
		data := serialized(t, rng, layers.IPProtocolUDP, ipv6, 0, nil, nil)
		var m Meta
		m.Parse(data)
		sum := binary.BigEndian.Uint16(data[m.L4+6:])
		// A source port that is more by the checksum makes the sum all ones.
		port := UpdateChecksum(^m.SrcPort, 0, sum)
		put16(data[m.L4:], ^port)
		m.Parse(data)
		if !m.complete(data) || binary.BigEndian.Uint16(data[m.L4+6:]) != 0xffff || check(data) != ChecksumGood {
			t.Errorf("IPv6 %v: the checksum is %x, want ffff", ipv6, data[m.L4+6:m.L4+8])
		}
	}
}

func ExampleUpdateChecksum() {
	// A word of an IPv4 header changes: its time to live goes down by one.
	header := []byte("\x45\x00\x00\x1c\x00\x00\x00\x00\x40\x11\x00\x00\xc0\x00\x02\x01\xc0\x00\x02\x02")
	sum := FoldSum(SumBytes(0, header))
	sum = UpdateChecksum(sum, 0x4011, 0x3f11)
	header[8]--
	fmt.Println(sum == FoldSum(SumBytes(0, header)))
	// Output: true
}
