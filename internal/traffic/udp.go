package traffic

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"time"
)

const (
	udpHeader = 8

	// sequenceSize is the sequence number at the front of datagrams that have
	// room for it.
	sequenceSize = 8

	// aheadNumber is that of the datagram sent ahead of the others.
	aheadNumber = math.MaxUint64
)

// UDP sends Count datagrams of every size from 0 to the largest that fits the
// MTU, from the client to the server, at Rate per second. Each must arrive
// once, in order and as it was sent.
func UDP(ctx context.Context, client, server Peer, o Options) (Result, error) {
	r := Result{Check: "udp"}
	o, err := o.fill(defaultUDPCount, defaultUDPRate, defaultIdle)
	if err != nil {
		return r, fmt.Errorf("udp: %w", err)
	}
	mtu, err := prepareUDP(client, server, o)
	if err != nil {
		return r, fmt.Errorf("udp: %w", err)
	}
	ctx, cancel := o.bound(ctx, expected(o))
	defer cancel()
	if err := awaitUDP(ctx, client, server, o); err != nil {
		return r, fmt.Errorf("udp: %w", err)
	}
	plan := newVariedSizes(mtu - udpOverhead(o.IPv6))
	var m meter
	f, closer, err := newUDPFlow("udp", "client", "server", client, server, plan, o, &m)
	if err != nil {
		return r, fmt.Errorf("udp: %w", err)
	}
	defer closer()
	defer m.start(o.Progress)()
	r, err = f.run(ctx)
	r.Check = "udp"
	if err != nil {
		return r, err
	}
	r.Detail = fmt.Sprintf("%s datagrams of 0 to %s bytes at %s/s, every one as sent, none lost, none twice, in order",
		thousands(r.Received), thousands(plan.walk.max), thousands(uint64(r.PacketsPerSecond())))
	return r, nil
}

// prepareUDP validates the peers and returns the path's MTU.
func prepareUDP(client, server Peer, o Options) (mtu int, err error) {
	if err := client.validate("client", o.IPv6, false); err != nil {
		return 0, err
	}
	if err := server.validate("server", o.IPv6, false); err != nil {
		return 0, err
	}
	return o.mtu(client, server)
}

// awaitUDP waits until the peers' addresses work.
func awaitUDP(ctx context.Context, client, server Peer, o Options) error {
	if !o.IPv6 {
		return nil
	}
	return awaitIPv6(ctx, client, server)
}

// expected is how long sending Count packets takes at Rate.
func expected(o Options) time.Duration {
	return time.Duration(o.Count) * time.Second / time.Duration(o.Rate)
}

// udpOverhead is what IP and UDP add to a datagram's payload, in bytes.
func udpOverhead(v6 bool) int {
	if v6 {
		return ipv6Header + udpHeader
	}
	return ipv4Header + udpHeader
}

// udpJudge recognises and compares datagrams.
type udpJudge struct {
	plan sizePlan
	pat  pattern
}

func (j udpJudge) judge(t *tracker, b []byte) {
	var seq uint64
	if len(b) < sequenceSize {
		var ok bool
		if seq, ok = j.plan.short(len(b), t.next, t.count); !ok {
			t.corrupt("a datagram of %d bytes, a size never sent", len(b))
			return
		}
	} else {
		seq = binary.BigEndian.Uint64(b)
		if seq == aheadNumber && len(b) == sequenceSize {
			t.again(seq) // the first was taken by sendAhead
			return
		}
		if seq >= t.count {
			t.corrupt("a datagram of %d bytes with number %d, which was never sent", len(b), seq)
			return
		}
		if want := j.plan.size(seq); len(b) != want {
			t.corrupt("number %d has %d bytes instead of %d", seq, len(b), want)
			return
		}
		b = b[sequenceSize:]
	}
	t.arrive(seq, j.plan.size(seq))
	if want := j.pat.cut(seq, len(b)); !bytes.Equal(b, want) {
		t.corrupt("number %d of %d bytes differs at byte %d", seq, j.plan.size(seq), j.plan.size(seq)-len(b)+firstDifference(b, want))
	}
}

// newUDPFlow opens a socket at each end and makes a flow of them. The function
// it returns closes both.
func newUDPFlow(check, from, to string, src, dst Peer, plan sizePlan, o Options, m *meter) (*flow, func(), error) {
	in, err := listenUDP(dst, o.IPv6, plan.largest())
	if err != nil {
		return nil, nil, fmt.Errorf("opening the %s's socket: %w%s", to, err, remedy(err))
	}
	pat := pattern{seed: uint64(in.port)}
	out, err := dialUDP(src, dst, in.port, o.IPv6, plan, pat)
	if err != nil {
		in.Close()
		return nil, nil, fmt.Errorf("opening the %s's socket: %w%s", from, err, remedy(err))
	}
	f := &flow{
		check: check, path: path(from, to, src, dst, o.IPv6), units: "datagrams",
		count: uint64(o.Count), rate: o.Rate, idle: o.Idle, meter: m,
		out: out, in: in, judge: udpJudge{plan, pat}.judge, explain: in.explain,
		prime: func(ctx context.Context, t *tracker) error { return sendAhead(ctx, t, out, in, o.Idle) },
	}
	return f, func() { in.Close(); out.Close() }, nil
}

// sendAhead sends one datagram, which goes by the number aheadNumber, and waits
// for it. Only its copies are counted in t.
func sendAhead(ctx context.Context, t *tracker, out *udpSender, in *udpReceiver, idle time.Duration) error {
	number := binary.BigEndian.AppendUint64(nil, aheadNumber)
	if _, err := out.Write(number); err != nil {
		return err
	}
	if err := armRead(ctx, in, idle); err != nil {
		return err
	}
	for arrived := 0; arrived == 0; {
		err := in.read(func(b []byte) {
			if !bytes.Equal(b, number) {
				return
			}
			if arrived++; arrived > 1 {
				t.again(aheadNumber)
			}
		})
		if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
			return fmt.Errorf("%w: it did not arrive within %v; %s", ErrLost, idle, in.explain(1))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
