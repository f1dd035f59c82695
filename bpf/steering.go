package bpf

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// ProgramName is the name of the program in the kernel, as bpftool shows it.
const ProgramName = steerProgXdpipeSteer

const (
	// DefaultQueues is how many queues a Steering has sockets for by default.
	DefaultQueues = 256

	// MaxQueues is the most there may be: more than any driver's.
	MaxQueues = 1 << 16
)

// Options are what Load can be told. The zero value is usable.
type Options struct {
	// Queues is how many receive queues can have a socket: the largest number the
	// device can be set to, so that a change of channels needs no new program. 0 is
	// DefaultQueues. Each costs 8 bytes in the kernel.
	Queues int
}

// Steering is the steering program with its maps in the kernel. Its methods may
// be called by several goroutines at once; two processes that loaded the same pins
// must not call SetPolicy at the same time.
type Steering struct {
	program *ebpf.Program
	maps    steerMaps     // without Empty
	bank    *ebpf.MapSpec // of the maps that Active holds
	filter  *ebpf.ProgramSpec

	mu         sync.Mutex
	closed     bool
	policy     Policy
	generation uint32
	current    *tables // the policy in force, of the generation
}

// Load loads the program and its maps, with the policy that lets everything pass
// and no sockets. It needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, or CAP_SYS_ADMIN, and
// Linux 5.18: errors wrap ErrNotPermitted and ErrKernelTooOld. Nothing is attached.
func Load(options Options) (*Steering, error) {
	queues := options.Queues
	if queues == 0 {
		queues = DefaultQueues
	}
	if queues < 0 || queues > MaxQueues {
		return nil, fmt.Errorf("load %s: %d queues is out of range: 1 to %d", ProgramName, queues, MaxQueues)
	}
	spec, err := loadSteer()
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", ProgramName, err)
	}
	spec.Maps[steerMapXsks].MaxEntries = uint32(queues)

	memlock := liftMemlock()
	s, err := newSteering(spec)
	if refusesTailCalls(err) {
		withoutFilters(spec.Programs[steerProgXdpipeSteer])
		s, err = newSteering(spec)
	}
	if err != nil {
		return nil, loadError(err, memlock)
	}
	return s, nil
}

// newSteering loads what spec describes, with the policy that lets everything
// pass. Filters are loaded with a policy that has one.
func newSteering(spec *ebpf.CollectionSpec) (*Steering, error) {
	var objects struct {
		Program *ebpf.Program `ebpf:"xdpipe_steer"`
		steerMaps
	}
	if err := spec.LoadAndAssign(&objects, nil); err != nil {
		return nil, err
	}
	s := &Steering{
		program: objects.Program,
		maps:    objects.steerMaps,
		bank:    bankSpec(spec),
		filter:  spec.Programs[steerProgXdpipeFilter],
		current: compile(Policy{}, 0),
	}
	empty := s.maps.Empty
	s.maps.Empty = nil
	err := s.record(empty, Policy{}, 0)
	if err = errors.Join(err, empty.Close()); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func bankSpec(spec *ebpf.CollectionSpec) *ebpf.MapSpec {
	bank := spec.Maps[steerMapActive].InnerMap.Copy()
	bank.Name = "bank"
	return bank
}

// Program returns the program, to be attached. It is valid until Close, which
// does not detach it: a link holds its own reference.
func (s *Steering) Program() *ebpf.Program {
	return s.program
}

// Queues returns how many queues can have a socket.
func (s *Steering) Queues() int {
	return int(s.maps.Xsks.MaxEntries())
}

// Register gives the packets of a queue that are redirected to the AF_XDP socket
// fd, which should be bound to that queue of the device the program is attached
// to: the kernel drops what reaches a socket bound elsewhere. A socket registered
// earlier is replaced. The kernel removes a socket that is closed.
func (s *Steering) Register(queue, fd int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.checkQueue(queue); err != nil {
		return fmt.Errorf("register socket for queue %d: %w", queue, err)
	}
	if fd < 0 {
		return fmt.Errorf("register socket for queue %d: file descriptor %d: %w", queue, fd, ErrNotSocket)
	}
	err := s.maps.Xsks.Put(uint32(queue), uint32(fd))
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOTSOCK), errors.Is(err, unix.EBADF):
		return fmt.Errorf("register socket for queue %d: file descriptor %d: %w (%w)", queue, fd, ErrNotSocket, err)
	case err != nil:
		return fmt.Errorf("register socket for queue %d: %w", queue, permission(err))
	}
	return nil
}

// Unregister lets the redirected packets of a queue pass to the kernel from now
// on. It is no error if the queue has no socket.
func (s *Steering) Unregister(queue int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.checkQueue(queue); err != nil {
		return fmt.Errorf("unregister socket of queue %d: %w", queue, err)
	}
	err := s.maps.Xsks.Delete(uint32(queue))
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("unregister socket of queue %d: %w", queue, permission(err))
	}
	return nil
}

func (s *Steering) checkQueue(queue int) error {
	if s.closed {
		return ErrClosed
	}
	if queue < 0 || queue >= s.Queues() {
		return fmt.Errorf("%w: queues are 0 to %d", ErrNoSuchQueue, s.Queues()-1)
	}
	return nil
}

// Policy returns a copy of the policy in force.
func (s *Steering) Policy() Policy {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.policy.clone()
}

func (p Policy) clone() Policy {
	p.Rules = slices.Clone(p.Rules)
	return p
}

// Close lets go of the program and the maps. What is attached or pinned goes on
// working, but a filter only if the maps are pinned: else packets that it would
// decide on pass to the kernel. A second Close does nothing.
func (s *Steering) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if err := errors.Join(s.program.Close(), s.maps.Close()); err != nil {
		return fmt.Errorf("close %s: %w", ProgramName, err)
	}
	return nil
}
