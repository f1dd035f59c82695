package xdpipe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/xdpipe/xdpipe/control"
	"github.com/xdpipe/xdpipe/pipeline"
	"github.com/xdpipe/xdpipe/umem"
)

// Options say where an Instance keeps its files. The zero value is for use on a
// host.
type Options struct {
	RunDir string // "" is control.DefaultRunDir
	BPFFS  string // "" is DefaultBPFFS
	Log    *slog.Logger
	// Metrics is where Prometheus finds the metrics, if not only on the instance's
	// own socket: HOST:PORT, or the path of a unix socket. Whoever reaches it reads
	// them, and nothing else.
	Metrics string
	// Config reads the configuration again, for ReloadConfig and POST /reload; nil if
	// there is no file to read.
	Config func() (*pipeline.Config, error)
}

// An Instance is a configuration at work. Open makes one, Run runs it, Close
// puts the machine back as it was.
type Instance struct {
	plan    *Plan
	log     *slog.Logger
	journal *control.Journal
	huge    *control.Hugepages
	mem     *umem.Memory
	ports   []*port
	engine  *pipeline.Engine
	watcher *control.Watcher
	server  *server
	metrics *server // nil unless asked for
	started time.Time
	tracing sync.Mutex // one trace at a time
	config  func() (*pipeline.Config, error)

	reloading sync.Mutex // one reload at a time, and none beside the end
	ending    bool       // guarded by reloading
	planMu    sync.Mutex // guards what a reload changes of the plan

	closeOnce sync.Once
	closeErr  error
	account   Account
}

// Open makes a plan of the configuration and carries it out, up to the point
// where packets would flow. It first undoes what instances that died left
// behind. After an error the machine is as it was before.
func Open(cfg *pipeline.Config, opts Options) (*Instance, error) {
	log := opts.Log
	if log == nil {
		log = slog.Default()
	}
	restored, left := RestoreStale(opts.RunDir)
	for _, r := range restored {
		if r.Err == nil {
			log.Info("undid a change of an instance that died", "change", r.String())
		}
	}
	gone, err := SweepPins(opts.BPFFS)
	for _, text := range gone {
		log.Info(text)
	}
	left = errors.Join(left, err)
	plan, err := NewPlan(cfg)
	if err != nil {
		return nil, err
	}
	i := &Instance{plan: plan, log: log, started: time.Now(), config: opts.Config}
	if err := i.open(opts); err != nil {
		if errors.Is(err, control.ErrStaleJournal) {
			err = errors.Join(err, left)
		}
		return nil, errors.Join(err, i.Close())
	}
	if left != nil {
		// It stays in the other instance's journal, and is no reason for this one
		// not to start.
		log.Warn("cannot undo all that earlier instances left", "error", left)
	}
	return i, nil
}

func (i *Instance) open(opts Options) (err error) {
	var metrics net.Listener
	if opts.Metrics != "" {
		if metrics, err = listenMetrics(opts.Metrics); err != nil { // before anything is changed
			return err
		}
		defer func() {
			if i.metrics == nil {
				metrics.Close()
			}
		}()
	}
	if i.journal, err = control.OpenJournal(opts.RunDir, i.plan.Name); err != nil {
		return err
	}
	if i.plan.Reserve {
		if err := i.reserve(); err != nil {
			return err
		}
	}
	if i.mem, err = umem.New(i.plan.Memory); err != nil {
		return err
	}
	i.log.Debug("memory", "frames", i.mem.Frames(), "pages", i.mem.Pages())
	var links []*control.Link
	eng := pipeline.Options{Memory: i.mem, Pipelines: i.plan.Pipelines, Workers: i.plan.Workers, Log: i.log}
	for _, pp := range i.plan.Ports {
		p, err := openPort(pp, i.mem, i.journal, opts.BPFFS)
		i.ports = append(i.ports, p)
		eng.Ports = append(eng.Ports, pipeline.Port{Name: pp.Name, Queues: p.queues, Workers: pp.Workers})
		if err != nil {
			return errors.Join(fmt.Errorf("port %s: %w", pp.Name, err), closeQueues(eng.Ports))
		}
		if why := p.attached.WhyNotNative(); why != "" {
			i.log.Warn("generic mode: native XDP was refused", "interface", pp.Link.String(), "reason", why)
		}
		links = append(links, pp.Link)
	}
	if i.watcher, err = control.Watch(links...); err != nil {
		return errors.Join(err, closeQueues(eng.Ports))
	}
	if i.engine, err = pipeline.New(eng); err != nil {
		return err
	}
	if i.server, err = serve(i.journal.Dir(), i.plan.Name, index(i.plan.Name, i.endpoints())); err != nil {
		return err
	}
	if metrics != nil {
		i.metrics = &server{}
		i.metrics.start(metrics, index(i.plan.Name, []endpoint{{"GET", "/metrics", "for Prometheus", i.MetricsHandler()}}))
	}
	return nil
}

// closeQueues closes what would have become the engine's.
func closeQueues(ports []pipeline.Port) error {
	var errs []error
	for _, port := range ports {
		for _, q := range port.Queues {
			errs = append(errs, q.Close())
		}
	}
	return errors.Join(errs...)
}

// reserve sets the hugepages aside that the memory needs and that are not free.
func (i *Instance) reserve() error {
	const size = 2 << 20
	m := i.plan.Memory
	frame := max(m.FrameSize, umem.MinFrameSize)
	want := (uint64(m.Frames)*uint64(frame) + size - 1) / size
	free, err := control.FreeHugepages(size)
	if err != nil {
		return err
	}
	if free >= want {
		return nil
	}
	i.huge, err = control.ReserveHugepages(i.journal, size, want-free)
	return err
}

// Run forwards packets until ctx is done, which is no error, or until a port is
// of no more use, with the reason. It can be called once.
//
// It stops without losing a packet: the interfaces' packets are given back to
// the kernel first, and those already received are forwarded.
func (i *Instance) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	engineCtx, stopEngine := context.WithCancel(context.Background())
	defer stopEngine()
	var stopping sync.WaitGroup
	stopping.Go(func() {
		defer stopEngine()
		i.watch(ctx, cancel) // until ctx is done
		// Not watched any more, so that our own detaching is not taken for
		// somebody else's. What fails here fails again in Close, and is told.
		_ = i.silence()
	})
	err := i.engine.Run(engineCtx)
	cancel(nil)
	stopping.Wait()
	// The control plane's reason says more than the errno the engine met.
	var gone *PortError
	if errors.As(context.Cause(ctx), &gone) {
		return gone
	}
	if err != nil {
		if gone := i.removedPort(); gone != nil {
			return gone
		}
	}
	return err
}

// silence takes all ports' packets away from the sockets.
func (i *Instance) silence() error {
	i.reloading.Lock()
	defer i.reloading.Unlock()
	i.ending = true
	var errs []error
	for _, p := range i.ports {
		errs = append(errs, p.silence())
	}
	return errors.Join(errs...)
}

// A PortError says why an instance ended: a port is of no more use.
type PortError struct {
	Port      string
	Interface string
	Reason    string
}

func (e *PortError) Error() string {
	return fmt.Sprintf("port %s: interface %s: %s", e.Port, e.Interface, e.Reason)
}

// watch follows the interfaces until ctx is done and ends the run when one is
// of no more use.
func (i *Instance) watch(ctx context.Context, end context.CancelCauseFunc) {
	for {
		select {
		case <-ctx.Done():
			return
		case ev, ok := <-i.watcher.Events():
			if !ok {
				<-ctx.Done()
				return
			}
			for _, p := range i.ports {
				if p.plan.Link == ev.Link {
					if why := p.linkEvent(ev, i.log); why != "" {
						end(&PortError{p.plan.Name, ev.Name, why})
					}
				}
			}
		}
	}
}

// linkEvent notes what happened to the port's interface. It returns why the
// port is of no more use, or "".
func (p *port) linkEvent(ev control.LinkEvent, log *slog.Logger) string {
	log = log.With("port", p.plan.Name, "interface", ev.Name)
	switch ev.Kind {
	case control.LinkUp:
		p.state.set(stateUp)
		log.Info("link up")
	case control.LinkDown:
		p.state.set(stateDown)
		log.Warn("link down")
	case control.LinkRemoved:
		const why = "the interface was removed"
		p.state.set("ended: " + why)
		return why
	case control.LinkRenamed:
		log.Info("renamed")
	case control.XDPChanged:
		if p.ours(ev.Programs) {
			return ""
		}
		why := fmt.Sprintf("its XDP program was replaced or removed by someone else (programs now: %v)", ev.Programs)
		p.state.set("ended: " + why)
		return why
	case control.QueuesChanged:
		if ev.Queues > p.plan.DeviceQueues {
			text := fmt.Sprintf("up, but the number of queues changed from %d to %d: packets of the new ones go to the kernel until a restart", p.plan.DeviceQueues, ev.Queues)
			p.state.set(text)
			log.Warn(text)
		}
	case control.MTUChanged:
		log.Info("MTU changed", "mtu", ev.MTU)
	case control.WatchFailed:
		log.Error("cannot watch the interface any more", "error", ev.Err)
	}
	return ""
}

// ours reports whether the port's program is among those attached.
func (p *port) ours(programs []uint32) bool {
	for _, id := range programs {
		if id == p.attached.ProgramID() {
			return true
		}
	}
	return false
}

// removedPort returns the port whose interface is gone, if one is. The engine
// may meet the error before the watcher hears of it.
func (i *Instance) removedPort() error {
	for _, p := range i.ports {
		// Not Refresh: the status reads the link at the same time.
		_, err := control.LinkByIndex(p.plan.Link.Namespace, p.plan.Link.Index)
		if errors.As(err, new(*control.LinkNotFoundError)) {
			return &PortError{p.plan.Name, p.plan.Link.Name, "the interface was removed"}
		}
	}
	return nil
}

// Close ends the instance and puts back what Open changed. It is called after
// Run has returned. The memory's frames are all accounted for afterwards: see
// Account.
func (i *Instance) Close() error {
	i.closeOnce.Do(func() { i.closeErr = i.close() })
	return i.closeErr
}

func (i *Instance) close() error {
	var errs []error
	for _, s := range []*server{i.server, i.metrics} {
		if s != nil {
			errs = append(errs, s.close())
		}
	}
	if i.watcher != nil {
		errs = append(errs, i.watcher.Close())
	}
	errs = append(errs, i.silence())
	if i.engine != nil {
		i.account.count(i.engine.Snapshot())
		errs = append(errs, i.engine.Close())
	}
	for _, p := range i.ports {
		errs = append(errs, p.close())
	}
	if i.mem != nil {
		i.account.Frames, i.account.Free = i.mem.Frames(), i.mem.Free()
		errs = append(errs, i.mem.Close())
	}
	if i.huge != nil {
		errs = append(errs, i.huge.Release())
	}
	if i.journal != nil {
		_, err := i.journal.Restore()
		errs = append(errs, err)
	}
	i.plan.Close()
	return errors.Join(errs...)
}

// Plan returns what the instance was opened with.
func (i *Instance) Plan() *Plan { return i.plan }

// Verifying reports whether the ledger checks every frame's transitions.
func (i *Instance) Verifying() bool { return i.mem.Verifying() }

// Account returns the final account, after Close.
func (i *Instance) Account() Account { return i.account }
