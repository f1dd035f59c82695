package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	// Log is for rare events; nil is slog.Default.
	Log *slog.Logger
}

// A Pipeline is a line of stages from one port to another.
type Pipeline struct {
	Name   string
	From   string
	Stages []StageSpec
	To     string
}

// An Engine runs pipelines. New makes one, Run runs it, Close ends it.
type Engine struct {
	mem     *umem.Memory
	ports   []Port
	workers []*worker
	reasons *reasonTable
	shared  sharedValues
	log     *slog.Logger

	stopping atomic.Bool
	mu       sync.Mutex // one Between at a time
	running  bool       // guarded by mu
	panics   map[string]bool
	panicsMu sync.Mutex
	started  bool     // guarded by mu
	closed   bool     // guarded by mu
	last     Snapshot // what there was at Close; guarded by mu
}

// New builds an engine: it makes and provisions every stage for every worker
// and deals the ports' queues out. Nothing runs yet.
func New(opts Options) (*Engine, error) {
	e := &Engine{
		mem:     opts.Memory,
		ports:   opts.Ports,
		reasons: newReasonTable(),
		log:     opts.Log,
		panics:  map[string]bool{},
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
			cache: e.mem.NewCache(0),
			idle:  opts.Workers.Idle, spin: opts.Workers.Spin, wake: wake,
			gate: gate{parked: make(chan struct{}), open: make(chan struct{})},
		}
		if w.spin == 0 {
			w.spin = DefaultSpin
		}
		batch := opts.Workers.Batch
		if batch == 0 {
			batch = DefaultBatch
		}
		w.batch = NewBatch(w.cache, batch)
		e.workers = append(e.workers, w)
	}
	queues := map[string][]*workerQueue{} // by port; queue i belongs to worker i mod count
	for _, p := range e.ports {
		if queues[p.Name] != nil {
			return fmt.Errorf("two ports are named %q", p.Name)
		}
		for i, q := range p.Queues {
			wq := &workerQueue{port: p.Name, queue: q}
			queues[p.Name] = append(queues[p.Name], wq)
			w := e.workers[i%count]
			w.queues = append(w.queues, wq)
		}
		if len(p.Queues) < count {
			return fmt.Errorf("port %s has %d queues for %d workers; each worker needs one of each port: use fewer workers or more queues", p.Name, len(p.Queues), count)
		}
	}
	for _, p := range opts.Pipelines {
		if err := e.buildPipeline(p, queues); err != nil {
			return fmt.Errorf("pipeline %s: %w", p.Name, err)
		}
	}
	// The counters of drops are as long as the table of reasons is now.
	for _, w := range e.workers {
		for _, q := range w.queues {
			q.drops = make([]uint64, e.reasons.len())
		}
		for _, n := range w.nodes {
			n.drops = make([]uint64, e.reasons.len())
		}
	}
	return nil
}

func (e *Engine) buildPipeline(p Pipeline, queues map[string][]*workerQueue) error {
	in, out := queues[p.From], queues[p.To]
	if in == nil {
		return fmt.Errorf("no port %q to take packets from", p.From)
	}
	if out == nil {
		return fmt.Errorf("no port %q to hand packets to", p.To)
	}
	count := len(e.workers)
	for id, w := range e.workers {
		nodes, err := e.buildNodes(p, id)
		if err != nil {
			return err
		}
		for i := id; i < len(in); i += count {
			// Several queues of one worker share its stages; each sends to the
			// worker's queue of the same rank, or to its first if there are fewer.
			to := i
			if to >= len(out) {
				to = id
			}
			w.lines = append(w.lines, &line{in: in[i], nodes: nodes, out: out[to]})
			in[i].read = true
			if fd, _ := in[i].queue.Poll(); fd < 0 {
				w.sleepless = true
			}
		}
	}
	return nil
}

// buildNodes makes the worker's own instances of the pipeline's stages.
func (e *Engine) buildNodes(p Pipeline, worker int) ([]*node, error) {
	var nodes []*node
	for i, spec := range p.Stages {
		stage, err := spec.New()
		if err != nil {
			return nil, err
		}
		n := &node{stage: stage, name: fmt.Sprintf("%s/%d:%s", p.Name, i+1, spec.Type), kind: spec.Type}
		// Before Provision, so that it is closed even if that fails half way.
		e.workers[worker].nodes = append(e.workers[worker].nodes, n)
		if prov, ok := stage.(Provisioner); ok {
			ctx := &Context{
				Stage: n.name, Worker: worker, Workers: len(e.workers),
				Log: e.log.With("stage", n.name), reasons: e.reasons, shared: &e.shared,
			}
			if err := prov.Provision(ctx); err != nil {
				return nil, spec.blame(err)
			}
			if ctx.err != nil {
				return nil, spec.blame(ctx.err)
			}
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
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
	e.mu.Unlock()
	errs := make([]error, len(e.workers))
	var wg sync.WaitGroup
	ended := make(chan struct{}, len(e.workers))
	for i, w := range e.workers {
		wg.Go(func() {
			// A worker that ends while it is asked to stop has stopped.
			defer close(w.gate.parked)
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

// Close ends the queues and stages, and gives all frames back. Take the ports'
// sockets out of their programs before, so that nothing arrives any more. It is
// not called while Run runs.
func (e *Engine) Close() error {
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
	for _, w := range e.workers {
		for _, n := range w.nodes {
			if c, ok := n.stage.(Closer); ok {
				if err := c.Close(); err != nil {
					errs = append(errs, fmt.Errorf("close stage %s: %w", n.name, err))
				}
			}
		}
	}
	errs = append(errs, e.shared.close())
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
