package main

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/xdpipe/xdpipe/control"
)

// A load is a way to send frames.
type load struct {
	name string
	rate int // frames per second; 0 is as many as the generator's core can send
}

// gap is the time from one frame to the next; 0 is none.
func (l load) gap() time.Duration {
	if l.rate == 0 {
		return 0
	}
	return time.Second / time.Duration(l.rate)
}

// batchSize is how many frames the kernel runs the program on before it looks at
// its softirqs: as many as veth's NAPI takes in one poll.
const batchSize = 64

// slice is how many frames one system call runs the program on, for about as
// long as the measurement takes, so that few of the pauses between two calls
// fall into it. After end, a call runs through what it has left.
func (l load) slice(window time.Duration) uint32 {
	// What a core does in a second: send, and receive or drop at the far end; or,
	// paced, drop almost all for being early.
	const overload, paced = 4 << 20, 12 << 20
	frames := overload * window.Seconds()
	if l.rate > 0 {
		frames = paced * window.Seconds()
	}
	// The kernel takes 32 bits; no call should hold up the end for long.
	return uint32(max(batchSize, min(frames, 24<<20)))
}

// A generator sends frames from a namespace, from start to stop.
type generator struct {
	sender *sender
	halt   atomic.Bool
	done   chan error
}

// startGenerator sends frames out of the link, which is in the generator's
// namespace, from the given CPU, for a measurement that takes about window.
func startGenerator(link *control.Link, frame []byte, l load, window time.Duration, cpu int) (*generator, error) {
	sender, err := newSender(link.Index, l.gap())
	if err != nil {
		return nil, err
	}
	g := &generator{sender: sender, done: make(chan error, 1)}
	go func() {
		// The kernel resolves the redirect's interface in the namespace of the
		// thread that makes the call.
		g.done <- link.Namespace.Do(func() error { return g.run(frame, l.slice(window), cpu) })
	}()
	return g, nil
}

func (g *generator) run(frame []byte, slice uint32, cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("pin the generator to CPU %d: %w", cpu, err)
	}
	for !g.halt.Load() {
		// Live frames (Linux 5.18): the kernel acts on the program's verdict as a
		// driver would.
		_, err := g.sender.program.Run(&ebpf.RunOptions{
			Data:      frame,
			Repeat:    slice,
			BatchSize: batchSize,
			Flags:     unix.BPF_F_TEST_XDP_LIVE_FRAMES,
		})
		if err != nil {
			return fmt.Errorf("send live frames: %w", err)
		}
	}
	return nil
}

// sent returns how many frames were sent. The program counts them itself: a
// system call that a signal interrupts is repeated, and would be counted once.
func (g *generator) sent() (uint64, error) { return g.sender.read(slotFrames) }

// stop ends sending and waits until it has. It may be called again.
func (g *generator) stop() error {
	if g.halt.Swap(true) {
		return nil
	}
	err := g.sender.end()
	return errors.Join(err, <-g.done)
}

// Close stops and lets go of the program.
func (g *generator) Close() error {
	return errors.Join(g.stop(), g.sender.Close())
}
