package asavie

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/asavie/xdp"
	"golang.org/x/sys/unix"

	"github.com/xdpipe/xdpipe/bpf"
	"github.com/xdpipe/xdpipe/control"
	"github.com/xdpipe/xdpipe/lab"
	"github.com/xdpipe/xdpipe/pipeline"
	_ "github.com/xdpipe/xdpipe/pipeline/stages"
	"github.com/xdpipe/xdpipe/umem"
)

func TestMain(m *testing.M) {
	os.Setenv("XDPIPE_VERIFY", "1")
	os.Exit(m.Run())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// cable is one with a host at one end and a socket of the library at the other.
type cable struct {
	t    testing.TB
	host *lab.NS
	port *lab.NS
	pair *lab.Pair
	peer int // packet socket of the host
}

func newCable(t testing.TB, mtu int) *cable {
	l := lab.ForTest(t)
	c := &cable{t: t, host: l.MustNamespace("host"), port: l.MustNamespace("port")}
	var err error
	c.pair, err = l.Pair(lab.End{NS: c.host, Name: "host0"}, lab.End{NS: c.port, Name: "port0"}, lab.PairOptions{MTU: mtu})
	must(t, err)
	must(t, c.host.Do(func() error {
		// The protocol is that of the test's packets, in network order.
		c.peer, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(htons(testEtherType)))
		return err
	}))
	t.Cleanup(func() { unix.Close(c.peer) })
	must(t, unix.SetsockoptInt(c.peer, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1))
	must(t, unix.SetsockoptInt(c.peer, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20))
	must(t, unix.Bind(c.peer, &unix.SockaddrLinklayer{Protocol: htons(testEtherType), Ifindex: c.pair.A.Index}))
	return c
}

func htons(v uint16) uint16 { return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v)) }

// testEtherType is IEEE 802's for local experiments.
const testEtherType = 0x88b5

// packet is number n of a test, of the given length, with bytes that differ
// from those of its neighbours.
func packet(n, length int) []byte {
	p := make([]byte, length)
	copy(p, "\x02\x00\x00\x00\x00\x0b\x02\x00\x00\x00\x00\x0a\x88\xb5")
	binary.BigEndian.PutUint32(p[14:], uint32(n))
	for i := 18; i < length; i++ {
		p[i] = byte(n*7 + i)
	}
	return p
}

func swapped(p []byte) []byte {
	return append(append(append([]byte(nil), p[6:12]...), p[:6]...), p[12:]...)
}

func (c *cable) send(p []byte) {
	c.t.Helper()
	for {
		_, err := unix.Write(c.peer, p)
		if err == unix.ENOBUFS || err == unix.EINTR {
			continue
		}
		must(c.t, err)
		return
	}
}

// receive waits for the next packet to reach the host.
func (c *cable) receive() []byte {
	c.t.Helper()
	buf := make([]byte, 9000)
	fds := []unix.PollFd{{Fd: int32(c.peer), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 10_000)
		if err == unix.EINTR {
			continue
		}
		must(c.t, err)
		if n == 0 {
			c.t.Fatal("no packet came back in ten seconds")
		}
		n, err = unix.Read(c.peer, buf)
		must(c.t, err)
		return buf[:n]
	}
}

// open makes a socket of the library on the port, with a program of its own, or
// without one.
func (c *cable) open(program bool, opts *xdp.SocketOptions) *xdp.Socket {
	c.t.Helper()
	var sock *xdp.Socket
	must(c.t, c.port.Do(func() (err error) {
		sock, err = xdp.NewSocket(c.pair.B.Index, 0, opts)
		return err
	}))
	if !program {
		return sock
	}
	prog, err := xdp.NewProgram(1)
	must(c.t, err)
	must(c.t, prog.Register(0, sock.FD()))
	must(c.t, c.port.Do(func() error { return prog.Attach(c.pair.B.Index) }))
	c.t.Cleanup(func() {
		err := c.port.Do(func() error { return prog.Detach(c.pair.B.Index) })
		if err != nil && !strings.Contains(err.Error(), "not found") { // a test may remove it
			c.t.Error(err)
		}
		must(c.t, prog.Close())
	})
	return sock
}

// engine runs stages on the socket, back out of it.
type engine struct {
	*pipeline.Engine
	t      testing.TB
	mem    *umem.Memory
	q      *queue
	cancel context.CancelFunc
	done   chan error
}

func start(t testing.TB, sock *xdp.Socket, memory umem.Options, stages string) *engine {
	t.Helper()
	if memory.Frames == 0 {
		memory.Frames = 1024
	}
	memory.Pages = umem.Pages4K
	mem, err := umem.New(memory)
	must(t, err)
	specs, err := pipeline.ParseQuick("stages", stages)
	must(t, err)
	e := &engine{t: t, mem: mem, q: New(sock, Options{Interface: "port0", Mode: "native"}).(*queue), done: make(chan error, 1)}
	e.Engine, err = pipeline.New(pipeline.Options{
		Memory:    mem,
		Ports:     []pipeline.Port{{Name: "port", Queues: []pipeline.Queue{e.q}}},
		Pipelines: []pipeline.Pipeline{{Name: "p", From: "port", To: "port", Stages: specs}},
		Log:       slog.New(slog.DiscardHandler),
	})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	e.cancel = cancel
	go func() { e.done <- e.Run(ctx); close(e.done) }()
	t.Cleanup(func() { // after a failure; otherwise nothing is left to do
		cancel()
		<-e.done
		e.Close()
		mem.Close()
	})
	return e
}

// stop ends the engine, and checks that every frame of both memories is where it
// belongs.
func (e *engine) stop() {
	e.t.Helper()
	e.cancel()
	must(e.t, <-e.done)
	e.close()
}

func (e *engine) close() {
	e.t.Helper()
	sock := e.q.sock
	e.q.complete()
	if free, out := len(sock.GetDescs(1<<20)), sock.NumFilled()+sock.NumTransmitted(); free+out != e.frames() {
		e.t.Errorf("%d frames of the library are free and %d out, want %d together", free, out, e.frames())
	}
	if p := e.Snapshot().Memory.Places; p.Sum() != p.Total || p.Free != p.Total {
		e.t.Errorf("not all frames of the engine are free: %+v", p)
	}
	must(e.t, e.Close())
	must(e.t, e.mem.Close())
}

func (e *engine) frames() int { return cap(e.q.sock.GetDescs(0)) } // the library makes room for all

func TestPacketsCrossStagesOnASocketOfTheLibrary(t *testing.T) {
	for _, tc := range []struct {
		name string
		opts *xdp.SocketOptions
	}{
		{"with the library's default options", nil},
		{"with few frames and small rings", &xdp.SocketOptions{NumFrames: 16, FrameSize: 2048, FillRingNumDescs: 8, CompletionRingNumDescs: 8, RxRingNumDescs: 8, TxRingNumDescs: 8}},
		{"with rings that could hold every frame", &xdp.SocketOptions{NumFrames: 64, FrameSize: 4096, FillRingNumDescs: 64, CompletionRingNumDescs: 64, RxRingNumDescs: 64, TxRingNumDescs: 64}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newCable(t, 1500)
			e := start(t, c.open(true, tc.opts), umem.Options{}, "macswap ! count")
			// The smallest rings hold the window, so that nothing may be lost.
			const total, window = 3000, 6
			sent, bytesSent := 0, 0
			for got := range total {
				for sent < total && sent-got < window {
					p := packet(sent, 60+sent*31%1455)
					c.send(p)
					bytesSent += len(p)
					sent++
				}
				if back, want := c.receive(), swapped(packet(got, 60+got*31%1455)); !bytes.Equal(back, want) {
					t.Fatalf("packet %d came back as %d bytes %.18x, want %d bytes %.18x", got, len(back), back, len(want), want)
				}
			}
			s := e.Snapshot()
			p := s.Ports[0]
			if p.RxPackets != total || p.TxPackets != total || p.RxBytes != uint64(bytesSent) || p.TxBytes != uint64(bytesSent) {
				t.Errorf("port says %+v, want %d packets of %d bytes each way", p, total, bytesSent)
			}
			if p.CopiedPackets != 2*total {
				t.Errorf("copied_packets is %d, want %d: each packet is copied in and out", p.CopiedPackets, 2*total)
			}
			if len(p.Drops) != 0 || p.State != "up" || p.Interface != "port0" || p.ZeroCopy {
				t.Errorf("port says %+v", p)
			}
			if v := s.Stages[1].Values; v["packets"] != total {
				t.Errorf("count says %v", v)
			}
			e.stop()
		})
	}
}

func TestOurSteeringProgramServesASocketOfTheLibrary(t *testing.T) {
	c := newCable(t, 1500)
	sock := c.open(false, nil)
	steering, err := bpf.Load(bpf.Options{Queues: 1})
	must(t, err)
	defer steering.Close()
	must(t, steering.SetPolicy(bpf.Policy{All: true}))
	must(t, steering.Register(0, sock.FD()))
	att, err := control.Attach(c.pair.B, steering.Program(), control.AttachOptions{})
	must(t, err)
	e := start(t, sock, umem.Options{}, "macswap ! count")
	for i := range 100 {
		c.send(packet(i, 100))
		if back := c.receive(); !bytes.Equal(back, swapped(packet(i, 100))) {
			t.Fatalf("packet %d came back as %x", i, back)
		}
	}
	must(t, att.Detach())
	e.stop()
}

func TestAnEngineWithFewFramesLosesNoneOfEitherMemory(t *testing.T) {
	c := newCable(t, 1500)
	e := start(t, c.open(true, nil), umem.Options{Frames: 4}, "macswap")
	for i := range 2000 { // a flood: the kernel drops what finds its ring full
		c.send(packet(i, 60))
	}
	waitFor(t, func() bool {
		p := e.Snapshot().Ports[0]
		k := p.XDPStatistics
		return p.RxPackets+k.RxDropped+k.RxRingFull >= 2000
	})
	p := e.Snapshot().Ports[0]
	if p.RxPackets == 0 || p.TxPackets+p.Drops["tx_ring_full"] != p.RxPackets {
		t.Errorf("port says %+v", p)
	}
	e.stop()
}

func TestAPacketTooLongForTheEngineIsCountedAndTheOthersPass(t *testing.T) {
	c := newCable(t, 3000)
	opts := xdp.DefaultSocketOptions
	opts.FrameSize = 4096
	e := start(t, c.open(true, &opts), umem.Options{FrameSize: 2048}, "macswap")
	for i := range 20 { // every other one is longer than the 1792 bytes of our frames
		c.send(packet(i, 1000+i%2*1500))
	}
	for i := 0; i < 20; i += 2 {
		if back := c.receive(); !bytes.Equal(back, swapped(packet(i, 1000))) {
			t.Fatalf("packet %d did not come back next", i)
		}
	}
	waitFor(t, func() bool { return e.Snapshot().Ports[0].Drops["rx_dropped"] == 10 })
	e.stop()
}

func TestAPacketThatCannotLeaveIsDroppedAndTheOthersPass(t *testing.T) {
	c := newCable(t, 1500)
	q := New(c.open(false, nil), Options{Interface: "port0"}).(*queue)
	mem, err := umem.New(umem.Options{Frames: 64, FrameSize: 4096, Pages: umem.Pages4K})
	must(t, err)
	cache := mem.NewCache(0)
	b := pipeline.NewBatch(cache, 16)
	for i, length := range []int{60, 3000, 61, 0, 62, 3500, 63} {
		if p := b.Alloc(length); length > 0 {
			copy(p, packet(i, length))
		}
	}
	taken, why := q.Transmit(b)
	if taken != 4 || why != pipeline.ReasonTooLong {
		t.Errorf("took %d packets with reason %d, want 4 and %d", taken, why, pipeline.ReasonTooLong)
	}
	must(t, q.Service(cache))
	for i, n := range []int{0, 2, 4, 6} {
		if back := c.receive(); !bytes.Equal(back, packet(n, 60+i)) {
			t.Errorf("packet %d arrived as %x", n, back)
		}
	}
	for _, d := range b.Descs()[taken:] { // as the engine does
		cache.Put(d.Addr)
	}
	if k := q.Counters(); k.Kernel.TxInvalidDescs != 0 || k.Copied != 4 || k.TxPackets != 4 {
		t.Errorf("counters %+v, %+v", k, k.Kernel)
	}
	must(t, q.Close())
	cache.Close()
	must(t, mem.Close())
}

func TestALinkThatGoesDownIsAStateAndComesBack(t *testing.T) {
	c := newCable(t, 1500)
	q := New(c.open(false, nil), Options{Interface: "port0"}).(*queue)
	mem, err := umem.New(umem.Options{Frames: 256, Pages: umem.Pages4K})
	must(t, err)
	cache := mem.NewCache(0)
	must(t, q.Service(cache))
	must(t, c.pair.B.SetUp(false))
	sent := 0
	for round := 0; ; round++ { // until the ring is full of what cannot leave
		b := pipeline.NewBatch(cache, 16)
		for i := range 16 {
			copy(b.Alloc(60), packet(sent+i, 60))
		}
		taken, why := q.Transmit(b)
		must(t, q.Service(cache))
		sent += taken
		for _, d := range b.Descs()[taken:] {
			cache.Put(d.Addr)
		}
		if taken < 16 {
			if why != pipeline.ReasonLinkDown {
				t.Errorf("reason %d, want %d", why, pipeline.ReasonLinkDown)
			}
			break
		}
		if round == 100 {
			t.Fatal("a link that is down takes everything")
		}
	}
	if s := q.Info().State; !strings.Contains(s, "link down") {
		t.Errorf("state %q, want link down", s)
	}
	if _, busy := q.Poll(); busy {
		t.Error("a link that is down keeps the worker busy")
	}
	must(t, c.pair.B.SetUp(true))
	for q.Info().State != "up" {
		must(t, q.Service(cache))
	}
	for i := range sent {
		if back := c.receive(); !bytes.Equal(back, packet(i, 60)) {
			t.Fatalf("packet %d arrived as %x", i, back)
		}
		must(t, q.Service(cache))
	}
	must(t, q.Close())
	cache.Close()
	must(t, mem.Close())
}

func TestAnInterfaceThatIsRemovedEndsThePort(t *testing.T) {
	c := newCable(t, 1500)
	e := start(t, c.open(true, nil), umem.Options{}, "macswap")
	c.send(packet(1, 60))
	c.receive()
	must(t, c.pair.B.Delete())
	select {
	case err := <-e.done:
		if err == nil || !strings.Contains(err.Error(), "port0 queue 0") {
			t.Errorf("ended with %v, want the interface named", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the engine runs on an interface that is gone")
	}
	if s := e.Snapshot().Ports[0].State; !strings.Contains(s, "removed") && !strings.Contains(s, "gone") {
		t.Errorf("state %q does not say what happened", s)
	}
	e.cancel()
	e.close()
}

func TestCloseFreesTheQueueForTheNextSocket(t *testing.T) {
	c := newCable(t, 1500)
	for range 20 {
		// The kernel unbinds a little after the last reference is gone.
		var sock *xdp.Socket
		waitFor(t, func() bool {
			return c.port.Do(func() (err error) { sock, err = xdp.NewSocket(c.pair.B.Index, 0, nil); return err }) == nil
		})
		var stat unix.Stat_t
		must(t, unix.Fstat(sock.FD(), &stat))
		must(t, New(sock, Options{}).Close())
		maps, err := os.ReadFile("/proc/self/maps")
		must(t, err)
		if bytes.Contains(maps, fmt.Appendf(nil, "socket:[%d]", stat.Ino)) {
			t.Fatalf("rings of the socket are still mapped:\n%s", maps)
		}
	}
}

func TestASocketWithOneDirectionIsNotAskedForTheOther(t *testing.T) {
	c := newCable(t, 1500)
	mem, err := umem.New(umem.Options{Frames: 64, Pages: umem.Pages4K})
	must(t, err)
	cache := mem.NewCache(0)

	only := xdp.DefaultSocketOptions
	only.TxRingNumDescs = 0
	q := New(c.open(false, &only), Options{})
	b := pipeline.NewBatch(cache, 1)
	copy(b.Alloc(60), packet(0, 60))
	if n, why := q.Transmit(b); n != 0 || why != pipeline.ReasonPortGone {
		t.Errorf("a socket that only receives took %d packets with reason %d", n, why)
	}
	must(t, q.Service(cache))
	q.Counters()
	must(t, q.Close())

	only = xdp.DefaultSocketOptions
	only.RxRingNumDescs = 0
	waitFor(t, func() bool {
		var sock *xdp.Socket
		err := c.port.Do(func() (err error) { sock, err = xdp.NewSocket(c.pair.B.Index, 0, &only); return err })
		if err == nil {
			q = New(sock, Options{})
		}
		return err == nil
	})
	if n, _ := q.Transmit(b); n != 1 {
		t.Errorf("a socket that only transmits took %d packets, want 1", n)
	}
	if n := q.Receive(pipeline.NewBatch(cache, 1)); n != 0 {
		t.Errorf("a socket that only transmits received %d packets", n)
	}
	must(t, q.Service(cache))
	if back := c.receive(); !bytes.Equal(back, packet(0, 60)) {
		t.Errorf("arrived as %x", back)
	}
	q.Counters()
	must(t, q.Close())
	cache.Close()
	must(t, mem.Close())
}

func TestThePanicsOfTheLibraryAreRead(t *testing.T) {
	for _, tc := range []struct {
		cause any
		want  unix.Errno
	}{
		{errors.New("sendto failed with rc=18446744073709551615 and errno=100"), unix.ENETDOWN},
		{errors.New("sendto failed with rc=18446744073709551615 and errno=6"), unix.ENXIO},
		{errors.New("index out of range"), 0},
		{"sendto failed with rc=1 and errno=6", 0},
		{nil, 0},
	} {
		if got := errnoOf(tc.cause); got != tc.want {
			t.Errorf("%v is read as errno %d, want %d", tc.cause, got, tc.want)
		}
	}
}

func waitFor(t testing.TB, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not within ten seconds")
		}
	}
}
