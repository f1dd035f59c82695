package filter

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/xdpipe/xdpipe/internal/filtertest"
)

// allKnown is the pattern of one frame, with anything behind it.
func allKnown(frame []byte) Pattern {
	return Pattern{frame, bytes.Repeat([]byte{0xff}, len(frame))}
}

func TestAPatternThatCannotMatchHasNoFrameThatDoes(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	packets := filtertest.Packets()
	ruledOut, left := 0, 0
	for _, expression := range filtertest.Expressions() {
		f, err := Compile(expression)
		if err != nil {
			continue
		}
		for i := random.IntN(7); i < len(packets); i += 7 {
			p := allKnown(packets[i])
			switch random.IntN(3) {
			case 0: // all known
			case 1: // some bytes not
				for range 1 + random.IntN(20) {
					if len(p.Known) > 0 {
						p.Known[random.IntN(len(p.Known))] = 0
					}
				}
			case 2: // some bits not
				for j := range p.Known {
					p.Known[j] = byte(random.Uint32() | random.Uint32() | random.Uint32())
				}
			}
			may := f.MayMatch(p)
			if may {
				left++
				continue
			}
			ruledOut++
			// The frame itself, and others of the pattern.
			for range 4 {
				other := bytes.Clone(p.Bytes)
				if f.Match(other) {
					t.Fatalf("%q matches %x, though MayMatch says that no frame of %x with known bits %x does", expression, other, p.Bytes, p.Known)
				}
				for j := range other {
					other[j] ^= byte(random.Uint32()) &^ p.Known[j]
				}
				other = append(other, make([]byte, random.IntN(100))...)
				if f.Match(other) {
					t.Fatalf("%q matches %x, though MayMatch says that no frame of %x with known bits %x does", expression, other, p.Bytes, p.Known)
				}
			}
		}
	}
	t.Logf("%d patterns ruled out, %d left", ruledOut, left)
	// Were hardly any ruled out, the answer would be sound and worth nothing.
	if ruledOut < left {
		t.Errorf("%d patterns ruled out and %d left, want most ruled out", ruledOut, left)
	}
}

func TestWhatIsNotKnownMayMatch(t *testing.T) {
	frame := filtertest.Ethernet(2, 1, 0x800, filtertest.IPv4(0, 0, 6, "192.0.2.1", "192.0.2.2", filtertest.TCP(40000, 22, 2, "")))
	anyAddress := allKnown(frame)
	for i := 26; i < 34; i++ {
		anyAddress.Known[i] = 0
	}
	for i := range 12 {
		anyAddress.Known[i] = 0
	}
	for _, tt := range []struct {
		expression string
		may        bool
	}{
		{"udp port 53", false},
		{"udp port 53 and not host 10.0.0.1", false},
		{"arp or ip6", false},
		{"tcp port 80", false},
		{"tcp portrange 23-30000", false},
		{"vlan", false},
		{"tcp[tcpflags] & tcp-rst != 0", false},
		{"net 10.0.0.0/8 and udp", false},
		{"ip[0] & 0xf > 5", false},
		{"ether[len - 1] = 5 and udp", false},

		{"", true},
		{"tcp", true},
		{"tcp port 22", true},
		{"not udp", true},
		{"host 10.0.0.1", true},
		{"net 10.0.0.0/8", true},
		{"src net 203.0.113.0/24 and tcp", true},
		{"ether host 02:00:00:00:00:09", true},
		{"greater 1000", true},
		{"less 60", true},
		{"tcp[tcpflags] & tcp-syn != 0", true},
		{"ether[len - 1] = 5", true},
		{"tcp[100] = 7", true},
	} {
		if got := MustCompile(tt.expression).MayMatch(anyAddress); got != tt.may {
			t.Errorf("%q: MayMatch gives %v, want %v", tt.expression, got, tt.may)
		}
	}
}
