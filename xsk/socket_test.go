package xsk_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/xdpipe/xdpipe/umem"
	"github.com/xdpipe/xdpipe/xsk"
	"github.com/xdpipe/xdpipe/xsk/xsktest"
)

func newMemory(t testing.TB, frames int) *umem.Memory {
	t.Helper()
	m, err := umem.New(umem.Options{Frames: frames, Pages: umem.Pages4K})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func TestPacketsGoInAndOutInTheSameFrame(t *testing.T) {
	mem := newMemory(t, 256)
	cache := mem.NewCache(64)
	defer cache.Close()
	s, k, err := xsktest.New(mem, xsk.Options{RxSize: 16, TxSize: 16, FillSize: 32, CompletionSize: 16})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	descs := make([]xsk.Desc, 16)
	for round := range 200 { // crosses the wrap of every ring's indices
		s.Fill(cache)
		want := bytes.Repeat([]byte{byte(round)}, 60+round)
		if k.Deliver(want, want) != 2 {
			t.Fatalf("round %d: not delivered: %+v", round, s.Places())
		}
		if n := s.Receive(descs); n != 2 {
			t.Fatalf("round %d: received %d, want 2", round, n)
		}
		if n := s.Transmit(descs[:2]); n != 2 {
			t.Fatalf("round %d: transmitted %d, want 2", round, n)
		}
		if err := s.Kick(); err != nil {
			t.Fatal(err)
		}
		for _, got := range k.Transmitted() {
			if !bytes.Equal(got, want) {
				t.Fatalf("round %d: sent %x, want %x", round, got, want)
			}
		}
		if n := s.Complete(cache); n != 2 {
			t.Fatalf("round %d: completed %d, want 2", round, n)
		}
		p := s.Places()
		if sum := p.Fill + p.Rx + p.Tx + p.Completion + cache.Len() + mem.Free(); sum != 256 {
			t.Fatalf("round %d: %d frames accounted for, want 256: %+v", round, sum, p)
		}
	}
	if st := s.Stats(); st.Received != 400 || st.Transmitted != 400 || st.Completed != 400 || st.Kicks != 200 {
		t.Errorf("stats %+v, want 400 packets and 200 kicks", st)
	}
}

func TestATxRingThatIsFullTakesNoMore(t *testing.T) {
	mem := newMemory(t, 64)
	cache := mem.NewCache(64)
	defer cache.Close()
	s, k, err := xsktest.New(mem, xsk.Options{RxSize: 8, TxSize: 4, FillSize: 8, CompletionSize: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var descs []xsk.Desc
	for range 6 {
		addr, _ := cache.Get()
		descs = append(descs, xsk.Desc{Addr: mem.DataStart(addr), Len: 60})
	}
	if n := s.Transmit(descs); n != 4 {
		t.Fatalf("took %d, want the ring's 4", n)
	}
	for _, d := range descs[4:] {
		cache.Put(d.Addr)
	}
	if s.TxFree() != 0 || s.TxPending() != 4 || s.InFlight() != 4 {
		t.Errorf("free %d pending %d in flight %d, want 0, 4, 4", s.TxFree(), s.TxPending(), s.InFlight())
	}
	k.Drain(4)
	if s.TxPending() != 0 || s.InFlight() != 4 || s.Complete(cache) != 4 || s.InFlight() != 0 {
		t.Error("completion does not bring the frames back")
	}
}

func TestCloseReturnsFramesTheKernelNeverGaveBack(t *testing.T) {
	mem := newMemory(t, 64)
	cache := mem.NewCache(64)
	s, k, err := xsktest.New(mem, xsk.Options{RxSize: 8, TxSize: 8, FillSize: 16, CompletionSize: 8, DrainTimeout: 1})
	if err != nil {
		t.Fatal(err)
	}
	s.Fill(cache)
	k.Deliver(make([]byte, 60), make([]byte, 60)) // received and never taken
	addr, _ := cache.Get()
	s.Transmit([]xsk.Desc{{Addr: mem.DataStart(addr), Len: 60}}) // sent and never completed
	cache.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if !k.Closed() || mem.Free() != 64 {
		t.Errorf("%d of 64 frames free after Close", mem.Free())
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestKickAsksOnlyWhenNeededAndTellsErrorsApart(t *testing.T) {
	mem := newMemory(t, 64)
	s, k, err := xsktest.New(mem, xsk.Options{Interface: "veth9"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	k.SetNeedWakeup(false)
	if s.Kick(); k.Sends() != 0 {
		t.Error("woken though the flag was clear")
	}
	k.SetNeedWakeup(true)
	for _, tc := range []struct {
		errno unix.Errno
		fatal bool
	}{{unix.EAGAIN, false}, {unix.EBUSY, false}, {unix.ENOBUFS, false}, {unix.ENOMEM, false}, {unix.EINTR, false}, {unix.ENETDOWN, true}, {unix.ENXIO, true}, {unix.EINVAL, true}} {
		k.FailSend(tc.errno)
		err := s.Kick()
		if (err != nil) != tc.fatal {
			t.Errorf("%v: Kick = %v", tc.errno, err)
		}
		if tc.fatal && (!errors.Is(err, tc.errno) || !strings.Contains(err.Error(), "veth9 queue 0")) {
			t.Errorf("%v: %v does not name the errno and the port", tc.errno, err)
		}
		if xsk.IsLinkDown(err) != (tc.errno == unix.ENETDOWN) {
			t.Errorf("%v: IsLinkDown is wrong", tc.errno)
		}
	}
	if st := s.Stats(); st.SendAgain != 1 || st.SendBusy != 1 || st.SendNoBufs != 2 || st.SendErrors != 3 {
		t.Errorf("stats %+v do not count each errno once, and both that want memory together", st)
	}
}

func TestOptionsOutOfRangeAreNamedAndRingSizesRoundedUp(t *testing.T) {
	mem := newMemory(t, 8192)
	for _, tc := range []struct {
		opts   xsk.Options
		option string
	}{
		{xsk.Options{RxSize: -1}, "rx_size"},
		{xsk.Options{TxSize: 1 << 30}, "tx_size"},
		{xsk.Options{TxSize: 64, TxBudget: 65}, "tx_budget"},
		{xsk.Options{TxBudget: 31}, "tx_budget"},
		{xsk.Options{ZeroCopy: 7}, "zero_copy"},
		{xsk.Options{BusyPoll: xsk.BusyPoll{Budget: 70000}}, "busy_poll budget"},
	} {
		_, err := xsk.Open(mem, 1, 0, tc.opts)
		var oe *xsk.OptionError
		if !errors.As(err, &oe) || oe.Option != tc.option {
			t.Errorf("%+v: %v, want an OptionError for %s", tc.opts, err, tc.option)
		}
	}
	s, _, err := xsktest.New(mem, xsk.Options{RxSize: 511, TxSize: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if o := s.Options(); o.RxSize != 512 || o.TxSize != 4 || o.FillSize != xsk.DefaultRingSize {
		t.Errorf("sizes %+v, want 512, 4 and the default", o)
	}
}

// loop is one round of receive, transmit, complete and fill.
func BenchmarkSocketLoop64(b *testing.B) {
	mem := newMemory(b, 16384)
	cache := mem.NewCache(0)
	defer cache.Close()
	s, k, err := xsktest.New(mem, xsk.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	descs := make([]xsk.Desc, 64)
	s.Fill(cache)
	b.ReportAllocs()
	for b.Loop() {
		k.Refill(64, 64)
		n := s.Receive(descs)
		s.Transmit(descs[:n])
		k.Drain(64)
		s.Complete(cache)
		s.Fill(cache)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/packet")
}

// silent is a kernel that does nothing.
type silent struct{}

func (silent) Send() unix.Errno                         { return 0 }
func (silent) Recv() unix.Errno                         { return 0 }
func (silent) Statistics() (s xsk.KernelStats, _ error) { return s, nil }
func (silent) FD() int                                  { return -1 }
func (silent) Close() error                             { return nil }

func TestTheLedgerNamesWhatAKernelHandsBackWrongly(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(r xsk.Rings, s *xsk.Socket, cache *umem.Cache)
		what string
	}{
		{"a completion outside the memory", func(r xsk.Rings, s *xsk.Socket, cache *umem.Cache) {
			p := xsk.NewProducer(r.Completion)
			p.Submit(1)
			r.Completion.Slots[0] = 1 << 40
			s.Complete(cache)
		}, "outside the memory"},
		{"a completion never submitted", func(r xsk.Rings, s *xsk.Socket, cache *umem.Cache) {
			p := xsk.NewProducer(r.Completion)
			p.Submit(1)
			s.Complete(cache)
		}, "not being transmitted"},
		{"a packet outside the memory", func(r xsk.Rings, s *xsk.Socket, cache *umem.Cache) {
			p := xsk.NewProducer(r.Rx)
			p.Submit(1)
			r.Rx.Slots[0] = xsk.Desc{Addr: 1 << 40, Len: 60}
			s.Receive(make([]xsk.Desc, 1))
		}, "outside the memory"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			mem, err := umem.New(umem.Options{Frames: 16, Pages: umem.Pages4K, Verify: true})
			if err != nil {
				t.Fatal(err)
			}
			defer mem.Close()
			r := xsk.Rings{
				Fill: xsk.NewRingMemory[uint64](4, 0), Completion: xsk.NewRingMemory[uint64](4, 0),
				Rx: xsk.NewRingMemory[xsk.Desc](4, 0), Tx: xsk.NewRingMemory[xsk.Desc](4, 0),
			}
			s, err := xsk.New(mem, r, silent{}, xsk.Options{RxSize: 4, TxSize: 4, FillSize: 4, CompletionSize: 4})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if v, ok := recover().(*umem.Violation); !ok || !strings.Contains(v.Error(), tc.what) {
					t.Errorf("got %v, want a Violation that says %q", v, tc.what)
				}
			}()
			tc.do(r, s, mem.NewCache(0))
		})
	}
}
