package filter

import (
	"fmt"
	"strings"
	"testing"

	"github.com/xdpipe/xdpipe/internal/filtertest"
)

func TestAnOffsetThatIsNegativeInsideTheHeaderWrapsAsInLibpcap(t *testing.T) {
	packet := filtertest.Ethernet(2, 1, 0x800, filtertest.IPv4(0, 0, 17, "192.0.2.1", "192.0.2.2", filtertest.UDP(53, 1024)))
	tests := []struct {
		expression string
		want       bool
	}{
		{"ip[ip[8] - 65] = 0", true},               // 13: the EtherType's second byte
		{"ip[ip[8] - 66:2] = 0x800", true},         // 12
		{"udp[ip[8] - 84:4] = 0x45000000", false},  // 14: the length is not 0
		{"udp[ip[8] - 84:4] = 0x4500001c", true},   // 14: the IP header
		{"ip[ip[8] - 79] = ip[ip[8] - 79]", false}, // -1: before the frame
	}
	for _, tt := range tests {
		f := MustCompile(tt.expression)
		if got := f.Match(packet); got != tt.want {
			t.Errorf("%s: Match gives %v, want %v", f, got, tt.want)
		}
		if got := vmMatches(t, newVM(t, f.Raw()), packet); got != tt.want {
			t.Errorf("%s: classic BPF gives %v, want %v", f, got, tt.want)
		}
	}
}

func TestTheEmptyExpressionMatchesEveryPacket(t *testing.T) {
	for _, expression := range []string{"", " \t\n", "5 > 3"} {
		f := MustCompile(expression)
		for _, packet := range [][]byte{nil, {1}, make([]byte, 100)} {
			if !f.Match(packet) {
				t.Errorf("%q does not match %x", expression, packet)
			}
		}
	}
}

func TestJumpsOfEveryLengthLeadWhereTheyShould(t *testing.T) {
	// One packet leaves at the first test and jumps over all others; of the
	// rest the last test decides.
	jumper := filtertest.Ethernet(2, 1, 0x806, make([]byte, 400))
	yes := filtertest.Ethernet(2, 1, 0x88cc, make([]byte, 398), []byte{7})
	no := filtertest.Ethernet(2, 1, 0x88cc, make([]byte, 399))
	for n := range 300 {
		for _, odd := range []string{"", " or ether[300] & 3 = 1"} {
			var b strings.Builder
			b.WriteString("not arp and (ether[412] = 7" + odd)
			for i := range n {
				fmt.Fprintf(&b, " or ether[%d] = 9", 20+i)
			}
			b.WriteString(")")
			f := MustCompile(b.String())
			vm := newVM(t, f.Raw())
			for _, tt := range []struct {
				packet []byte
				want   bool
			}{{jumper, false}, {yes, true}, {no, false}} {
				if f.Match(tt.packet) != tt.want || vmMatches(t, vm, tt.packet) != tt.want {
					t.Fatalf("%d tests: Match gives %v, classic BPF %v, want %v", n,
						f.Match(tt.packet), vmMatches(t, vm, tt.packet), tt.want)
				}
			}
		}
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	packet := filtertest.Ethernet(2, 1, 0x800, filtertest.IPv4(0, 0, 6, "192.0.2.1", "192.0.2.2", filtertest.TCP(1024, 80, 2, "")))
	for _, expression := range []string{
		"udp port 53 and not host 10.0.0.1",
		"tcp[tcpflags] & tcp-syn != 0 and ip[2:2] - ((ip[0] & 0xf) << 2) > 10",
	} {
		f := MustCompile(expression)
		if n := testing.AllocsPerRun(100, func() { f.Match(packet) }); n != 0 {
			t.Errorf("%s: %v allocations per packet, want 0", f, n)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	v4 := func(p int, body []byte) []byte {
		return filtertest.Ethernet(2, 1, 0x800, filtertest.IPv4(0, 0, p, "192.0.2.1", "192.0.2.2", body))
	}
	packets := []struct {
		name  string
		bytes []byte
	}{
		{"dns4", v4(17, filtertest.UDP(1024, 53, make([]byte, 40)))},
		{"udp4", v4(17, filtertest.UDP(1024, 4789, make([]byte, 40)))},
		{"tcp4", v4(6, filtertest.TCP(1024, 80, 2, ""))},
		{"dns6", filtertest.Ethernet(2, 1, 0x86dd, filtertest.IPv6(17, "2001:db8::1", "2001:db8::2", filtertest.UDP(1024, 53, make([]byte, 40))))},
		{"arp", filtertest.Ethernet(2, 1, 0x806, filtertest.ARP(1, "192.0.2.1", "192.0.2.2"))},
	}
	for _, expression := range []string{
		"udp port 53 and not host 10.0.0.1",
		"tcp[tcpflags] & tcp-syn != 0",
		"net 10.0.0.0/8 or net 172.16.0.0/12 or net 192.168.0.0/16",
	} {
		f := MustCompile(expression)
		for _, p := range packets {
			b.Run(expression+"/"+p.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					f.Match(p.bytes)
				}
			})
		}
	}
}
