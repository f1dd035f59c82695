package traffic

import (
	"math/rand/v2"
	"sync"
)

// table is pseudo-random data from which all payloads are cut. Sending is then
// a matter of slicing: nothing is generated or copied per packet, and a
// comparison at the other end runs at memory speed.
var table = sync.OnceValue(func() []byte {
	b := make([]byte, tableStarts+largestCut)
	src := rand.NewChaCha8([32]byte([]byte("xdpipe traffic payload, seed one")))
	src.Read(b)
	return b
})

const (
	// tableStarts is the number of places at which a cut may begin. It is a
	// power of two so that an odd step visits each before any comes again.
	tableStarts = 1 << 20

	// largestCut is the longest payload in bytes: TCP's blocks.
	largestCut = 256 << 10

	// tableStep parts the cuts of neighbouring packets. It is odd, see
	// tableStarts.
	tableStep = 4099
)

// A pattern is the payload of one direction of one check: a different sequence
// of cuts for each seed.
type pattern struct {
	seed uint64
}

// cut returns the n bytes that belong to the packet or block seq, n at most
// largestCut. They are the same at each call, must not be written to, and
// differ from those of the 2^20-1 packets on either side.
func (p pattern) cut(seq uint64, n int) []byte {
	start := (p.seed*7919 + seq*tableStep) % tableStarts
	return table()[start : start+uint64(n)]
}

// firstDifference returns the offset of the first byte in which a and b differ,
// the shorter one's length if it is a prefix of the other, or -1.
func firstDifference(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	if len(a) != len(b) {
		return n
	}
	return -1
}
