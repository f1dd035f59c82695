package stages

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/xdpipe/xdpipe/pipeline"
	"github.com/xdpipe/xdpipe/umem"
	"github.com/xdpipe/xdpipe/xsk"
	"github.com/xdpipe/xdpipe/xsk/xsktest"
)

var update = flag.Bool("update", false, "write captures, golden files and documentation anew")

func TestMain(m *testing.M) {
	os.Setenv("XDPIPE_VERIFY", "1")
	if r, w, err := os.Pipe(); err == nil { // the runtime's poller, which stays open
		r.Close()
		w.Close()
	}
	goroutines, files := runtime.NumGoroutine(), openFiles()
	code := m.Run()
	if flag.Lookup("test.fuzz").Value.String() != "" {
		os.Exit(code) // the fuzzing engine has goroutines of its own
	}
	for range 100 { // what ends takes a moment
		if code != 0 || runtime.NumGoroutine() <= goroutines && openFiles() <= files {
			os.Exit(code)
		}
		time.Sleep(10 * time.Millisecond)
	}
	fmt.Printf("FAIL: %d goroutines and %d open files after the tests, %d and %d before\n",
		runtime.NumGoroutine(), openFiles(), goroutines, files)
	os.Exit(1)
}

func openFiles() int {
	files, _ := os.ReadDir("/proc/self/fd")
	return len(files)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newBatch returns a batch of the packets, for a stage that is run without an
// engine.
func newBatch(t testing.TB, packets ...[]byte) *pipeline.Batch {
	t.Helper()
	mem, err := umem.New(umem.Options{Frames: 512, Pages: umem.Pages4K})
	must(t, err)
	cache := mem.NewCache(0)
	b := pipeline.NewBatch(cache, pipeline.MaxBatch)
	t.Cleanup(func() {
		for _, d := range b.Descs() {
			for range mem.Refs(d.Addr) { // one more for each Tee
				cache.Put(d.Addr)
			}
		}
		cache.Close()
		must(t, mem.Close())
	})
	for _, p := range packets {
		room := b.Alloc(len(p))
		if room == nil {
			t.Fatalf("no room for a packet of %d bytes", len(p))
		}
		copy(room, p)
	}
	return b
}

// rig is an engine with the stages between two simulated ports.
type rig struct {
	*pipeline.Engine
	t      testing.TB
	mem    *umem.Memory
	in     []*xsktest.Kernel // by worker
	out    []*xsktest.Kernel
	cancel context.CancelFunc
	done   chan error
}

func newRig(t testing.TB, workers int, stages string) *rig {
	t.Helper()
	r, err := tryRig(t, workers, stages)
	must(t, err)
	return r
}

func tryRig(t testing.TB, workers int, stages string) (*rig, error) {
	t.Helper()
	specs, err := pipeline.ParseQuick("stages", stages)
	if err != nil {
		return nil, err
	}
	mem, err := umem.New(umem.Options{Frames: 4096, Pages: umem.Pages4K})
	must(t, err)
	r := &rig{t: t, mem: mem, done: make(chan error, 1)}
	ports := []pipeline.Port{{Name: "a"}, {Name: "b"}}
	for range workers {
		for i, kernels := range []*[]*xsktest.Kernel{&r.in, &r.out} {
			s, k, err := xsktest.New(mem, xsk.Options{RxSize: 256, TxSize: 256, FillSize: 256, CompletionSize: 256})
			must(t, err)
			*kernels = append(*kernels, k)
			ports[i].Queues = append(ports[i].Queues, pipeline.NewXSK(s, "simulated", "native"))
		}
	}
	r.Engine, err = pipeline.New(pipeline.Options{
		Memory: mem, Ports: ports, Log: slog.New(slog.DiscardHandler),
		Workers:   pipeline.WorkersConfig{Count: workers, Pin: pipeline.PinConfig{Off: true}},
		Pipelines: []pipeline.Pipeline{{Name: "p", From: "a", To: "b", Stages: specs}},
	})
	if err != nil {
		must(t, mem.Close())
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() { r.done <- r.Run(ctx); close(r.done) }()
	t.Cleanup(func() { // after a failure; otherwise there is nothing left to do
		cancel()
		<-r.done
		r.Close()
		mem.Close()
	})
	return r, nil
}

// stop ends the engine and returns the error of its Close.
func (r *rig) stop() error {
	r.t.Helper()
	r.cancel()
	must(r.t, <-r.done)
	err := r.Close()
	must(r.t, r.mem.Close())
	return err
}

// pass sends the packets through worker w and returns those that left.
func (r *rig) pass(w int, packets ...[]byte) [][]byte {
	r.t.Helper()
	var left [][]byte
	// The rings hold each group, so that the transmit ring drops nothing.
	for group := range slices.Chunk(packets, 128) {
		want := r.account(w) + len(group)
		waitFor(r.t, func() bool {
			for len(group) > 0 && r.in[w].Deliver(group[0]) == 1 {
				group = group[1:]
			}
			return r.account(w) == want
		})
		left = append(left, r.out[w].Transmitted()...)
	}
	return left
}

// account counts the packets of worker w that left or were dropped.
func (r *rig) account(w int) int {
	s := r.Snapshot()
	n := 0
	for _, p := range s.Ports {
		if p.Worker == w && p.Name == "b" {
			n += int(p.TxPackets)
		}
	}
	for _, st := range s.Stages {
		if st.Worker == w {
			for _, d := range st.Drops {
				n += int(d)
			}
		}
	}
	return n
}

// values returns what the stage at the position, from 0, reports for worker 0.
func (r *rig) values(stage int) map[string]uint64 { return r.Snapshot().Stages[stage].Values }

func waitFor(t testing.TB, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !cond(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(deadline) {
			t.Fatal("not within ten seconds")
		}
	}
}

// The packets of tests: Ethernet with the headers that follow.
const (
	macs = "\x02\x00\x00\x00\x00\x0b\x02\x00\x00\x00\x00\x0a"
	ipv4 = "\x45\x00\x00\x2e\x00\x00\x40\x00\x40%c\x00\x00\xc0\x00\x02\x01\xc0\x00\x02\x02"
)

func ethernet(etherType string, rest ...string) []byte {
	p := []byte(macs + etherType)
	for _, r := range rest {
		p = append(p, r...)
	}
	return append(p, make([]byte, max(0, 60-len(p)))...)
}

func ipv4Packet(protocol byte, flags string, rest ...string) []byte {
	header := []byte("\x45\x00\x00\x2e\x00\x00" + flags + "\x40\x00\x00\x00\xc0\x00\x02\x01\xc0\x00\x02\x02")
	header[9] = protocol
	return ethernet("\x08\x00", append([]string{string(header)}, rest...)...)
}

const (
	whole = "\x40\x00" // IPv4 flags: don't fragment
	first = "\x20\x00" // more fragments
	later = "\x00\x64" // offset 800
	ports = "\x10\x00\x00\x35"
)

func udpPacket() []byte { return ipv4Packet(17, whole, ports, "\x00\x1a\x00\x00") }

// benchmark runs the stage over a vector of 64 packets again and again, that the
// stages before it have seen once.
func benchmark(b *testing.B, stage pipeline.Stage, before ...pipeline.Stage) {
	batch := newBatch(b, slices.Repeat([][]byte{udpPacket()}, 64)...)
	for _, s := range before {
		s.Process(batch)
	}
	b.ReportAllocs()
	for b.Loop() {
		stage.Process(batch)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(batch.Len()), "ns/packet")
}

// noAllocations fails if Process allocates.
func noAllocations(t *testing.T, stage pipeline.Stage) {
	t.Helper()
	batch := newBatch(t, udpPacket(), udpPacket(), udpPacket())
	if n := testing.AllocsPerRun(100, func() { stage.Process(batch) }); n != 0 {
		t.Errorf("Process allocates %v times", n)
	}
}
