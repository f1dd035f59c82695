package pipeline

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/xdpipe/xdpipe/umem"
)

// hashOf is the flow hash of the packet, parsed or not.
func hashOf(data []byte, parse bool) uint32 {
	m := stale
	m.Flags = 0
	data = data[:len(data):len(data)]
	if parse {
		m.Parse(data)
	}
	return m.flowHash(data)
}

// swapped is the packet in the other direction: both addresses, and the ports.
func swapped(data []byte) []byte {
	var m Meta
	m.Parse(data)
	p := append([]byte(nil), data...)
	swap := func(at, n int) {
		copy(p[at:at+n], data[at+n:at+2*n])
		copy(p[at+n:at+2*n], data[at:at+n])
	}
	swap(0, 6)
	switch {
	case m.Flags&MetaIPv4 != 0:
		swap(int(m.L3)+12, 4)
	case m.Flags&MetaIPv6 != 0:
		swap(int(m.L3)+8, 16)
	}
	if m.Flags&MetaPorts != 0 {
		swap(int(m.L4), 2)
	}
	return p
}

func TestBothDirectionsOfAFlowHaveOneHash(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 1))
	for range 20000 {
		data := randomPacket(rng)
		if m := (Meta{}); len(data) > 14+40 { // addresses that are not all the same
			m.Parse(data)
			for i := int(m.L3) + 8; i < int(m.L3)+20 && m.Flags&(MetaIPv4|MetaIPv6) != 0; i++ {
				if m.Flags&MetaIPv6 != 0 || i >= int(m.L3)+12 {
					data[i] = byte(rng.Uint32())
				}
			}
		}
		if a, b := hashOf(data, true), hashOf(swapped(data), true); a != b {
			t.Fatalf("%x has %#x, in the other direction %#x", data, a, b)
		}
	}
}

func TestTheHashIsOfAddressesProtocolAndPortsAndOfNothingElse(t *testing.T) {
	for _, tc := range []struct {
		name  string
		data  string
		parts []int // offsets after the MAC addresses of bytes that count
		other []int // and of some that do not
	}{
		{"IPv4 UDP", "\x08\x00" + ip4(17, 0, "", udp), []int{2 + 12, 2 + 15, 2 + 16, 2 + 19, 22, 23, 24, 25}, []int{2 + 1, 2 + 4, 2 + 8, 26, 27, 28, 29, 30}},
		{"IPv4 ICMP", "\x08\x00" + ip4(1, 0, "", icmp), []int{2 + 12, 2 + 19}, []int{2 + 4, 22, 23, 26, 28}},
		{"IPv4 with options", "\x08\x00" + ip4(17, 0, "\x01\x01\x01\x01", udp), []int{2 + 12, 2 + 19, 26, 29}, []int{22, 24}},
		{"IPv6 TCP", "\x86\xdd" + ip6(6, tcp), []int{2 + 8, 2 + 15, 2 + 16, 2 + 23, 2 + 24, 2 + 39, 42, 45}, []int{2 + 1, 2 + 3, 2 + 7, 46, 55}},
		{"IPv6 behind extension headers", "\x86\xdd" + ip6(0, ext(17, 0)+udp), []int{2 + 8, 2 + 39, 50, 53}, []int{2 + 3, 44, 48}},
		{"a tagged packet", "\x81\x00\x00\x07\x08\x00" + ip4(17, 0, "", udp), []int{6 + 12, 6 + 19, 26, 29}, []int{2, 3, 6 + 1}},
		{"an IPv4 fragment", "\x08\x00" + ip4(17, 0x2000, "", udp), []int{2 + 12, 2 + 19}, []int{2 + 4, 2 + 9, 22, 25}},
		{"not IP", "\x88\xb5" + string(make([]byte, 46)), []int{-12, -7, -6, -1, 0, 1}, []int{2, 10, 45}},
	} {
		data := []byte(testMACs + tc.data)
		want := hashOf(data, true)
		for i, at := range append(append([]int(nil), tc.parts...), tc.other...) {
			data[12+at] ^= 0x11
			if differs := hashOf(data, true) != want; differs != (i < len(tc.parts)) {
				t.Errorf("%s: byte %d after the addresses is changed, and the hash differs: %v", tc.name, at, differs)
			}
			data[12+at] ^= 0x11
		}
	}
	other := hashOf([]byte(testMACs+"\x08\x00"+ip4(132, 0, "", udp+"xx")), true)
	if hashOf([]byte(testMACs+"\x08\x00"+ip4(17, 0, "", udp+"xx")), true) == other {
		t.Error("UDP and SCTP of the same ports have one hash")
	}
	if hashOf([]byte(testMACs+"\x81\x00\x00\x07\x08\x00"+ip4(17, 0, "", udp)), true) != hashOf([]byte(testMACs+"\x08\x00"+ip4(17, 0, "", udp)), true) {
		t.Error("a tag changes the hash")
	}
}

func TestAllFragmentsOfAPacketHaveOneHash(t *testing.T) {
	for name, fragments := range map[string][]string{
		"IPv4":                   {"\x08\x00" + ip4(17, 0x2000, "", udp), "\x08\x00" + ip4(17, 0x2064, "", udp), "\x08\x00" + ip4(17, 0x00c8, "", "x")},
		"IPv4 that begins short": {"\x08\x00" + ip4(6, 0x2000, "", tcp[:8]), "\x08\x00" + ip4(6, 0x2001, "", tcp[8:]), "\x08\x00" + ip4(6, 0x0002, "\x07\x03\x04\x00", "x")},
		"IPv6":                   {"\x86\xdd" + ip6(44, frag6(17, 1)+udp), "\x86\xdd" + ip6(44, frag6(17, 800|1)+udp), "\x86\xdd" + ip6(44, frag6(17, 1600)+"x")},
		"IPv6 whose extension headers are in the first": {"\x86\xdd" + ip6(44, frag6(60, 1)+ext(17, 0)+udp), "\x86\xdd" + ip6(44, frag6(60, 800|1)+udp), "\x86\xdd" + ip6(0, ext(44, 0)+frag6(60, 1600)+"x")},
	} {
		first := hashOf([]byte(testMACs+fragments[0]), true)
		for i, f := range fragments {
			if h := hashOf([]byte(testMACs+f), true); h != first {
				t.Errorf("%s: fragment %d has %#x, the first %#x", name, i+1, h, first)
			}
		}
	}
}

func TestFlowsSpreadEvenlyOverWorkers(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	const flows = 20000
	flow := func(ipv6 bool, src, dst uint64, sport, dport uint16) []byte {
		data := []byte(testMACs + "\x08\x00" + ip4(17, 0, "", udp))
		at, l4 := 14+12, 34
		if ipv6 {
			data = []byte(testMACs + "\x86\xdd" + ip6(17, udp))
			binary.BigEndian.PutUint64(data[14+16:], src)
			binary.BigEndian.PutUint64(data[14+32:], dst)
			l4 = 54
		} else {
			binary.BigEndian.PutUint32(data[at:], uint32(src))
			binary.BigEndian.PutUint32(data[at+4:], uint32(dst))
		}
		binary.BigEndian.PutUint16(data[l4:], sport)
		binary.BigEndian.PutUint16(data[l4+2:], dport)
		return data
	}
	mac := func(i int) []byte {
		p := append([]byte(testMACs+"\x88\xb5"), make([]byte, 46)...)
		binary.BigEndian.PutUint16(p[10:], uint16(i))
		return p
	}
	r32 := func() uint64 { return uint64(rng.Uint32()) }
	for _, tc := range []struct {
		name string
		make func(i int) []byte
	}{
		{"random IPv4", func(int) []byte { return flow(false, r32(), r32(), uint16(r32()), uint16(r32())) }},
		{"random IPv6", func(int) []byte { return flow(true, rng.Uint64(), rng.Uint64(), uint16(r32()), uint16(r32())) }},
		{"source ports in a row", func(i int) []byte { return flow(false, 0xc0000201, 0xc0000202, uint16(i+1024), 53) }},
		{"source ports in a row, IPv6", func(i int) []byte { return flow(true, 1, 2, uint16(i+1024), 443) }},
		{"both ports in a row", func(i int) []byte { return flow(false, 0xc0000201, 0xc0000202, uint16(i), uint16(i+1)) }},
		{"hosts in a row to one", func(i int) []byte { return flow(false, 0x0a000000+uint64(i), 0xc0000202, 5000, 53) }},
		{"hosts in a row to one, IPv6", func(i int) []byte { return flow(true, uint64(i), 0xffff, 5000, 53) }},
		{"pairs of hosts in a row", func(i int) []byte { return flow(false, 0x0a000000+uint64(i), 0x0a800000+uint64(i), 5000, 53) }},
		{"networks of 256 in a row", func(i int) []byte { return flow(false, 0x0a000000+uint64(i)<<8, 0xc0000202, 5000, 53) }},
		{"networks in a row, IPv6", func(i int) []byte { return flow(true, uint64(i)<<40, 1<<60, 5000, 53) }},
		{"MAC addresses in a row", mac},
	} {
		hashes, seen := make([]uint32, flows), map[uint32]bool{}
		for i := range hashes {
			hashes[i] = hashOf(tc.make(i), true)
			seen[hashes[i]] = true
		}
		for workers := uint32(2); workers <= 16; workers++ {
			low, high := make([]float64, workers), make([]float64, workers)
			for _, h := range hashes {
				low[h%workers]++
				high[uint64(h)*uint64(workers)>>32]++
			}
			// The statistic has a mean of workers-1 and a variance of twice that. Six
			// deviations above it do not come by chance; below it, the better.
			limit := float64(workers-1) + 6*math.Sqrt(2*float64(workers-1)) + 6
			for how, counts := range map[string][]float64{"remainder": low, "product": high} {
				want, chi := float64(flows)/float64(workers), 0.0
				for _, n := range counts {
					chi += (n - want) * (n - want) / want
				}
				if chi > limit {
					t.Errorf("%s: over %d workers by the %s: chi squared %.1f, want less than %.1f: %v", tc.name, workers, how, chi, limit, counts)
				}
			}
		}
		if len(seen) < flows-3 { // of random hashes a twentieth of a pair collides
			t.Errorf("%s: %d flows have only %d hashes", tc.name, flows, len(seen))
		}
	}
}

func TestAHashIsKeptUntilThePacketIsParsedAgain(t *testing.T) {
	b := newTestBatch(t, umem.Options{Frames: 4})
	put(t, b, []byte(testMACs+"\x08\x00"+ip4(17, 0, "", udp)))
	unparsed := b.FlowHash(0)
	if unparsed != hashOf(b.Data(0), false) || unparsed == hashOf(b.Data(0), true) {
		t.Errorf("not parsed it has %#x, want that of its MAC addresses", unparsed)
	}
	b.Parse()
	parsed := b.FlowHash(0)
	if parsed != hashOf(b.Data(0), true) {
		t.Errorf("parsed it has %#x", parsed)
	}
	b.Data(0)[26]++
	if b.FlowHash(0) != parsed {
		t.Error("it is computed anew")
	}
	b.Meta(0).Flags &^= MetaHash
	if b.FlowHash(0) == parsed {
		t.Error("it is not computed anew without the flag")
	}
	b.Parse()
	if b.FlowHash(0) == parsed {
		t.Error("it is not computed anew once parsed")
	}
}

func TestAPacketThatWasNotParsedHasTheHashOfItsOwnBytes(t *testing.T) {
	p := append([]byte(testMACs+"\x88\xb5"), make([]byte, 46)...)
	if hashOf(p, false) != hashOf(p, true) {
		t.Error("what is not IP has another hash when it is parsed")
	}
	for n := range 14 {
		if h := hashOf(p[:n], n%2 == 0); h != 0 {
			t.Errorf("%d bytes have the hash %#x, want 0", n, h)
		}
	}
}

func BenchmarkFlowHash(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	for name, ipv6 := range map[string]bool{"IPv4": false, "IPv6": true} {
		b.Run(name, func(b *testing.B) {
			data := serialized(b, rng, layers.IPProtocolUDP, ipv6, 0, nil, nil)
			var m Meta
			m.Parse(data)
			b.ReportAllocs()
			for b.Loop() {
				m.hash = m.flowHash(data)
			}
		})
	}
}
