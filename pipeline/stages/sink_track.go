package stages

// A tracker follows a row of sequence numbers as they arrive: which are missing,
// which came twice and which out of order. It remembers the last of them one by
// one, as many as its window.
type tracker struct {
	begun       bool
	first, last uint64   // smallest and largest number of the run
	time        uint64   // of the largest
	got         uint64   // different numbers of the run
	window      []uint64 // a bit for each of the numbers up to last, by number modulo its size
	lost        uint64   // of earlier runs
}

// An arrival is what a number is to the tracker.
type arrival uint8

const (
	arrivalNew       arrival = iota
	arrivalReordered         // after a larger one (RFC 4737, 3.3)
	arrivalDuplicate
	arrivalStale   // before the window: late, or late and a duplicate
	arrivalRestart // the first of a new run
)

// note takes a number and the time at which it was sent.
func (t *tracker) note(seq, time uint64) arrival {
	switch {
	case !t.begun:
		t.begun = true
		t.begin(seq, time)
		return arrivalNew
	case seq > t.last:
		if ahead := seq - t.last; ahead > 1 {
			t.clear(t.last+1, ahead-1)
		}
		t.set(seq)
		t.last, t.time = seq, time
		t.got++
		return arrivalNew
	case time > t.time:
		// Who numbers on has no smaller number at a later time: it began again.
		t.lost += t.missing()
		clear(t.window)
		t.begin(seq, time)
		return arrivalRestart
	case t.last-seq >= uint64(len(t.window))*64:
		return arrivalStale
	case t.has(seq):
		return arrivalDuplicate
	}
	t.set(seq)
	t.first = min(t.first, seq)
	t.got++
	return arrivalReordered
}

func (t *tracker) begin(seq, time uint64) {
	t.first, t.last, t.time, t.got = seq, seq, time, 1
	t.set(seq)
}

// missing returns how many numbers between the smallest and the largest of the run
// have not come.
func (t *tracker) missing() uint64 {
	if !t.begun {
		return 0
	}
	return t.last - t.first + 1 - t.got
}

func (t *tracker) word(seq uint64) *uint64 {
	return &t.window[seq/64%uint64(len(t.window))]
}

func (t *tracker) has(seq uint64) bool { return *t.word(seq)>>(seq%64)&1 != 0 }

func (t *tracker) set(seq uint64) { *t.word(seq) |= 1 << (seq % 64) }

// clear forgets n numbers from the given one on.
func (t *tracker) clear(from, n uint64) {
	if n >= uint64(len(t.window))*64 {
		clear(t.window)
		return
	}
	for n > 0 {
		bit := from % 64
		k := min(n, 64-bit)
		*t.word(from) &^= (1<<k - 1) << bit // 1<<64 is 0
		from, n = from+k, n-k
	}
}
