package pipeline

import (
	"bytes"
	"testing"

	"github.com/xdpipe/xdpipe/umem"
)

// summed is the packet after the addresses with its IPv4 header's checksum, and
// that of UDP if it has one.
func summed(data string) []byte {
	p := []byte(testMACs + data)
	var m Meta
	m.Parse(p)
	m.complete(p)
	return p
}

func TestOfWhatCannotBeCheckedNothingIsSaid(t *testing.T) {
	const ipv4, ipv6 = "\x08\x00", "\x86\xdd"
	zero := string(udp[:6]) + "\x00\x00data"
	home := "\x11\x02\xc9\x10" + string(address1) + "\x01\x02\x00\x00"
	for _, tc := range []struct {
		name string
		data []byte
		want Checksum
		done bool // CompleteChecksum says that all is right
	}{
		{"ARP", []byte(testMACs + "\x08\x06" + string(make([]byte, 28))), ChecksumUnknown, false},
		{"a short packet", []byte("short"), ChecksumUnknown, false},
		{"a malformed packet", []byte(testMACs + ipv4 + "\x44" + ip4(17, 0, "", udp)[1:]), ChecksumUnknown, false},
		{"IPv4 UDP without a checksum", with(summed(ipv4+ip4(17, 0, "", udp)), 40, 0, 0), ChecksumUnknown, true},
		{"IPv6 UDP without a checksum", []byte(testMACs + ipv6 + ip6(17, zero)), ChecksumUnknown, true},
		{"SCTP", summed(ipv4 + ip4(132, 0, "", sctp)), ChecksumUnknown, false},
		{"a tunnel", summed(ipv4 + ip4(47, 0, "", "\x00\x00\x08\x00")), ChecksumUnknown, false},
		{"a tunnel with a wrong IPv4 checksum", with(summed(ipv4+ip4(47, 0, "", "\x00\x00\x08\x00")), 24, 1, 2), ChecksumBad, false},
		{"the first fragment", summed(ipv4 + ip4(17, 0x2000, "", udp)), ChecksumUnknown, false},
		{"a later fragment, of which only the IPv4 header has one", summed(ipv4 + ip4(17, 0x2064, "", udp)), ChecksumUnknown, true},
		{"a later fragment with a wrong IPv4 checksum", with(summed(ipv4+ip4(17, 0x2064, "", udp)), 24, 1, 2), ChecksumBad, true},
		{"an IPv6 fragment", []byte(testMACs + ipv6 + ip6(44, frag6(17, 1)+udp)), ChecksumUnknown, false},
		{"a later IPv6 fragment, which has none", []byte(testMACs + ipv6 + ip6(44, frag6(17, 801)+udp)), ChecksumUnknown, true},
		{"ICMP over IPv6", []byte(testMACs + ipv6 + ip6(1, icmp)), ChecksumUnknown, false},
		{"ICMPv6 over IPv4", summed(ipv4 + ip4(58, 0, "", icmp)), ChecksumUnknown, false},
		{"IPv4 that is source routed", summed(ipv4 + ip4(17, 0, "\x83\x07\x04\x0a\x00\x00\x01\x00", udp)), ChecksumUnknown, false},
		{"IPv4 that is strictly source routed, after padding", summed(ipv4 + ip4(17, 0, "\x01\x89\x07\x04\x0a\x00\x00\x01", udp)), ChecksumUnknown, false},
		{"IPv4 at the end of its source route", summed(ipv4 + ip4(17, 0, "\x83\x07\x08\x0a\x00\x00\x01\x00", udp)), ChecksumGood, true},
		{"IPv4 with an option longer than the header", summed(ipv4 + ip4(17, 0, "\x07\x09\x04\x00", udp)), ChecksumUnknown, false},
		{"IPv4 with an option of no length", summed(ipv4 + ip4(17, 0, "\x07\x00\x04\x00", udp)), ChecksumUnknown, false},
		{"IPv4 with an option cut after its kind", summed(ipv4 + ip4(17, 0, "\x01\x01\x01\x07", udp)), ChecksumUnknown, false},
		{"IPv4 with anything behind the end of its options", summed(ipv4 + ip4(17, 0, "\x00\x83\x83\x83", udp)), ChecksumGood, true},
		{"IPv6 with a compressed route", []byte(testMACs + ipv6 + ip6(43, string(routing(17, 3, 1, address1))+udp)), ChecksumUnknown, false},
		{"IPv6 with a route of no addresses", []byte(testMACs + ipv6 + ip6(43, "\x11\x00\x04\x01\x00\x00\x00\x00"+udp)), ChecksumUnknown, false},
		{"IPv6 with more segments left than addresses", []byte(testMACs + ipv6 + ip6(43, string(routing(17, 0, 2, address1))+udp)), ChecksumUnknown, false},
		{"IPv6 from a mobile node's home address", []byte(testMACs + ipv6 + ip6(60, home+udp)), ChecksumUnknown, false},
		{"IPv6 with an option longer than its header", []byte(testMACs + ipv6 + ip6(60, "\x11\x00\x05\x09\x00\x00\x00\x00"+udp)), ChecksumUnknown, false},
		{"UDP that is longer than its packet", with(summed(ipv4+ip4(17, 0, "", udp)), 38, 0, 13), ChecksumBad, false},
		{"UDP that is shorter than its header", with(summed(ipv4+ip4(17, 0, "", udp)), 38, 0, 7), ChecksumBad, false},
		{"UDP with something behind it", summed(ipv4 + ip4(17, 0, "", udp+"options")), ChecksumGood, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newTestBatch(t, umem.Options{Frames: 4})
			put(t, b, tc.data)
			b.Parse()
			if got := b.VerifyChecksum(0); got != tc.want || b.Meta(0).Checksum != got {
				t.Errorf("%x is %v, in the metadata %v; want %v", tc.data, got, b.Meta(0).Checksum, tc.want)
			}
			if got := b.CompleteChecksum(0); got != tc.done {
				t.Errorf("completed: %v, want %v", got, tc.done)
			}
			if got := b.Meta(0).Checksum; got == ChecksumBad || got == ChecksumGood && b.VerifyChecksum(0) != ChecksumGood {
				t.Errorf("completed it is %v", got)
			}
		})
	}
}

// with returns the packet with other bytes at an offset.
func with(p []byte, at int, bytes ...byte) []byte {
	copy(p[at:], bytes)
	return p
}

func TestAPacketThatWasNotParsedHasNoChecksums(t *testing.T) {
	b := newTestBatch(t, umem.Options{Frames: 4})
	data := summed("\x08\x00" + ip4(17, 0, "", udp))
	put(t, b, data)
	*b.Meta(0) = stale
	b.Meta(0).Flags = 0
	if b.VerifyChecksum(0) != ChecksumUnknown || b.CompleteChecksum(0) || !bytes.Equal(b.Data(0), data) {
		t.Errorf("is %v, and %x", b.Meta(0).Checksum, b.Data(0))
	}
}

func TestOfAPacketOfSeveralDescriptorsOnlyTheIPv4HeaderIsChecked(t *testing.T) {
	for _, wrong := range []byte{0, 1} {
		b := newTestBatch(t, umem.Options{Frames: 4})
		data := summed("\x08\x00" + ip4(17, 0, "", udp))
		data[24] ^= wrong
		put(t, b, data)
		appendSegment(t, b, "more")
		b.Parse()
		want := []Checksum{ChecksumUnknown, ChecksumBad}[wrong]
		if got := b.VerifyChecksum(0); got != want {
			t.Errorf("is %v, want %v", got, want)
		}
		if b.CompleteChecksum(0) || b.VerifyChecksum(0) != ChecksumUnknown {
			t.Errorf("completed it is %v", b.Meta(0).Checksum)
		}
	}
}
