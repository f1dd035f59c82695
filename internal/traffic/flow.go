package traffic

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// flow is one direction of numbered packets, sent at a pace and accounted for
// where they arrive.
type flow struct {
	check, path string
	units       string // what the packets are called in messages
	count       uint64
	rate        int // packets per second
	idle        time.Duration
	meter       *meter
	out         sender
	in          receiver

	// judge tells t what arrived in b, which is valid until it returns. What
	// is not of this flow it passes over.
	judge func(t *tracker, b []byte)

	// explain says what the receiving end knows of a number of losses.
	explain func(lost uint64) string

	// prime, if set, makes sure that the kernels have each other's hardware
	// addresses. Until they do, they queue a few packets and drop the others,
	// which would not be the path's fault.
	prime func(ctx context.Context, t *tracker) error
}

// sender sends packets by number. SetWriteDeadline may be called by another
// goroutine and ends a write that waits.
type sender interface {
	// write sends up to n packets, the first numbered seq, and returns how
	// many left.
	write(seq uint64, n int) (int, error)
	SetWriteDeadline(time.Time) error
}

// receiver waits for packets. SetReadDeadline may be called by another
// goroutine and ends a read that waits with os.ErrDeadlineExceeded.
type receiver interface {
	// read waits for at least one packet and hands each that is there to
	// accept.
	read(accept func(b []byte)) error
	SetReadDeadline(time.Time) error
}

// run sends, receives and judges. The result has no Check and no Detail.
func (f *flow) run(parent context.Context) (Result, error) {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	clock, err := newPace(f.rate)
	if err != nil {
		return Result{}, fmt.Errorf("%s: %w", f.check, err)
	}
	defer clock.Close()
	stop := context.AfterFunc(ctx, func() {
		f.out.SetWriteDeadline(time.Unix(1, 0))
		f.in.SetReadDeadline(time.Unix(1, 0))
		clock.stop()
	})
	defer stop()

	t := newTracker(f.count)
	if f.prime != nil {
		if err := f.prime(ctx, t); err != nil {
			return Result{Sent: 1, Lost: 1}, failed(ctx, f.check, f.path, "sending one packet ahead", err)
		}
	}
	var (
		sent     uint64 // read once done is closed
		done     = make(chan struct{})
		start    = time.Now()
		last     time.Time
		received error
	)
	go func() {
		defer close(done)
		var err error
		if sent, err = f.send(ctx, clock); err != nil {
			cancel(fmt.Errorf("sending number %d of %s: %w", sent, thousands(f.count), err))
		}
	}()
	last, received = f.receive(ctx, t, done)
	if received != nil {
		cancel(received) // the first cause stays, should it be the sender's
	}
	<-done

	r := t.result(sent)
	if r.Elapsed = last.Sub(start); last.IsZero() {
		r.Elapsed = 0
	}
	if received != nil {
		doing := fmt.Sprintf("stopped with %s of %s %s there, %s sent", thousands(t.received), thousands(f.count), f.units, thousands(sent))
		return r, failed(ctx, f.check, f.path, doing, received)
	}
	causes, text := t.verdict(sent, f.units)
	if causes == nil {
		return r, nil
	}
	if r.Lost > 0 {
		text += "; " + f.explain(r.Lost)
	}
	return r, &Error{Check: f.check, Path: f.path, Detail: text, Causes: causes}
}

// send sends all packets and returns how many left.
func (f *flow) send(ctx context.Context, clock *pace) (sent uint64, err error) {
	for sent < f.count {
		if err := clock.wait(ctx); err != nil {
			return sent, err
		}
		for left := min(uint64(clock.burst), f.count-sent); left > 0; {
			n, err := f.out.write(sent, int(left))
			if err != nil {
				return sent, err
			}
			sent += uint64(n)
			left -= uint64(n)
		}
	}
	return sent, nil
}

// receive collects packets until all have arrived and none arrives again, or,
// the sender being done, none has arrived for the idle time.
func (f *flow) receive(ctx context.Context, t *tracker, done <-chan struct{}) (last time.Time, err error) {
	for {
		finished := false
		select {
		case <-done:
			finished = true
		default:
		}
		wait := f.idle
		if t.complete() {
			wait = min(wait, duplicateGrace)
		}
		if err := armRead(ctx, f.in, wait); err != nil {
			return last, err
		}
		packets, size := t.received, t.bytes
		err := f.in.read(func(b []byte) { f.judge(t, b) })
		switch {
		case err == nil:
			if t.received > packets {
				last = time.Now()
				f.meter.add(int(t.received-packets), int(t.bytes-size))
			}
		case ctx.Err() != nil:
			return last, context.Cause(ctx)
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return last, err
		case finished || t.complete():
			return last, nil
		}
	}
}

// runBoth runs two directions at once and merges their counts and errors.
func runBoth(ctx context.Context, a, b *flow) (Result, error) {
	type outcome struct {
		r   Result
		err error
	}
	other := make(chan outcome, 1)
	go func() {
		r, err := b.run(ctx)
		other <- outcome{r, err}
	}()
	r, err := a.run(ctx)
	o := <-other
	r.add(o.r)
	switch {
	case err == nil:
		err = o.err
	case o.err != nil:
		err = fmt.Errorf("%w; %w", err, o.err)
	}
	return r, err
}
