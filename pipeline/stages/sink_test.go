package stages

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/xdpipe/xdpipe/pipeline"
	"github.com/xdpipe/xdpipe/umem"
)

func stampOf(payload []byte) (s stamp, ok bool) {
	ok = s.read(payload)
	return s, ok
}

func stampIn(b *pipeline.Batch, i int) (s stamp, ok bool) {
	ok = s.of(b, i)
	return s, ok
}

func newSink(t testing.TB, options string) *Sink {
	t.Helper()
	specs, err := pipeline.ParseQuick("stages", "sink "+options)
	must(t, err)
	s, err := specs[0].New()
	must(t, err)
	must(t, s.(*Sink).Provision(&pipeline.Context{}))
	return s.(*Sink)
}

// feed lets the sink take the packets at a time, in batches.
func feed(t testing.TB, s *Sink, now int64, packets ...[]byte) {
	t.Helper()
	for group := range slices.Chunk(packets, pipeline.MaxBatch) {
		feedBatch(t, s, now, group)
	}
}

func feedBatch(t testing.TB, s *Sink, now int64, packets [][]byte) {
	mem, err := umem.New(umem.Options{Frames: 512, FrameSize: 4096, Pages: umem.Pages4K})
	must(t, err)
	defer func() { must(t, mem.Close()) }()
	cache := mem.NewCache(0)
	defer cache.Close()
	b := pipeline.NewBatch(cache, pipeline.MaxBatch)
	for _, p := range packets {
		copy(b.Alloc(len(p)), p)
	}
	s.take(b, now)
	for _, d := range b.Descs() {
		cache.Put(d.Addr)
	}
}

// reports checks some of what the sink reports.
func reports(t testing.TB, s *Sink, want map[string]uint64) {
	t.Helper()
	got := s.Report()
	for name, n := range want {
		if have, ok := got[name]; !ok || have != n {
			t.Errorf("%s is %d, want %d; of %v", name, have, n, got)
		}
	}
	for _, name := range []string{"min", "p50", "p90", "p99", "p99_9"} {
		if got["latency_"+name+"_ns"] > got["latency_max_ns"] {
			t.Errorf("%s is above the maximum: %v", name, got)
		}
	}
	if sum := got["foreign"] + got["corrupted"] + got["untracked"] + got["received"] + got["duplicates"] + got["stale"]; sum != got["packets"] {
		t.Errorf("the kinds of packets add up to %d, want %d", sum, got["packets"])
	}
}

func TestSinkRecognisesAllThatGenerateMakes(t *testing.T) {
	for _, tc := range generated {
		m := newMint(t, tc.options+" rate=max")
		s := newSink(t, "")
		packets := m.packets(600)
		feed(t, s, 1_000, packets...)
		want := map[string]uint64{"packets": 600, "bytes": 0, "received": 600, "foreign": 0, "generators": 1}
		for _, p := range packets {
			want["bytes"] += uint64(len(p))
		}
		if m.template.stamp == 0 {
			want["received"], want["foreign"], want["generators"] = 0, 600, 0
		}
		for _, name := range []string{"corrupted", "untracked", "duplicates", "stale", "reordered", "lost", "restarts", "from_future"} {
			want[name] = 0
		}
		t.Run(tc.name, func(t *testing.T) { reports(t, s, want) })
	}
}

func TestSinkCountsWhatIsLostTwiceLateCorruptedAndForeign(t *testing.T) {
	for _, options := range []string{"", "size=100", "dst=2001:db8::1", "protocol=icmp", "vlan=3 protocol=tcp"} {
		p := newMint(t, options+" payload=random").packets(20)
		bad := bytes.Clone(p[9])
		bad[len(bad)-1] ^= 1
		arp := ethernet("\x08\x06")
		s := newSink(t, "")
		feed(t, s, 1e12, p[3], p[5], p[4], p[4], udpPacket(), p[8], bad, p[12], p[12], p[12], p[7], arp, p[5])
		reports(t, s, map[string]uint64{
			"packets": 13, "foreign": 2, "corrupted": 1, "received": 6, "duplicates": 4, "reordered": 2,
			"lost": 4, // 6, 9, 10, 11
		})
		feed(t, s, 1e12, p[1], p[6]) // before the first
		reports(t, s, map[string]uint64{"received": 8, "reordered": 4, "lost": 4 /* 2 and not 6 */})
		s = newSink(t, "verify=false")
		feed(t, s, 1e12, bad)
		reports(t, s, map[string]uint64{"corrupted": 0, "received": 1})
	}
}

// naiveTracker knows every number that there was.
type naiveTracker struct {
	seen                            map[uint64]bool
	smallest, largest               uint64
	received, duplicates, reordered int
}

func (n *naiveTracker) note(seq uint64) {
	switch {
	case n.seen[seq]:
		n.duplicates++
		return
	case n.received > 0 && seq < n.largest:
		n.reordered++
	}
	if n.received == 0 {
		n.smallest = seq
	}
	n.seen[seq] = true
	n.received++
	n.smallest, n.largest = min(n.smallest, seq), max(n.largest, seq)
}

// disturb returns the numbers from first on, of which some are left out, come
// twice or later.
func disturb(random *rand.Rand, first uint64, n, reach int) []uint64 {
	type placed struct {
		seq   uint64
		place int
	}
	var all []placed
	for i := range n {
		copies := 1
		switch random.IntN(10) {
		case 0:
			copies = 0
		case 1:
			copies = 1 + random.IntN(3)
		}
		for range copies {
			place := i
			if random.IntN(5) == 0 {
				place += random.IntN(reach)
			}
			all = append(all, placed{first + uint64(i), place})
		}
		if random.IntN(n) < 5 {
			first += uint64(random.IntN(200_000)) // a gap
		}
	}
	slices.SortStableFunc(all, func(a, b placed) int { return a.place - b.place })
	var seqs []uint64
	for _, p := range all {
		seqs = append(seqs, p.seq)
	}
	return seqs
}

func TestTrackerCountsAsOneThatKnowsEveryNumber(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	for i := range 300 {
		words := 1 << random.IntN(6)
		first := random.Uint64() >> random.IntN(64)
		if i%7 == 0 {
			first = math.MaxUint64 - 10_000_000 // near the largest there is
		}
		naive := naiveTracker{seen: map[uint64]bool{}}
		tr := tracker{window: make([]uint64, words)}
		var duplicates, reordered, stale int
		for _, seq := range disturb(random, first, 3000, words*64*3/2) {
			switch tr.note(seq, 5) {
			case arrivalDuplicate:
				duplicates++
			case arrivalReordered:
				reordered++
			case arrivalStale:
				// Too late to be told apart, and not a gap's.
				if naive.largest-seq < uint64(words)*64 {
					t.Fatalf("%d is stale to a window of %d, with %d the largest", seq, words*64, naive.largest)
				}
				stale++
				continue
			case arrivalRestart:
				t.Fatalf("%d begins a new run after %d", seq, naive.largest)
			}
			naive.note(seq)
			if naive.duplicates != duplicates || naive.reordered != reordered {
				t.Fatalf("after %d: %d duplicates and %d reordered, want %d and %d", seq, duplicates, reordered, naive.duplicates, naive.reordered)
			}
		}
		if missing := naive.largest - naive.smallest + 1 - uint64(naive.received); tr.missing() != missing || tr.got != uint64(naive.received) {
			t.Fatalf("%d missing and %d there, want %d and %d", tr.missing(), tr.got, missing, naive.received)
		}
		if duplicates == 0 || reordered == 0 || stale == 0 && words == 1 {
			t.Fatalf("%d duplicates, %d reordered, %d stale say nothing", duplicates, reordered, stale)
		}
	}
}

func TestSinkCountsShuffledPacketsExactly(t *testing.T) {
	for _, options := range []string{"stamp=short", "stamp=long size=90 src=10.0.0.0/29"} {
		random := rand.New(rand.NewPCG(9, 10))
		packets := newMint(t, options+" rate=max").packets(4000)
		naive := naiveTracker{seen: map[uint64]bool{}}
		var arrived [][]byte
		for _, seq := range disturb(random, 0, 2000, 300) {
			if seq < uint64(len(packets)) {
				naive.note(seq)
				arrived = append(arrived, packets[seq])
			}
		}
		s := newSink(t, "")
		feed(t, s, 1, arrived...)
		reports(t, s, map[string]uint64{
			"received": uint64(naive.received), "duplicates": uint64(naive.duplicates), "reordered": uint64(naive.reordered),
			"lost": naive.largest - naive.smallest + 1 - uint64(naive.received), "stale": 0, "restarts": 0,
		})
	}
}

func TestSinkOfAWorkerFollowsTheFlowsThatItSees(t *testing.T) {
	m := newMint(t, "size=100 src=10.0.0.0/29 src_port=1000-1001")
	workers := []*Sink{newSink(t, "flows=16"), newSink(t, "flows=16")}
	const lost, twice = 1600 + 5, 3200 + 5 // flow 5
	var arrived [2][][]byte
	for i, p := range m.packets(16 * 300) {
		to := &arrived[i%16*7/16%2]
		switch i {
		case lost:
		case twice:
			*to = append(*to, p, p)
		default:
			*to = append(*to, p)
		}
	}
	for i, s := range workers {
		feed(t, s, 1, arrived[i]...)
	}
	total := map[string]uint64{}
	for _, s := range workers {
		reports(t, s, nil)
		for name, n := range s.Report() {
			total[name] += n
		}
	}
	if total["lost"] != 1 || total["duplicates"] != 1 || total["received"] != 16*300-1 || total["reordered"] != 0 || total["untracked"] != 0 {
		t.Errorf("both report %v, want 1 lost, 1 duplicate", total)
	}
	// Fewer than there are: the others' are not taken for those of one row.
	s := newSink(t, "flows=3")
	feed(t, s, 1, newMint(t, "size=100 src=10.0.0.0/29").packets(80)...)
	reports(t, s, map[string]uint64{"received": 30, "untracked": 50, "lost": 0})
	// Short stamps do not say which flow they are of.
	s = newSink(t, "flows=3")
	feed(t, s, 1, newMint(t, "stamp=short src=10.0.0.0/29").packets(80)...)
	reports(t, s, map[string]uint64{"received": 80, "untracked": 0, "lost": 0})
}

func TestSinkTellsGeneratorsApart(t *testing.T) {
	s := newSink(t, "")
	for id := range 20 {
		m := newMint(t, fmt.Sprintf("id=%d", id))
		p := m.packets(10)
		feed(t, s, 1, p[0], p[1], p[4], p[4], p[3])
	}
	reports(t, s, map[string]uint64{
		"generators": 16, "received": 64, "lost": 16, "duplicates": 16, "reordered": 16, "untracked": 20,
		"generator_0_received": 4, "generator_15_lost": 1, "generator_15_duplicates": 1, "generator_7_reordered": 1,
	})
	if _, ok := s.Report()["generator_16_lost"]; ok {
		t.Error("more generators than there is room for")
	}
}

func TestSinkNoticesAGeneratorThatBeganAgain(t *testing.T) {
	for _, options := range []string{"", "size=100"} {
		s := newSink(t, "")
		p := newMint(t, options).packets(100)
		feed(t, s, 1e9, append(slices.Clone(p[:50]), p[52:]...)...)
		again := newMint(t, options)
		again.count(5e9)
		again.seq = 0
		var later [][]byte
		for range 60 {
			later = append(later, again.at(again.Due())...)
		}
		feed(t, s, 6e9, later[:10]...)
		feed(t, s, 6e9, later[11:]...)
		reports(t, s, map[string]uint64{"restarts": 1, "lost": 3, "received": 98 + 59, "duplicates": 0, "stale": 0})
	}
}

func TestSinkGoesOnWhereTheCountersOfShortStampsWrap(t *testing.T) {
	m := newMint(t, "rate=1Mpps")
	m.count(1<<48 - 30_000)
	m.seq = 1<<48 - 50
	s := newSink(t, "")
	for range 100 {
		feed(t, s, m.Due()+77, m.at(m.Due())...)
	}
	reports(t, s, map[string]uint64{
		"received": 100, "lost": 0, "reordered": 0, "restarts": 0, "from_future": 0,
		"latency_min_ns": 77, "latency_max_ns": 77, "latency_p50_ns": 77, "latency_p99_9_ns": 77,
	})
}

func TestWidenFindsTheNearestNumber(t *testing.T) {
	for _, tc := range []struct{ near, want uint64 }{
		{0, 0}, {0, 1<<48 - 1}, {5, 4}, {1 << 48, 1<<48 - 3}, {1<<48 - 3, 1<<48 + 5}, {7<<48 + 1<<46, 7<<48 - 1<<45},
		{7<<48 - 1<<46, 7<<48 + 1<<45}, {3 << 48, 3 << 48}, {1<<63 + 12, 1<<63 - 12},
	} {
		if got := widen(tc.want&low48, tc.near); got != tc.want {
			t.Errorf("%#x near %#x is %#x, want %#x", tc.want&low48, tc.near, got, tc.want)
		}
	}
}

func TestSinkReportsPercentilesOfTheLatency(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 12))
	s := newSink(t, "")
	var took []int64
	m := newMint(t, "")
	for range 20_000 {
		n := random.Int64N(1 << (1 + random.IntN(33)))
		took = append(took, n)
		s.record(n, 1)
	}
	// Packets that were made and come together, and others.
	now := m.Due()
	batch := append(append(m.at(now), m.at(m.Due())...), m.at(m.Due())...)
	feed(t, s, 10e6, batch...)
	took = append(took, 10e6, 9e6, 8e6)
	slices.Sort(took)
	got := s.Report()
	for name, share := range map[string]float64{"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99_9": 0.999, "max": 1, "min": 0} {
		want := float64(took[max(int(share*float64(len(took))+0.5)-1, 0)])
		have := float64(got["latency_"+name+"_ns"])
		if have < want*0.999-1 || have > want*1.001+1 {
			t.Errorf("%s is %.0f ns, want %.0f", name, have, want)
		}
	}
	if got["latency_max_ns"] != uint64(took[len(took)-1]) || s.latencies.TotalCount() != int64(len(took)) {
		t.Errorf("maximum %d of %d, want %d of %d", got["latency_max_ns"], s.latencies.TotalCount(), took[len(took)-1], len(took))
	}
}

func TestSinkTakesLatenciesThatCannotBe(t *testing.T) {
	s := newSink(t, "")
	for name, n := range s.Report() {
		if n != 0 {
			t.Errorf("%s is %d before the first packet", name, n)
		}
	}
	p := newMint(t, "size=100").packets(6) // made at 0, 1, 2 ... ms
	feed(t, s, 1_500_000, p[:4]...)        // two of them too early
	reports(t, s, map[string]uint64{"received": 4, "from_future": 2, "latency_max_ns": 1_500_000, "latency_min_ns": 500_000})
	feed(t, s, 5e6+70e9, p[5])
	reports(t, s, map[string]uint64{"received": 5, "latency_max_ns": 70e9})
	if n := s.Report()["latency_p99_9_ns"]; n < 59.9e9 || n > 60.1e9 {
		t.Errorf("p99.9 is %d ns, want the minute that the histogram covers", n)
	}
}

func TestSinkGoesOnWhereTheInstanceBeforeItWas(t *testing.T) {
	p := newMint(t, "").packets(20)
	old, s, other := newSink(t, ""), newSink(t, ""), newSink(t, "flows=5")
	feed(t, old, 1e9, p[:10]...)
	s.Inherit(old)
	feed(t, s, 1e9, p[11:]...)
	reports(t, s, map[string]uint64{"received": 19, "lost": 1})
	other.Inherit(old)
	reports(t, other, map[string]uint64{"received": 0})
}

func TestSinkParsesWhatWasNotParsed(t *testing.T) {
	p := newMint(t, "").packets(3)
	b := newBatch(t, p...)
	(&Parse{}).Process(b)
	b.Meta(1).Flags = 0
	s := newSink(t, "")
	s.take(b, 1e9)
	reports(t, s, map[string]uint64{"received": 3})
}

func TestSinkFindsTheStampBehindTCPOptions(t *testing.T) {
	p := newMint(t, "protocol=tcp").packets(1)[0]
	packet := gopacket.NewPacket(p, layers.LayerTypeEthernet, gopacket.Default)
	withNetworkLayer(packet)
	tcp := packet.TransportLayer().(*layers.TCP)
	tcp.Options = []layers.TCPOption{{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{5, 0xb4}}}
	buf := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializePacket(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, packet))
	s := newSink(t, "")
	feed(t, s, 1e9, buf.Bytes(), buf.Bytes()[:60])
	reports(t, s, map[string]uint64{"received": 1, "foreign": 1})
	if len(buf.Bytes()) != len(p)+4 {
		t.Errorf("%d bytes with an option, %d without", len(buf.Bytes()), len(p))
	}
}

func TestNoStampIsFoundWhereThereIsNone(t *testing.T) {
	long := newMint(t, "size=100").packets(1)[0][42:]
	short := newMint(t, "").packets(1)[0][42:]
	for _, p := range [][]byte{nil, long[:35], short[:17], []byte("xdq\x01" + string(long[4:])), []byte("xdp\x03" + string(long[4:])), make([]byte, 100)} {
		if st, ok := stampOf(p); ok {
			t.Errorf("%x is %+v", p, st)
		}
	}
	if _, ok := stampOf(long[:36]); !ok {
		t.Error("a long stamp is none")
	}
	if _, ok := stampOf(short[:18]); !ok {
		t.Error("a short stamp is none")
	}
}

func TestStampClockGoesForward(t *testing.T) {
	c := newStampClock()
	before := c.now()
	for range 1000 {
		now := c.now()
		if now < before {
			t.Fatalf("%d after %d", now, before)
		}
		before = now
	}
}

// TestGenerateAndSinkInAnEngine runs both in one pipeline on a clock that the test drives.
func TestGenerateAndSinkInAnEngine(t *testing.T) {
	for _, stages := range []string{"generate rate=1Mpps count=5000 burst=256 ! parse ! sink", "generate rate=max count=5000 size=imix ! sink"} {
		specs, err := pipeline.ParseQuick("stages", stages)
		must(t, err)
		mem, err := umem.New(umem.Options{Frames: 1024, Pages: umem.Pages4K})
		must(t, err)
		var now atomic.Int64
		e, err := pipeline.New(pipeline.Options{
			Memory: mem, Log: slog.New(slog.DiscardHandler), Clock: func() int64 { return now.Add(10_000) },
			Workers:   pipeline.WorkersConfig{Count: 1, Pin: pipeline.PinConfig{Off: true}},
			Pipelines: []pipeline.Pipeline{{Name: "p", Stages: specs}},
		})
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- e.Run(ctx) }()
		values := func(stage string) map[string]uint64 {
			for _, s := range e.Snapshot().Stages {
				if s.Type == stage {
					return s.Values
				}
			}
			t.Fatalf("no stage %s", stage)
			return nil
		}
		waitFor(t, func() bool { return values("sink")["received"] == 5000 })
		sent, got := values("generate"), values("sink")
		cancel()
		must(t, <-done)
		must(t, e.Close())
		must(t, mem.Close())
		if sent["sent"] != 5000 || sent["bytes"] != got["bytes"] || got["lost"]+got["duplicates"]+got["reordered"]+got["foreign"]+got["corrupted"]+got["from_future"] != 0 {
			t.Errorf("%s: generate reports %v, sink %v", stages, sent, got)
		}
	}
}

func TestSinkDoesNotAllocate(t *testing.T) {
	t.Setenv("XDPIPE_VERIFY", "") // the ledger does
	for _, options := range []string{"", "size=100 src=10.0.0.0/24", "stamp=false size=66 dst=2001:db8::1"} {
		for _, flows := range []string{"", "flows=256"} {
			m := newMint(t, options+" rate=max")
			s := newSink(t, flows)
			m.Process(m.batch) // the generator is known after the first batch
			s.Process(m.batch)
			n := testing.AllocsPerRun(100, func() {
				m.reset()
				m.Process(m.batch)
				m.batch.Parse()
				s.Process(m.batch)
			})
			if n != 0 || s.packets != 102*pipeline.MaxBatch {
				t.Errorf("%s, %s: allocates %v times for %d packets", options, flows, n, s.packets)
			}
		}
	}
}

func FuzzSink(f *testing.F) {
	for _, options := range []string{"", "size=100 vlan=7", "protocol=tcp", "protocol=icmp dst=2001:db8::1"} {
		m := newMint(f, options)
		f.Add(bytes.Join(m.packets(2), nil), uint16(len(m.batch.Data(0))), true)
	}
	f.Add([]byte{}, uint16(0), false)
	f.Fuzz(func(t *testing.T, data []byte, size uint16, verify bool) {
		s := newSink(t, fmt.Sprintf("verify=%v flows=4", verify))
		var packets [][]byte
		for p := range slices.Chunk(data, max(int(size), 14)) {
			if len(p) <= longestPacket && len(packets) < 1000 {
				packets = append(packets, p, p)
			}
		}
		feed(t, s, int64(size), packets...)
		reports(t, s, map[string]uint64{"packets": uint64(len(packets))})
	})
}

func FuzzTracker(f *testing.F) {
	f.Add([]byte{1, 2, 3, 200, 5, 5, 100}, uint64(0))
	f.Fuzz(func(t *testing.T, steps []byte, seq uint64) {
		tr := tracker{window: make([]uint64, 1)}
		naive := naiveTracker{seen: map[uint64]bool{}}
		for _, step := range steps {
			seq += uint64(int64(int8(step)))
			if a := tr.note(seq, 1); a == arrivalStale {
				continue
			}
			naive.note(seq)
		}
		if len(steps) > 0 && (tr.got != uint64(naive.received) || tr.missing() != naive.largest-naive.smallest+1-uint64(naive.received)) {
			t.Errorf("%d there and %d missing, want %+v", tr.got, tr.missing(), naive)
		}
	})
}

func BenchmarkSink(b *testing.B) {
	for _, tc := range []struct{ name, options, sink string }{
		{"64 bytes", "", ""},
		{"64 bytes, no verify", "", "verify=false"},
		{"128 bytes, 4096 flows", "size=128 src=10.0.0.0/20", "flows=4096"},
		{"imix", "size=imix", ""},
		{"1518 bytes", "size=1518", ""},
		{"foreign", "stamp=false", ""},
	} {
		b.Run(tc.name, func(b *testing.B) {
			m := benchMint(b, tc.options+" rate=max")
			s := newSink(b, tc.sink)
			b.ReportAllocs()
			var took time.Duration // of the sink alone
			packets, now := 0, int64(0)
			for b.Loop() {
				m.reset()
				m.make(m.batch, now, now)
				m.batch.Parse()
				start := time.Now()
				s.take(m.batch, now+20_000)
				took += time.Since(start)
				packets += m.batch.Len()
				now += 100_000
			}
			b.ReportMetric(float64(took.Nanoseconds())/float64(packets), "ns/packet")
		})
	}
}
