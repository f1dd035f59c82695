package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/xdpipe/xdpipe/umem"
)

// Options are what an Engine is made of.
type Options struct {
	// Memory holds the frames of all ports. It stays the caller's and is closed
	// after the engine.
	Memory *umem.Memory
	// Ports by name. Their queues are the engine's from New on: it closes them,
	// also when New fails.
	Ports []Port
	// Pipelines, each from one port to another or the same.
	Pipelines []Pipeline
	Workers   WorkersConfig
	// Clock is what Batch.Now and Batch.Arrival are read from, in nanoseconds; nil is the
	// monotonic clock. Tests give one that they drive.
	Clock func() int64
	// Log is for rare events; nil is slog.Default.
	Log *slog.Logger
}

// An Engine runs pipelines. New makes one, Run runs it, Close ends it.
type Engine struct {
	mem     *umem.Memory
	ports   []Port
	segs    *segmentTable
	workers []*worker
	queues  map[string][]*workerQueue // by port
	reasons *reasonTable
	graph   *assembly // the pipelines; changed between two batches
	clock   func() int64
	tracer  atomic.Pointer[tracer]
	traceID atomic.Uint32
	log     *slog.Logger

	stopping atomic.Bool
	working  atomic.Int32 // workers that have not finished
	mu       sync.Mutex   // one Between at a time
	running  bool         // guarded by mu
	panics   map[string]bool
	panicsMu sync.Mutex
	started  bool       // guarded by mu
	closed   bool       // guarded by mu
	last     Snapshot   // what there was at Close; guarded by mu
	retired  retired    // the counters of stages that a reload took away; guarded by mu
	swapping sync.Mutex // one Swap or Close at a time
}

// New builds an engine: it makes and provisions every stage for every worker
// and deals the ports' queues out. Nothing runs yet.
func New(opts Options) (*Engine, error) {
	e := &Engine{
		mem:     opts.Memory,
		ports:   opts.Ports,
		segs:    &segmentTable{mem: opts.Memory},
		queues:  map[string][]*workerQueue{},
		reasons: newReasonTable(),
		clock:   opts.Clock,
		log:     opts.Log,
		panics:  map[string]bool{},
		retired: retired{drops: map[string]uint64{}},
	}
	if e.clock == nil {
		e.clock = clock
	}
	if e.log == nil {
		e.log = slog.Default()
	}
	if err := e.build(opts); err != nil {
		return nil, errors.Join(err, e.release())
	}
	return e, nil
}

func (e *Engine) build(opts Options) error {
	count := max(opts.Workers.Count, 1)
	if n := opts.Workers.Batch; n < 0 || n > MaxBatch {
		return fmt.Errorf("workers: batches of %d packets: want 1 to %d, or 0 for %d", n, MaxBatch, DefaultBatch)
	}
	cpus, err := placement(opts.Workers)
	if err != nil {
		return err
	}
	for id := range count {
		wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		if err != nil {
			return fmt.Errorf("eventfd: %w", err)
		}
		w := &worker{
			engine: e, id: id, cpu: cpus[id],
			cache: e.mem.NewCache(0), round: round{read: e.clock},
			idle: opts.Workers.Idle, spin: opts.Workers.Spin, wake: wake,
			gate: gate{parked: make(chan struct{}), open: make(chan struct{})},
		}
		if w.spin == 0 {
			w.spin = DefaultSpin
		}
		batch := opts.Workers.Batch
		if batch == 0 {
			batch = DefaultBatch
		}
		w.batch = newBatch(w.cache, batch, e.segs, &w.round)
		e.workers = append(e.workers, w)
	}
	if err := e.deal(count); err != nil {
		return err
	}
	if e.graph, err = e.assemble(opts.Pipelines, nil); err != nil {
		return err
	}
	e.install(e.graph)
	return nil
}

// deal gives each queue its worker.
func (e *Engine) deal(count int) error {
	for _, p := range e.ports {
		if _, twice := e.queues[p.Name]; twice {
			return fmt.Errorf("two ports are named %q", p.Name)
		}
		e.queues[p.Name] = nil
		for i, id := range AssignQueues(len(p.Queues), count, p.Workers) {
			if id < 0 || id >= count {
				return fmt.Errorf("port %s: queue %d is for worker %d, and there are %d, from 0", p.Name, i, id, count)
			}
			w := e.workers[id]
			m, ok := p.Queues[i].(MultiBuffer)
			wq := &workerQueue{port: p.Name, owner: w, queue: p.Queues[i], multi: ok && m.MultiBuffer()}
			e.queues[p.Name] = append(e.queues[p.Name], wq)
			w.queues = append(w.queues, wq)
		}
	}
	return nil
}

// placement returns a CPU for each worker, or -1 for those that are not pinned.
func placement(c WorkersConfig) ([]int, error) {
	count := max(c.Count, 1)
	if len(c.CPUs) > 0 && len(c.CPUs) != count {
		return nil, fmt.Errorf("workers: %d CPUs for %d workers; want one each", len(c.CPUs), count)
	}
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("sched_getaffinity: %w", err)
	}
	cpus := make([]int, count)
	for i := range cpus {
		cpus[i] = -1
	}
	if c.Pin.Off {
		return cpus, nil
	}
	for i, cpu := range c.CPUs {
		if !set.IsSet(cpu) {
			return nil, fmt.Errorf("workers: CPU %d is not among those this process may use", cpu)
		}
		cpus[i] = cpu
	}
	// From the last downwards: interrupts and the rest of the system prefer the
	// first. More workers than CPUs share, and the scheduler does that better.
	if len(c.CPUs) == 0 && count < set.Count() {
		i := 0
		for cpu := len(set)*64 - 1; cpu >= 0 && i < count; cpu-- {
			if set.IsSet(cpu) {
				cpus[i] = cpu
				i++
			}
		}
	}
	return cpus, nil
}

// Run works until ctx is done, which is no error, or until a port ends, which
// is returned with its reason. The engine cannot be run again.
func (e *Engine) Run(ctx context.Context) error {
	e.mu.Lock()
	if e.started || e.closed {
		e.mu.Unlock()
		return errors.New("run: the engine ran already, or was closed; make a new one")
	}
	e.started, e.running = true, true
	e.working.Store(int32(len(e.workers)))
	e.mu.Unlock()
	errs := make([]error, len(e.workers))
	var wg sync.WaitGroup
	ended := make(chan struct{}, len(e.workers))
	for i, w := range e.workers {
		wg.Go(func() {
			// A worker that ends while it is asked to stop has stopped.
			defer close(w.gate.parked)
			defer w.finish()
			errs[i] = w.run()
			ended <- struct{}{}
		})
	}
	select {
	case <-ctx.Done():
	case <-ended:
	}
	e.stopping.Store(true)
	for _, w := range e.workers {
		w.rouse()
	}
	wg.Wait()
	e.mu.Lock()
	e.running = false
	e.drainRings() // what a worker handed over after the other had ended
	e.mu.Unlock()
	return errors.Join(errs...)
}

// Between calls f while every worker stands between two batches. It is how
// counters are read, and how anything of a worker's is changed by another
// goroutine.
func (e *Engine) Between(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.running {
		f()
		return
	}
	for _, w := range e.workers {
		w.gate.closed.Store(true)
		w.rouse()
	}
	stopped := make([]bool, len(e.workers))
	for i, w := range e.workers {
		_, stopped[i] = <-w.gate.parked // false: the worker has ended
	}
	defer func() { // also if f panics: packets go on
		for i, w := range e.workers {
			w.gate.closed.Store(false)
			if stopped[i] {
				w.gate.open <- struct{}{}
			}
		}
	}()
	f()
}

// panicked reports a stage's panic, with the stack the first time.
func (e *Engine) panicked(stage, cause string, stack []byte) {
	e.panicsMu.Lock()
	defer e.panicsMu.Unlock()
	if !e.panics[stage] {
		e.panics[stage] = true
		e.log.Error("a stage panicked and lost its batch; further panics of it are only counted",
			"stage", stage, "panic", cause, "stack", string(stack))
	}
}

// forgetPanics has the next panic of each stage reported again: they are new ones.
func (e *Engine) forgetPanics() {
	e.panicsMu.Lock()
	defer e.panicsMu.Unlock()
	clear(e.panics)
}

// recovered contains a panic of a stage outside of Process; it is deferred.
func (e *Engine) recovered(stage string) {
	if cause := recover(); cause != nil {
		e.panicked(stage, fmt.Sprint(cause), debug.Stack())
	}
}

// Close ends the queues and stages, and gives all frames back. Take the ports'
// sockets out of their programs before, so that nothing arrives any more. It is
// not called while Run runs.
func (e *Engine) Close() error {
	e.swapping.Lock() // as a reload does, whose new stages are not this one's to close
	defer e.swapping.Unlock()
	e.mu.Lock() // whoever reads counters finishes first
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	e.last = e.snapshot()
	return e.release()
}

func (e *Engine) release() error {
	var errs []error
	errs = append(errs, e.graph.close(e))
	for _, p := range e.ports {
		for _, q := range p.Queues {
			if err := q.Close(); err != nil {
				errs = append(errs, fmt.Errorf("close port %s: %w", p.Name, err))
			}
		}
	}
	for _, w := range e.workers {
		w.cache.Close()
		unix.Close(w.wake)
	}
	return errors.Join(errs...)
}
