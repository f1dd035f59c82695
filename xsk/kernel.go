package xsk

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Kernel is the other side of a socket's rings: the Linux kernel for a socket
// from Open, or a simulation (see package xsktest) for one from New. Errno 0 is
// success.
type Kernel interface {
	// Send wakes the transmit side: sendto with MSG_DONTWAIT.
	Send() unix.Errno
	// Recv wakes the receive side: recvfrom with MSG_DONTWAIT.
	Recv() unix.Errno
	// Statistics returns the kernel's counters.
	Statistics() (KernelStats, error)
	// FD returns the descriptor to poll, or -1 if there is none.
	FD() int
	// Close ends the kernel's side; it touches no ring or frame afterwards.
	Close() error
}

// linux is a socket of this machine's kernel and the mappings of its rings.
type linux struct {
	fd   int
	maps [][]byte
}

// Send and Recv are raw system calls: they never block (MSG_DONTWAIT), and
// telling Go's scheduler about each would cost more than some of them take.
func (k *linux) Send() unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(k.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
	return errno
}

func (k *linux) Recv() unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(k.fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
	return errno
}

func (k *linux) FD() int { return k.fd }

func (k *linux) Statistics() (KernelStats, error) {
	var s unix.XDPStatistics
	n := uint32(unsafe.Sizeof(s))
	// The kernel writes no more than n bytes into s, which outlives the call.
	if errno := getsockopt(k.fd, unix.XDP_STATISTICS, unsafe.Pointer(&s), &n); errno != 0 {
		return KernelStats{}, errno
	}
	return KernelStats{
		RxDropped: s.Rx_dropped, RxInvalidDescs: s.Rx_invalid_descs, TxInvalidDescs: s.Tx_invalid_descs,
		RxRingFull: s.Rx_ring_full, RxFillRingEmpty: s.Rx_fill_ring_empty_descs, TxRingEmpty: s.Tx_ring_empty_descs,
	}, nil
}

func (k *linux) Close() error {
	err := unix.Close(k.fd)
	for _, m := range k.maps {
		if e := unix.Munmap(m); err == nil {
			err = e
		}
	}
	k.maps = nil
	return err
}

// mapRing maps one ring of the socket at the kernel's fixed offset for it.
func mapRing[T any](k *linux, pgoff int64, off unix.XDPRingOffset, size int) (RingMemory[T], unix.Errno) {
	var slot T
	data, err := unix.Mmap(k.fd, pgoff, int(off.Desc)+size*int(unsafe.Sizeof(slot)),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		errno, _ := err.(unix.Errno)
		return RingMemory[T]{}, errno
	}
	k.maps = append(k.maps, data)
	// The offsets come from XDP_MMAP_OFFSETS and lie inside the mapping, aligned
	// for their types; the mapping lives until Close, after which the socket's
	// methods must not be called.
	word := func(o uint64) *uint32 { return (*uint32)(unsafe.Pointer(&data[o])) }
	return RingMemory[T]{
		Producer: word(off.Producer),
		Consumer: word(off.Consumer),
		Flags:    word(off.Flags),
		Slots:    unsafe.Slice((*T)(unsafe.Pointer(&data[off.Desc])), size),
	}, 0
}

// getsockopt reads an option of SOL_XDP into the n bytes at p.
func getsockopt(fd, opt int, p unsafe.Pointer, n *uint32) unix.Errno {
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(opt),
		uintptr(p), uintptr(unsafe.Pointer(n)), 0)
	return errno
}
