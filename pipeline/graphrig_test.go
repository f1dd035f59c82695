package pipeline_test

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
	"github.com/xdpipe/xdpipe/umem"
	"github.com/xdpipe/xdpipe/xsk"
	"github.com/xdpipe/xdpipe/xsk/xsktest"
)

// A net is an engine between any number of simulated ports. Unless it is run, its
// workers go round when the test says so.
type net struct {
	t    testing.TB
	mem  *umem.Memory
	k    map[string][]*xsktest.Kernel // by port and queue
	eng  *pipeline.Engine
	log  *lockedBuffer
	stop func() // ends Run; nil if it does not run
	w    int
}

// A netConfig says what a net is made of. The zero value is one worker and the ports
// a, b and c of one queue.
type netConfig struct {
	workers int
	idle    pipeline.Idle
	owners  map[string][]int // of queues, by port; those left out have one of worker 0
	ports   []string
	frames  int
	batch   int
	ring    int
	clock   func() int64

	noLedger bool // a ledger allocates
}

// lockedBuffer is a log that several workers write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// pipe is a pipeline from a port to another, its stages in the quick form.
func pipe(t testing.TB, name, from, to, stages string) pipeline.Pipeline {
	t.Helper()
	specs, err := pipeline.ParseQuick("stages", stages)
	if err != nil {
		t.Fatal(err)
	}
	return pipeline.Pipeline{Name: name, From: from, To: to, Stages: specs}
}

func newNet(t testing.TB, c netConfig, pipelines ...pipeline.Pipeline) *net {
	t.Helper()
	n, err := tryNet(t, c, pipelines...)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func tryNet(t testing.TB, c netConfig, pipelines ...pipeline.Pipeline) (*net, error) {
	t.Helper()
	if c.noLedger {
		t.Setenv("XDPIPE_VERIFY", "") // which would turn it on
	}
	mem, err := umem.New(umem.Options{Frames: cmp.Or(c.frames, 8192), Pages: umem.Pages4K, Verify: !c.noLedger})
	if err != nil {
		t.Fatal(err)
	}
	n := &net{t: t, mem: mem, k: map[string][]*xsktest.Kernel{}, log: &lockedBuffer{}, w: max(c.workers, 1)}
	ring := cmp.Or(c.ring, 512)
	var ports []pipeline.Port
	if c.ports == nil {
		c.ports = []string{"a", "b", "c"}
	}
	for _, name := range c.ports {
		port := pipeline.Port{Name: name, Workers: c.owners[name]}
		for range max(len(port.Workers), 1) {
			s, k, err := xsktest.New(mem, xsk.Options{RxSize: ring, TxSize: ring, FillSize: ring, CompletionSize: ring})
			if err != nil {
				t.Fatal(err)
			}
			n.k[name] = append(n.k[name], k)
			port.Queues = append(port.Queues, pipeline.NewXSK(s, "sim-"+name, "native"))
		}
		ports = append(ports, port)
	}
	n.eng, err = pipeline.New(pipeline.Options{
		Memory: mem, Ports: ports, Pipelines: pipelines, Clock: c.clock,
		Workers: pipeline.WorkersConfig{Count: c.workers, Batch: c.batch, Idle: c.idle, Pin: pipeline.PinConfig{Off: true}},
		Log:     slog.New(slog.NewTextHandler(n.log, nil)),
	})
	if err != nil {
		if leak := mem.Close(); leak != nil {
			t.Error(leak)
		}
		return nil, err
	}
	return n, nil
}

// round lets every worker go round once, and returns how many packets there were.
func (n *net) round() (packets int) {
	for w := range n.w {
		packets += n.eng.RoundOf(w)
	}
	return packets
}

// settle lets the workers go round until none has packets.
func (n *net) settle() {
	for n.round() > 0 {
	}
}

// deliver puts packets into the first queue of a port; all must fit.
func (n *net) deliver(port string, packets ...[]byte) {
	n.t.Helper()
	if got := n.k[port][0].Deliver(packets...); got != len(packets) {
		n.t.Fatalf("%d of %d packets arrived: %+v", got, len(packets), n.eng.Snapshot().Ports)
	}
}

// pass delivers packets to port a and lets the workers work them off. It returns what
// left by each port.
func (n *net) pass(packets ...[]byte) map[string][][]byte {
	n.t.Helper()
	n.round() // so that the kernel has frames to receive into
	n.deliver("a", packets...)
	n.settle()
	return n.out()
}

// out takes what has left, by port.
func (n *net) out() map[string][][]byte {
	all := map[string][][]byte{}
	for name, kernels := range n.k {
		for _, k := range kernels {
			all[name] = append(all[name], k.Transmitted()...)
		}
	}
	return all
}

// run runs the engine until stop is called.
func (n *net) run() {
	ctx, cancel := context.WithCancel(context.Background())
	n.t.Cleanup(cancel) // also if the test fails before it stops
	done := make(chan error, 1)
	go func() { done <- n.eng.Run(ctx) }()
	n.stop = func() {
		n.t.Helper()
		cancel()
		n.stop = nil
		if err := <-done; err != nil {
			n.t.Error(err)
		}
	}
}

// drops are all drops by their reason.
func drops(s pipeline.Snapshot) map[string]uint64 {
	all := map[string]uint64{}
	add := func(m map[string]uint64) {
		for name, n := range m {
			if n > 0 {
				all[name] += n
			}
		}
	}
	add(s.Packets.Drops)
	for _, st := range s.Stages {
		add(st.Drops)
	}
	for _, p := range s.Ports {
		for name, n := range p.Drops {
			if !slices.Contains([]string{"rx_dropped", "rx_ring_full", "rx_fill_ring_empty"}, name) { // before they came in
				add(map[string]uint64{name: n})
			}
		}
	}
	return all
}

// checkSnapshot wants every frame in a place, and every packet that came in or was
// made to have left, ended in a sink, or been dropped; inside are those on their way.
func checkSnapshot(t testing.TB, s pipeline.Snapshot, inside int) {
	t.Helper()
	if p := s.Memory.Places; p.Sum() != p.Total {
		t.Errorf("places do not add up to %d but %d: %+v", p.Total, p.Sum(), p)
	}
	in, out := s.Packets.Created+s.Packets.Teed, s.Packets.Consumed+uint64(inside)
	for _, p := range s.Ports {
		in += p.RxPackets
		out += p.TxPackets
	}
	for _, n := range drops(s) {
		out += n
	}
	if in != out {
		t.Errorf("%d packets came in or were made, %d left, ended or were dropped: %+v", in, out, s)
	}
}

// end stops the engine if it runs, and checks the account and that no frame is
// missing.
func (n *net) end() {
	n.t.Helper()
	if n.stop != nil {
		n.stop()
	}
	n.out()
	checkSnapshot(n.t, n.eng.Snapshot(), 0)
	if err := n.eng.Close(); err != nil {
		n.t.Error(err)
	}
	if err := n.mem.Close(); err != nil {
		n.t.Error(err)
	}
}

// stage returns the counters of the first stage with that position and type in its
// name, over all workers.
func stage(t testing.TB, s pipeline.Snapshot, name string) (sum pipeline.StageStatus) {
	t.Helper()
	found := false
	sum.Drops, sum.Values = map[string]uint64{}, map[string]uint64{}
	for _, st := range s.Stages {
		if st.Name != name {
			continue
		}
		found = true
		sum.Calls += st.Calls
		sum.Packets += st.Packets
		sum.Created += st.Created
		sum.Consumed += st.Consumed
		sum.Teed += st.Teed
		sum.Copied += st.Copied
		for why, n := range st.Drops {
			sum.Drops[why] += n
		}
		for value, n := range st.Values {
			sum.Values[value] += n
		}
	}
	if !found {
		t.Fatalf("no stage %s in %+v", name, s.Stages)
	}
	return sum
}

// port returns the counters of a port, over all queues.
func port(t testing.TB, s pipeline.Snapshot, name string) (sum pipeline.PortStatus) {
	t.Helper()
	sum.Drops = map[string]uint64{}
	found := false
	for _, p := range s.Ports {
		if p.Name != name {
			continue
		}
		found = true
		sum.RxPackets += p.RxPackets
		sum.TxPackets += p.TxPackets
		for why, n := range p.Drops {
			sum.Drops[why] += n
		}
	}
	if !found {
		t.Fatalf("no port %s in %+v", name, s.Ports)
	}
	return sum
}

// numbers returns the numbers of packets.
func numbers(packets [][]byte) []int {
	list := []int{}
	for _, p := range packets {
		list = append(list, number(p))
	}
	return list
}

// upTo returns the numbers from 0 to n-1.
func upTo(n int) []int {
	list := []int{}
	for i := range n {
		list = append(list, i)
	}
	return list
}
