package pipeline_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xdpipe/xdpipe/pipeline"
	_ "github.com/xdpipe/xdpipe/pipeline/stages"
	"github.com/xdpipe/xdpipe/umem"
	"github.com/xdpipe/xdpipe/xsk"
	"github.com/xdpipe/xdpipe/xsk/xsktest"
)

// rig is an engine between simulated ports.
type rig struct {
	t   testing.TB
	mem *umem.Memory
	k   map[string][]*xsktest.Kernel // by port
	eng *pipeline.Engine

	cancel context.CancelFunc
	done   chan error
}

// newRig builds an engine with the ports a and b of as many queues as there are
// workers, and the pipeline stages from a to b.
func newRig(t testing.TB, workers pipeline.WorkersConfig, stages string) *rig {
	t.Helper()
	_, test := t.(*testing.T) // and not a benchmark
	mem, err := umem.New(umem.Options{Frames: 4096, Pages: umem.Pages4K, Verify: test})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, mem: mem, k: map[string][]*xsktest.Kernel{}}
	specs, err := pipeline.ParseQuick("stages", stages)
	if err != nil {
		t.Fatal(err)
	}
	opts := pipeline.Options{
		Memory:    mem,
		Workers:   workers,
		Pipelines: []pipeline.Pipeline{{Name: "p", From: "a", To: "b", Stages: specs}},
		Log:       slog.New(slog.DiscardHandler),
	}
	for _, name := range []string{"a", "b"} {
		port := pipeline.Port{Name: name}
		for range max(workers.Count, 1) {
			s, k, err := xsktest.New(mem, xsk.Options{RxSize: 256, TxSize: 256, FillSize: 256, CompletionSize: 256})
			if err != nil {
				t.Fatal(err)
			}
			r.k[name] = append(r.k[name], k)
			port.Queues = append(port.Queues, pipeline.NewXSK(s, "sim-"+name, "native"))
		}
		opts.Ports = append(opts.Ports, port)
	}
	if r.eng, err = pipeline.New(opts); err != nil {
		t.Fatal(err)
	}
	return r
}

// start runs the engine until stop.
func (r *rig) start() {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel, r.done = cancel, make(chan error, 1)
	go func() { r.done <- r.eng.Run(ctx) }()
}

// stop ends the engine and checks that every frame came back.
func (r *rig) stop() {
	r.t.Helper()
	if r.cancel != nil {
		r.cancel()
		if err := <-r.done; err != nil {
			r.t.Error(err)
		}
	}
	if err := r.eng.Close(); err != nil {
		r.t.Error(err)
	}
	if err := r.mem.Close(); err != nil {
		r.t.Error(err)
	}
}

// send delivers the packets to a queue of port a, as fast as it takes them.
func (r *rig) send(queue int, packets ...[]byte) {
	r.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); len(packets) > 0; {
		if time.Now().After(deadline) {
			r.t.Fatalf("%d packets not taken: %+v", len(packets), r.eng.Snapshot())
		}
		n := r.k["a"][queue].Deliver(packets[:1]...)
		packets = packets[n:]
		if n == 0 {
			time.Sleep(10 * time.Microsecond)
		}
	}
}

// receive waits for n packets to leave by a queue of port b.
func (r *rig) receive(queue, n int) [][]byte {
	r.t.Helper()
	var got [][]byte
	for deadline := time.Now().Add(10 * time.Second); len(got) < n; {
		if time.Now().After(deadline) {
			r.t.Fatalf("%d packets left, want %d: %+v", len(got), n, r.eng.Snapshot())
		}
		got = append(got, r.k["b"][queue].Transmitted()...)
		time.Sleep(10 * time.Microsecond)
	}
	return got
}

func packet(n int) []byte {
	p := make([]byte, 64)
	copy(p, "\x02\x00\x00\x00\x00\x0b\x02\x00\x00\x00\x00\x0a\x88\xb5")
	p[14], p[15] = byte(n>>8), byte(n)
	return p
}

func TestPacketsCrossInOrderThroughAllStages(t *testing.T) {
	for _, idle := range []pipeline.Idle{pipeline.IdleAdaptive, pipeline.IdleSpin, pipeline.IdleSleep} {
		t.Run(idle.String(), func(t *testing.T) {
			r := newRig(t, pipeline.WorkersConfig{Idle: idle}, "parse ! macswap ! count")
			r.start()
			var sent [][]byte
			for i := range 200 {
				sent = append(sent, packet(i))
			}
			r.send(0, sent...)
			for i, p := range r.receive(0, len(sent)) {
				want := append([]byte("\x02\x00\x00\x00\x00\x0a\x02\x00\x00\x00\x00\x0b"), sent[i][12:]...)
				if !bytes.Equal(p, want) {
					t.Fatalf("packet %d is %x, want %x", i, p, want)
				}
			}
			s := r.eng.Snapshot()
			if s.Memory.Places.Sum() != s.Memory.Places.Total {
				t.Errorf("places do not add up: %+v", s.Memory.Places)
			}
			for _, st := range s.Stages {
				if st.Packets != 200 || len(st.Drops) != 0 {
					t.Errorf("stage %+v, want 200 packets and no drops", st)
				}
			}
			if v := s.Stages[2].Values; v["packets"] != 200 || v["bytes"] != 200*64 {
				t.Errorf("count says %v", v)
			}
			if a, b := s.Ports[0], s.Ports[1]; a.RxPackets != 200 || b.TxPackets != 200 || b.TxBytes != 200*64 || a.CopiedPackets != 0 {
				t.Errorf("ports %+v", s.Ports)
			}
			r.stop()
		})
	}
}

func TestDropsAreCountedByStageAndReasonAndTheirFramesReturn(t *testing.T) {
	r := newRig(t, pipeline.WorkersConfig{}, "drop every=3 ! count ! drop every=2")
	r.start()
	for i := range 600 {
		r.send(0, packet(i))
	}
	got := r.receive(0, 200)
	for i, p := range got[:3] { // 0 1 [2] 3 4 [5] → 0 1 3 4 → 0 [1] 3 [4] …
		if want := []int{0, 3, 6}[i]; int(p[15]) != want {
			t.Errorf("packet %d is number %d, want %d", i, p[15], want)
		}
	}
	s := r.eng.Snapshot()
	if d := s.Stages[0].Drops["dropped"]; d != 200 {
		t.Errorf("first stage dropped %d, want 200", d)
	}
	if d := s.Stages[2].Drops["dropped"]; d != 200 {
		t.Errorf("last stage dropped %d, want 200", d)
	}
	if s.Stages[1].Packets != 400 || s.Stages[2].Packets != 400 {
		t.Errorf("stages after a drop saw %d and %d packets, want 400", s.Stages[1].Packets, s.Stages[2].Packets)
	}
	r.stop()
}

func TestWorkersOwnTheirQueuesAndStages(t *testing.T) {
	r := newRig(t, pipeline.WorkersConfig{Count: 3, Pin: pipeline.PinConfig{Off: true}}, "count")
	r.start()
	for q := range 3 {
		for i := range (q + 1) * 10 {
			r.send(q, packet(i))
		}
	}
	for q := range 3 {
		r.receive(q, (q+1)*10)
	}
	for _, st := range r.eng.Snapshot().Stages {
		if want := uint64(st.Worker+1) * 10; st.Packets != want {
			t.Errorf("worker %d counted %d packets, want %d", st.Worker, st.Packets, want)
		}
	}
	r.stop()
}

func TestAFullTransmitRingDropsWithItsReason(t *testing.T) {
	r := newRig(t, pipeline.WorkersConfig{}, "count")
	r.start()
	for i := range 400 { // nobody takes them from b's ring of 256
		r.send(0, packet(i))
	}
	waitFor(t, func() bool { return r.eng.Snapshot().Ports[0].RxPackets == 400 })
	s := r.eng.Snapshot()
	if d := s.Ports[1].Drops["tx_ring_full"]; d != 400-256 {
		t.Errorf("%d drops, want %d: %+v", d, 400-256, s.Ports[1])
	}
	r.stop()
}

func TestALinkThatIsDownIsAStateAndOneThatIsGoneAnEnd(t *testing.T) {
	r := newRig(t, pipeline.WorkersConfig{}, "count")
	r.start()
	r.k["b"][0].FailSend(unix.ENETDOWN)
	for i := range 300 {
		r.send(0, packet(i))
	}
	waitFor(t, func() bool { return r.eng.Snapshot().Ports[1].Drops["tx_link_down"] == 300-256 })
	if s := r.eng.Snapshot().Ports[1]; !strings.Contains(s.State, "link down") {
		t.Errorf("state %q, want link down", s.State)
	}
	r.k["b"][0].FailSend(0)
	r.receive(0, 256) // what waited is sent when it is up again
	r.send(0, packet(1))
	r.receive(0, 1)
	if s := r.eng.Snapshot().Ports[1]; s.State != "up" {
		t.Errorf("state %q after it came up, want up", s.State)
	}
	r.k["b"][0].FailSend(unix.ENXIO)
	r.send(0, packet(1))
	select {
	case err := <-r.done:
		if !errors.Is(err, unix.ENXIO) || !strings.Contains(err.Error(), "port b") {
			t.Errorf("engine ended with %v, want ENXIO on port b", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("engine runs on a port that is gone")
	}
	if s := r.eng.Snapshot().Ports[1]; !strings.Contains(s.State, "gone") {
		t.Errorf("state %q, want gone", s.State)
	}
	r.cancel = nil
	r.stop()
}

func init() {
	pipeline.Register(pipeline.Module{Name: "test-panic", New: func() pipeline.Stage { return &panicky{} }})
	pipeline.Register(pipeline.Module{Name: "test-life", New: func() pipeline.Stage { return &lifed{} }})
	pipeline.Register(pipeline.Module{Name: "test-empty", New: func() pipeline.Stage { return &empty{} }})
}

type empty struct{}

func (*empty) Process(*pipeline.Batch) {}

// panicky panics on every packet whose 16th byte is 7.
type panicky struct{}

func (*panicky) Process(b *pipeline.Batch) {
	for i := range b.Len() {
		if b.Data(i)[15] == 7 {
			panic("seven")
		}
	}
}

func TestAPanicCostsItsBatchOnly(t *testing.T) {
	r := newRig(t, pipeline.WorkersConfig{Batch: 1}, "count ! test-panic ! count")
	r.start()
	for i := range 20 {
		r.send(0, packet(i))
	}
	r.receive(0, 19)
	s := r.eng.Snapshot()
	if d := s.Stages[1].Drops["panic"]; d != 1 {
		t.Errorf("%d packets lost to the panic, want 1: %+v", d, s.Stages)
	}
	r.stop()
}

// lifed notes what is called on it.
type lifed struct {
	Log    string `stage:"log"`
	shared *strings.Builder
}

var lives = map[string]*strings.Builder{}

func (s *lifed) Validate() error {
	if s.Log == "" {
		return pipeline.BadOption("log", "empty")
	}
	return nil
}

func (s *lifed) Provision(ctx *pipeline.Context) error {
	v, err := ctx.Shared(func() (any, error) { return lives[s.Log], nil })
	if err != nil {
		return err
	}
	s.shared = v.(*strings.Builder)
	fmt.Fprintf(s.shared, "provision %s %d/%d;", ctx.Stage, ctx.Worker, ctx.Workers)
	if ctx.Worker == 1 && s.Log == "fails" {
		return pipeline.BadOption("log", "refused")
	}
	return nil
}
func (s *lifed) Process(*pipeline.Batch) {}
func (s *lifed) Close() error            { s.shared.WriteString("close;"); return nil }

func TestStagesAreProvisionedAndClosedOnceForEachWorker(t *testing.T) {
	lives["ok"] = &strings.Builder{}
	r := newRig(t, pipeline.WorkersConfig{Count: 2}, "test-life log=ok")
	r.stop()
	want := "provision p/1:test-life 0/2;provision p/1:test-life 1/2;close;close;"
	if got := lives["ok"].String(); got != want {
		t.Errorf("life was %q, want %q", got, want)
	}
}

func TestAFailedProvisionClosesWhatWasProvisionedAndNamesThePosition(t *testing.T) {
	lives["fails"] = &strings.Builder{}
	mem, err := umem.New(umem.Options{Frames: 1024, Pages: umem.Pages4K})
	if err != nil {
		t.Fatal(err)
	}
	specs, err := pipeline.ParseQuick("stages", "count ! test-life log=fails")
	if err != nil {
		t.Fatal(err)
	}
	var port pipeline.Port
	port.Name = "a"
	for range 2 {
		s, _, err := xsktest.New(mem, xsk.Options{})
		if err != nil {
			t.Fatal(err)
		}
		port.Queues = append(port.Queues, pipeline.NewXSK(s, "sim", "native"))
	}
	_, err = pipeline.New(pipeline.Options{
		Memory: mem, Ports: []pipeline.Port{port}, Workers: pipeline.WorkersConfig{Count: 2},
		Pipelines: []pipeline.Pipeline{{Name: "p", From: "a", To: "a", Stages: specs}},
	})
	if err == nil || !strings.Contains(err.Error(), "stages:1:23: stage test-life: option log: refused") {
		t.Errorf("error %v does not name the option's position", err)
	}
	if got := lives["fails"].String(); !strings.HasSuffix(got, "close;close;") {
		t.Errorf("life was %q, want both instances closed", got)
	}
	if err := mem.Close(); err != nil {
		t.Error(err)
	}
}

func TestSnapshotsAreConsistentUnderLoad(t *testing.T) {
	r := newRig(t, pipeline.WorkersConfig{Count: 2, Pin: pipeline.PinConfig{Off: true}}, "parse ! drop every=5 ! count")
	r.start()
	stop := make(chan struct{})
	pumped := make(chan struct{})
	go func() {
		defer close(pumped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			for q := range 2 {
				r.k["a"][q].Deliver(packet(i))
				r.k["b"][q].Drain(64)
			}
		}
	}()
	for range 200 {
		s := r.eng.Snapshot()
		if p := s.Memory.Places; p.Sum() != p.Total {
			t.Fatalf("places do not add up: %+v, sum %d", p, p.Sum())
		}
		for i := range 2 { // what came in was dropped, or went out
			in, out := s.Ports[2*i], s.Ports[2*i+1]
			gone := s.Stages[3*i+1].Drops["dropped"] + out.Drops["tx_ring_full"]
			if in.RxPackets != out.TxPackets+gone {
				t.Fatalf("worker %d: %d in, %d out, %d dropped", i, in.RxPackets, out.TxPackets, gone)
			}
		}
	}
	close(stop)
	<-pumped
	r.stop()
}

func TestAWorkerWithNothingToDoIsRefused(t *testing.T) {
	mem, err := umem.New(umem.Options{Frames: 64, Pages: umem.Pages4K})
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	_, err = pipeline.New(pipeline.Options{Memory: mem, Ports: []pipeline.Port{{Name: "a"}}, Workers: pipeline.WorkersConfig{Count: 2}})
	if err == nil || !strings.Contains(err.Error(), "worker 0 has nothing to do") {
		t.Errorf("got %v", err)
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

func TestStoppingForwardsWhatHasArrived(t *testing.T) {
	r := newRig(t, pipeline.WorkersConfig{Idle: pipeline.IdleSleep, Batch: 4}, "count")
	r.start()
	waitFor(t, func() bool { return r.k["a"][0].Deliver(packet(0)) == 1 }) // the fill ring has frames
	r.receive(0, 1)
	// All at once, and the order to stop right behind them.
	for i := range 100 {
		r.k["a"][0].Deliver(packet(i))
	}
	r.cancel()
	if err := <-r.done; err != nil {
		t.Fatal(err)
	}
	if got := len(r.receive(0, 100)); got != 100 {
		t.Errorf("%d packets left, want 100", got)
	}
	r.cancel = nil
	r.stop()
}

func init() {
	pipeline.Register(pipeline.Module{Name: "test-wrong", New: func() pipeline.Stage { return &wrong{} }})
	pipeline.Register(pipeline.Module{Name: "test-report", New: func() pipeline.Stage { return &report{} }})
}

// wrong drops packets numbered 1 for a reason that no engine has, and for those
// numbered 2 drops one that is not there.
type wrong struct{}

func (*wrong) Process(b *pipeline.Batch) {
	for i := range b.Len() {
		switch b.Data(i)[15] {
		case 1:
			b.Drop(i, 9999)
		case 2:
			b.Drop(b.Len(), pipeline.ReasonTxFull)
		}
	}
}

// report panics when it is asked for its counters.
type report struct{ empty }

func (*report) Report() map[string]uint64 { panic("no report") }

func TestAStageThatDropsWronglyHarmsNoOtherPacket(t *testing.T) {
	r := newRig(t, pipeline.WorkersConfig{}, "test-wrong ! count")
	r.start()
	sent := []int{0, 1, 3, 1, 4, 2, 5, 6, 7}
	for i, n := range sent { // one at a time: the batch of number 2 is lost
		r.send(0, packet(n))
		waitFor(t, func() bool { return r.eng.Snapshot().Ports[0].RxPackets == uint64(i+1) })
	}
	if d := r.eng.Snapshot().Stages[0].Drops; d["unknown"] != 2 || d["panic"] != 1 {
		t.Errorf("drops %v, want 2 unknown and 1 of the panic", d)
	}
	if got := len(r.receive(0, 6)); got != 6 {
		t.Errorf("%d packets left, want 6", got)
	}
	r.stop()
}

func TestWhatPanicsBetweenTwoBatchesDoesNotStopPackets(t *testing.T) {
	r := newRig(t, pipeline.WorkersConfig{Count: 2, Pin: pipeline.PinConfig{Off: true}}, "test-report ! count")
	r.start()
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is not told")
			}
		}()
		r.eng.Between(func() { panic("between") })
	}()
	for q := range 2 {
		r.send(q, packet(q))
		r.receive(q, 1)
	}
	s := r.eng.Snapshot()
	if s.Stages[0].Values != nil || s.Stages[1].Values["packets"] != 1 {
		t.Errorf("stages %+v, want no values of the first and one packet in the second", s.Stages)
	}
	r.stop()
}

func TestAnEngineThatIsClosedKeepsItsCountersAndRunsNoMore(t *testing.T) {
	r := newRig(t, pipeline.WorkersConfig{}, "count")
	r.start()
	r.send(0, packet(0))
	r.receive(0, 1)
	r.stop()
	s := r.eng.Snapshot()
	if s.Ports[0].RxPackets != 1 || s.Ports[1].TxPackets != 1 || s.Memory.Places.Sum() != s.Memory.Places.Total {
		t.Errorf("after Close: %+v", s)
	}
	if err := r.eng.Run(context.Background()); err == nil {
		t.Error("a closed engine runs")
	}
}

func TestWorkersOutOfRangeAreRefused(t *testing.T) {
	for _, tc := range []struct {
		workers pipeline.WorkersConfig
		says    string
	}{
		{pipeline.WorkersConfig{Batch: -1}, "batches of -1 packets: want 1 to 256"},
		{pipeline.WorkersConfig{Batch: 257}, "batches of 257 packets"},
		{pipeline.WorkersConfig{Count: 1, CPUs: []int{0, 1}}, "2 CPUs for 1 workers"},
		{pipeline.WorkersConfig{CPUs: []int{1023}}, "CPU 1023"},
		{pipeline.WorkersConfig{CPUs: []int{-1}}, "CPU -1"},
	} {
		mem, _ := newMemory(t, 64)
		if _, err := pipeline.New(pipeline.Options{Memory: mem, Workers: tc.workers}); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%+v: got %v, want %q", tc.workers, err, tc.says)
		}
	}
}

func TestAZeroContextServesAStageWithoutAnEngine(t *testing.T) {
	var one, other pipeline.Context
	for _, get := range []func(func() (any, error)) (any, error){
		one.Shared,
		func(f func() (any, error)) (any, error) { return other.SharedBy("key", f) },
	} {
		if v, err := get(func() (any, error) { return 1, nil }); v != 1 || err != nil {
			t.Errorf("got %v, %v", v, err)
		}
		if v, _ := get(func() (any, error) { return 2, nil }); v != 1 {
			t.Errorf("second one got %v, want the first one's", v)
		}
	}
}
