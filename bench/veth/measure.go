package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// A plan says how each measurement is made.
type plan struct {
	frame    int           // bytes, without the frame check sequence
	warmup   time.Duration // before the window, under the same load
	window   time.Duration // over which rates are taken
	genCPU   int
	fwdCPU   int
	softirqs int // pid of the softirq thread of fwdCPU, or 0
}

// A measurement is one run of one contender under one load.
type measurement struct {
	contender string
	load      string
	round     int // from 1
	mode      string

	// Over the window.
	seconds float64
	sent    uint64
	arrived uint64  // frames that came back with their addresses swapped
	cpu     cpuTime // of the forwarder's process
	softirq time.Duration
	busy    time.Duration // of the forwarder's CPU, with whatever

	// Over the whole run, warm-up included, after everything under way had the
	// time to arrive.
	sentAll, arrivedAll uint64
	other               uint64 // frames that came back as something else

	account json.RawMessage // the contender's own, for -v
}

// pps is the frames per second that came back.
func (m measurement) pps() float64 { return float64(m.arrived) / m.seconds }

// perFrame is d for each frame that came back, in ns.
func (m measurement) perFrame(d time.Duration) float64 {
	if m.arrived == 0 {
		return 0
	}
	return float64(d) / float64(m.arrived)
}

// split divides the exact CPU time in the proportion that was sampled.
func (m measurement) split() (user, system float64) {
	sampled := m.cpu.user + m.cpu.system
	if sampled == 0 {
		return 0, m.perFrame(m.cpu.total)
	}
	all := m.perFrame(m.cpu.total)
	user = all * float64(m.cpu.user) / float64(sampled)
	return user, all - user
}

// stolen is the share of the window in percent in which the forwarder's CPU ran
// neither the forwarder nor softirqs.
func (m measurement) stolen() float64 {
	return max(0, 100*(m.busy-m.cpu.total-m.softirq).Seconds()/m.seconds)
}

// loss is the share of the frames sent in the whole run that did not come back,
// in percent.
func (m measurement) loss() float64 {
	if m.sentAll == 0 || m.arrivedAll > m.sentAll {
		return 0
	}
	return 100 * float64(m.sentAll-m.arrivedAll) / float64(m.sentAll)
}

// sample is what is read at both ends of the window.
type sample struct {
	at            time.Time
	sent, arrived uint64
	cpu           cpuTime
	softirq, busy time.Duration
}

// measure runs one contender under one load on a cable of its own.
func (b *bed) measure(ctx context.Context, p plan, c contender, l load) (m measurement, err error) {
	m = measurement{contender: c.name, load: l.name}
	defer func() {
		if err != nil {
			err = fmt.Errorf("measure %s under %s: %w", c.name, l.name, err)
		}
	}()
	cable, err := b.newCable()
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, cable.Close()) }()
	ch, err := startChild(ctx, b.far, c, p.fwdCPU)
	if err != nil {
		return m, err
	}
	defer ch.kill()
	m.mode = ch.Mode

	gen, err := startGenerator(cable.near, testFrame(p.frame), l, p.window, p.genCPU)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, gen.Close()) }()

	read := func() (s sample, err error) {
		s.at = time.Now()
		var errs [4]error
		s.sent, errs[0] = gen.sent()
		s.arrived, errs[1] = cable.counter.read(slotFrames)
		s.cpu, errs[2] = processTime(ch.pid())
		s.softirq = threadTime(p.softirqs)
		s.busy, errs[3] = busyTime(p.fwdCPU)
		return s, errors.Join(errs[:]...)
	}
	if err := gen.wait(ctx, p.warmup); err != nil {
		return m, err
	}
	before, err := read()
	if err != nil {
		return m, err
	}
	if err := gen.wait(ctx, p.window); err != nil {
		return m, err
	}
	after, err := read()
	if err != nil {
		return m, err
	}
	m.seconds = after.at.Sub(before.at).Seconds()
	m.sent, m.arrived = after.sent-before.sent, after.arrived-before.arrived
	m.cpu, m.softirq = after.cpu.sub(before.cpu), after.softirq-before.softirq
	m.busy = after.busy - before.busy

	if err := gen.stop(); err != nil {
		return m, err
	}
	if m.sentAll, err = gen.sent(); err != nil {
		return m, err
	}
	if m.arrivedAll, err = settle(cable.counter); err != nil {
		return m, err
	}
	if m.other, err = cable.counter.read(slotOther); err != nil {
		return m, err
	}
	if m.account, err = ch.stop(ctx); err != nil {
		return m, err
	}
	if m.arrivedAll > m.sentAll {
		return m, fmt.Errorf("%d frames came back of %d that were sent: some were sent twice", m.arrivedAll, m.sentAll)
	}
	return m, nil
}

// wait lets the generator send for d, unless it fails.
func (g *generator) wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case err := <-g.done:
		g.halt.Store(true)
		if err == nil {
			err = errors.New("the generator ended by itself")
		}
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// settle waits until no frame has arrived for a while and returns the count.
// What a forwarder still holds then, it would hold for ever.
func settle(t *tally) (uint64, error) {
	const quiet, limit = 10, 100 // × 10 ms
	last, still := uint64(0), 0
	for range limit {
		n, err := t.read(slotFrames)
		if err != nil {
			return 0, err
		}
		if still++; n != last {
			last, still = n, 0
		}
		if still == quiet {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return last, nil
}
