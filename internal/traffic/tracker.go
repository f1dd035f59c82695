package traffic

import (
	"fmt"
	"strings"
)

// tracker accounts for numbered packets of one direction as they arrive. One
// goroutine owns it.
type tracker struct {
	seen      []uint64 // one bit per sequence number
	count     uint64
	next      uint64 // one past the highest sequence number seen
	unordered bool   // order does not matter to this check

	received, duplicated, reordered, corrupted uint64
	bytes                                      uint64

	firstDuplicated, firstReordered uint64
	firstCorrupted                  string
}

func newTracker(count uint64) *tracker {
	return &tracker{seen: make([]uint64, (count+63)/64), count: count}
}

// arrive records packet seq, which is below count, with size bytes of payload.
func (t *tracker) arrive(seq uint64, size int) {
	word, bit := &t.seen[seq/64], uint64(1)<<(seq%64)
	if *word&bit != 0 {
		t.again(seq)
		return
	}
	*word |= bit
	t.received++
	t.bytes += uint64(size)
	if seq < t.next {
		if t.reordered == 0 {
			t.firstReordered = seq
		}
		t.reordered++
		return
	}
	t.next = seq + 1
}

// again records one more arrival of packet seq.
func (t *tracker) again(seq uint64) {
	if t.duplicated == 0 {
		t.firstDuplicated = seq
	}
	t.duplicated++
}

// corrupt records an arrival that was not what was sent. What is known of its
// sequence number is recorded by arrive as well.
func (t *tracker) corrupt(format string, args ...any) {
	if t.corrupted == 0 {
		t.firstCorrupted = fmt.Sprintf(format, args...)
	}
	t.corrupted++
}

func (t *tracker) has(seq uint64) bool {
	return t.seen[seq/64]&(1<<(seq%64)) != 0
}

func (t *tracker) complete() bool { return t.received == t.count }

// result returns the counts, sent packets having left.
func (t *tracker) result(sent uint64) Result {
	r := Result{
		Sent:       sent,
		Received:   t.received,
		Lost:       sent - min(sent, t.received),
		Duplicated: t.duplicated,
		Corrupted:  t.corrupted,
		Bytes:      t.bytes,
	}
	if !t.unordered {
		r.Reordered = t.reordered
	}
	return r
}

// verdict returns what went wrong with the first sent packets, in words and as
// sentinels; none when nothing did. Units is their name, as in "datagrams".
func (t *tracker) verdict(sent uint64, units string) (causes []error, text string) {
	r := t.result(sent)
	var parts []string
	add := func(err error, format string, args ...any) {
		causes = append(causes, err)
		parts = append(parts, fmt.Sprintf(format, args...))
	}
	if r.Lost > 0 {
		add(ErrLost, "%s of %s %s lost (%s)", thousands(r.Lost), thousands(sent), units, t.missing(sent))
	}
	if r.Duplicated > 0 {
		first := fmt.Sprintf("number %d", t.firstDuplicated)
		if t.firstDuplicated == aheadNumber {
			first = "the one sent ahead"
		}
		add(ErrDuplicated, "%s %s arrived more than once (first: %s)", thousands(r.Duplicated), units, first)
	}
	if r.Reordered > 0 {
		add(ErrReordered, "%s %s out of order (first: number %d)", thousands(r.Reordered), units, t.firstReordered)
	}
	if r.Corrupted > 0 {
		add(ErrCorrupted, "%s %s changed on the way (first: %s)", thousands(r.Corrupted), units, t.firstCorrupted)
	}
	return causes, strings.Join(parts, "; ")
}

// missing names the first few sequence numbers below sent that did not arrive.
func (t *tracker) missing(sent uint64) string {
	const most = 4
	var ranges []string
	for seq := uint64(0); seq < sent; seq++ {
		if t.has(seq) {
			continue
		}
		if len(ranges) == most {
			ranges = append(ranges, "…")
			break
		}
		first := seq
		for seq+1 < sent && !t.has(seq+1) {
			seq++
		}
		if first == seq {
			ranges = append(ranges, fmt.Sprint(first))
		} else {
			ranges = append(ranges, fmt.Sprintf("%d-%d", first, seq))
		}
	}
	return "number " + strings.Join(ranges, ", ")
}
