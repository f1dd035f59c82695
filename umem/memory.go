package umem

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// KernelHeadroom is the space in bytes that the kernel keeps before
	// received data in every frame (XDP_PACKET_HEADROOM, linux/bpf.h).
	KernelHeadroom = 256

	// MinFrameSize is the smallest frame in bytes the kernel registers
	// (XDP_UMEM_MIN_CHUNK_SIZE, net/xdp/xdp_umem.c).
	MinFrameSize = 2048

	// DefaultFrames is the number of frames of a Memory that asks for none.
	DefaultFrames = 16384
)

// MaxFrameSize is the largest frame in bytes: the page size of the machine.
// Huge pages do not lift it (net/xdp/xdp_umem.c, xdp_umem_reg).
var MaxFrameSize = os.Getpagesize()

// Options say how to make a Memory. The zero value asks for 16,384 frames of
// 2048 bytes on the best pages to be had.
type Options struct {
	// Frames is the number of frames; 0 means DefaultFrames.
	Frames int
	// FrameSize is the size of a frame in bytes, a power of two from
	// MinFrameSize to MaxFrameSize; 0 means MinFrameSize. Received data starts
	// at KernelHeadroom + Headroom, so that a frame of 2048 bytes holds packets
	// of up to 1792.
	FrameSize int
	// Headroom is the space in bytes kept before received data, beyond
	// KernelHeadroom, for stages that push headers.
	Headroom int
	// Pages asks for one kind of page exactly; PagesAuto takes the best there is.
	Pages PageKind
	// Verify turns the ledger on. XDPIPE_VERIFY=1 in the environment does too.
	Verify bool
}

// An OptionError says which option of a Memory is out of range, and the range.
type OptionError struct {
	Option string // the field of Options
	Value  int
	Want   string // what would be accepted
}

func (e *OptionError) Error() string {
	return fmt.Sprintf("umem: %s %d is out of range: want %s", e.Option, e.Value, e.Want)
}

// Validate returns nil for options that New does not refuse by themselves, else an
// *OptionError.
func (o Options) Validate() error { return o.validate() }

// validate fills defaults in and checks every limit the kernel would, so that
// a bad value is named here and not by an EINVAL later.
func (o *Options) validate() error {
	if o.Frames == 0 {
		o.Frames = DefaultFrames
	}
	if o.FrameSize == 0 {
		o.FrameSize = MinFrameSize
	}
	if o.FrameSize < MinFrameSize || o.FrameSize > MaxFrameSize || bits.OnesCount(uint(o.FrameSize)) != 1 {
		return &OptionError{"frame_size", o.FrameSize,
			fmt.Sprintf("a power of two from %d to the page size, %d", MinFrameSize, MaxFrameSize)}
	}
	// The kernel counts chunks in 32 bits.
	if o.Frames < 1 || int64(o.Frames) > int64(^uint32(0)) {
		return &OptionError{"frames", o.Frames, "1 to 4294967295"}
	}
	// A slice's length is an int, of 32 bits on some machines.
	if most := math.MaxInt / o.FrameSize; o.Frames > most {
		return &OptionError{"frames", o.Frames, fmt.Sprintf("1 to %d of %d bytes on this machine", most, o.FrameSize)}
	}
	if o.Headroom < 0 || o.Headroom >= o.FrameSize-KernelHeadroom {
		return &OptionError{"headroom", o.Headroom,
			fmt.Sprintf("0 to %d for frames of %d bytes", o.FrameSize-KernelHeadroom-1, o.FrameSize)}
	}
	if o.Pages < PagesAuto || o.Pages > Pages4K {
		return &OptionError{"pages", int(o.Pages), "auto, 1g, 2m, thp or 4k"}
	}
	return nil
}

// Memory is a mapping cut into frames, with the pool of those that are free.
// Its methods may be called from any goroutine unless they say otherwise.
type Memory struct {
	data  []byte // the whole mapping, frames first
	size  uint64 // bytes of data that are frames
	shift uint   // log2 of the frame size
	mask  uint64 // frame size - 1
	opts  Options
	pages Pages
	fd    int

	pool   pool
	ledger *ledger // nil unless verifying

	// refs[i] counts the holders of frame i beyond the first.
	refs []atomic.Int32
	// shared is set by the first Ref; until then releasing skips refs.
	shared atomic.Bool

	mu      sync.Mutex
	sockets []int // descriptors of sockets bound to this memory, oldest first
}

// New maps memory as opts say, on a memfd, and puts every frame in the pool.
// It changes nothing outside the process. The errors are *OptionError for a
// value out of range and *PageError for pages that could not be had.
func New(opts Options) (*Memory, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	size := uint64(opts.Frames) * uint64(opts.FrameSize)
	m := &Memory{
		size:  size,
		shift: uint(bits.TrailingZeros(uint(opts.FrameSize))),
		mask:  uint64(opts.FrameSize) - 1,
		opts:  opts,
	}
	var err error
	if m.fd, m.data, m.pages, err = mapPages(size, opts.Pages); err != nil {
		return nil, err
	}
	m.refs = make([]atomic.Int32, opts.Frames)
	m.pool.init(opts.Frames, m.shift)
	if opts.Verify || os.Getenv("XDPIPE_VERIFY") == "1" {
		m.ledger = newLedger(m)
	}
	return m, nil
}

// Bytes returns the n bytes at addr. The slice's capacity ends with the frame,
// so that an append cannot reach the next one. It is valid until the frame is
// given away. Like an index, it panics when the range is outside the memory or
// crosses its frame's end.
func (m *Memory) Bytes(addr uint64, n uint32) []byte {
	return m.data[addr : addr+uint64(n) : (addr|m.mask)+1]
}

// Packet returns the n bytes at addr like Bytes, with no capacity beyond them: it
// costs less, and is for packets whose descriptor is known to lie in its frame,
// as those from a ring do.
func (m *Memory) Packet(addr uint64, n uint32) []byte {
	end := addr + uint64(n)
	return m.data[addr:end:end]
}

// Frame returns the index of the frame that addr lies in.
func (m *Memory) Frame(addr uint64) uint64 { return addr >> (m.shift & 63) }

// FrameShift returns log2 of the frame size, for loops that turn many addresses
// into frame indices: addr >> (shift & 63) is one instruction.
func (m *Memory) FrameShift() uint { return m.shift }

// Start returns the address of the first byte of the frame that addr lies in.
func (m *Memory) Start(addr uint64) uint64 { return addr &^ m.mask }

// DataStart returns the address at which the kernel would put received data
// in the frame that addr lies in. Packets built by the program start there
// too, so that they have the same room before them.
func (m *Memory) DataStart(addr uint64) uint64 {
	return addr&^m.mask + KernelHeadroom + uint64(m.opts.Headroom)
}

// Contains reports whether the n bytes at addr lie within one frame.
func (m *Memory) Contains(addr uint64, n uint32) bool {
	return addr < m.size && addr&m.mask+uint64(n) <= m.mask+1
}

// Frames returns the number of frames.
func (m *Memory) Frames() int { return m.opts.Frames }

// FrameSize returns the size of a frame in bytes.
func (m *Memory) FrameSize() int { return m.opts.FrameSize }

// Headroom returns the bytes kept before received data beyond KernelHeadroom.
func (m *Memory) Headroom() int { return m.opts.Headroom }

// MaxPacket returns the longest packet in bytes that one frame can receive.
func (m *Memory) MaxPacket() int { return m.opts.FrameSize - KernelHeadroom - m.opts.Headroom }

// Pages says what backs the memory and what was tried before.
func (m *Memory) Pages() Pages { return m.pages }

// Verifying reports whether the ledger is on.
func (m *Memory) Verifying() bool { return m.ledger != nil }

// FD returns the memfd that backs the memory, for mapping it in another
// process or registering it elsewhere. It stays the Memory's: do not close it.
func (m *Memory) FD() int { return m.fd }

// Region returns all frames as one slice, for registering with the kernel.
// It is valid until Close.
func (m *Memory) Region() []byte { return m.data[:m.size:m.size] }

// Bind notes that the socket fd is bound to this memory, and Unbind that it no
// longer is. Any bound socket can lend its UMEM to the next (XDP_SHARED_UMEM),
// so that the first may be closed before the others. For package xsk.
func (m *Memory) Bind(fd int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sockets = append(m.sockets, fd)
}

// Unbind is the opposite of Bind.
func (m *Memory) Unbind(fd int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sockets = slices.DeleteFunc(m.sockets, func(s int) bool { return s == fd })
}

// Bound returns the descriptor of the oldest socket still bound to this memory.
func (m *Memory) Bound() (fd int, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.sockets) == 0 {
		return -1, false
	}
	return m.sockets[0], true
}

// Free returns the number of frames in the pool. Frames in caches are not
// among them.
func (m *Memory) Free() int { return m.pool.len() }

// ErrLeak is wrapped by the error of a Close that finds frames missing.
var ErrLeak = errors.New("frames not returned")

// Close unmaps the memory. Sockets and caches on it must be closed before; an
// error that wraps ErrLeak counts the frames that were not returned, and with
// the ledger on names some of them. The memory is unmapped all the same.
func (m *Memory) Close() error {
	if m.data == nil {
		return nil
	}
	var err error
	if missing := m.opts.Frames - m.pool.len(); missing != 0 {
		err = fmt.Errorf("umem: close: %d of %d %w%s", missing, m.opts.Frames, ErrLeak, m.ledger.leaks())
	}
	data := m.data
	m.data = nil
	return errors.Join(err, munmap(data), unix.Close(m.fd))
}
