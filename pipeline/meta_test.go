package pipeline

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/xdpipe/xdpipe/umem"
)

const testMACs = "\x02\x00\x00\x00\x00\x0b\x02\x00\x00\x00\x00\x0a"

// ip4 is an IPv4 header with what follows it; its total length is that of both.
func ip4(protocol byte, fragment uint16, options, rest string) string {
	h := make([]byte, 20)
	h[0] = byte(0x45 + len(options)/4)
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(options)+len(rest)))
	binary.BigEndian.PutUint16(h[6:], fragment)
	h[8], h[9] = 64, protocol
	copy(h[12:], "\xc0\x00\x02\x01\xc0\x00\x02\x02")
	return string(h) + options + rest
}

// ip6 is an IPv6 header with what follows it.
func ip6(next byte, rest string) string {
	h := make([]byte, 40)
	h[0], h[6], h[7] = 0x60, next, 64
	binary.BigEndian.PutUint16(h[4:], uint16(len(rest)))
	copy(h[8:], "\x20\x01\x0d\xb8")
	copy(h[24:], "\x20\x01\x0d\xb8")
	return string(h) + rest
}

// ext is an IPv6 extension header of 8 bytes and words more of 8.
func ext(next, words byte) string {
	return string([]byte{next, words}) + string(make([]byte, 6+8*int(words)))
}

// frag6 is an IPv6 fragment header; field is the offset and its flags.
func frag6(next byte, field uint16) string {
	return string([]byte{next, 0, byte(field >> 8), byte(field), 0, 0, 0, 1})
}

const (
	tcp  = "\x10\x00\x00\x50\x00\x00\x00\x01\x00\x00\x00\x02\x50\x10\x20\x00\x00\x00\x00\x00"
	udp  = "\x10\x00\x00\x35\x00\x0c\x00\x00data"
	icmp = "\x08\x00\x00\x00\x00\x01\x00\x01"
	sctp = "\x10\x00\x0b\x59\x00\x00\x00\x01\x00\x00\x00\x00"
)

type metaCase struct {
	name string
	data string // after the addresses
	want Meta
	cut  bool // is malformed: its prefixes say nothing
}

var metaCases = []metaCase{
	{name: "IPv4 TCP", data: "\x08\x00" + ip4(6, 0x4000, "", tcp),
		want: Meta{Flags: MetaParsed | MetaIPv4 | MetaL4 | MetaPorts, EtherType: 0x800, L3: 14, L4: 34, Protocol: 6, SrcPort: 4096, DstPort: 80}},
	{name: "IPv4 UDP", data: "\x08\x00" + ip4(17, 0, "", udp),
		want: Meta{Flags: MetaParsed | MetaIPv4 | MetaL4 | MetaPorts, EtherType: 0x800, L3: 14, L4: 34, Protocol: 17, SrcPort: 4096, DstPort: 53}},
	{name: "IPv4 UDP with a long payload", data: "\x08\x00" + ip4(17, 0, "", udp+string(make([]byte, 1000))),
		want: Meta{Flags: MetaParsed | MetaIPv4 | MetaL4 | MetaPorts, EtherType: 0x800, L3: 14, L4: 34, Protocol: 17, SrcPort: 4096, DstPort: 53}},
	{name: "IPv4 ICMP", data: "\x08\x00" + ip4(1, 0, "", icmp),
		want: Meta{Flags: MetaParsed | MetaIPv4 | MetaL4, EtherType: 0x800, L3: 14, L4: 34, Protocol: 1}},
	{name: "IPv4 SCTP", data: "\x08\x00" + ip4(132, 0, "", sctp),
		want: Meta{Flags: MetaParsed | MetaIPv4 | MetaL4 | MetaPorts, EtherType: 0x800, L3: 14, L4: 34, Protocol: 132, SrcPort: 4096, DstPort: 2905}},
	{name: "IPv4 with a protocol without ports", data: "\x08\x00" + ip4(47, 0, "", "\x00\x00\x08\x00"),
		want: Meta{Flags: MetaParsed | MetaIPv4 | MetaL4, EtherType: 0x800, L3: 14, L4: 34, Protocol: 47}},
	{name: "IPv4 with nothing in it", data: "\x08\x00" + ip4(255, 0, "", ""),
		want: Meta{Flags: MetaParsed | MetaIPv4 | MetaL4, EtherType: 0x800, L3: 14, L4: 34, Protocol: 255}},
	{name: "IPv4 with options", data: "\x08\x00" + ip4(17, 0, "\x94\x04\x00\x00", udp),
		want: Meta{Flags: MetaParsed | MetaIPv4 | MetaL4 | MetaPorts, EtherType: 0x800, L3: 14, L4: 38, Protocol: 17, SrcPort: 4096, DstPort: 53}},
	{name: "IPv4 with all the options there can be", data: "\x08\x00" + ip4(6, 0, string(make([]byte, 40)), tcp),
		want: Meta{Flags: MetaParsed | MetaIPv4 | MetaL4 | MetaPorts, EtherType: 0x800, L3: 14, L4: 74, Protocol: 6, SrcPort: 4096, DstPort: 80}},
	{name: "IPv4 first fragment", data: "\x08\x00" + ip4(17, 0x2000, "", udp),
		want: Meta{Flags: MetaParsed | MetaIPv4 | MetaL4 | MetaPorts | MetaFragment, EtherType: 0x800, L3: 14, L4: 34, Protocol: 17, SrcPort: 4096, DstPort: 53}},
	{name: "IPv4 first fragment that is cut after the ports", data: "\x08\x00" + ip4(6, 0x2000, "", tcp[:8]),
		want: Meta{Flags: MetaParsed | MetaIPv4 | MetaL4 | MetaPorts | MetaFragment, EtherType: 0x800, L3: 14, L4: 34, Protocol: 6, SrcPort: 4096, DstPort: 80}},
	{name: "IPv4 later fragment", data: "\x08\x00" + ip4(17, 0x2064, "", udp),
		want: Meta{Flags: MetaParsed | MetaIPv4 | MetaFragment, EtherType: 0x800, L3: 14, Protocol: 17}},
	{name: "IPv4 last fragment", data: "\x08\x00" + ip4(17, 0x0064, "", "x"),
		want: Meta{Flags: MetaParsed | MetaIPv4 | MetaFragment, EtherType: 0x800, L3: 14, Protocol: 17}},
	{name: "IPv4 with the reserved flag", data: "\x08\x00" + ip4(17, 0x8000, "", udp),
		want: Meta{Flags: MetaParsed | MetaIPv4 | MetaL4 | MetaPorts, EtherType: 0x800, L3: 14, L4: 34, Protocol: 17, SrcPort: 4096, DstPort: 53}},

	{name: "IPv6 TCP", data: "\x86\xdd" + ip6(6, tcp),
		want: Meta{Flags: MetaParsed | MetaIPv6 | MetaL4 | MetaPorts, EtherType: 0x86dd, L3: 14, L4: 54, Protocol: 6, SrcPort: 4096, DstPort: 80}},
	{name: "IPv6 UDP", data: "\x86\xdd" + ip6(17, udp),
		want: Meta{Flags: MetaParsed | MetaIPv6 | MetaL4 | MetaPorts, EtherType: 0x86dd, L3: 14, L4: 54, Protocol: 17, SrcPort: 4096, DstPort: 53}},
	{name: "IPv6 ICMPv6", data: "\x86\xdd" + ip6(58, icmp),
		want: Meta{Flags: MetaParsed | MetaIPv6 | MetaL4, EtherType: 0x86dd, L3: 14, L4: 54, Protocol: 58}},
	{name: "IPv6 with hop-by-hop options", data: "\x86\xdd" + ip6(0, ext(58, 0)+icmp),
		want: Meta{Flags: MetaParsed | MetaIPv6 | MetaL4, EtherType: 0x86dd, L3: 14, L4: 62, Protocol: 58}},
	{name: "IPv6 with hop-by-hop, routing and long destination options", data: "\x86\xdd" + ip6(0, ext(43, 0)+ext(60, 2)+ext(17, 5)+udp),
		want: Meta{Flags: MetaParsed | MetaIPv6 | MetaL4 | MetaPorts, EtherType: 0x86dd, L3: 14, L4: 54 + 8 + 24 + 48, Protocol: 17, SrcPort: 4096, DstPort: 53}},
	{name: "IPv6 with an authentication header, whose length is in words of four", data: "\x86\xdd" + ip6(51, "\x06\x04"+string(make([]byte, 22))+tcp),
		want: Meta{Flags: MetaParsed | MetaIPv6 | MetaL4 | MetaPorts, EtherType: 0x86dd, L3: 14, L4: 54 + 24, Protocol: 6, SrcPort: 4096, DstPort: 80}},
	{name: "IPv6 with the most extension headers", data: "\x86\xdd" + ip6(0, ext(60, 0)+ext(60, 0)+ext(60, 0)+ext(60, 0)+ext(60, 0)+ext(60, 0)+ext(17, 0)+udp),
		want: Meta{Flags: MetaParsed | MetaIPv6 | MetaL4 | MetaPorts, EtherType: 0x86dd, L3: 14, L4: 54 + 56, Protocol: 17, SrcPort: 4096, DstPort: 53}},
	{name: "IPv6 without next header", data: "\x86\xdd" + ip6(59, "whatever"),
		want: Meta{Flags: MetaParsed | MetaIPv6, EtherType: 0x86dd, L3: 14, Protocol: 59}},
	{name: "IPv6 first fragment", data: "\x86\xdd" + ip6(44, frag6(17, 1)+udp),
		want: Meta{Flags: MetaParsed | MetaIPv6 | MetaL4 | MetaPorts | MetaFragment, EtherType: 0x86dd, L3: 14, L4: 62, Protocol: 17, SrcPort: 4096, DstPort: 53}},
	{name: "IPv6 later fragment", data: "\x86\xdd" + ip6(44, frag6(6, 1232|1)+tcp),
		want: Meta{Flags: MetaParsed | MetaIPv6 | MetaFragment, EtherType: 0x86dd, L3: 14, Protocol: 6}},
	{name: "IPv6 atomic fragment", data: "\x86\xdd" + ip6(44, frag6(17, 0)+udp),
		want: Meta{Flags: MetaParsed | MetaIPv6 | MetaL4 | MetaPorts, EtherType: 0x86dd, L3: 14, L4: 62, Protocol: 17, SrcPort: 4096, DstPort: 53}},
	{name: "IPv6 fragment with reserved bits set", data: "\x86\xdd" + ip6(44, frag6(17, 6)+udp),
		want: Meta{Flags: MetaParsed | MetaIPv6 | MetaL4 | MetaPorts, EtherType: 0x86dd, L3: 14, L4: 62, Protocol: 17, SrcPort: 4096, DstPort: 53}},

	{name: "ARP", data: "\x08\x06" + string(make([]byte, 28)), want: Meta{Flags: MetaParsed | MetaARP, EtherType: 0x806, L3: 14}},
	{name: "unknown EtherType", data: "\x88\xb5", want: Meta{Flags: MetaParsed, EtherType: 0x88b5, L3: 14}},
	{name: "802.3 length in place of an EtherType", data: "\x00\x26" + string(make([]byte, 38)), want: Meta{Flags: MetaParsed, EtherType: 38, L3: 14}},
	{name: "VLAN tag", data: "\x81\x00\x60\x07\x08\x00" + ip4(17, 0, "", udp),
		want: Meta{Flags: MetaParsed | MetaVLAN | MetaIPv4 | MetaL4 | MetaPorts, EtherType: 0x800, L3: 18, L4: 38, VLAN: [2]uint16{0x6007}, VLANs: 1, Protocol: 17, SrcPort: 4096, DstPort: 53}},
	{name: "QinQ", data: "\x88\xa8\x00\x64\x81\x00\x00\xc8\x86\xdd" + ip6(6, tcp),
		want: Meta{Flags: MetaParsed | MetaVLAN | MetaIPv6 | MetaL4 | MetaPorts, EtherType: 0x86dd, L3: 22, L4: 62, VLAN: [2]uint16{100, 200}, VLANs: 2, Protocol: 6, SrcPort: 4096, DstPort: 80}},
	{name: "three tags, of which the last is payload", data: "\x81\x00\x00\x01\x81\x00\x00\x02\x81\x00\x00\x03\x08\x00" + ip4(17, 0, "", udp),
		want: Meta{Flags: MetaParsed | MetaVLAN, EtherType: 0x8100, L3: 22, VLAN: [2]uint16{1, 2}, VLANs: 2}},

	{name: "IPv4 of another version", data: "\x08\x00" + "\x65" + ip4(17, 0, "", udp)[1:], cut: true,
		want: Meta{Flags: MetaParsed | MetaMalformed, EtherType: 0x800, L3: 14}},
	{name: "IPv4 with a header shorter than it can be", data: "\x08\x00" + "\x44" + ip4(17, 0, "", udp)[1:], cut: true,
		want: Meta{Flags: MetaParsed | MetaIPv4 | MetaMalformed, EtherType: 0x800, L3: 14}},
	{name: "IPv4 with a header longer than the packet", data: "\x08\x00" + "\x4f" + ip4(17, 0, "", udp)[1:], cut: true,
		want: Meta{Flags: MetaParsed | MetaIPv4 | MetaMalformed, EtherType: 0x800, L3: 14}},
	{name: "IPv4 longer than the packet", data: "\x08\x00" + ip4(17, 0, "", udp+"x")[:32], cut: true,
		want: Meta{Flags: MetaParsed | MetaIPv4 | MetaMalformed, EtherType: 0x800, L3: 14}},
	{name: "IPv4 UDP header cut by the total length, with padding behind", data: "\x08\x00" + ip4(17, 0, "", udp[:7]) + string(make([]byte, 19)), cut: true,
		want: Meta{Flags: MetaParsed | MetaIPv4 | MetaMalformed, EtherType: 0x800, L3: 14, Protocol: 17}},
	{name: "IPv4 first fragment without whole ports", data: "\x08\x00" + ip4(17, 0x2000, "", udp[:3]) + string(make([]byte, 23)), cut: true,
		want: Meta{Flags: MetaParsed | MetaIPv4 | MetaFragment | MetaMalformed, EtherType: 0x800, L3: 14, Protocol: 17}},
	{name: "IPv6 of another version", data: "\x86\xdd" + "\x45" + ip6(17, udp)[1:], cut: true,
		want: Meta{Flags: MetaParsed | MetaMalformed, EtherType: 0x86dd, L3: 14}},
	{name: "IPv6 longer than the packet", data: "\x86\xdd" + ip6(17, udp+"x")[:52], cut: true,
		want: Meta{Flags: MetaParsed | MetaIPv6 | MetaMalformed, EtherType: 0x86dd, L3: 14}},
	{name: "IPv6 extension header longer than the packet", data: "\x86\xdd" + ip6(60, "\x11\xff"+string(make([]byte, 14))), cut: true,
		want: Meta{Flags: MetaParsed | MetaIPv6 | MetaMalformed, EtherType: 0x86dd, L3: 14, Protocol: 17}},
	{name: "IPv6 extension header longer than the packet and nothing after it", data: "\x86\xdd" + ip6(60, "\x3b\xff"+string(make([]byte, 14))), cut: true,
		want: Meta{Flags: MetaParsed | MetaIPv6 | MetaMalformed, EtherType: 0x86dd, L3: 14, Protocol: 59}},
	{name: "IPv6 fragment header cut short", data: "\x86\xdd" + ip6(44, frag6(17, 1)[:7]), cut: true,
		want: Meta{Flags: MetaParsed | MetaIPv6 | MetaMalformed, EtherType: 0x86dd, L3: 14}},
	{name: "IPv6 authentication header cut short", data: "\x86\xdd" + ip6(51, "\x06\x04"), cut: true,
		want: Meta{Flags: MetaParsed | MetaIPv6 | MetaMalformed, EtherType: 0x86dd, L3: 14}},
	{name: "IPv6 with one extension header too many", data: "\x86\xdd" + ip6(0, ext(60, 0)+ext(60, 0)+ext(60, 0)+ext(60, 0)+ext(60, 0)+ext(60, 0)+ext(60, 0)+ext(17, 0)+udp), cut: true,
		want: Meta{Flags: MetaParsed | MetaIPv6 | MetaMalformed, EtherType: 0x86dd, L3: 14}},
	{name: "cut within a tag", data: "\x81\x00\x00\x07\x08", cut: true, want: Meta{Flags: MetaParsed | MetaMalformed}},
	{name: "cut within the second tag", data: "\x88\xa8\x00\x07\x81\x00\x00", cut: true, want: Meta{Flags: MetaParsed | MetaVLAN | MetaMalformed, VLAN: [2]uint16{7}, VLANs: 1}},
}

func TestParse(t *testing.T) {
	p := newParser(t)
	for _, tc := range metaCases {
		t.Run(tc.name, func(t *testing.T) {
			data := []byte(testMACs + tc.data)
			if got := p.parsed(t, data); got != tc.want {
				t.Errorf("is\n%+v, want\n%+v", got, tc.want)
			}
			if tc.cut {
				return
			}
			// Ethernet pads short packets.
			if got := p.parsed(t, append(data, make([]byte, 46)...)); got != tc.want {
				t.Errorf("padded is\n%+v, want\n%+v", got, tc.want)
			}
		})
	}
}

func TestParseOfWhatIsShorterThanAnEthernetHeader(t *testing.T) {
	p := newParser(t)
	for n := range 14 {
		if got, want := p.parsed(t, []byte(testMACs + "\x08\x00")[:n]), (Meta{Flags: MetaParsed | MetaMalformed}); got != want {
			t.Errorf("%d bytes are %+v, want %+v", n, got, want)
		}
	}
}

func TestParseOfAPacketCutAnywhere(t *testing.T) {
	p := newParser(t)
	for _, tc := range metaCases {
		data := []byte(testMACs + tc.data)
		whole := p.parsed(t, data)
		for n := range len(data) {
			m := p.parsed(t, data[:n:n]) // the capacity makes a read beyond it panic
			if m == whole {
				continue // what was cut off is payload, or said nothing
			}
			if tc.want.Flags&(MetaIPv4|MetaIPv6) != 0 && m.Flags&MetaMalformed == 0 {
				t.Errorf("%s: cut to %d bytes of %d is %+v, which does not say malformed", tc.name, n, len(data), m)
			}
		}
	}
}

// A parser parses packets by themselves and in a batch, which has a shorter way
// for common ones.
type parser struct {
	batch *Batch
}

func newParser(t testing.TB) *parser {
	mem, err := umem.New(umem.Options{Frames: 4, FrameSize: 4096, Pages: umem.Pages4K})
	if err != nil {
		t.Fatal(err)
	}
	cache := mem.NewCache(4)
	p := &parser{NewBatch(cache, 1)}
	p.batch.Alloc(mem.MaxPacket())
	t.Cleanup(func() {
		p.batch.release(0)
		cache.Close()
		if err := mem.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// stale is the metadata of another packet, with all flags but that of several
// descriptors.
var stale = Meta{
	arrival: 1, Flags: ^MetaFlags(0) &^ MetaMulti, trace: 11, hash: 2, EtherType: 3, L3: 4, L4: 5, End: 6, VLAN: [2]uint16{7, 8},
	SrcPort: 9, DstPort: 10, VLANs: 12, Protocol: 13, Checksum: ChecksumBad,
}

// alsoInABatch fails if the packet is another in a batch, or if that depends on
// the bytes behind it.
func (p *parser) alsoInABatch(t *testing.T, data []byte, want Meta) {
	t.Helper()
	d := &p.batch.Descs()[0]
	if d.Len = uint32(p.batch.mem.MaxPacket()); len(data) > int(d.Len) {
		return
	}
	for _, behind := range []byte{0, 0xff} {
		d.Len = uint32(p.batch.mem.MaxPacket())
		room := p.batch.Data(0)
		for i := copy(room, data); i < min(len(room), len(data)+128); i++ {
			room[i] = behind
		}
		d.Len = uint32(len(data))
		*p.batch.Meta(0) = stale
		p.batch.Parse()
		m := *p.batch.Meta(0)
		if m.hash = want.hash; m != want { // of no meaning without its flag
			t.Fatalf("%x is\n%+v by itself, in a batch\n%+v", data, want, m)
		}
	}
}

// parsed parses the packet into a Meta that held another, and checks what is
// true of every packet.
func (p *parser) parsed(t *testing.T, data []byte) Meta {
	t.Helper()
	m := stale
	m.Parse(data)
	if m.arrival != stale.arrival || m.trace != stale.trace {
		t.Fatalf("%x: parsing forgets where the packet is from: %+v", data, m)
	}
	p.alsoInABatch(t, data, m)
	consistent(t, data, &m)
	m.arrival, m.trace, m.End = 0, 0, 0 // checked above
	return m
}

// consistent checks what is true of the metadata of every parsed packet.
func consistent(t *testing.T, data []byte, m *Meta) {
	t.Helper()
	n := len(data)
	is := func(f MetaFlags) bool { return m.Flags&f != 0 }
	for _, rule := range []struct {
		ok   bool
		what string
	}{
		{is(MetaParsed), "is not marked as parsed"},
		{!is(MetaIPv4) || !is(MetaIPv6), "is of both IP versions"},
		{is(MetaVLAN) == (m.VLANs > 0), "has tags and no flag, or the flag and no tags"},
		{m.VLANs <= 2, "has more tags than there is room for"},
		{int(m.L3) <= n, "has a network header outside of it"},
		{!is(MetaIPv4) || int(m.L3)+20 <= n, "has no room for its IPv4 header"},
		{!is(MetaIPv6) || int(m.L3)+40 <= n, "has no room for its IPv6 header"},
		{!is(MetaL4) || is(MetaIPv4|MetaIPv6) && m.L4 >= m.L3+20 && int(m.L4) <= n, "has a transport header outside of it"},
		{!is(MetaL4) || !is(MetaMalformed), "has a transport header though it is malformed"},
		{!is(MetaPorts) || is(MetaL4) && int(m.L4)+4 <= n, "has ports outside of it"},
		{int(m.End) <= n && m.End >= m.L3, "ends outside of it"},
		{is(MetaIPv4|MetaIPv6) || int(m.End) == n, "is not IP and ends before it ends"},
		{!is(MetaL4) || int(m.End) >= int(m.L4)+l4Size(m.Protocol, is(MetaFragment)), "ends within its transport header"},
		{!is(MetaL4) || m.L4 <= m.End, "ends before its transport header"},
	} {
		if !rule.ok {
			t.Fatalf("%x %s: %+v", data, rule.what, *m)
		}
	}
	if is(MetaPorts) && (m.SrcPort != binary.BigEndian.Uint16(data[m.L4:]) || m.DstPort != binary.BigEndian.Uint16(data[m.L4+2:])) {
		t.Fatalf("%x has other ports than %+v", data, *m)
	}
}

func TestParseAgreesWithGopacket(t *testing.T) {
	p := newParser(t)
	rng := rand.New(rand.NewPCG(1, 2))
	l4 := 0
	for range 20000 {
		data := randomPacket(rng)
		m := p.parsed(t, data)
		want, ok := oracle(data)
		if !ok {
			continue
		}
		if want.Flags&MetaL4 == 0 { // gopacket does not look into fragments
			m.Flags &^= MetaL4 | MetaPorts
			m.L4, m.SrcPort, m.DstPort = 0, 0, 0
		} else {
			l4++
		}
		if m != want {
			t.Fatalf("%x is\n%+v, by gopacket\n%+v", data, m, want)
		}
	}
	if l4 < 5000 {
		t.Errorf("only %d packets had a transport header to compare", l4)
	}
}

// randomPacket is a well-formed packet of any of the kinds that Parse knows.
func randomPacket(rng *rand.Rand) []byte {
	payload := string(make([]byte, rng.IntN(100)))
	protocol := []byte{6, 17, 1, 132, 58}[rng.IntN(5)]
	l4 := map[byte]string{6: tcp + payload, 17: udp[:8] + payload, 1: icmp + payload, 132: sctp + payload, 58: icmp + payload}[protocol]
	b := []byte(l4)
	binary.BigEndian.PutUint16(b, uint16(rng.Uint32()))
	if protocol == 17 {
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	}
	if protocol != 1 && protocol != 58 {
		binary.BigEndian.PutUint16(b[2:], uint16(rng.Uint32()))
	} else {
		b[0], b[1] = 128, 0
	}
	l4 = string(b)
	var packet string
	switch rng.IntN(4) {
	case 0:
		packet = "\x08\x06" + "\x00\x01\x08\x00\x06\x04\x00\x01" + string(make([]byte, 20))
	case 1, 2:
		fragment := []uint16{0, 0, 0x4000, 0x2000, 0x2010, 0x0010}[rng.IntN(6)]
		packet = "\x08\x00" + ip4(protocol, fragment, string(make([]byte, 4*max(0, rng.IntN(15)-4))), l4)
	default:
		next := protocol
		if rng.IntN(3) == 0 {
			field := []uint16{0, 1, 8 | 1, 800}[rng.IntN(4)]
			l4, next = frag6(next, field)+l4, 44
		}
		for range rng.IntN(4) {
			words := byte(rng.IntN(4))
			kind := []byte{60, 60, 43}[rng.IntN(3)]
			if kind == 43 {
				words = 2
			}
			l4, next = ext(next, words)+l4, kind
		}
		if rng.IntN(3) == 0 {
			l4, next = ext(next, byte(rng.IntN(3)))+l4, 0
		}
		packet = "\x86\xdd" + ip6(next, l4)
	}
	for range rng.IntN(3) {
		packet = "\x81\x00" + string([]byte{byte(rng.Uint32()), byte(rng.Uint32())}) + packet
	}
	data := []byte(testMACs + packet)
	return append(data, make([]byte, max(0, 60-len(data)))...)
}

// oracle is what gopacket says of the packet; false if it cannot read it all.
func oracle(data []byte) (Meta, bool) {
	p := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.NoCopy)
	m := Meta{Flags: MetaParsed}
	at := 0
	for _, l := range p.Layers() {
		switch l := l.(type) {
		case *layers.Ethernet:
			m.EtherType, m.L3 = uint16(l.EthernetType), 14
		case *layers.Dot1Q:
			tci := uint16(l.Priority)<<13 | l.VLANIdentifier
			if l.DropEligible {
				tci |= 1 << 12
			}
			m.VLAN[m.VLANs] = tci
			m.VLANs++
			m.Flags |= MetaVLAN
			m.EtherType, m.L3 = uint16(l.Type), m.L3+4
		case *layers.ARP:
			m.Flags |= MetaARP
		case *layers.IPv4:
			m.Flags |= MetaIPv4
			m.Protocol = uint8(l.Protocol)
			if l.FragOffset != 0 || l.Flags&layers.IPv4MoreFragments != 0 {
				m.Flags |= MetaFragment
			}
		case *layers.IPv6:
			m.Flags |= MetaIPv6
			m.Protocol = uint8(l.NextHeader)
			if l.HopByHop != nil {
				m.Protocol = uint8(l.HopByHop.NextHeader)
			}
		case *layers.IPv6HopByHop:
			m.Protocol = uint8(l.NextHeader)
		case *layers.IPv6Routing:
			m.Protocol = uint8(l.NextHeader)
		case *layers.IPv6Destination:
			m.Protocol = uint8(l.NextHeader)
		case *layers.IPv6Fragment:
			m.Protocol = uint8(l.NextHeader)
			if l.FragmentOffset != 0 || l.MoreFragments {
				m.Flags |= MetaFragment
			}
		case *layers.TCP:
			m.Flags |= MetaL4 | MetaPorts
			m.L4, m.SrcPort, m.DstPort = uint16(at), uint16(l.SrcPort), uint16(l.DstPort)
		case *layers.UDP:
			m.Flags |= MetaL4 | MetaPorts
			m.L4, m.SrcPort, m.DstPort = uint16(at), uint16(l.SrcPort), uint16(l.DstPort)
		case *layers.SCTP:
			m.Flags |= MetaL4 | MetaPorts
			m.L4, m.SrcPort, m.DstPort = uint16(at), uint16(l.SrcPort), uint16(l.DstPort)
		case *layers.ICMPv4, *layers.ICMPv6:
			m.Flags |= MetaL4
			m.L4 = uint16(at)
		case *gopacket.DecodeFailure:
			if m.Flags&MetaL4 == 0 {
				return m, false
			}
		}
		at += len(l.LayerContents())
	}
	return m, true
}

func FuzzParse(f *testing.F) {
	for _, tc := range metaCases {
		f.Add([]byte(testMACs + tc.data))
	}
	f.Add([]byte{})
	p := newParser(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 9000 {
			data = data[:9000]
		}
		p.parsed(t, data[:len(data):len(data)])
	})
}
