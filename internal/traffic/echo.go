package traffic

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	icmpHeader = 8
	ipv4Header = 20 // without options
	ipv6Header = 40 // without extension headers

	// ICMP types (RFC 792, RFC 4443).
	icmpEchoRequest   = 8
	icmpEchoReply     = 0
	icmpv6EchoRequest = 128
	icmpv6EchoReply   = 129

	// mostEchoes is the number of ICMP sequence numbers.
	mostEchoes = 1 << 16

	// echoWindow is how many requests are on their way at once: enough to
	// finish 1,000 in a fraction of a second, too few to fill any ring.
	echoWindow = 16

	// mostStalls ends a check whose path is dead, rather than waiting out
	// every packet.
	mostStalls = 3

	// duplicateGrace is how long a check whose packets have all arrived waits
	// for one to arrive again.
	duplicateGrace = 50 * time.Millisecond
)

// ICMP sends Count echo requests with payloads of 0 bytes to the largest the
// MTU holds, from the client to the server's kernel, and compares each reply's
// payload. A reply that is missing, doubled or changed fails the check.
func ICMP(ctx context.Context, client, server Peer, o Options) (Result, error) {
	return echo(ctx, "icmp", client, server, false, o)
}

// ICMPv6 is ICMP's check over IPv6.
func ICMPv6(ctx context.Context, client, server Peer, o Options) (Result, error) {
	return echo(ctx, "icmpv6", client, server, true, o)
}

func echo(ctx context.Context, check string, client, server Peer, v6 bool, o Options) (Result, error) {
	r := Result{Check: check}
	o, mtu, err := prepareEcho(check, client, server, v6, false, o)
	if err != nil {
		return r, err
	}
	ctx, cancel := o.bound(ctx, time.Duration(o.Count)*time.Millisecond)
	defer cancel()
	e, err := newEchoer(ctx, client, server, v6)
	if err != nil {
		return r, fmt.Errorf("%s: %w", check, err)
	}
	defer e.close()
	var m meter
	defer m.start(o.Progress)()

	walk := newSizeWalk(mtu - e.ipHeader() - icmpHeader)
	size := func(seq uint64) int {
		switch seq % 16 {
		case 0:
			return walk.max
		case 1:
			return 0
		}
		return walk.at(seq)
	}
	var (
		t          = newTracker(uint64(o.Count))
		pat        = pattern{seed: uint64(e.id)}
		where      = path("client", "server", client, server, v6) + " and back"
		sent       uint64
		writtenOff uint64 // sent and no longer waited for
		stalls     int
		start      = time.Now()
		last       = start
	)
	t.unordered = true
	for stalls < mostStalls {
		for sent < t.count && sent < t.received+writtenOff+echoWindow {
			if err := e.send(uint16(sent), pat.cut(sent, size(sent))); err != nil {
				return t.finish(r, sent, last.Sub(start)), failed(ctx, check, where, fmt.Sprintf("sending request %d of %d bytes", sent, size(sent)), err)
			}
			sent++
		}
		wait := o.Idle
		if t.complete() {
			wait = duplicateGrace
		}
		seq16, payload, err := e.receive(ctx, wait)
		if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
			if sent == t.count {
				break
			}
			stalls++
			writtenOff = sent - t.received
			continue
		}
		if err != nil {
			return t.finish(r, sent, last.Sub(start)), failed(ctx, check, where, fmt.Sprintf("waiting for replies, %s of %s there", thousands(t.received), thousands(sent)), err)
		}
		seq := uint64(seq16)
		if seq >= sent {
			t.corrupt("a reply to number %d, which was not sent", seq)
			continue
		}
		if !t.has(seq) {
			last = time.Now()
			m.add(1, len(payload))
		}
		t.arrive(seq, len(payload))
		if want := pat.cut(seq, size(seq)); !bytes.Equal(payload, want) {
			t.corrupt("number %d: %d bytes of payload sent, %d returned, different from byte %d on", seq, len(want), len(payload), firstDifference(want, payload))
		}
	}
	r = t.finish(r, sent, last.Sub(start))
	if causes, text := t.verdict(sent, "echoes"); causes != nil {
		if sent < t.count {
			text += fmt.Sprintf("; stopped before the other %s", thousands(t.count-sent))
		}
		return r, &Error{Check: check, Path: where, Detail: text, Causes: causes}
	}
	r.Detail = fmt.Sprintf("%s echoes of 0 to %s bytes, every payload as sent, none lost, none twice", thousands(sent), thousands(walk.max))
	return r, nil
}

// finish returns the counts so far under r's name.
func (t *tracker) finish(r Result, sent uint64, elapsed time.Duration) Result {
	counts := t.result(sent)
	counts.Check, counts.Elapsed = r.Check, elapsed
	return counts
}

// prepareEcho validates what echo and neighbour checks are given.
func prepareEcho(check string, client, server Peer, v6, mac bool, o Options) (_ Options, mtu int, err error) {
	o, err = o.fill(defaultCount, defaultRate, defaultIdle)
	if err == nil {
		err = client.validate("client", v6, false)
	}
	if err == nil {
		err = server.validate("server", v6, mac)
	}
	if err == nil && o.Count > mostEchoes {
		err = fmt.Errorf("options: count %d is above %d, the number of ICMP sequence numbers", o.Count, mostEchoes)
	}
	if err == nil {
		mtu, err = o.mtu(client, server)
	}
	if err != nil {
		return o, 0, fmt.Errorf("%s: %w", check, err)
	}
	return o, mtu, nil
}

// echoer sends ICMP echo requests of either family and receives the replies.
// One goroutine uses it.
type echoer struct {
	conn      *net.IPConn
	dst       *net.IPAddr
	v6        bool
	id        uint16 // in every request, so that replies to others are not taken for ours
	out, in   []byte
	stopAfter func() bool
}

// newEchoer waits until the addresses work and opens a raw socket in the client's namespace. The end of ctx makes
// a receive that waits return.
func newEchoer(ctx context.Context, client, server Peer, v6 bool) (*echoer, error) {
	if v6 {
		if err := awaitIPv6(ctx, client, server); err != nil {
			return nil, err
		}
	}
	network, src, dst := "ip4:icmp", client.IPv4, server.IPv4
	if v6 {
		network, src, dst = "ip6:ipv6-icmp", client.IPv6, server.IPv6
	}
	e := &echoer{
		dst: &net.IPAddr{IP: dst.AsSlice(), Zone: dst.Zone()},
		v6:  v6,
		id:  uint16(rand.Uint32()),
		out: make([]byte, icmpHeader+largestMTU),
		in:  make([]byte, icmpHeader+largestMTU),
	}
	err := client.NS.Do(func() (err error) {
		e.conn, err = net.ListenIP(network, &net.IPAddr{IP: src.AsSlice(), Zone: src.Zone()})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("opening a raw socket on the client's %s: %w%s", src, err, remedy(err))
	}
	e.stopAfter = context.AfterFunc(ctx, func() { e.conn.SetDeadline(time.Unix(1, 0)) })
	return e, nil
}

// remedy says what to do about errors that opening a socket may end with.
func remedy(err error) string {
	switch {
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return " (is the address assigned there, and past duplicate address detection?)"
	case errors.Is(err, unix.EPERM):
		return " (it needs CAP_NET_RAW)"
	}
	return ""
}

func (e *echoer) close() {
	e.stopAfter()
	e.conn.Close()
}

func (e *echoer) ipHeader() int {
	if e.v6 {
		return ipv6Header
	}
	return ipv4Header
}

// send sends one request.
func (e *echoer) send(seq uint16, payload []byte) error {
	b := append(e.out[:icmpHeader], payload...)
	clear(b[:icmpHeader])
	binary.BigEndian.PutUint16(b[4:], e.id)
	binary.BigEndian.PutUint16(b[6:], seq)
	if e.v6 {
		b[0] = icmpv6EchoRequest // the kernel fills in the checksum
	} else {
		b[0] = icmpEchoRequest
		binary.BigEndian.PutUint16(b[2:], checksum(sum16(0, b)))
	}
	_, err := e.conn.WriteTo(b, e.dst)
	return err
}

// receive returns the next reply to one of our requests. The payload is valid
// until the next call. With none within wait, or once the context given to
// newEchoer has ended, the error is os.ErrDeadlineExceeded.
func (e *echoer) receive(ctx context.Context, wait time.Duration) (seq uint16, payload []byte, err error) {
	want := byte(icmpEchoReply)
	if e.v6 {
		want = icmpv6EchoReply
	}
	if err := armRead(ctx, e.conn, wait); err != nil {
		return 0, nil, err
	}
	for {
		n, _, err := e.conn.ReadFromIP(e.in)
		if err != nil {
			return 0, nil, err
		}
		if b := e.in[:n]; n >= icmpHeader && b[0] == want && binary.BigEndian.Uint16(b[4:]) == e.id {
			return binary.BigEndian.Uint16(b[6:]), b[icmpHeader:], nil
		}
	}
}

// armRead sets a read deadline without undoing the one that the end of ctx
// sets: that comes after ctx.Err is set, so either it is seen here, or it will
// replace ours.
func armRead(ctx context.Context, c interface{ SetReadDeadline(time.Time) error }, wait time.Duration) error {
	if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
