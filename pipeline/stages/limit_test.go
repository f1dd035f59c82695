package stages

import (
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/xdpipe/xdpipe/internal/rate"
)

func mustRate(t testing.TB, s string) (r rate.Rate) {
	t.Helper()
	must(t, r.UnmarshalText([]byte(s)))
	return r
}

func mustBurst(t testing.TB, s string) (b Burst) {
	t.Helper()
	if s != "" {
		must(t, b.UnmarshalText([]byte(s)))
	}
	return b
}

// exactBucket is a token bucket as textbooks have it, in fractions of any size.
type exactBucket struct {
	rate, most, tokens *big.Rat // a ns; tokens are packets or bytes
	last               int64
}

// newExactBucket returns a full bucket for one of so many workers.
func newExactBucket(r rate.Rate, b Burst, workers int) *exactBucket {
	e := &exactBucket{rate: big.NewRat(int64(r.N), 1e9)}
	least := big.NewRat(1, 1)
	if r.Unit == rate.Bits {
		e.rate, least = big.NewRat(int64(r.N), 8e9), big.NewRat(leastBytes, 1)
	}
	if b.Time == 0 && b.Count == 0 {
		b.Time = defaultBurst
	}
	share := big.NewRat(1, int64(workers))
	e.most = new(big.Rat).Mul(e.rate, big.NewRat(int64(b.Time), 1))
	if b.Count > 0 {
		e.most = big.NewRat(int64(b.Count), 1)
		if e.most.Cmp(least) < 0 {
			least = e.most
		}
	}
	e.most.Mul(e.most, share)
	if e.most.Cmp(least) < 0 {
		e.most = least
	}
	e.rate.Mul(e.rate, share)
	e.tokens = e.most
	return e
}

func (e *exactBucket) take(now int64, n int) bool {
	flown := new(big.Rat).Mul(e.rate, big.NewRat(now-e.last, 1))
	e.tokens, e.last = flown.Add(flown, e.tokens), now
	if e.tokens.Cmp(e.most) > 0 {
		e.tokens = e.most
	}
	cost := big.NewRat(int64(n), 1)
	if e.tokens.Cmp(cost) < 0 {
		return false
	}
	e.tokens = new(big.Rat).Sub(e.tokens, cost)
	return true
}

// takeFrom is take on a bucket in place.
func (l *limit) takeFrom(b *bucket, now int64, size int) (ok bool) {
	*b, ok = l.take(*b, now, size)
	return ok
}

func TestLimitDecidesAsExactFractionsDo(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, tc := range []struct {
		rate, burst string
		workers     int
	}{
		{"1000pps", "10", 1}, {"1000pps", "1", 1}, {"3pps", "2", 1}, {"7777777pps", "3", 1}, {"999983pps", "4", 1},
		{"1000pps", "7ms", 1}, {"1000pps", "", 1}, {"1pps", "2", 1}, {"1Tbps", "64KB", 1}, {"1Tpps", "1000p", 1},
		{"1000pps", "10", 3}, {"999983pps", "5", 7}, {"1pps", "1", 64},
		{"10Mbps", "64KB", 1}, {"10Mbps", "", 1}, {"999999937bps", "100KB", 1}, {"1bps", "1500", 1}, {"100Gbps", "1ms", 1},
		{"100Tbps", "1MB", 1}, {"10Mbps", "64KiB", 3}, {"999999937bps", "20KB", 16}, {"1bps", "1", 1},
	} {
		r, burst := mustRate(t, tc.rate), mustBurst(t, tc.burst)
		l, err := newLimit(r, burst, tc.workers)
		must(t, err)
		b, exact := bucket{full: fullForever}, newExactBucket(r, burst, tc.workers)
		// Gaps around what a packet takes, now and then a pause.
		typical, _ := l.time(1)
		if r.Unit == rate.Bits {
			typical, _ = l.time(700)
		}
		now := int64(1e9)
		exact.last = now
		passed := 0
		for i := range 20_000 {
			size := 1 + random.IntN(1500)
			n := size
			if r.Unit == rate.Packets {
				n = 1
			}
			got := l.takeFrom(&b, now, size)
			want := exact.take(now, n)
			if got != want {
				t.Fatalf("%s, burst %q, %d workers: packet %d of %d bytes at %d: passes %v, want %v",
					tc.rate, tc.burst, tc.workers, i, size, now, got, want)
			}
			if got {
				passed++
			}
			switch random.IntN(100) {
			case 0:
				now += min(int64(typical), 1e12) * int64(random.IntN(100))
			case 1:
				now++
			default:
				now += random.Int64N(2*int64(typical) + 2)
			}
		}
		if passed == 0 {
			t.Errorf("%s, burst %q: no packet passed", tc.rate, tc.burst)
		}
	}
}

func TestLimitKeepsRatesThatAreNotRoundToABillionth(t *testing.T) {
	for _, r := range []rate.Rate{{N: 1<<32 + 1, Unit: rate.Bits}, {N: 400e9 - 1, Unit: rate.Bits}, {N: 2e12 - 1, Unit: rate.Bits}, {N: 100e9 + 7, Unit: rate.Packets}, {N: 2e12 - 1, Unit: rate.Packets}} {
		for _, workers := range []int{1, 3, 16} {
			l, err := newLimit(r, Burst{}, workers)
			must(t, err)
			want := float64(r.N) / 8e9 / float64(workers)
			if r.Unit == rate.Packets {
				want = float64(r.N) / 1e9 / float64(workers)
			}
			if got := float64(l.per) / float64(l.cost); math.Abs(got/want-1) > 1e-9 || l.per > math.MaxUint32 {
				t.Errorf("%v for one of %d workers: %d/%d, off by %g", r, workers, l.per, l.cost, got/want-1)
			}
		}
	}
}

func TestLimitGivesAFullBurstAfterAnyPauseAndNoMore(t *testing.T) {
	for _, rate := range []string{"1pps", "1Gpps", "1000Tpps", "1bps", "1000Tbps"} {
		l, err := newLimit(mustRate(t, rate), mustBurst(t, "5000"), 1)
		must(t, err)
		b := bucket{full: fullForever}
		// Pauses up to the ends of what clocks may say.
		for _, now := range []int64{-math.MaxInt64 / 2, -1e18, 0, 1e18, math.MaxInt64 / 2} {
			passed := 0
			for l.takeFrom(&b, now, 1000) && passed < 10_000 {
				passed++
			}
			want := 5000
			if l.bytes {
				want = 5
			}
			if passed != want {
				t.Errorf("%s: %d packets pass at %d, want %d", rate, passed, now, want)
			}
		}
	}
}

func TestLimitGoesOnAfterTheClockWentBack(t *testing.T) {
	l, err := newLimit(mustRate(t, "1000pps"), mustBurst(t, "10"), 1)
	must(t, err)
	b := bucket{full: fullForever}
	const hour = int64(time.Hour)
	for range 10 {
		if !l.takeFrom(&b, hour, 60) {
			t.Fatal("less than the burst passed")
		}
	}
	if l.takeFrom(&b, 0, 60) {
		t.Error("a packet passes since the clock went back")
	}
	if passed := l.takeFrom(&b, int64(time.Millisecond), 60); !passed {
		t.Error("a millisecond later no packet passes, at 1000 a second")
	}
	if l.takeFrom(&b, int64(time.Millisecond), 60) {
		t.Error("a second packet passes in the same millisecond")
	}
}

func TestLimitRefusesBurstsThatDoNotFitTheRate(t *testing.T) {
	for _, tc := range []struct{ rate, burst, want string }{
		{"10Mbps", "100p", "the rate 10Mbps is in bits and the burst in packets; want bytes such as 64KB, or a time such as 50ms"},
		{"10pps", "64KB", "the rate 10pps is in packets and the burst in bytes; want packets such as 100p, or a time such as 50ms"},
		{"1pps", "40000000", "at the rate 1pps the burst takes more than a year to fill; want a smaller one"},
		{"10pps", "1000000000000", "at the rate 10pps the burst takes more than a year to fill; want a smaller one"},
		{"1bps", "1000GB", "at the rate 1bps the burst takes more than a year to fill; want a smaller one"},
		{"10pps", "9000h", "at the rate 10pps the burst takes more than a year to fill; want a smaller one"},
	} {
		if _, err := newLimit(mustRate(t, tc.rate), mustBurst(t, tc.burst), 1); err == nil || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("%s, burst %s: %v, want %s", tc.rate, tc.burst, err, tc.want)
		}
	}
}
