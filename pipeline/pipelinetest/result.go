package pipelinetest

import (
	"bytes"
	"encoding/hex"
	"flag"
	"maps"
	"os"
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
)

// A Result is what came of a run. Its Want methods fail the test if that is not what
// was wanted.
type Result struct {
	// Snapshot has all counters at the end.
	pipeline.Snapshot

	t       testing.TB
	ports   map[string]*sink
	reasons map[string]string
}

// Out returns the packets that left by the port out, and Port those of another.
func (r *Result) Out() []Packet { return r.Port("out") }

// Port returns the packets that left by a port.
func (r *Result) Port(name string) []Packet {
	r.t.Helper()
	q := r.ports[name]
	if q == nil {
		r.t.Fatalf("the stages lead to no port %q", name)
	}
	return q.out
}

// Drops returns how many packets were dropped, by reason, over all stages and ports.
func (r *Result) Drops() map[string]uint64 {
	all := maps.Clone(r.Packets.Drops)
	for _, s := range r.Stages {
		for name, n := range s.Drops {
			all[name] += n
		}
	}
	for _, p := range r.Ports {
		for name, n := range p.Drops {
			all[name] += n
		}
	}
	return all
}

// Values returns what the stages of a type report, added up.
func (r *Result) Values(stage string) map[string]uint64 {
	all := map[string]uint64{}
	for _, s := range r.Stages {
		if s.Type == stage {
			for name, n := range s.Values {
				all[name] += n
			}
		}
	}
	return all
}

// WantDrops wants exactly these drops.
func (r *Result) WantDrops(want map[string]uint64) {
	r.t.Helper()
	if got := r.Drops(); !maps.Equal(got, want) {
		r.t.Errorf("dropped %v, want %v", got, want)
	}
}

// WantValues wants these counters of the stages of a type, and may leave others out.
func (r *Result) WantValues(stage string, want map[string]uint64) {
	r.t.Helper()
	got := r.Values(stage)
	for name, n := range want {
		if v, ok := got[name]; !ok || v != n {
			r.t.Errorf("%s: %s is %d, want %d; all: %v", stage, name, v, n, got)
		}
	}
}

// WantOut wants these packets, in order, to have left by the port out.
func (r *Result) WantOut(want ...[]byte) {
	r.t.Helper()
	r.compare("out", Packets(want...))
}

// WantFile wants the packets of the file, in order, to have left by the port out, and
// WantPortFile by another. Times are not compared.
func (r *Result) WantFile(file string) {
	r.t.Helper()
	r.WantPortFile("out", file)
}

// WantPortFile is WantFile for another port.
func (r *Result) WantPortFile(port, file string) {
	r.t.Helper()
	if updating() {
		WriteFile(r.t, file, r.Port(port))
		return
	}
	r.compare(port, ReadFile(r.t, file))
}

func updating() bool {
	if f := flag.Lookup("update"); f != nil && f.Value.String() == "true" {
		return true
	}
	return os.Getenv("XDPIPE_UPDATE") == "1"
}

func (r *Result) compare(port string, want []Packet) {
	r.t.Helper()
	got := r.Port(port)
	for i := range min(len(got), len(want)) {
		if !bytes.Equal(got[i].Data, want[i].Data) {
			r.t.Errorf("port %s, packet %d is\n%swant\n%s", port, i+1, hex.Dump(got[i].Data), hex.Dump(want[i].Data))
			return
		}
	}
	if len(got) != len(want) {
		r.t.Errorf("%d packets left by port %s, want %d", len(got), port, len(want))
	}
}

// checkAccount wants every packet to have ended somewhere.
func (r *Result) checkAccount(stages string) {
	r.t.Helper()
	in, out := r.Packets.Created+r.Packets.Teed, r.Packets.Consumed
	for _, p := range r.Ports {
		in += p.RxPackets
		out += p.TxPackets
	}
	for _, n := range r.Drops() {
		out += n
	}
	if in != out {
		r.t.Errorf("%s: %d packets came in or were made, %d left, ended or were dropped: %+v", stages, in, out, r.Snapshot)
	}
}
