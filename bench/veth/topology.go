package main

import (
	"errors"

	"github.com/cilium/ebpf/link"

	"github.com/xdpipe/xdpipe/control"
	"github.com/xdpipe/xdpipe/lab"
)

// A bed is a lab with the two namespaces, which all runs share.
type bed struct {
	lab       *lab.Lab
	near, far *lab.NS
}

func newBed(l *lab.Lab) (*bed, error) {
	near, err := l.Namespace("gen")
	if err != nil {
		return nil, err
	}
	far, err := l.Namespace("fwd")
	if err != nil {
		return nil, err
	}
	return &bed{l, near, far}, nil
}

// A cable is a veth pair for one run, so that no run inherits anything from the
// one before, with the counter on its near end.
type cable struct {
	near, far *control.Link
	counter   *tally
	attached  link.Link
}

const (
	nearName = "gen0"
	farName  = "p0"
)

func (b *bed) newCable() (_ *cable, err error) {
	pair, err := b.lab.Pair(
		lab.End{NS: b.near, Name: nearName, MAC: nearMAC},
		lab.End{NS: b.far, Name: farName, MAC: farMAC},
		lab.PairOptions{Queues: 1})
	if err != nil {
		return nil, err
	}
	c := &cable{near: pair.A, far: pair.B}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if c.counter, err = newCounter(nearMAC, farMAC); err != nil {
		return nil, err
	}
	err = b.near.Do(func() error {
		c.attached, err = link.AttachXDP(link.XDPOptions{
			Program: c.counter.program, Interface: c.near.Index, Flags: link.XDPDriverMode,
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (c *cable) Close() error {
	var errs []error
	if c.attached != nil {
		errs = append(errs, c.attached.Close())
	}
	if c.counter != nil {
		errs = append(errs, c.counter.Close())
	}
	return errors.Join(append(errs, c.near.Delete())...)
}
