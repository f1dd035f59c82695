package pipeline

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/xdpipe/xdpipe/umem"
)

// FuzzMeta moves the ends of a packet as the script says, two bytes a step, and asks
// all that there is to ask in between. Nothing may panic or change a byte outside
// the packet, and what the metadata still say has to lie within it.
func FuzzMeta(f *testing.F) {
	scripts := [][]byte{
		{}, {4, 0, 0, 4, 5, 0, 1, 4}, {4, 0, 1, 14, 6, 0, 0, 14, 4, 0}, {4, 0, 1, 20, 5, 0}, {4, 0, 3, 4, 6, 0, 7, 0, 2, 40, 4, 0, 6, 0},
		{4, 0, 3, 30, 7, 0, 6, 0}, {5, 0, 6, 0, 7, 0, 4, 0, 5, 0, 6, 0, 7, 0}, {7, 0, 0, 255, 4, 0, 0, 255}, {4, 0, 3, 26, 5, 0, 6, 0, 7, 0},
	}
	for i, tc := range metaCases {
		f.Add([]byte(testMACs+tc.data), scripts[i%len(scripts)], i%5 == 0)
	}
	rng := rand.New(rand.NewPCG(9, 9))
	for i, tc := range sumCases {
		f.Add(serialized(f, rng, tc.protocol, tc.ipv6, tc.next, tc.ext, tc.final), scripts[(i+3)%len(scripts)], i%5 == 0)
	}
	b := newTestBatch(f, umem.Options{Frames: 4})
	f.Fuzz(func(t *testing.T, data, script []byte, multi bool) {
		if len(data) == 0 || len(data) > b.mem.MaxPacket() {
			return
		}
		defer b.release(0)
		put(t, b, data)
		if multi {
			appendSegment(t, b, "and more")
		}
		m := b.Meta(0)
		flags := m.Flags
		*m = stale // of another packet, whose flags alone are not kept
		m.Flags = flags
		start := b.mem.Start(b.desc[0].Addr)
		frame := b.mem.Bytes(start, uint32(b.mem.FrameSize()))
		for ; len(script) >= 2 && b.marked == 0; script = script[2:] {
			before := bytes.Clone(frame)
			switch op, n := script[0]%8, int(script[1]); op {
			case 4:
				b.Parse()
			case 5:
				if sum := b.VerifyChecksum(0); multi && sum == ChecksumGood {
					t.Fatal("good, of which only a part was looked at")
				}
			case 6:
				if whole := b.CompleteChecksum(0); whole && b.VerifyChecksum(0) == ChecksumBad {
					t.Fatalf("%x was completed, and is bad", b.Data(0))
				}
			case 7:
				b.FlowHash(0)
			default:
				verbs[op].do(b, 0, n)
			}
			from := b.desc[0].Addr - start
			to := from + uint64(b.desc[0].Len)
			if !bytes.Equal(frame[:from], before[:from]) || !bytes.Equal(frame[to:], before[to:]) {
				t.Fatalf("step %v changed bytes outside the packet", script[:2])
			}
			if (m.Flags&MetaMulti != 0) != multi || m.arrival != stale.arrival || m.trace != stale.trace {
				t.Fatalf("step %v makes it %+v", script[:2], m)
			}
			if m.Flags&MetaParsed != 0 {
				consistent(t, b.Data(0), m)
			}
		}
	})
}

// FuzzSumBytes compares with the sum word by word.
func FuzzSumBytes(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x00\x01\xf2\x03\xf4\xf5\xf6\xf7\x01"))
	f.Fuzz(func(t *testing.T, p []byte) {
		if got, want := FoldSum(SumBytes(0, p[:len(p):len(p)])), naiveChecksum(p); got != want {
			t.Fatalf("%x: %#04x, want %#04x", p, got, want)
		}
	})
}
