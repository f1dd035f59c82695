package traffic

import (
	"context"
	"fmt"
)

const ethernetHeader = 14 // bytes: two addresses and a type

// Large sends Count UDP datagrams each way at once, each of which makes an
// Ethernet frame of exactly FrameSize bytes, and compares them whole. The
// interfaces' MTU must have been raised to FrameSize less 14 before, all along
// the path. Fragments are forbidden, so that a smaller MTU is an error.
func Large(ctx context.Context, client, server Peer, o Options) (Result, error) {
	r := Result{Check: "large"}
	o, err := o.fill(defaultCount, defaultRate, defaultIdle)
	if err != nil {
		return r, fmt.Errorf("large: %w", err)
	}
	mtu, err := prepareUDP(client, server, o)
	if err != nil {
		return r, fmt.Errorf("large: %w", err)
	}
	payload := o.FrameSize - ethernetHeader - udpOverhead(o.IPv6)
	switch need := o.FrameSize - ethernetHeader; {
	case payload < sequenceSize:
		return r, fmt.Errorf("large: a frame of %d bytes has no room for a sequence number; ask for at least %d", o.FrameSize, o.FrameSize-payload+sequenceSize)
	case mtu < need:
		return r, fmt.Errorf("large: a frame of %d bytes needs an MTU of %d and the path's is %d; raise it on every interface", o.FrameSize, need, mtu)
	}
	ctx, cancel := o.bound(ctx, expected(o))
	defer cancel()
	if err := awaitUDP(ctx, client, server, o); err != nil {
		return r, fmt.Errorf("large: %w", err)
	}
	var m meter
	there, closeThere, err := newUDPFlow("large", "client", "server", client, server, fixedSize(payload), o, &m)
	if err != nil {
		return r, fmt.Errorf("large: %w", err)
	}
	defer closeThere()
	back, closeBack, err := newUDPFlow("large", "server", "client", server, client, fixedSize(payload), o, &m)
	if err != nil {
		return r, fmt.Errorf("large: %w", err)
	}
	defer closeBack()
	defer m.start(o.Progress)()
	r, err = runBoth(ctx, there, back)
	r.Check = "large"
	if err != nil {
		return r, err
	}
	r.Detail = fmt.Sprintf("%s frames of %s bytes each way, every one as sent, none lost, none twice, in order", thousands(o.Count), thousands(o.FrameSize))
	return r, nil
}
