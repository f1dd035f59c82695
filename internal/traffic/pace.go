package traffic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// mostBurst bounds the packets that leave at once, so that rings of about
	// a thousand entries hold them.
	mostBurst = 32

	// mostArrears bounds the bursts that a sender who was held up sends back to
	// back. What was missed beyond is not made up for.
	mostArrears = 2
)

// pace spreads packets over time in bursts. It is a kernel timer on the
// runtime's poller: the runtime's own timers round up to a millisecond when
// idle, more than a burst's time, and a sleeping system call would keep a
// processor from the goroutines that receive.
type pace struct {
	burst int      // packets at a time
	timer *os.File // a timerfd that expires once per burst
	due   uint64   // bursts that may leave without waiting
}

// newPace starts the clock for a rate in packets per second. The caller closes
// it.
func newPace(rate int) (*pace, error) {
	p := &pace{burst: min(max(rate/1000, 1), mostBurst), due: 1}
	interval := max(time.Second*time.Duration(p.burst)/time.Duration(rate), 1)
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("creating a timer: %w", err)
	}
	p.timer = os.NewFile(uintptr(fd), "timer")
	every := unix.NsecToTimespec(int64(interval))
	if err := unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Interval: every, Value: every}, nil); err != nil {
		p.timer.Close()
		return nil, fmt.Errorf("starting a timer of %v: %w", interval, err)
	}
	return p, nil
}

func (p *pace) Close() error { return p.timer.Close() }

// wait blocks until the next burst is due, or returns the context's cause. A wait
// under way when the context ends has to be ended by stop.
func (p *pace) wait(ctx context.Context) error {
	for p.due == 0 {
		var expirations [8]byte
		if _, err := p.timer.Read(expirations[:]); err != nil {
			if ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded) {
				return context.Cause(ctx)
			}
			return fmt.Errorf("waiting for a timer: %w", err)
		}
		p.due = min(binary.NativeEndian.Uint64(expirations[:]), mostArrears)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	p.due--
	return nil
}

// stop ends a wait. Any goroutine may call it.
func (p *pace) stop() { p.timer.SetReadDeadline(time.Unix(1, 0)) }
