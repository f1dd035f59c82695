package xsk

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/xdpipe/xdpipe/umem"
)

// A bind right after the previous owner's close may find the queue still taken:
// the kernel tears sockets down in the background (xp_release_deferred,
// net/xdp/xsk_buff_pool.c), and that waits for the lock of all network
// configuration, which can be held for long where namespaces come and go.
const (
	bindRetryFor   = 2 * time.Second
	bindRetryDelay = 2 * time.Millisecond
)

// Open opens a socket on a queue of the interface with the given index, which
// must be up, and fills its fill ring. The first socket on mem registers it; others share it.
//
// The calling thread must be in the interface's network namespace. The XDP
// program must be told of the socket (Socket.FD) before packets arrive.
//
// The errors are *OptionError for a value out of range and *BindError for what
// the kernel refused.
func Open(mem *umem.Memory, ifindex, queue int, opts Options) (*Socket, error) {
	if err := opts.normalize(); err != nil {
		return nil, err
	}
	if opts.Interface == "" {
		opts.Interface = fmt.Sprintf("ifindex %d", ifindex)
	}
	for deadline := time.Now().Add(bindRetryFor); ; {
		s, err := open(mem, ifindex, queue, opts)
		if err == nil || !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return s, err
		}
		// On a fresh socket: the failed one has rings and memory attached.
		time.Sleep(bindRetryDelay)
	}
}

func open(mem *umem.Memory, ifindex, queue int, opts Options) (_ *Socket, err error) {
	first, shared := mem.Bound()
	flags := bindFlags(opts, shared)
	fail := func(op string, errno unix.Errno) error {
		return (&BindError{Op: op, Interface: opts.Interface, Queue: queue, Flags: flags, Errno: errno}).explain()
	}
	if queue < 0 {
		return nil, &OptionError{"queue", queue, "0 or more"}
	}
	fd, errno := sockErrno(unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0))
	if errno != 0 {
		return nil, fail("socket", errno)
	}
	k := &linux{fd: fd}
	var s *Socket
	cache := mem.NewCache(opts.FillSize)
	defer cache.Close()
	defer func() {
		if err == nil {
			return
		}
		k.Close()
		if s != nil { // only now: until the close the frames are the kernel's
			s.reclaim(cache)
		}
	}()

	if !shared {
		if errno := register(fd, mem); errno != 0 {
			return nil, fail("setsockopt XDP_UMEM_REG", errno)
		}
	}
	rings, op, errno := makeRings(k, opts)
	if errno != 0 {
		return nil, fail(op, errno)
	}
	granted := Granted{Shared: shared, NeedWakeup: !opts.NoNeedWakeup}
	// The force variant needs CAP_NET_ADMIN; without it the limit of
	// net.core.wmem_max applies, which costs extra wakeups and nothing else.
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, opts.SendBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, opts.SendBuffer)
	}
	granted.BusyPoll = opts.BusyPoll.Timeout > 0 && setBusyPoll(fd, opts.BusyPoll)

	s = newSocket(mem, k, rings, opts, queue)
	// Drivers take frames during the bind, so that the ring must be full by
	// then; a shared bind moves the ring to the new queue and is filled after.
	if !shared {
		s.Fill(cache)
	}
	sa := unix.SockaddrXDP{Flags: flags, Ifindex: uint32(ifindex), QueueID: uint32(queue)}
	if shared {
		sa.SharedUmemFD = uint32(first)
	}
	if err := unix.Bind(fd, &sa); err != nil {
		errno, _ := err.(unix.Errno)
		return nil, fail("bind", errno)
	}
	if shared {
		s.Fill(cache)
	}

	var got uint32
	n := uint32(unsafe.Sizeof(got))
	if errno := getsockopt(fd, unix.XDP_OPTIONS, unsafe.Pointer(&got), &n); errno != 0 {
		return nil, fail("getsockopt XDP_OPTIONS", errno)
	}
	granted.ZeroCopy = got&unix.XDP_OPTIONS_ZEROCOPY != 0
	if opts.ZeroCopy == ZeroCopyRequire && !granted.ZeroCopy {
		return nil, &BindError{Op: "bind", Interface: opts.Interface, Queue: queue, Flags: flags, Errno: unix.EOPNOTSUPP,
			Cause:  "zero-copy is required, and the memory is shared with a port in copy mode",
			Remedy: "require zero-copy on the first port too, or give this port a memory of its own"}
	}
	if !granted.ZeroCopy {
		granted.TxBudget = setTxBudget(fd, opts.TxBudget)
	}
	s.granted = granted
	mem.Bind(fd)
	s.bound = true
	return s, nil
}

// bindFlags returns the flags for bind: a shared bind takes over the mode of
// the first and accepts no others.
func bindFlags(opts Options, shared bool) uint16 {
	if shared {
		return unix.XDP_SHARED_UMEM
	}
	var flags uint16
	switch opts.ZeroCopy {
	case ZeroCopyRequire:
		flags |= unix.XDP_ZEROCOPY
	case ZeroCopyNever:
		flags |= unix.XDP_COPY
	}
	if !opts.NoNeedWakeup {
		flags |= unix.XDP_USE_NEED_WAKEUP
	}
	return flags
}

// register makes the memory the UMEM of the socket.
func register(fd int, mem *umem.Memory) unix.Errno {
	region := mem.Region()
	reg := unix.XDPUmemReg{
		// The kernel keeps the address, of memory that Go does not move: it is
		// mapped, and stays so until mem is closed.
		Addr:     uint64(uintptr(unsafe.Pointer(unsafe.SliceData(region)))),
		Len:      uint64(len(region)),
		Size:     uint32(mem.FrameSize()),
		Headroom: uint32(mem.Headroom()),
	}
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_XDP, unix.XDP_UMEM_REG,
		uintptr(unsafe.Pointer(&reg)), unsafe.Sizeof(reg), 0)
	return errno
}

// Rings are the four rings of a socket.
type Rings struct {
	Fill       RingMemory[uint64]
	Completion RingMemory[uint64]
	Rx         RingMemory[Desc]
	Tx         RingMemory[Desc]
}

// makeRings creates and maps the four rings. On failure it names the step.
func makeRings(k *linux, opts Options) (r Rings, op string, errno unix.Errno) {
	for _, ring := range []struct {
		name string
		opt  int
		size int
	}{
		{"XDP_UMEM_FILL_RING", unix.XDP_UMEM_FILL_RING, opts.FillSize},
		{"XDP_UMEM_COMPLETION_RING", unix.XDP_UMEM_COMPLETION_RING, opts.CompletionSize},
		{"XDP_RX_RING", unix.XDP_RX_RING, opts.RxSize},
		{"XDP_TX_RING", unix.XDP_TX_RING, opts.TxSize},
	} {
		if err := unix.SetsockoptInt(k.fd, unix.SOL_XDP, ring.opt, ring.size); err != nil {
			errno, _ := err.(unix.Errno)
			return r, "setsockopt " + ring.name, errno
		}
	}
	var off unix.XDPMmapOffsets
	n := uint32(unsafe.Sizeof(off))
	if errno := getsockopt(k.fd, unix.XDP_MMAP_OFFSETS, unsafe.Pointer(&off), &n); errno != 0 {
		return r, "getsockopt XDP_MMAP_OFFSETS", errno
	}
	if r.Fill, errno = mapRing[uint64](k, unix.XDP_UMEM_PGOFF_FILL_RING, off.Fr, opts.FillSize); errno != 0 {
		return r, "mmap of the fill ring", errno
	}
	if r.Completion, errno = mapRing[uint64](k, unix.XDP_UMEM_PGOFF_COMPLETION_RING, off.Cr, opts.CompletionSize); errno != 0 {
		return r, "mmap of the completion ring", errno
	}
	if r.Rx, errno = mapRing[Desc](k, unix.XDP_PGOFF_RX_RING, off.Rx, opts.RxSize); errno != 0 {
		return r, "mmap of the RX ring", errno
	}
	if r.Tx, errno = mapRing[Desc](k, unix.XDP_PGOFF_TX_RING, off.Tx, opts.TxSize); errno != 0 {
		return r, "mmap of the TX ring", errno
	}
	return r, "", 0
}

// setBusyPoll reports whether the kernel accepted all three options.
func setBusyPoll(fd int, b BusyPoll) bool {
	for _, o := range []struct{ opt, value int }{
		{unix.SO_PREFER_BUSY_POLL, 1},
		{unix.SO_BUSY_POLL, int(b.Timeout.Microseconds())},
		{unix.SO_BUSY_POLL_BUDGET, b.Budget},
	} {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, o.opt, o.value) != nil {
			return false
		}
	}
	return true
}

// kernelTxBudget is what one wakeup transmits in copy mode where it cannot be
// set (TX_BATCH_SIZE, net/xdp/xsk.c).
const kernelTxBudget = 32

// setTxBudget asks for a budget and returns the one in force.
func setTxBudget(fd, budget int) int {
	if unix.SetsockoptInt(fd, unix.SOL_XDP, unix.XDP_MAX_TX_SKB_BUDGET, budget) != nil {
		return kernelTxBudget // before Linux 6.17
	}
	return budget
}

func sockErrno(fd int, err error) (int, unix.Errno) {
	if err == nil {
		return fd, 0
	}
	errno, _ := err.(unix.Errno)
	return -1, errno
}
