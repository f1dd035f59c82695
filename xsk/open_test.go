package xsk_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xdpipe/xdpipe/bpf"
	"github.com/xdpipe/xdpipe/control"
	"github.com/xdpipe/xdpipe/lab"
	"github.com/xdpipe/xdpipe/umem"
	"github.com/xdpipe/xdpipe/xsk"
)

// wire is a veth pair: an AF_XDP port at one end, a packet socket at the other.
type wire struct {
	t     testing.TB
	port  *control.Link
	steer *bpf.Steering
	far   int // packet socket
}

// newWire makes a pair of the given number of queues, with the steering program
// in native mode on its port end.
func newWire(t testing.TB, l *lab.Lab, name string, queues int) *wire {
	t.Helper()
	near, far := l.MustNamespace("near-"+name), l.MustNamespace("far-"+name)
	pair, err := l.Pair(lab.End{NS: near, Name: name + "0"}, lab.End{NS: far, Name: name + "1", HostEnd: true}, lab.PairOptions{Queues: queues})
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{t: t, port: pair.A}
	if w.steer, err = bpf.Load(bpf.Options{Queues: queues}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.steer.Close() })
	// Only the test's own frames: hosts send others by themselves.
	if err := w.steer.SetPolicy(bpf.Policy{Rules: []bpf.Rule{{EtherType: testEtherType}}}); err != nil {
		t.Fatal(err)
	}
	att, err := control.Attach(w.port, w.steer.Program(), control.AttachOptions{Mode: control.ModeNative})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { att.Detach() })
	err = pair.B.Namespace.Do(func() (err error) {
		if w.far, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(htons(testEtherType))); err != nil {
			return err
		}
		return unix.Bind(w.far, &unix.SockaddrLinklayer{Protocol: htons(testEtherType), Ifindex: pair.B.Index})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(w.far) })
	if err := unix.SetsockoptTimeval(w.far, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		t.Fatal(err)
	}
	return w
}

const testEtherType = 0x88b5 // IEEE 802, for local experiments

func htons(v uint16) uint16 { return v<<8 | v>>8 }

func frameOf(n, size int) []byte {
	p := bytes.Repeat([]byte{byte(n)}, size)
	copy(p, net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1})
	p[12], p[13] = testEtherType>>8, testEtherType&0xff
	p[14], p[15] = byte(n>>8), byte(n)
	return p
}

func (w *wire) send(p []byte) {
	w.t.Helper()
	if _, err := unix.Write(w.far, p); err != nil {
		w.t.Fatal(err)
	}
}

func (w *wire) receive() []byte {
	w.t.Helper()
	buf := make([]byte, 9000)
	n, err := unix.Read(w.far, buf)
	if err != nil {
		w.t.Fatalf("nothing arrived at the far end: %v", err)
	}
	return buf[:n]
}

func (w *wire) open(mem *umem.Memory, queue int, o xsk.Options) (s *xsk.Socket, err error) {
	o.Interface = w.port.Name
	err = w.port.Namespace.Do(func() error {
		s, err = xsk.Open(mem, w.port.Index, queue, o)
		return err
	})
	return s, err
}

// mustOpen opens a socket and gives it to the program.
func (w *wire) mustOpen(mem *umem.Memory, queue int, o xsk.Options) *xsk.Socket {
	w.t.Helper()
	s, err := w.open(mem, queue, o)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.steer.Register(queue, s.FD()); err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *wire) close(s *xsk.Socket) {
	w.t.Helper()
	if err := errors.Join(w.steer.Unregister(s.Queue()), s.Close()); err != nil {
		w.t.Error(err)
	}
}

// take receives n packets within a few seconds.
func take(t testing.TB, s *xsk.Socket, cache *umem.Cache, n int) []xsk.Desc {
	t.Helper()
	got := make([]xsk.Desc, n)
	have := 0
	for deadline := time.Now().Add(5 * time.Second); have < n; time.Sleep(100 * time.Microsecond) {
		have += s.Receive(got[have:])
		s.Fill(cache)
		if time.Now().After(deadline) {
			st, _ := s.KernelStats()
			t.Fatalf("%d of %d packets arrived; kernel: %+v", have, n, st)
		}
	}
	return got
}

var small = xsk.Options{RxSize: 256, TxSize: 256, FillSize: 256, CompletionSize: 256, ZeroCopy: xsk.ZeroCopyNever}

func TestAFrameReceivedOnOneInterfaceLeavesByAnother(t *testing.T) {
	l := lab.ForTest(t)
	a, b := newWire(t, l, "a", 1), newWire(t, l, "b", 1)
	mem := newMemory(t, 2048)
	cache := mem.NewCache(0)
	defer cache.Close()
	sa, sb := a.mustOpen(mem, 0, small), b.mustOpen(mem, 0, small)
	if g := sa.Granted(); g.Shared || g.ZeroCopy || !g.NeedWakeup {
		t.Errorf("first socket granted %+v, want its own registration, copy mode and need_wakeup", g)
	}
	if g := sb.Granted(); !g.Shared || g.ZeroCopy {
		t.Errorf("second socket granted %+v, want a shared registration in copy mode", g)
	}
	for i := range 200 {
		want := frameOf(i, 60+i*7)
		a.send(want)
		descs := take(t, sa, cache, 1)
		if got := mem.Bytes(descs[0].Addr, descs[0].Len); !bytes.Equal(got, want) {
			t.Fatalf("packet %d received as %d bytes, want %d as sent", i, len(got), len(want))
		}
		if sb.Transmit(descs) != 1 {
			t.Fatal("not transmitted")
		}
		if err := sb.Kick(); err != nil {
			t.Fatal(err)
		}
		if got := b.receive(); !bytes.Equal(got, want) {
			t.Fatalf("packet %d left as %d bytes, want %d as it came", i, len(got), len(want))
		}
		for sb.InFlight() > 0 {
			sb.Complete(cache)
		}
	}
	// Any bound socket lends the registration: the first may go.
	a.close(sa)
	sa = a.mustOpen(mem, 0, small)
	if !sa.Granted().Shared {
		t.Error("reopened socket is not shared")
	}
	a.send(frameOf(1, 100))
	cache.Put(take(t, sa, cache, 1)[0].Addr)
	a.close(sa)
	b.close(sb)
}

func TestEachQueueHasItsOwnRings(t *testing.T) {
	l := lab.ForTest(t)
	w := newWire(t, l, "q", 3)
	mem := newMemory(t, 4096)
	cache := mem.NewCache(0)
	defer cache.Close()
	var socks []*xsk.Socket
	for q := range 3 {
		socks = append(socks, w.mustOpen(mem, q, small))
	}
	const n = 200 // fit one ring, if one CPU sends them all to one queue
	for i := range n {
		w.send(frameOf(i, 80))
	}
	total := 0
	buf := make([]xsk.Desc, 64)
	for deadline := time.Now().Add(5 * time.Second); total < n && time.Now().Before(deadline); {
		for _, s := range socks {
			k := s.Receive(buf)
			for _, d := range buf[:k] {
				cache.Put(d.Addr)
			}
			s.Fill(cache)
			total += k
		}
	}
	if total != n {
		t.Errorf("%d of %d packets arrived over three queues", total, n)
	}
	for q, s := range socks {
		addr, _ := cache.Get()
		p := frameOf(q, 90)
		copy(mem.Bytes(mem.DataStart(addr), 90), p)
		s.Transmit([]xsk.Desc{{Addr: mem.DataStart(addr), Len: 90}})
		if err := s.Kick(); err != nil {
			t.Fatal(err)
		}
		if got := w.receive(); !bytes.Equal(got, p) {
			t.Errorf("queue %d sent %x", q, got)
		}
		w.close(s)
	}
}

func TestBindErrorsSayCauseAndRemedy(t *testing.T) {
	l := lab.ForTest(t)
	w := newWire(t, l, "e", 1)
	mem := newMemory(t, 1024)
	first := w.mustOpen(mem, 0, small)
	other := newMemory(t, 1024)
	down := l.MustNamespace("down")
	pair, err := l.Pair(lab.End{NS: down, Name: "d0"}, lab.End{NS: down, Name: "d1"}, lab.PairOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		open  func() (*xsk.Socket, error)
		errno unix.Errno
		says  []string
	}{
		{"queue taken by another memory's socket", func() (*xsk.Socket, error) { return w.open(other, 0, small) },
			unix.EBUSY, []string{"e0 queue 0", "another socket is bound", "choose another queue"}},
		{"zero-copy on a driver that has none", func() (*xsk.Socket, error) {
			o := small
			o.ZeroCopy = xsk.ZeroCopyRequire
			return (&wire{t: t, port: pair.A}).open(other, 0, o)
		}, unix.EOPNOTSUPP, []string{"no zero-copy mode", "prefer or never"}},
		{"no such queue", func() (*xsk.Socket, error) { return w.open(other, 7, small) },
			unix.EINVAL, []string{"queue 7", "no such queue", "ethtool -l e0"}},
		{"a queue that this memory has", func() (*xsk.Socket, error) { return w.open(mem, 0, small) },
			unix.EINVAL, []string{"e0 queue 0", "this memory has a socket on it already", "open each queue once"}},
		{"no such interface here", func() (s *xsk.Socket, err error) {
			err = down.Do(func() error { s, err = xsk.Open(other, 4242, 0, small); return err })
			return s, err
		}, unix.ENODEV, []string{"ifindex 4242", "namespace"}},
	} {
		s, err := tc.open()
		if err == nil {
			t.Errorf("%s: opened", tc.name)
			s.Close()
			continue
		}
		var be *xsk.BindError
		if !errors.As(err, &be) || !errors.Is(err, tc.errno) {
			t.Errorf("%s: %v, want a BindError with %v", tc.name, err, tc.errno)
		}
		for _, want := range tc.says {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", tc.name, err, want)
			}
		}
		if other.Free() != other.Frames() {
			t.Errorf("%s: %d of %d frames free after the failure", tc.name, other.Free(), other.Frames())
		}
	}
	w.close(first)
}

func TestOptionsAreAskedForAndReadBack(t *testing.T) {
	l := lab.ForTest(t)
	w := newWire(t, l, "o", 1)
	mem := newMemory(t, 1024)
	o := small
	o.ZeroCopy = xsk.ZeroCopyPrefer
	o.BusyPoll = xsk.BusyPoll{Timeout: 20 * time.Microsecond, Budget: 16}
	o.NoNeedWakeup = true
	s, err := w.open(mem, 0, o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	g := s.Granted()
	if g.ZeroCopy || g.NeedWakeup || !g.BusyPoll {
		t.Errorf("granted %+v, want copy mode, no need_wakeup, busy poll", g)
	}
	if g.TxBudget != 256 && g.TxBudget != 32 {
		t.Errorf("TX budget %d, want the ring's 256, or 32 before Linux 6.17", g.TxBudget)
	}
	for opt, want := range map[int]int{unix.SO_PREFER_BUSY_POLL: 1, unix.SO_BUSY_POLL: 20} {
		if got, err := unix.GetsockoptInt(s.FD(), unix.SOL_SOCKET, opt); err != nil || got != want {
			t.Errorf("socket option %d is %d (%v), want %d", opt, got, err, want)
		}
	}
}

func TestOneKickTransmitsAWholeRing(t *testing.T) {
	l := lab.ForTest(t)
	w := newWire(t, l, "k", 1)
	mem := newMemory(t, 1024)
	cache := mem.NewCache(0)
	defer cache.Close()
	s := w.mustOpen(mem, 0, small)
	if s.Granted().TxBudget < 256 {
		t.Logf("this kernel transmits %d descriptors a wakeup; the test needs 256", s.Granted().TxBudget)
		w.close(s)
		return
	}
	for i := range 200 {
		addr, _ := cache.Get()
		copy(mem.Bytes(mem.DataStart(addr), 80), frameOf(i, 80))
		s.Transmit([]xsk.Desc{{Addr: mem.DataStart(addr), Len: 80}})
	}
	if err := s.Kick(); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); s.TxPending() != 0 || st.Kicks != 1 {
		t.Errorf("%d packets pending after %d kicks, want 0 after 1", s.TxPending(), st.Kicks)
	}
	for i := range 200 {
		if got := w.receive(); !bytes.Equal(got, frameOf(i, 80)) {
			t.Fatalf("packet %d arrived as %x", i, got)
		}
	}
	w.close(s)
}

func TestCloseSendsWhatIsInTheRing(t *testing.T) {
	l := lab.ForTest(t)
	w := newWire(t, l, "c", 1)
	mem := newMemory(t, 1024)
	cache := mem.NewCache(0)
	s := w.mustOpen(mem, 0, small)
	for i := range 50 {
		addr, _ := cache.Get()
		copy(mem.Bytes(mem.DataStart(addr), 80), frameOf(i, 80))
		s.Transmit([]xsk.Desc{{Addr: mem.DataStart(addr), Len: 80}})
	}
	cache.Close()
	w.close(s) // without a kick before
	for i := range 50 {
		if got := w.receive(); !bytes.Equal(got, frameOf(i, 80)) {
			t.Fatalf("packet %d arrived as %x", i, got)
		}
	}
	if mem.Free() != mem.Frames() {
		t.Errorf("%d of %d frames free after Close", mem.Free(), mem.Frames())
	}
}

func TestTheKernelsStatisticsAreCounted(t *testing.T) {
	l := lab.ForTest(t)
	w := newWire(t, l, "s", 1)
	mem := newMemory(t, 1024)
	cache := mem.NewCache(0)
	s := w.mustOpen(mem, 0, xsk.Options{RxSize: 8, TxSize: 8, FillSize: 64, CompletionSize: 8, ZeroCopy: xsk.ZeroCopyNever})
	for i := range 20 {
		w.send(frameOf(i, 80))
	}
	wait := func(what string, f func(xsk.KernelStats) uint64, want uint64) {
		t.Helper()
		var st xsk.KernelStats
		for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			st, _ = s.KernelStats()
			if f(st) == want {
				return
			}
		}
		t.Errorf("%s: %+v, want %d", what, st, want)
	}
	wait("RX ring of 8, 20 packets", func(st xsk.KernelStats) uint64 { return st.RxRingFull }, 12)
	addr, _ := cache.Get()
	held := s.Stats()
	if n := s.Places(); n.Rx != 8 {
		t.Errorf("places %+v, want 8 packets in the RX ring (%+v)", n, held)
	}
	if mem.Verifying() {
		t.Log("the ledger refuses the invalid descriptor before the kernel sees it")
		cache.Put(addr)
	} else {
		// Across the frame's end: the kernel takes it and never completes it.
		s.Transmit([]xsk.Desc{{Addr: mem.Start(addr) + 2000, Len: 100}})
		if err := s.Kick(); err != nil {
			t.Fatal(err)
		}
		wait("invalid TX descriptor", func(st xsk.KernelStats) uint64 { return st.TxInvalidDescs }, 1)
	}
	cache.Close()
	w.close(s) // and its frame is back all the same, with those of the RX ring
	if mem.Free() != mem.Frames() {
		t.Errorf("%d of %d frames free after Close", mem.Free(), mem.Frames())
	}
}

func TestSocketsOpenAndCloseAThousandTimes(t *testing.T) {
	l := lab.ForTest(t) // counts descriptors and goroutines
	const queues = 8    // in turn: the kernel takes a while to let go of one
	w := newWire(t, l, "m", queues)
	mem := newMemory(t, 1024)
	err := w.port.Namespace.Do(func() error {
		for i := range 1000 {
			s, err := xsk.Open(mem, w.port.Index, i%queues, small)
			if err != nil {
				return fmt.Errorf("cycle %d: %w", i, err)
			}
			if err := s.Close(); err != nil {
				return fmt.Errorf("cycle %d: %w", i, err)
			}
			if mem.Free() != mem.Frames() {
				return fmt.Errorf("cycle %d: %d of %d frames free", i, mem.Free(), mem.Frames())
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
