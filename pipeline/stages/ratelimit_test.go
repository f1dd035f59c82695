package stages

import (
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/xdpipe/xdpipe/internal/rate"
	"github.com/xdpipe/xdpipe/pipeline"
)

// newRateLimit returns a stage as the quick form describes it, provisioned without
// an engine.
func newRateLimit(t testing.TB, options string, outputs ...string) (*RateLimit, *pipeline.Context) {
	t.Helper()
	s := parseRateLimit(t, options)
	return s, provision(t, s, outputs...)
}

func parseRateLimit(t testing.TB, options string) *RateLimit {
	t.Helper()
	specs, err := pipeline.ParseQuick("stages", "ratelimit "+options)
	must(t, err)
	s, err := specs[0].New()
	must(t, err)
	return s.(*RateLimit)
}

// withRules adds rules, of which the quick form takes one.
func (s *RateLimit) withRules(t testing.TB, rules ...string) *RateLimit {
	t.Helper()
	s.Rules = make([]LimitRule, len(rules))
	for i, r := range rules {
		must(t, s.Rules[i].UnmarshalText([]byte(r)))
	}
	return s
}

// at makes all packets of the batch arrive at a time.
func at(b *pipeline.Batch, now int64) *pipeline.Batch {
	for i := range b.Len() {
		b.SetArrival(i, now)
	}
	return b
}

const (
	second = int64(1e9)
	net1   = "\x20\x01\x0d\xb8\x00\x01\x00\x01"
	net2   = "\x20\x01\x0d\xb8\x00\x01\x00\x02"
	host1  = "\x00\x00\x00\x00\x00\x00\x00\x01"
	host2  = "\x00\x00\x00\x00\x00\x00\x00\x02"
)

func TestRateLimitGivesEachKeyItsBucket(t *testing.T) {
	arp := ethernet("\x08\x06")
	for _, tc := range []struct {
		name, options string
		packets       [][]byte
		want          string
	}{
		{"all", "rate=1pps burst=2",
			[][]byte{udpFrom(1, 2, 3, 4), arp, udpFrom(1, 2, 3, 4)}, ". . rate_exceeded"},
		{"each source", "rate=1pps burst=1 by=src",
			[][]byte{udpFrom(1, 9, 3, 4), udpFrom(2, 9, 3, 4), udpFrom(1, 8, 5, 6), arp, arp}, ". . rate_exceeded . ."},
		{"each destination", "rate=1pps burst=1 by=dst",
			[][]byte{udpFrom(1, 9, 3, 4), udpFrom(2, 9, 3, 4), udpFrom(1, 8, 3, 4)}, ". rate_exceeded ."},
		{"each source network", "rate=1pps burst=1 by=src ipv4_prefix=24",
			[][]byte{udpFrom(0x0a000001, 9, 3, 4), udpFrom(0x0a0000ff, 9, 3, 4), udpFrom(0x0a000101, 9, 3, 4)}, ". rate_exceeded ."},
		{"each IPv6 source, by its /64", "rate=1pps burst=1 by=src",
			[][]byte{udp6From(net1+host1, net1+host1, 3, 4), udp6From(net1+host2, net2+host1, 3, 4), udp6From(net2+host1, net1+host1, 3, 4)}, ". rate_exceeded ."},
		{"each IPv6 destination, whole", "rate=1pps burst=1 by=dst ipv6_prefix=128",
			[][]byte{udp6From(net1+host1, net1+host1, 3, 4), udp6From(net1+host1, net1+host2, 3, 4), udp6From(net2+host1, net1+host1, 3, 4)}, ". . rate_exceeded"},
		{"each direction of a flow", "rate=1pps burst=1 by=flow",
			[][]byte{udpFrom(1, 2, 3, 4), udpFrom(2, 1, 4, 3), udpFrom(1, 2, 3, 5), udpFrom(1, 2, 3, 4), arp}, ". . . rate_exceeded ."},
		{"each IPv6 flow", "rate=1pps burst=1 by=flow",
			[][]byte{udp6From(net1+host1, net1+host2, 3, 4), udp6From(net1+host1, net1+host2, 3, 5), udp6From(net1+host1, net1+host2, 3, 4)}, ". . rate_exceeded"},
		{"the fragments of a packet", "rate=1pps burst=1 by=flow",
			[][]byte{ipv4Packet(17, first, ports), ipv4Packet(17, later)}, ". rate_exceeded"},
		{"bits, of the whole frame", "rate=480bps burst=120B",
			[][]byte{arp, arp, arp}, ". . rate_exceeded"},
		{"what a rule matches", "rules='1pps burst 1 udp port 53'",
			[][]byte{udpPacket(), udpPacket(), arp, arp}, ". rate_exceeded . ."},
		{"what no rule matches", "rate=1pps burst=1 rules='max udp port 53'",
			[][]byte{udpPacket(), udpPacket(), arp, arp}, ". . . rate_exceeded"},
	} {
		for _, connected := range []bool{false, true} {
			outputs, want := []string(nil), tc.want
			if connected {
				outputs, want = []string{"exceeded"}, strings.ReplaceAll(tc.want, "rate_exceeded", "1")
			}
			s, ctx := newRateLimit(t, tc.options, outputs...)
			b := newBatch(t, tc.packets...)
			s.Process(b)
			if got := verdicts(ctx, b); got != want {
				t.Errorf("%s: %s, want %s", tc.name, got, want)
			}
		}
	}
}

func TestRateLimitTakesTheFirstRuleThatMatchesAndKeepsRulesApart(t *testing.T) {
	s := parseRateLimit(t, "rate=1pps burst=3 by=src").withRules(t,
		"1pps burst 1 udp port 53", "max arp", "1pps burst 2 udp")
	ctx := provision(t, s)
	b := newBatch(t)
	for range 5 { // all from one source
		for _, p := range [][]byte{udpPacket(), ethernet("\x08\x06"), udpFrom(0xc0000201, 1, 1, 1), ipv4Packet(6, whole, ports, string(make([]byte, 16)))} {
			copy(b.Alloc(len(p)), p)
		}
	}
	s.Process(b)
	want := strings.TrimSpace(
		". . . . " +
			"rate_exceeded . . . " +
			"rate_exceeded . rate_exceeded . " +
			strings.Repeat("rate_exceeded . rate_exceeded rate_exceeded ", 2))
	if got := verdicts(ctx, b); got != want {
		t.Errorf("%s, want\n%s", got, want)
	}
	if got, want := s.Report(), (map[string]uint64{
		"passed": 6, "exceeded": 9, "unlimited": 5, "unkeyed": 0, "keys": 3, "recycled": 0, "evicted": 0,
		"rule_1_passed": 1, "rule_1_exceeded": 4, "rule_3_passed": 2, "rule_3_exceeded": 3,
	}); !maps.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}

func TestRateLimitRefillsWithTheTimeOfArrival(t *testing.T) {
	s, ctx := newRateLimit(t, "rate=10pps burst=1")
	b := newBatch(t, udpPacket(), udpPacket(), udpPacket(), udpPacket(), udpPacket())
	for i, now := range []int64{second, second + 99_999_999, second + 100_000_000, second + 50_000_000, second + 200_000_000} {
		b.SetArrival(i, now)
	}
	s.Process(b)
	if got, want := verdicts(ctx, b), ". rate_exceeded . rate_exceeded ."; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestRateLimitWaitsNoLongerThanABurstWhenTheClockIsSetBack(t *testing.T) {
	for _, by := range []string{"all", "src"} {
		s, ctx := newRateLimit(t, "rate=10pps burst=1 by="+by)
		var got []string
		for _, now := range []int64{3600 * second, 3600*second - 1000, 1, second/10 + 1, second/5 + 1} {
			b := at(newBatch(t, udpPacket()), now)
			s.Process(b)
			got = append(got, verdicts(ctx, b))
		}
		if got, want := strings.Join(got, " "), ". rate_exceeded rate_exceeded . ."; got != want {
			t.Errorf("by %s: %s, want %s", by, got, want)
		}
	}
}

// With all keys in a table of some places, as long as no bucket was evicted before
// it was full again, each key is treated exactly as if there were room for all.
func TestRateLimitTreatsEachKeyExactlyWhileNoStateIsEvicted(t *testing.T) {
	for _, tc := range []struct {
		options string
		keys    uint32 // that the packets are of
		gap     int64  // ns between packets, on average
	}{
		{"rate=1000pps burst=3 by=src keys=4096", 200, 100_000},
		{"rate=50kbps burst=400 by=src keys=4096", 50, 100_000},
		// Many more keys than places; a bucket is full again after a few packets.
		{"rate=100kpps burst=2 by=src keys=512", 1 << 30, 1000},
		{"rate=100kpps burst=2 by=flow keys=512", 1 << 30, 1000},
	} {
		s, _ := newRateLimit(t, tc.options)
		random := rand.New(rand.NewPCG(5, 6))
		exact := map[uint32]*exactBucket{}
		now, passed := second, 0
		for range 200 {
			b := newBatch(t)
			keys := make([]uint32, 128)
			for i := range keys {
				keys[i] = random.Uint32N(tc.keys)
				if i > 0 && random.IntN(3) == 0 {
					keys[i] = keys[i-1] // so that rates are exceeded
				}
				p := udpFrom(keys[i], 1, 2, 3)
				copy(b.Alloc(len(p)), p)
				now += random.Int64N(2 * tc.gap)
				b.SetArrival(i, now)
			}
			s.Process(b)
			if s.table.evicted > 0 {
				t.Fatalf("%s: a bucket was evicted that was not full: the test proves nothing", tc.options)
			}
			for i, key := range keys {
				e := exact[key]
				if e == nil {
					e = newExactBucket(s.Rate, s.Burst, 1)
					exact[key] = e
				}
				n := 1
				if s.Rate.Unit == rate.Bits {
					n = len(b.Data(i))
				}
				want := e.take(b.Arrival(i), n)
				if want {
					passed++
				}
				if b.Dropped(i) == want {
					t.Fatalf("%s: packet %d of key %d is dropped %v, want %v", tc.options, i, key, b.Dropped(i), !want)
				}
			}
		}
		v := s.Report()
		if v["passed"] != uint64(passed) || v["passed"]+v["exceeded"] != 200*128 || v["exceeded"] == 0 {
			t.Errorf("%s: counted %v, want %d passed of %d", tc.options, v, passed, 200*128)
		}
		if v["keys"] > uint64(s.Keys) {
			t.Errorf("%s: %d keys kept", tc.options, v["keys"])
		}
		if int(tc.keys) > s.Keys && v["recycled"] == 0 {
			t.Errorf("%s: no bucket was recycled: %v", tc.options, v)
		}
	}
}

func TestRateLimitKeepsThoseOverTheirRateThoughKeysComeInMasses(t *testing.T) {
	s, _ := newRateLimit(t, "rate=100pps burst=100 by=src keys=1024")
	random := rand.New(rand.NewPCG(7, 8))
	now := second
	const seconds, each = 5, 100 // batches a second
	heavy := 0
	for range seconds * each {
		b := newBatch(t)
		for i := range 128 {
			src := random.Uint32() | 1 // 12,700 new keys a second
			if i%16 == 0 {
				src = 0x0a000000 // one of 800 packets a second
			}
			p := udpFrom(src, 1, 2, 3)
			copy(b.Alloc(len(p)), p)
		}
		s.Process(at(b, now))
		for i := 0; i < 128; i += 16 {
			if !b.Dropped(i) {
				heavy++
			}
		}
		now += second / each
	}
	v := s.Report()
	if v["keys"] != 1024 || v["recycled"]+v["evicted"] == 0 {
		t.Errorf("%v: the keys do not fill the table", v)
	}
	if most := 100 + seconds*100; heavy > most {
		t.Errorf("%d packets of the heavy source passed, at most %d should: its bucket was lost", heavy, most)
	}
}

func TestRateLimitSharesTheRateAmongWorkers(t *testing.T) {
	for _, tc := range []struct {
		options string
		want    int // packets that pass at once on each of 4 workers, of a burst of 8
	}{
		{"by=all", 2}, {"by=src", 2}, {"by=dst", 2}, {"by=flow", 8},
		{"by=src workers=each", 8}, {"by=flow workers=split", 2},
	} {
		ctx := &pipeline.Context{Stage: "p/1:ratelimit", Workers: 6}
		var stages []*RateLimit
		for range 4 { // of the six workers, four have the stage
			s := parseRateLimit(t, "rate=8pps burst=8 "+tc.options)
			must(t, s.Provision(ctx))
			stages = append(stages, s)
		}
		for w, s := range stages {
			for _, now := range []int64{second, 2 * second} { // full, and full again
				b := newBatch(t)
				for range 20 {
					copy(b.Alloc(60), udpPacket())
				}
				s.Process(at(b, now))
				if passed := 20 - strings.Count(verdicts(ctx, b), "rate"); passed != tc.want {
					t.Errorf("%s: %d packets pass on worker %d, want %d", tc.options, passed, w, tc.want)
				}
			}
		}
	}
}

func TestRateLimitInheritsBucketsIfItsOptionsAreTheSame(t *testing.T) {
	for _, tc := range []struct {
		before, after string
		inherits      bool
	}{
		{"rate=1pps burst=1 by=src", "rate=1pps burst=1 by=src", true},
		{"rate=1pps burst=1 rules='2pps udp'", "rate=1pps burst=1 rules='2pps udp'", true},
		{"rate=1pps burst=1", "rate=2pps burst=1", false},
		{"rate=1pps burst=1", "rate=1pps burst=2", false},
		{"rate=1pps burst=1 by=src", "rate=1pps burst=1 by=dst", false},
		{"rate=1pps burst=1 rules='2pps udp'", "rate=1pps burst=1 rules='2pps udp port 53'", false},
	} {
		before, _ := newRateLimit(t, tc.before)
		before.Process(at(newBatch(t, ipv4Packet(6, whole, ports), udpPacket()), second))
		passed := before.Report()["passed"]
		after, _ := newRateLimit(t, tc.after)
		after.Inherit(before)
		b := at(newBatch(t, udpPacket()), second)
		after.Process(b)
		if b.Dropped(0) != tc.inherits {
			t.Errorf("%s after %s: dropped %v, want the old bucket %v", tc.after, tc.before, b.Dropped(0), tc.inherits)
		}
		if v := after.Report()["passed"]; tc.inherits && v != passed {
			t.Errorf("%s: counters begin anew, at %d, want %d", tc.after, v, passed)
		}
	}
	// Of something else, or of one that never ran, it takes nothing and works.
	for _, old := range []pipeline.Stage{&Count{}, parseRateLimit(t, "rate=1pps")} {
		s, _ := newRateLimit(t, "rate=1pps")
		s.Inherit(old)
		s.Process(newBatch(t, udpPacket()))
	}
}

func TestRateLimitSaysWhatIsWrongAndWhere(t *testing.T) {
	for _, tc := range []struct{ stage, want string }{
		{"ratelimit", "stages:1:1: stage ratelimit: option rate: neither a rate nor rules"},
		{"ratelimit rate=1000", `stages:1:16: stage ratelimit: rate: found "1000", want a number with its unit`},
		{"ratelimit rate=1pps burst=1KB", "stages:1:27: stage ratelimit: option burst: the rate 1pps is in packets and the burst in bytes"},
		{"ratelimit rate=1pps by=host", `stages:1:24: stage ratelimit: by: found "host", want one of all, src, dst, flow`},
		{"ratelimit rate=1pps keys=0", "stages:1:26: stage ratelimit: option keys: found 0, want 1 to 67108864"},
		{"ratelimit rate=1pps workers=2", `stages:1:29: stage ratelimit: workers: found "2", want one of auto, each, split`},
		{"ratelimit rate=1pps ipv6_prefix=129", "stages:1:33: stage ratelimit: option ipv6_prefix: found 129, want 1 to 128 bits"},
		{"ratelimit rules='1pps'", `stages:1:17: stage ratelimit: rules: rule "1pps" has no expression behind the rate`},
		{"ratelimit rules='udp: 1pps'", `stages:1:17: stage ratelimit: rules: rule "udp: 1pps": found "udp:", want a number with its unit`},
		{"ratelimit rules='1pps burst fast udp'", `stages:1:17: stage ratelimit: rules: rule "1pps burst fast udp": found "fast", want a burst`},
		{"ratelimit rules='1pps udp prot 53'", `stages:1:17: stage ratelimit: rules: column 5 of "udp prot 53": `},
		{"ratelimit burst=1KB rules='1pps udp'", `stages:1:17: stage ratelimit: option burst: rule "udp": the rate 1pps is in packets`},
		{"ratelimit rules='1pps burst 1KB udp'", `stages:1:17: stage ratelimit: option rules: rule "udp": the rate 1pps is in packets`},
	} {
		_, err := pipeline.ParseQuick("stages", tc.stage)
		if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %s…", tc.stage, err, tc.want)
		}
	}
}

func TestRateLimitDoesNotAllocate(t *testing.T) {
	for _, options := range []string{"rate=1pps", "rate=1pps by=src", "rate=1pps by=flow keys=8", "rate=1Mbps rules='1pps udp'"} {
		s, _ := newRateLimit(t, options)
		s.Process(newBatch(t)) // sets the limits
		noAllocations(t, s)
	}
}

func FuzzRatelimit(f *testing.F) {
	rules := []LimitRule{{Rate: rate.Rate{N: 1000, Unit: rate.Packets}, Burst: Burst{Count: 1}, Expr: "ip[8] > 3"}, {Expr: "arp"}}
	fuzzStage(f, func() pipeline.Stage {
		return &RateLimit{Rate: rate.Rate{N: 8e6, Unit: rate.Bits}, Rules: rules, By: LimitByFlow, Keys: 8, IPv4Prefix: 24, IPv6Prefix: 65}
	})
}

func BenchmarkRatelimit(b *testing.B) {
	b.Run("all", func(b *testing.B) { benchmarkRatelimit(b, "rate=10Gpps", 1) })
	b.Run("rule", func(b *testing.B) { benchmarkRatelimit(b, "rules='10Gpps udp port 53'", 1) })
	for _, by := range []string{"src", "flow"} {
		for name, keys := range map[string]uint32{"1 key": 1, "100000 keys": 100_000} {
			b.Run(by+"/"+name, func(b *testing.B) { benchmarkRatelimit(b, "rate=1kpps keys=200000 by="+by, keys) })
		}
	}
	b.Run("src/100000 keys, bits", func(b *testing.B) {
		benchmarkRatelimit(b, "rate=999983bps keys=200000 by=src", 100_000)
	})
	b.Run("src/evicting", func(b *testing.B) { benchmarkRatelimit(b, "rate=1pps keys=65536 by=src", 1<<31) })
}

// benchmarkRatelimit runs the stage on vectors of 64 packets of random sources
// that arrive at 30 million a second. The figure includes writing the sources: about
// 1 ns a packet.
func benchmarkRatelimit(b *testing.B, options string, keys uint32) {
	s, _ := newRateLimit(b, options)
	batch := newBatch(b)
	for range 64 {
		copy(batch.Alloc(60), udpPacket())
	}
	batch.Parse()
	now, x := second, uint32(1)
	b.ReportAllocs()
	for b.Loop() {
		for i := range 64 {
			x ^= x << 13 // Marsaglia's xorshift
			x ^= x >> 17
			x ^= x << 5
			binary.BigEndian.PutUint32(batch.Data(i)[26:], uint32(uint64(x)*uint64(keys)>>32))
			batch.SetArrival(i, now)
		}
		now += 64 * 33
		s.Process(batch)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/packet")
}
