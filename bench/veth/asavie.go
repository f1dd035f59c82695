package main

import (
	"fmt"
	"os"

	"github.com/asavie/xdp"

	"github.com/xdpipe/xdpipe/control"
)

// asavieDefault is the package with the options it has when none are given.
func asavieDefault(iface string, ready func(attachment)) (any, error) {
	return runAsavie(iface, nil, ready)
}

// asavieLarge has rings as large as xdpipe's default, and the frames for them in
// the proportion of the package's default, two to a place in a ring.
func asavieLarge(iface string, ready func(attachment)) (any, error) {
	return runAsavie(iface, &xdp.SocketOptions{
		NumFrames:              4096,
		FrameSize:              2048,
		FillRingNumDescs:       2048,
		CompletionRingNumDescs: 2048,
		RxRingNumDescs:         2048,
		TxRingNumDescs:         2048,
	}, ready)
}

// runAsavie forwards with github.com/asavie/xdp the way its documentation does
// on one interface: fill, poll, receive, change the frames in place, transmit.
// The l2fwd example has two sockets with a memory each and so copies every
// frame between them; with one interface there is nothing to copy, which is in
// asavie's favour.
func runAsavie(iface string, options *xdp.SocketOptions, ready func(attachment)) (any, error) {
	done := stopped()
	l, err := control.LinkByName(nil, iface)
	if err != nil {
		return nil, err
	}
	program, err := xdp.NewProgram(1)
	if err != nil {
		return nil, err
	}
	if err := program.Attach(l.Index); err != nil {
		return nil, err
	}
	sock, err := xdp.NewSocket(l.Index, 0, options)
	if err != nil {
		return nil, err
	}
	if err := program.Register(0, sock.FD()); err != nil {
		return nil, err
	}
	mode, err := grantedMode(l)
	if err != nil {
		return nil, err
	}
	ready(attachment{Mode: mode})

	// Poll may wait for ever, so that the process ends here and not in the loop.
	go func() {
		<-done
		stats, err := sock.Stats()
		if err == nil {
			err = printFinal(stats)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}()
	for {
		sock.Fill(sock.GetDescs(sock.NumFreeFillSlots()))
		received, _, err := sock.Poll(-1)
		if err != nil {
			return nil, err
		}
		descs := sock.Receive(received)
		for i := range descs {
			swapMACs(sock.GetFrame(descs[i]))
		}
		sock.Transmit(descs)
	}
}

// swapMACs is the same work as xdpipe's macswap.
func swapMACs(frame []byte) {
	if len(frame) < 14 {
		return
	}
	dst := [6]byte(frame[0:6])
	copy(frame[0:6], frame[6:12])
	copy(frame[6:12], dst[:])
}

// grantedMode reads the mode of the program on the interface.
func grantedMode(l *control.Link) (string, error) {
	programs, err := control.Attached(l)
	if err != nil {
		return "", err
	}
	for _, p := range programs {
		if p.Mode == control.ModeNative {
			return string(p.Mode), nil
		}
	}
	return "", errNotNative
}
