package traffic

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// TCP sends Bytes each way at once over one connection, from the client to a
// listener at the server, and compares each end's SHA-256 of what it sent with
// the other's of what it received. The throughput is that of both directions
// together and includes hashing at the receiving ends.
func TCP(ctx context.Context, client, server Peer, o Options) (Result, error) {
	r := Result{Check: "tcp"}
	o, err := o.fill(defaultCount, defaultRate, defaultTCPIdle)
	if err == nil {
		err = client.validate("client", o.IPv6, false)
	}
	if err == nil {
		err = server.validate("server", o.IPv6, false)
	}
	if err != nil {
		return r, fmt.Errorf("tcp: %w", err)
	}
	// At a pace of 10 MB/s, two ways.
	ctx, cancel := o.bound(ctx, time.Duration(o.Bytes/10_000)*time.Millisecond)
	defer cancel()
	if o.IPv6 {
		if err := awaitIPv6(ctx, client, server); err != nil {
			return r, fmt.Errorf("tcp: %w", err)
		}
	}
	there := &stream{pat: pattern{seed: 1}, size: o.Bytes, idle: o.Idle, path: path("client", "server", client, server, o.IPv6)}
	back := &stream{pat: pattern{seed: 2}, size: o.Bytes, idle: o.Idle, path: path("server", "client", server, client, o.IPv6)}

	// What the senders will send is hashed beforehand, which leaves the
	// processors to the path while the clock runs.
	var hashing errgroup.Group
	for _, s := range []*stream{there, back} {
		hashing.Go(func() error { return s.hash(ctx) })
	}
	if err := hashing.Wait(); err != nil {
		return r, failed(ctx, "tcp", there.path, "hashing what is to be sent", err)
	}

	c, s, err := connectTCP(ctx, client, server, o)
	if err != nil {
		return r, failed(ctx, "tcp", there.path, "connecting", err)
	}
	defer c.Close()
	defer s.Close()
	var m meter
	defer m.start(o.Progress)()

	start := time.Now()
	work, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() {
		c.SetDeadline(time.Unix(1, 0))
		s.SetDeadline(time.Unix(1, 0))
	})
	defer stop()
	work.Go(func() error { return there.send(ctx, c) })
	work.Go(func() error { return back.send(ctx, s) })
	work.Go(func() error { return there.receive(ctx, s, &m) })
	work.Go(func() error { return back.receive(ctx, c, &m) })
	err = work.Wait()
	r.Elapsed = time.Since(start)
	r.Bytes = uint64(there.received + back.received)
	fromClient, fromServer := retransmits(c), retransmits(s)
	r.Retransmits = fromClient + fromServer
	if err != nil {
		var e *Error
		if errors.As(err, &e) {
			e.Detail += fmt.Sprintf(" (segments sent again: %s by the client, %s by the server)", thousands(fromClient), thousands(fromServer))
			for _, cause := range e.Causes {
				if errors.Is(cause, ErrCorrupted) {
					r.Corrupted = 1
				}
			}
		}
		return r, err
	}
	r.Detail = fmt.Sprintf("%s bytes each way at once, %.2f Gbit/s together, SHA-256 equal at both ends (%.4x… and %.4x…), %s segments sent again",
		thousands(o.Bytes), r.BitsPerSecond()/1e9, there.sum, back.sum, thousands(r.Retransmits))
	return r, nil
}

// stream is what one end sends and the other receives: block after block of a
// pattern, the last one cut short.
type stream struct {
	path     string
	pat      pattern
	size     int64 // bytes
	idle     time.Duration
	sum      [sha256.Size]byte // of what is sent
	received int64             // written by receive alone
}

// block returns the bytes from offset on, to the end of their block or of the
// stream.
func (s *stream) block(offset int64) []byte {
	b := s.pat.cut(uint64(offset/largestCut), int(min(largestCut, s.size-offset/largestCut*largestCut)))
	return b[offset%largestCut:]
}

func (s *stream) hash(ctx context.Context) error {
	h := sha256.New()
	for offset := int64(0); offset < s.size; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b := s.block(offset)
		h.Write(b)
		offset += int64(len(b))
	}
	h.Sum(s.sum[:0])
	return nil
}

// send writes the stream and closes the connection for writing. It waits
// longer than the receiver does, who knows better what is missing.
func (s *stream) send(ctx context.Context, c *net.TCPConn) error {
	for offset := int64(0); offset < s.size; {
		if err := c.SetWriteDeadline(time.Now().Add(2 * s.idle)); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return s.stopped(ctx, context.Cause(ctx))
		}
		n, err := c.Write(s.block(offset))
		offset += int64(n)
		if err != nil {
			return failed(ctx, "tcp", s.path, fmt.Sprintf("sending byte %s of %s", thousands(offset), thousands(s.size)), err)
		}
	}
	if err := c.CloseWrite(); err != nil {
		return failed(ctx, "tcp", s.path, "closing for writing", err)
	}
	return nil
}

// receive reads to the end of the stream, compares and hashes it.
func (s *stream) receive(ctx context.Context, c *net.TCPConn, m *meter) error {
	h := sha256.New()
	buf := make([]byte, largestCut)
	for {
		if err := armRead(ctx, c, s.idle); err != nil {
			return s.stopped(ctx, err)
		}
		n, err := c.Read(buf)
		for got := buf[:n]; len(got) > 0; {
			if s.received == s.size {
				return s.fail(ErrCorrupted, "more arrived than the %s bytes sent", thousands(s.size))
			}
			want := s.block(s.received)
			want = want[:min(len(want), len(got))]
			if !bytes.Equal(want, got[:len(want)]) {
				at := s.received + int64(firstDifference(want, got[:len(want)]))
				return s.fail(ErrCorrupted, "changed on the way, from byte %s of %s on", thousands(at), thousands(s.size))
			}
			h.Write(want)
			s.received += int64(len(want))
			m.add(0, len(want))
			got = got[len(want):]
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF) && s.received < s.size:
			return s.fail(ErrLost, "the stream ended after %s of %s bytes", thousands(s.received), thousands(s.size))
		case errors.Is(err, io.EOF):
			if sum := [sha256.Size]byte(h.Sum(nil)); sum != s.sum {
				return s.fail(ErrCorrupted, "SHA-256 %x was sent and %x arrived", s.sum, sum)
			}
			return nil
		case ctx.Err() != nil:
			return s.stopped(ctx, context.Cause(ctx))
		case errors.Is(err, os.ErrDeadlineExceeded):
			return s.fail(ErrLost, "nothing arrived for %v, after %s of %s bytes", s.idle, thousands(s.received), thousands(s.size))
		default:
			return failed(ctx, "tcp", s.path, fmt.Sprintf("receiving byte %s of %s", thousands(s.received), thousands(s.size)), err)
		}
	}
}

func (s *stream) fail(cause error, format string, args ...any) *Error {
	return &Error{Check: "tcp", Path: s.path, Detail: fmt.Sprintf(format, args...), Causes: []error{cause}}
}

func (s *stream) stopped(ctx context.Context, err error) *Error {
	return failed(ctx, "tcp", s.path, fmt.Sprintf("stopped before all %s bytes were there", thousands(s.size)), err)
}

// connectTCP listens at the server, connects from the client and returns both
// ends, which the caller closes.
func connectTCP(ctx context.Context, client, server Peer, o Options) (c, s *net.TCPConn, err error) {
	network := "tcp4"
	if o.IPv6 {
		network = "tcp6"
	}
	var (
		l  net.Listener
		lc net.ListenConfig
	)
	lc.SetMultipathTCP(false) // plain TCP is what is measured
	err = server.NS.Do(func() (err error) {
		l, err = lc.Listen(ctx, network, netip.AddrPortFrom(server.addr(o.IPv6), 0).String())
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("listening: %w%s", err, remedy(err))
	}
	defer l.Close()

	d := net.Dialer{
		Timeout:   o.Idle,
		LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(client.addr(o.IPv6), 0)),
	}
	var conn net.Conn
	err = client.NS.Do(func() (err error) {
		conn, err = d.DialContext(ctx, network, l.Addr().String())
		return err
	})
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return nil, nil, fmt.Errorf("%w: no answer within %v: %w", ErrLost, o.Idle, err)
	case err != nil:
		return nil, nil, fmt.Errorf("%w%s", err, remedy(err))
	}
	c = conn.(*net.TCPConn)
	// The handshake's end may still be on its way to the listener. The clock
	// runs here too: another's connection is not waited for without end.
	l.(*net.TCPListener).SetDeadline(time.Now().Add(o.Idle))
	for {
		accepted, err := l.Accept()
		if err != nil {
			c.Close()
			return nil, nil, fmt.Errorf("accepting: %w", err)
		}
		if accepted.RemoteAddr().String() == c.LocalAddr().String() {
			return c, accepted.(*net.TCPConn), nil
		}
		accepted.Close()
	}
}

// retransmits returns how many segments an end has sent again.
func retransmits(c syscall.Conn) uint64 {
	rc, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	var n uint64
	control(rc, func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			n = uint64(info.Total_retrans)
		}
		return err
	})
	return n
}
