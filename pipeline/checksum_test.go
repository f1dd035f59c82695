package pipeline

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// naiveChecksum is RFC 1071 word by word, with an addition that carries around.
func naiveChecksum(p []byte) uint16 {
	sum := uint32(0)
	for i := 0; i < len(p); i += 2 {
		word := uint32(p[i]) << 8
		if i+1 < len(p) {
			word |= uint32(p[i+1])
		}
		if sum += word; sum > 0xffff {
			sum -= 0xffff
		}
	}
	return ^uint16(sum)
}

func TestSumsOfTheExamplesOfRFC1071(t *testing.T) {
	for _, tc := range []struct {
		name string
		data []byte
		sum  uint16
	}{
		{"section 3, by words", []byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}, 0xddf2},
		{"nothing", nil, 0},
		{"one byte, the upper half of a word", []byte{0x12}, 0x1200},
		{"a carry that makes another", []byte{0xff, 0xff, 0xff, 0xff, 0x00, 0x01}, 0x0001},
		{"ones only, which are zero and stay ones", []byte{0xff, 0xff, 0xff, 0xff}, 0xffff},
	} {
		if got := ^FoldSum(SumBytes(0, tc.data)); got != tc.sum {
			t.Errorf("%s: sum %#04x, want %#04x", tc.name, got, tc.sum)
		}
	}
}

func TestSumsAreThoseOfTheWordsAtEveryLengthAndInPieces(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 1))
	for n := range 300 {
		for _, all := range []bool{false, true} {
			p := make([]byte, n)
			for i := range p {
				if p[i] = byte(rng.Uint32()); all {
					p[i] = 0xff
				}
			}
			want := naiveChecksum(p)
			if got := FoldSum(SumBytes(0, p[:n:n])); got != want {
				t.Fatalf("%d bytes: %#04x, want %#04x", n, got, want)
			}
			cut := 2 * rng.IntN(n/2+1)
			if got := FoldSum(SumBytes(SumBytes(0, p[:cut]), p[cut:])); got != want {
				t.Fatalf("%d bytes in pieces, the first of %d: %#04x, want %#04x", n, cut, got, want)
			}
		}
	}
}

func TestSumsOfManyGigabytesDoNotOverflow(t *testing.T) {
	// 64 KiB of ones, so often that a sum of 32 bits would have overflowed.
	sum := uint64(0)
	for range 1 << 16 {
		sum = SumBytes(sum, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	}
	if sum != 2*(1<<16)*(1<<32-1) || FoldSum(sum) != 0 {
		t.Errorf("sum %#x", sum)
	}
	if got := FoldSum(1<<64 - 1); got != 0 {
		t.Errorf("the largest sum folds to %#04x, want 0: it is a multiple of 0xffff", got)
	}
}

func TestAnUpdatedChecksumIsTheOneComputedAnew(t *testing.T) {
	// The example of RFC 1624, section 4, where an earlier equation is wrong.
	if got := UpdateChecksum(0xdd2f, 0x5555, 0x3285); got != 0 {
		t.Errorf("%#04x, want 0", got)
	}
	rng := rand.New(rand.NewPCG(7, 2))
	words := []uint16{0, 1, 0x7fff, 0x8000, 0xfffe, 0xffff}
	pick := func() uint16 {
		if n := rng.IntN(2 * len(words)); n < len(words) {
			return words[n]
		}
		return uint16(rng.Uint32())
	}
	for range 200000 {
		p := make([]byte, 6)
		p[0] = 0x45 // data of zeros only has two checksums, and no header is that
		binary.BigEndian.PutUint16(p[2:], pick())
		binary.BigEndian.PutUint16(p[4:], pick())
		checksum, from, to := naiveChecksum(p), binary.BigEndian.Uint16(p[4:]), pick()
		binary.BigEndian.PutUint16(p[4:], to)
		if got, want := UpdateChecksum(checksum, from, to), naiveChecksum(p); got != want {
			t.Fatalf("%#04x after %#04x became %#04x is %#04x, want %#04x", checksum, from, to, got, want)
		}
	}
}

func BenchmarkSumBytes(b *testing.B) {
	p := make([]byte, 1500)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		SumBytes(0, p)
	}
}
