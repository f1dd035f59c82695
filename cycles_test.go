package xdpipe_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xdpipe/xdpipe"
	"github.com/xdpipe/xdpipe/lab"
	"github.com/xdpipe/xdpipe/pipeline"
	_ "github.com/xdpipe/xdpipe/pipeline/stages"
	"github.com/xdpipe/xdpipe/umem"
	"github.com/xdpipe/xdpipe/xsk"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// usage is what a process has, of what a leak would make grow.
type usage struct {
	files, goroutines, threads int
	heap, resident, mappings   int64 // bytes, bytes, number
}

// measure waits a little for what ends by itself, such as discarded threads.
func measure(t testing.TB, atMost *usage) (now usage) {
	t.Helper()
	count := func(dir string) int {
		entries, err := os.ReadDir(dir)
		must(t, err)
		return len(entries)
	}
	for range 100 {
		debug.FreeOSMemory()
		var mem runtime.MemStats
		runtime.ReadMemStats(&mem)
		now = usage{files: count("/proc/self/fd"), goroutines: runtime.NumGoroutine(), threads: count("/proc/self/task"), heap: int64(mem.HeapAlloc)}
		now.resident, now.mappings = memoryOf(t)
		if atMost == nil || (now.files <= atMost.files && now.goroutines <= atMost.goroutines && now.threads <= atMost.threads) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return now
}

// memoryOf reads the resident size and counts the mappings.
func memoryOf(t testing.TB) (resident, mappings int64) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	must(t, err)
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			_, err := fmt.Sscan(rest, &resident)
			must(t, err)
			resident <<= 10
		}
	}
	maps, err := os.Open("/proc/self/maps")
	must(t, err)
	defer maps.Close()
	for s := bufio.NewScanner(maps); s.Scan(); {
		mappings++
	}
	return resident, mappings
}

// noGrowth does something n times after some rounds to warm up, and fails if
// the process has more of anything at the end. Memory has some slack, far less
// than n of anything that is worth leaking.
func noGrowth(t *testing.T, n int, do func()) {
	t.Helper()
	for range max(n/20, 1) {
		do()
	}
	before := measure(t, nil)
	for range n {
		do()
	}
	after := measure(t, &before)
	t.Logf("before %+v", before)
	t.Logf("after  %+v", after)
	if after.files > before.files || after.goroutines > before.goroutines {
		t.Errorf("descriptors grew from %d to %d, goroutines from %d to %d", before.files, after.files, before.goroutines, after.goroutines)
	}
	// The runtime keeps a few threads for later.
	if after.threads > before.threads+3 {
		t.Errorf("threads grew from %d to %d", before.threads, after.threads)
	}
	// The race detector maps memory of its own as it goes. A socket has four
	// mappings and a round opens a hundred; a forwarder's memory has 32 MiB: what is
	// worth leaking is seen there too.
	mappings, resident := int64(n)/10+10, int64(8<<20)
	if underRace {
		mappings, resident = int64(n)*4+20, 28<<20
	}
	if after.mappings > before.mappings+mappings {
		t.Errorf("mappings grew from %d to %d", before.mappings, after.mappings)
	}
	if after.heap > before.heap+4<<20 || after.resident > before.resident+resident {
		t.Errorf("the heap grew from %d to %d bytes, the resident size from %d to %d", before.heap, after.heap, before.resident, after.resident)
	}
}

// lanes is how many do the same side by side: closing a socket waits for the
// kernel's grace periods, and several may wait at once.
const lanes = 5

// sideBySide calls do for each lane and fails the test with their errors.
func sideBySide(t testing.TB, do func(lane int) error) {
	t.Helper()
	errs := make([]error, lanes)
	var all sync.WaitGroup
	for lane := range lanes {
		all.Go(func() { errs[lane] = do(lane) })
	}
	all.Wait()
	must(t, errors.Join(errs...))
}

func TestAThousandSocketsLeaveNothing(t *testing.T) {
	line, err := lab.ForTest(t).Line(lab.Topology{Queues: lanes})
	must(t, err)
	var memories [lanes]*umem.Memory
	for i := range memories {
		memories[i], err = umem.New(umem.Options{Frames: 4096})
		must(t, err)
	}
	rings := xsk.Options{RxSize: 512, TxSize: 512, FillSize: 512, CompletionSize: 512}
	const cycles = 10 // of two sockets that share a memory
	noGrowth(t, 1000/lanes/cycles/2, func() {
		sideBySide(t, func(lane int) error {
			mem := memories[lane]
			return line.Xdpipe.Do(func() error {
				for range cycles {
					first, err := xsk.Open(mem, line.PortA.Index, lane, rings)
					if err != nil {
						return err
					}
					second, err := xsk.Open(mem, line.PortB.Index, lane, rings)
					if err := errors.Join(err, first.Close()); err != nil {
						return err
					}
					if err := second.Close(); err != nil {
						return err
					}
					if free := mem.Free(); free != mem.Frames() {
						return fmt.Errorf("%d of %d frames are back", free, mem.Frames())
					}
				}
				return nil
			})
		})
	})
	for _, mem := range memories {
		must(t, mem.Close())
	}
}

// config is a forwarder between two ports of a namespace.
func config(t testing.TB, ns, name string) *pipeline.Config {
	t.Helper()
	cfg, err := pipeline.ParseConfig("test", []byte(fmt.Sprintf(`
name: %s
memory: {frames: 4096}
ports:
  a: {interface: veth-a, netns: %s, steer: all, rings: {rx: 256, tx: 256, fill: 256, completion: 256}}
  b: {interface: veth-b, netns: %s, steer: all, rings: {rx: 256, tx: 256, fill: 256, completion: 256}}
pipelines:
  - {from: a, stages: [parse, count], to: b}
  - {from: b, stages: [parse, count], to: a}
`, name, ns, ns)))
	must(t, err)
	return cfg
}

// options are those of an instance apart from all others.
func options(t testing.TB) xdpipe.Options {
	t.Helper()
	dir, err := os.MkdirTemp("", "xdpipe-root") // t.TempDir is too long for a socket
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return xdpipe.Options{RunDir: dir, Log: slog.New(slog.DiscardHandler)}
}

func TestFiftyForwardersLeaveNothing(t *testing.T) {
	l := lab.ForTest(t)
	var configs [lanes]*pipeline.Config
	for i := range lanes {
		ns, err := l.Namespace(fmt.Sprintf("lane%d", i))
		must(t, err)
		for _, port := range []string{"a", "b"} {
			_, err := l.Pair(lab.End{NS: ns, Name: "veth-" + port}, lab.End{NS: ns, Name: "peer-" + port}, lab.PairOptions{})
			must(t, err)
		}
		configs[i] = config(t, ns.Name(), fmt.Sprintf("lane%d", i))
	}
	opts := options(t)
	noGrowth(t, 50/lanes, func() {
		sideBySide(t, func(lane int) error {
			return cycle(configs[lane], opts)
		})
	})
	entries, err := os.ReadDir(opts.RunDir)
	must(t, err)
	for _, e := range entries {
		if e.Name() != ".lock" && e.Name() != "claims" {
			t.Errorf("left in the run directory: %s", e.Name())
		}
	}
}

// cycle is the whole life of a forwarder.
func cycle(cfg *pipeline.Config, opts xdpipe.Options) error {
	inst, err := xdpipe.Open(cfg, opts)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- inst.Run(ctx) }()
	p := inst.Status().Memory.Places
	cancel()
	errs := []error{<-ended, inst.Close(), inst.Close()} // Close may be called again
	if p.Sum() != p.Total {
		errs = append(errs, fmt.Errorf("places %+v add up to %d", p, p.Sum()))
	}
	if a := inst.Account(); a.Free != a.Frames || a.Frames != 4096 {
		errs = append(errs, fmt.Errorf("not all frames are back: %v", a))
	}
	return errors.Join(errs...)
}
