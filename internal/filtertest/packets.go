package filtertest

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
)

func be16(v int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(v)) }
func be32(v int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(v)) }

// Ethernet returns a frame. The addresses are given by their last byte; 0xff is
// broadcast, 0x5e multicast.
func Ethernet(destination, source byte, etherType int, payload ...[]byte) []byte {
	mac := func(last byte) []byte {
		switch last {
		case 0xff:
			return []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
		case 0x5e:
			return []byte{0x01, 0x00, 0x5e, 0x00, 0x00, 0x01}
		}
		return []byte{2, 0, 0, 0, 0, last}
	}
	return slices.Concat(mac(destination), mac(source), be16(etherType), slices.Concat(payload...))
}

// IPv4 returns a packet; options is their length in words, fragment the field of
// flags and offset.
func IPv4(options, fragment, protocol int, source, destination string, payload ...[]byte) []byte {
	body := slices.Concat(payload...)
	header := 20 + 4*options
	return slices.Concat([]byte{byte(0x45 + options), 0}, be16(header+len(body)), be16(len(body)*0x101), be16(fragment),
		[]byte{64, byte(protocol)}, be16(0xbeef), netip.MustParseAddr(source).AsSlice(),
		netip.MustParseAddr(destination).AsSlice(), make([]byte, 4*options), body)
}

// IPv6 returns a packet.
func IPv6(next int, source, destination string, payload ...[]byte) []byte {
	body := slices.Concat(payload...)
	return slices.Concat([]byte{0x60, 0, 0, 0}, be16(len(body)), []byte{byte(next), 64},
		netip.MustParseAddr(source).AsSlice(), netip.MustParseAddr(destination).AsSlice(), body)
}

// UDP returns a datagram.
func UDP(source, destination int, payload ...[]byte) []byte {
	body := slices.Concat(payload...)
	return slices.Concat(be16(source), be16(destination), be16(8+len(body)), be16(0), body)
}

// TCP returns a segment.
func TCP(source, destination, flags int, payload string) []byte {
	return slices.Concat(be16(source), be16(destination), be32(1000), be32(2000),
		[]byte{0x50, byte(flags)}, be16(0xffff), be16(0), be16(0), []byte(payload))
}

// ARP returns a message.
func ARP(operation int, sender, target string) []byte {
	return slices.Concat(be16(1), be16(0x800), []byte{6, 4}, be16(operation), []byte{2, 0, 0, 0, 0, 1},
		netip.MustParseAddr(sender).AsSlice(), make([]byte, 6), netip.MustParseAddr(target).AsSlice())
}

func tag(id, etherType int) []byte { return slices.Concat(be16(id), be16(etherType)) }

func label(number int, bottom bool) []byte {
	v := number<<12 | 64
	if bottom {
		v |= 0x100
	}
	return be32(v)
}

// wholePackets returns well-formed frames of every kind the language knows.
func wholePackets() [][]byte {
	v4 := []string{"192.0.2.1", "192.0.2.2", "198.51.100.7", "203.0.113.9", "10.0.0.1", "10.1.2.3", "172.16.5.4", "224.0.0.1", "255.255.255.255", "0.0.0.0"}
	v6 := []string{"2001:db8::1", "2001:db8:1::2", "fe80::1", "ff02::1", "::1", "::"}
	ports := []int{53, 80, 443, 22, 123, 67, 0, 65535, 8080, 1024, 33434, 55}
	var packets, payloads4, payloads6 [][]byte
	add := func(p []byte) { packets = append(packets, p) }

	// Transports, with each port at either side.
	type transport struct {
		protocol int
		bytes    []byte
	}
	var transports []transport
	for i, p := range ports {
		q := ports[(i*5+1)%len(ports)]
		flags := []int{2, 0x12, 0x10, 0x18, 4, 1, 0x29, 0xc2}[i%8]
		transports = append(transports,
			transport{17, UDP(p, q, make([]byte, i*9))}, transport{6, TCP(p, q, flags, "GET / HTTP/1.1"[:i])},
			transport{132, slices.Concat(be16(p), be16(q), be32(7), be32(9))}, transport{17, UDP(p, p)})
	}
	for _, t := range []int{0, 3, 8, 11, 128, 129, 135, 136} {
		icmp := slices.Concat([]byte{byte(t), 3, 0, 0}, be32(1), IPv4(0, 0, 17, v4[0], v4[1], UDP(33434, 53)))
		transports = append(transports, transport{1, icmp}, transport{58, icmp})
	}
	for _, p := range []int{0, 2, 4, 9, 41, 44, 47, 50, 51, 89, 103, 112, 255} {
		transports = append(transports, transport{p, []byte{0x16, 0x21, 6, 17, 5, 6, 7, 8}})
	}
	for i, t := range transports {
		source, destination := v4[i%len(v4)], v4[(i/3+i+1)%len(v4)]
		payloads4 = append(payloads4, IPv4(0, 0, t.protocol, source, destination, t.bytes))
		switch i % 4 {
		case 0:
			payloads4 = append(payloads4, IPv4(1+i%10, 0, t.protocol, source, destination, t.bytes))
		case 1: // first and later fragments
			payloads4 = append(payloads4, IPv4(0, 0x2000, t.protocol, source, destination, t.bytes),
				IPv4(0, 0x2000|i, t.protocol, destination, source, t.bytes), IPv4(2, 1<<(i%13), t.protocol, source, destination, t.bytes))
		}
		source, destination = v6[i%len(v6)], v6[(i/2+1)%len(v6)]
		payloads6 = append(payloads6, IPv6(t.protocol, source, destination, t.bytes))
		if i%5 == 0 {
			extension := []byte{byte(t.protocol), 0, 0, 0, 0, 0, 0, 0}
			payloads6 = append(payloads6, IPv6(0, source, destination, extension, t.bytes),
				IPv6(43, source, destination, extension, t.bytes), IPv6(44, source, destination, extension, t.bytes),
				IPv6(60, source, destination, extension, t.bytes))
		}
	}
	// Tunnels.
	inner4, inner6 := payloads4[0], payloads6[0]
	frame := Ethernet(2, 1, 0x800, inner4)
	payloads4 = append(payloads4,
		IPv4(0, 0, 47, v4[0], v4[1], be16(0), be16(0x800), inner4), IPv4(0, 0, 47, v4[0], v4[1], be16(0x2000), be16(0x6558), be32(9), frame),
		IPv4(0, 0, 4, v4[0], v4[1], inner4), IPv4(0, 0, 41, v4[2], v4[3], inner6),
		IPv4(0, 0, 17, v4[0], v4[1], UDP(33434, 4789, be32(0x08000000), be32(5<<8), frame)),
		IPv4(0, 0, 17, v4[0], v4[1], UDP(33434, 6081, be32(0x6558), be32(5<<8), frame)))
	payloads6 = append(payloads6, IPv6(4, v6[0], v6[1], inner4), IPv6(41, v6[0], v6[1], inner6))

	macs := []byte{1, 2, 3, 0xff, 0x5e}
	wrap := func(i, etherType, ppp int, version bool, p []byte) {
		to, from := macs[i%len(macs)], macs[(i/5)%3]
		add(Ethernet(to, from, etherType, p))
		id := []int{5, 100, 200, 4095, 0}[i%5]
		switch i % 7 {
		case 0:
			add(Ethernet(to, from, 0x8100, tag(id|0x2000, etherType), p))
		case 1:
			add(Ethernet(to, from, 0x88a8, tag(id, 0x8100), tag(100, etherType), p))
			add(Ethernet(to, from, 0x8100, tag(100, 0x8100), tag(200, etherType), p))
		case 2:
			add(Ethernet(to, from, 0x9100, tag(5, 0x8100), tag(id, 0x8100), tag(7, etherType), p))
		case 3:
			add(Ethernet(to, from, 0x8864, []byte{0x11, 0}, be16([]int{1, 39}[i%2]), be16(len(p)+2), be16(ppp), p))
			add(Ethernet(to, from, 0x8100, tag(id, 0x8864), []byte{0x11, 0}, be16(39), be16(len(p)+2), be16(ppp), p))
		case 4:
			if version {
				add(Ethernet(to, from, 0x8847, label(100, true), p))
				add(Ethernet(to, from, 0x8847, label(100, false), label(200, true), p))
			}
		case 5:
			if version {
				add(Ethernet(to, from, 0x8847, label(100000, false), label(1024, true), p))
				add(Ethernet(to, from, 0x8847, label(100000, true), label(1024, false), p))
				add(Ethernet(to, from, 0x8100, tag(id, 0x8847), label(1024, true), p))
			}
		}
	}
	for i, p := range payloads4 {
		wrap(i, 0x800, 0x21, true, p)
	}
	for i, p := range payloads6 {
		wrap(i, 0x86dd, 0x57, true, p)
	}
	for i := range v4 {
		p := ARP(1+i%4, v4[i], v4[(i+1)%len(v4)])
		wrap(i, 0x806, 0x21, false, p)
		wrap(i, 0x8035, 0x21, false, p)
	}
	// Other EtherTypes, and frames with a length instead of one.
	for i, t := range []int{0x6001, 0x6002, 0x6003, 0x6004, 0x6007, 0x809b, 0x80f3, 0x8137, 0x8863, 0x8864, 0x88cc, 0x9000, 0x0600, 1501, 1500} {
		wrap(i, t, 0x25, false, []byte{1, 0x11, 0, 39, 0, 0, 0, 0x23, 9, 9})
	}
	for i, llc := range [][]byte{
		{0x42, 0x42, 3, 0, 0, 0, 0, 0}, {0xfe, 0xfe, 3, 0x81, 0, 0}, {0xfe, 0xfe, 3, 0x82, 0, 0},
		{0xe0, 0xe0, 3, 0}, {0xf0, 0xf0, 3, 0}, {0x06, 0x06, 3, 0x45}, {0xff, 0xff, 0, 0x22},
		{0xaa, 0xaa, 3, 8, 0, 7, 0x80, 0x9b}, {0xaa, 0xaa, 3, 0, 0, 0, 0x80, 0xf3}, {0xaa, 0xaa, 3, 0, 0, 0, 0x81, 0x37},
		{0x64, 0x64, 0, 0}, {0x10, 0x20, 1, 0}, {0x10, 0x20, 5, 0}, {0x10, 0x20, 9, 0}, {0x10, 0x20, 0x63}, {0x10, 0x20, 0x53},
		{0x10, 0x20, 0x0f}, {0x10, 0x20, 0x6f}, {0x10, 0x20, 0xe3}, {0x10, 0x20, 0xaf}, {0x10, 0x20, 0x87}, {0x10, 0x20, 0xf3},
	} {
		wrap(i, len(llc), 0x31, false, llc)
		wrap(i+3, len(llc), 0x23, false, llc)
	}
	for t := 15; t <= 27; t++ {
		wrap(t, 11, 0x23, false, []byte{0xfe, 0xfe, 3, 0x83, 27, 1, 0, byte(t), 1, 0, 0})
	}
	return packets
}

// Packets returns whole frames, frames cut at every length, frames with
// bytes changed, and noise.
func Packets() [][]byte {
	random := rand.New(rand.NewPCG(1, 2))
	whole := wholePackets()
	packets := slices.Clone(whole)
	for i, p := range whole {
		// Where headers end is where cutting matters.
		packets = append(packets, p[:random.IntN(len(p)+1)])
		if i%60 == 0 {
			for n := range min(len(p), 90) {
				packets = append(packets, p[:n])
			}
		}
		changed := slices.Clone(p)
		for range 1 + random.IntN(3) {
			changed[random.IntN(len(changed))] = byte(random.Uint32())
		}
		packets = append(packets, changed)
	}
	for range 300 {
		noise := make([]byte, random.IntN(200))
		for i := range noise {
			noise[i] = byte(random.Uint32() >> (8 * random.IntN(4)))
		}
		if len(noise) > 14 && random.IntN(2) == 0 {
			copy(noise[12:], [][]byte{{8, 0, 0x45}, {0x86, 0xdd, 0x60}, {0x81, 0, 0}, {0x88, 0x47, 0}, {8, 0, 0x4f}}[random.IntN(5)])
		}
		packets = append(packets, noise)
	}
	return packets
}
