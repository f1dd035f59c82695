package pipeline_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xdpipe/xdpipe/bpf"
	"github.com/xdpipe/xdpipe/control"
	"github.com/xdpipe/xdpipe/lab"
	"github.com/xdpipe/xdpipe/pipeline"
	"github.com/xdpipe/xdpipe/umem"
	"github.com/xdpipe/xdpipe/xsk"
	"github.com/xdpipe/xdpipe/xsk/xsktest"
)

// slowKernel transmits 32 packets at each wakeup, as Linux does before 6.17.
type slowKernel struct {
	tx         xsk.Consumer[xsk.Desc]
	completion xsk.Producer[uint64]
	sends      int
}

func (k *slowKernel) Send() unix.Errno {
	k.sends++
	n := k.tx.Available(32)
	for range n {
		d, _ := k.tx.Slots(1)
		c, _ := k.completion.Slots(1)
		c[0] = d[0].Addr
		k.tx.Release(1)
		k.completion.Submit(1)
	}
	if k.tx.Available(1) > 0 {
		return unix.EAGAIN
	}
	return 0
}

func (*slowKernel) Recv() unix.Errno                         { return 0 }
func (*slowKernel) Statistics() (s xsk.KernelStats, _ error) { return s, nil }
func (*slowKernel) FD() int                                  { return -1 }
func (*slowKernel) Close() error                             { return nil }

// newRings returns rings of the size, and a completion ring of another.
func newRings(size, completion int) xsk.Rings {
	r := xsk.Rings{
		Fill: xsk.NewRingMemory[uint64](size, 0), Completion: xsk.NewRingMemory[uint64](completion, 0),
		Rx: xsk.NewRingMemory[xsk.Desc](size, 0), Tx: xsk.NewRingMemory[xsk.Desc](size, 0),
	}
	*r.Tx.Flags = unix.XDP_RING_NEED_WAKEUP
	return r
}

// newMemory returns a memory with the ledger on, and a cache of it.
func newMemory(t testing.TB, frames int) (*umem.Memory, *umem.Cache) {
	t.Helper()
	mem, err := umem.New(umem.Options{Frames: frames, Pages: umem.Pages4K, Verify: true})
	if err != nil {
		t.Fatal(err)
	}
	cache := mem.NewCache(0)
	t.Cleanup(func() {
		cache.Close()
		if err := mem.Close(); err != nil {
			t.Error(err)
		}
	})
	return mem, cache
}

// fullBatch returns a batch of n packets.
func fullBatch(t testing.TB, cache *umem.Cache, n int) *pipeline.Batch {
	t.Helper()
	b := pipeline.NewBatch(cache, pipeline.MaxBatch)
	for range n {
		if b.Alloc(60) == nil {
			t.Fatal("no frame for a packet")
		}
	}
	return b
}

func TestAKernelThatTakesAFewPacketsAtATimeGetsThemAll(t *testing.T) {
	mem, cache := newMemory(t, 1024)
	const size = 64
	r := newRings(size, 4*size)
	k := &slowKernel{tx: xsk.NewConsumer(r.Tx), completion: xsk.NewProducer(r.Completion)}
	s, err := xsk.New(mem, r, k, xsk.Options{RxSize: size, TxSize: size, FillSize: size, CompletionSize: 4 * size})
	if err != nil {
		t.Fatal(err)
	}
	q := pipeline.NewXSK(s, "sim", "native")
	if n, why := q.Transmit(fullBatch(t, cache, pipeline.MaxBatch)); n != pipeline.MaxBatch {
		t.Errorf("took %d of %d packets with reason %d, though the kernel takes them", n, pipeline.MaxBatch, why)
	}
	if err := q.Service(cache); err != nil {
		t.Fatal(err)
	}
	if err := q.Service(cache); err != nil { // a round without packets
		t.Fatal(err)
	}
	if n := s.TxPending(); n != 0 {
		t.Errorf("%d packets wait for a worker that may sleep now", n)
	}
	if _, busy := q.Poll(); busy {
		t.Error("busy with nothing to do")
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
}

func TestAKernelThatTakesNothingIsNotAskedForEver(t *testing.T) {
	mem, cache := newMemory(t, 256)
	s, k, err := xsktest.New(mem, xsk.Options{RxSize: 16, TxSize: 16, FillSize: 16, CompletionSize: 16, DrainTimeout: 1})
	if err != nil {
		t.Fatal(err)
	}
	q := pipeline.NewXSK(s, "sim", "native")
	b := fullBatch(t, cache, 20)
	n, why := q.Transmit(b)
	if n != 16 || why != pipeline.ReasonTxFull {
		t.Errorf("took %d packets with reason %d, want 16 and %d", n, why, pipeline.ReasonTxFull)
	}
	for _, d := range b.Descs()[n:] {
		cache.Put(d.Addr)
	}
	for range 3 {
		if err := q.Service(cache); err != nil {
			t.Fatal(err)
		}
	}
	if k.Sends() != 6 {
		t.Errorf("woken %d times, want 3 for the packets that did not fit and 1 a round", k.Sends())
	}
	if _, busy := q.Poll(); !busy {
		t.Error("not busy though packets wait")
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
}

func TestABatchMakesNoPacketTheKernelWouldRefuse(t *testing.T) {
	mem, cache := newMemory(t, 64)
	b := pipeline.NewBatch(cache, 16)
	for _, n := range []int{-1, 0, mem.MaxPacket() + 1} {
		if p := b.Alloc(n); p != nil || b.Len() != 0 {
			t.Errorf("a packet of %d bytes was made", n)
		}
	}
	for _, n := range []int{1, 60, mem.MaxPacket()} {
		if p := b.Alloc(n); len(p) != n {
			t.Errorf("a packet of %d bytes has %d", n, len(p))
		}
	}
	for _, d := range b.Descs() {
		if d.Len == 0 || !mem.Contains(d.Addr, d.Len) {
			t.Errorf("descriptor %+v is empty or crosses its frame's end", d)
		}
		cache.Put(d.Addr)
	}
}

func TestAQueueWithNothingToReceiveIntoIsBusy(t *testing.T) {
	mem, cache := newMemory(t, 8)
	const size = 8
	r := newRings(size, size)
	k := &slowKernel{tx: xsk.NewConsumer(r.Tx), completion: xsk.NewProducer(r.Completion)}
	s, err := xsk.New(mem, r, k, xsk.Options{RxSize: size, TxSize: size, FillSize: size, CompletionSize: size})
	if err != nil {
		t.Fatal(err)
	}
	q := pipeline.NewXSK(s, "sim", "native")
	b := fullBatch(t, cache, size)
	if n, _ := q.Transmit(b); n != size {
		t.Fatalf("took %d packets", n)
	}
	k.tx.Available(size)
	k.tx.Release(size) // the kernel has them, and completes them later
	if err := q.Service(cache); err != nil {
		t.Fatal(err)
	}
	if _, busy := q.Poll(); !busy {
		t.Error("not busy, so that the worker sleeps while every frame is on its way out")
	}
	done, _ := k.completion.Slots(size)
	for i, d := range b.Descs() {
		done[i] = d.Addr
	}
	k.completion.Submit(size)
	if err := q.Service(cache); err != nil {
		t.Fatal(err)
	}
	if _, busy := q.Poll(); busy || s.Places().Fill != size {
		t.Errorf("busy %v, places %+v, want the frames in the fill ring and nothing to do", busy, s.Places())
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
}

// vethRig is an engine between two real ports, each with a packet socket at the
// far end of its cable.
type vethRig struct {
	t      *testing.T
	mem    *umem.Memory
	eng    *pipeline.Engine
	ports  [2]*control.Link
	far    [2]int
	cancel context.CancelFunc
	done   chan error
}

const testEtherType = 0x88b5 // IEEE 802, for local experiments

// newVethRig starts an engine from the port "in" to the port "out"; nothing is
// taken from the latter.
func newVethRig(t *testing.T, mtuIn, mtuOut int, idle pipeline.Idle) *vethRig {
	l := lab.ForTest(t)
	r := &vethRig{t: t, done: make(chan error, 1)}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	r.mem, err = umem.New(umem.Options{Frames: 2048, FrameSize: umem.MaxFrameSize, Pages: umem.Pages4K, Verify: true})
	must(err)
	inside := l.MustNamespace("ports")
	opts := pipeline.Options{Memory: r.mem, Workers: pipeline.WorkersConfig{Idle: idle}, Log: slog.New(slog.DiscardHandler)}
	for i, name := range []string{"in", "out"} {
		outside := l.MustNamespace("host-" + name)
		pair, err := l.Pair(lab.End{NS: outside, Name: "h-" + name, HostEnd: true}, lab.End{NS: inside, Name: "p-" + name}, lab.PairOptions{MTU: []int{mtuIn, mtuOut}[i]})
		must(err)
		r.ports[i] = pair.B
		steering, err := bpf.Load(bpf.Options{Queues: 1})
		must(err)
		t.Cleanup(func() { steering.Close() })
		must(steering.SetPolicy(bpf.Policy{Rules: []bpf.Rule{{EtherType: testEtherType}}}))
		att, err := control.Attach(pair.B, steering.Program(), control.AttachOptions{Mode: control.ModeNative})
		must(err)
		t.Cleanup(func() { att.Detach(); att.Close() })
		must(outside.Do(func() (err error) {
			if r.far[i], err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err == nil {
				err = unix.Bind(r.far[i], &unix.SockaddrLinklayer{Ifindex: pair.A.Index})
			}
			return err
		}))
		t.Cleanup(func() { unix.Close(r.far[i]) })
		var s *xsk.Socket
		must(inside.Do(func() (err error) {
			s, err = xsk.Open(r.mem, pair.B.Index, 0, xsk.Options{Interface: pair.B.Name, RxSize: 256, TxSize: 256, FillSize: 512, CompletionSize: 256})
			return err
		}))
		must(steering.Register(0, s.FD()))
		opts.Ports = append(opts.Ports, pipeline.Port{Name: name, Queues: []pipeline.Queue{pipeline.NewXSK(s, pair.B.Name, "native")}})
	}
	specs, err := pipeline.ParseQuick("stages", "count")
	must(err)
	opts.Pipelines = []pipeline.Pipeline{{Name: "p", From: "in", To: "out", Stages: specs}}
	r.eng, err = pipeline.New(opts)
	must(err)
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() { r.done <- r.eng.Run(ctx); close(r.done) }()
	t.Cleanup(func() {
		cancel()
		<-r.done
		if err := r.eng.Close(); err != nil {
			t.Error(err)
		}
		if err := r.mem.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *vethRig) send(port, count, size int) {
	r.t.Helper()
	p := make([]byte, size)
	copy(p, packet(0)[:14])
	for range count {
		if _, err := unix.Write(r.far[port], p); err != nil {
			r.t.Fatal(err)
		}
	}
}

func TestPacketsTheDriverDropsAreCountedAsDropped(t *testing.T) {
	for _, idle := range []pipeline.Idle{pipeline.IdleAdaptive, pipeline.IdleSleep} {
		t.Run(fmt.Sprint(idle), func(t *testing.T) {
			r := newVethRig(t, 3000, 1500, idle)
			for range 50 {
				r.send(0, 1, 2500) // longer than the outgoing cable takes
				r.send(0, 1, 100)
			}
			waitFor(t, func() bool { return r.eng.Snapshot().Ports[0].RxPackets == 100 })
			waitFor(t, func() bool {
				s := r.eng.Snapshot()
				return s.Ports[1].TxPackets == 50 && s.Ports[1].Drops["tx_dropped"] == 50
			})
		})
	}
}

func TestAnInterfaceThatIsRemovedEndsTheEngineAlsoWithoutTraffic(t *testing.T) {
	for i, name := range []string{"in", "out"} {
		t.Run(name, func(t *testing.T) {
			r := newVethRig(t, 1500, 1500, pipeline.IdleAdaptive)
			if err := r.ports[i].Delete(); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-r.done:
				if err == nil || !strings.Contains(err.Error(), "port "+name+": p-"+name+" queue 0") {
					t.Errorf("ended with %v, want the port named", err)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("runs on an interface that is gone: %+v", r.eng.Snapshot().Ports[i])
			}
			if s := r.eng.Snapshot().Ports[i].State; !strings.Contains(s, "removed") {
				t.Errorf("state %q does not say that it was removed", s)
			}
		})
	}
}

func TestAWorkerSleepsThoughPacketsArriveWhereNobodyTakesThem(t *testing.T) {
	r := newVethRig(t, 1500, 1500, pipeline.IdleSleep)
	r.send(1, 3, 60)
	waitFor(t, func() bool { return r.eng.Snapshot().Memory.Places.Rx == 3 })
	spent := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := spent()
	time.Sleep(400 * time.Millisecond)
	if cpu := spent() - before; cpu > 200*time.Millisecond { // a worker that spins takes all of it
		t.Errorf("the worker used %v of the CPU in 400 ms with nothing to do", cpu)
	}
}
