package pipelinetest

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xdpipe/xdpipe/pipeline"
	"github.com/xdpipe/xdpipe/umem"
)

// A Config says how stages are run. The zero value is what Run uses.
type Config struct {
	// Batch is how many packets are taken in at once, at most pipeline.MaxBatch; 0 is 64.
	Batch int
	// Workers is how many workers there are; the port in belongs to the first. 0 is 1.
	Workers int
	// Frames is the number of frames of the memory; 0 is 4096.
	Frames int
	// Headroom in bytes before packets, beyond umem.KernelHeadroom.
	Headroom int
	// For is how long, on the engine's clock, stages run that begin with a Source; 0 is
	// a second. It ends earlier when the source has made all its packets.
	For time.Duration
	// Descriptor is how many bytes of a packet one descriptor has at most: a longer packet
	// comes in as several, as by a port with multi-buffer. 0 is what a frame holds.
	Descriptor int
	// AllowPanics lets stages panic without failing the test.
	AllowPanics bool
}

// Run runs the stages, in the quick form, on the packets and returns what came of
// them. What is wrong with the stages fails the test.
func Run(t testing.TB, stages string, packets ...Packet) *Result {
	t.Helper()
	return Config{}.Run(t, stages, packets...)
}

// Run is the function Run with a Config.
func (c Config) Run(t testing.TB, stages string, packets ...Packet) *Result {
	t.Helper()
	specs, err := pipeline.ParseQuick("stages", stages)
	if err != nil {
		t.Fatal(err)
	}
	mem, err := umem.New(umem.Options{Frames: cmp.Or(c.Frames, 4096), FrameSize: umem.MaxFrameSize, Headroom: c.Headroom, Pages: umem.Pages4K, Verify: true})
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range packets {
		if len(p.Data) < 1 || len(p.Data) > mem.MaxPacket() {
			mem.Close()
			t.Fatalf("packet %d has %d bytes, want 1 to %d: a frame's", i+1, len(p.Data), mem.MaxPacket())
		}
	}
	var log bytes.Buffer
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r := &Result{t: t, ports: map[string]*sink{}}
	clk := &clock{}
	in := &source{packets: packets, clock: clk, batch: min(cmp.Or(c.Batch, pipeline.DefaultBatch), pipeline.MaxBatch), done: cancel}
	in.descriptor = min(cmp.Or(c.Descriptor, mem.MaxPacket()), mem.MaxPacket())
	for i, p := range packets {
		// It would never find its frames, and the run never end.
		if n := len(p.Data); n == 0 || n > in.descriptor*mem.Frames()/2 {
			t.Fatalf("packet %d is of %d bytes; want 1 to %d", i+1, n, in.descriptor*mem.Frames()/2)
		}
	}
	p := pipeline.QuickPipeline(specs, "in", "out")
	if p.From.Name == "" {
		clk.step, clk.end, clk.done = int64(time.Microsecond), int64(c.For), cancel
		if c.For == 0 {
			clk.end = int64(time.Second)
		}
	}
	opts := pipeline.Options{
		Memory: mem, Clock: clk.read, Log: slog.New(slog.NewTextHandler(&log, nil)),
		Workers:   pipeline.WorkersConfig{Count: c.Workers, Batch: in.batch, Pin: pipeline.PinConfig{Off: true}, Idle: pipeline.IdleSpin},
		Ports:     []pipeline.Port{{Name: "in", Queues: []pipeline.Queue{in}}},
		Pipelines: []pipeline.Pipeline{p.Pipeline()},
	}
	for _, name := range ports(specs) {
		q := &sink{clock: clk}
		r.ports[name] = q
		opts.Ports = append(opts.Ports, pipeline.Port{Name: name, Queues: []pipeline.Queue{q}})
	}
	eng, err := pipeline.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	runErr := eng.Run(ctx)
	r.Snapshot = eng.Snapshot()
	r.reasons = eng.Reasons()
	if err := eng.Close(); err != nil {
		t.Errorf("%s: close: %v", stages, err)
	}
	if err := mem.Close(); err != nil {
		t.Errorf("%s: %v", stages, err)
	}
	if runErr != nil {
		t.Errorf("%s: %v", stages, runErr)
	}
	if r.Drops()["panic"] > 0 && !c.AllowPanics {
		t.Errorf("%s: a stage panicked:\n%s", stages, &log)
	}
	r.checkAccount(stages)
	return r
}

// ports returns the ports that the stages need beside in.
func ports(specs []pipeline.StageSpec) []string {
	labels, list := []string{"", "in"}, []string{"out"}
	for _, s := range specs {
		labels = append(labels, s.Label)
	}
	add := func(name string) {
		if !slices.Contains(labels, name) && !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	for _, s := range specs {
		add(s.To.Name)
		for _, o := range s.Outputs {
			add(o.To.Name)
		}
	}
	return list
}

// clock is the engine's clock: it stands where set puts it, or goes on a step with
// every look until the end.
type clock struct {
	now       atomic.Int64
	step, end int64
	done      func()
}

// start is where the clock begins: 0 would be no time.
const start = int64(time.Second)

func (c *clock) set(at int64) { c.now.Store(at) }

func (c *clock) read() int64 {
	if c.step == 0 {
		return start + c.now.Load()
	}
	now := c.now.Add(c.step)
	if now >= c.end {
		c.done()
	}
	return start + now
}
