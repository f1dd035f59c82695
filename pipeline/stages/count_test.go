package stages

import (
	"maps"
	"testing"
)

func TestCountTellsProtocolsApartAfterParse(t *testing.T) {
	udp := ipv4Packet(17, whole, ports, "\x00\x1a\x00\x00")
	tagged := append([]byte(macs+"\x81\x00\x00\x07\x08\x00"), udp[14:]...)
	ipv6 := ethernet("\x86\xdd", "\x60\x00\x00\x00\x00\x14\x3a\x40", string(make([]byte, 32)), "\x80\x00\x00\x00\x00\x00\x00\x00", string(make([]byte, 12)))
	b := newBatch(t,
		udp, tagged, ipv6,
		ipv4Packet(6, whole, ports),
		ipv4Packet(1, whole),
		ipv4Packet(17, first, ports),
		ipv4Packet(17, later),
		ethernet("\x08\x06"),
		ethernet("\x88\xb5"),
		[]byte("short"),
		ethernet("\x08\x00", "\x20"), // an IPv4 packet by its EtherType only
	)
	total := uint64(0)
	for i := range b.Len() {
		total += uint64(len(b.Data(i)))
	}
	s := &Count{}
	(&Parse{}).Process(b)
	s.Process(b)
	want := map[string]uint64{
		"packets": 11, "bytes": total,
		"arp": 1, "ipv4": 6, "ipv6": 1, "vlan": 1,
		"tcp": 1, "udp": 3, "icmp": 2,
		"fragments": 2, "malformed": 2,
	}
	if got := s.Report(); !maps.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
	s.Process(b)
	if got := s.Report(); got["packets"] != 22 || got["bytes"] != 2*total || got["udp"] != 6 {
		t.Errorf("counters do not add up over batches: %v", got)
	}
}

func TestCountCountsPacketsThatWereNotParsedAsPacketsOnly(t *testing.T) {
	s := &Count{}
	s.Process(newBatch(t, udpPacket(), udpPacket()))
	for name, n := range s.Report() {
		if want := map[string]uint64{"packets": 2, "bytes": uint64(2 * len(udpPacket()))}[name]; n != want {
			t.Errorf("%s is %d, want %d", name, n, want)
		}
	}
}

func TestCountTakesAnEmptyBatch(t *testing.T) {
	s := &Count{}
	s.Process(newBatch(t))
	if n := s.Report()["packets"]; n != 0 {
		t.Errorf("counted %d packets of none", n)
	}
}

func TestCountDoesNotAllocate(t *testing.T) { noAllocations(t, &Count{}) }

func BenchmarkCount(b *testing.B) {
	b.Run("without parse", func(b *testing.B) { benchmark(b, &Count{}) })
	b.Run("after parse", func(b *testing.B) { benchmark(b, &Count{}, &Parse{}) })
}
