package pipeline_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
)

// tracing begins a trace and returns once it has begun. What it followed is in the
// channel when it has ended.
func (n *net) tracing(ctx context.Context, opts pipeline.TraceOptions) <-chan []pipeline.TracedPacket {
	n.t.Helper()
	waitFor(n.t, func() bool { return !n.eng.Tracing() })
	done := make(chan []pipeline.TracedPacket, 1)
	go func() {
		var list []pipeline.TracedPacket
		if err := n.eng.Trace(ctx, opts, func(p pipeline.TracedPacket) { list = append(list, p) }); err != nil {
			n.t.Error(err)
		}
		done <- list
	}()
	waitFor(n.t, n.eng.Tracing)
	return done
}

// path is the path of a packet, a step a line.
func path(p pipeline.TracedPacket) string {
	var lines []string
	for _, s := range p.Path {
		line := fmt.Sprintf("%s@%d %s", s.Stage, s.Worker, s.Verdict)
		for _, more := range []string{s.To, s.Reason, strings.Join(s.Changed, ", ")} {
			if more != "" {
				line += " | " + more
			}
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func TestATraceTellsThePathOfEachPacket(t *testing.T) {
	udp := udpPacket()
	for _, tc := range []struct {
		name, stages string
		packet       []byte
		want         string
	}{
		{"parsed and written to", "parse ! test-write mark=7", udp, `
p/1:parse@0 next | parsed: ipv4 udp 4096 > 53
p/2:test-write@0 next | bytes 30
b@0 transmit | b`},
		{"pushed and pulled", "test-move push=4 ! test-move pull=10", numbered(0, 0, 0), `
p/1:test-move@0 next | pushed 4 bytes
p/2:test-move@0 next | pulled 10 bytes
b@0 transmit | b`},
		{"by an output to a merge", "test-split odd->x ! x: test-empty -> c", numbered(1, 0, 0), `
p/1:test-split@0 output | odd
p/2:test-empty@0 next
c@0 transmit | c`},
		{"dropped by a stage", "test-empty ! drop every=1", numbered(0, 0, 0), `
p/1:test-empty@0 next
p/2:drop@0 drop | dropped`},
		{"no output", "test-split odd->c", numbered(2, 0, 0), `
p/1:test-split@0 output | none
p/1:test-split@0 drop | no_output`},
		{"a tee ends at both", "test-tee copy->x ! test-write mark=1; x: test-empty -> c", numbered(0, 0, 0), `
p/1:test-tee@0 tee | copy
p/1:test-tee@0 next
p/2:test-write@0 next | copied, since others hold it too, bytes 30
b@0 transmit | b
p/3:test-empty@0 next
c@0 transmit | c`},
		{"a tee of which one is dropped", "test-tee copy->x ! drop every=1; x: test-tee copy->c -> b", numbered(0, 0, 0), `
p/1:test-tee@0 tee | copy
p/1:test-tee@0 next
p/2:drop@0 drop | dropped
p/3:test-tee@0 tee | copy
p/3:test-tee@0 next
b@0 transmit | b
c@0 transmit | c`},
		{"a sink", "test-empty ! test-sink", numbered(0, 0, 0), `
p/1:test-empty@0 next
p/2:test-sink@0 next
p/2:test-sink@0 sink`},
		{"a sink that drops it", "test-sink", numbered(1, 0, 0), `
p/1:test-sink@0 drop | unwanted`},
		{"a panic", "test-tee copy->c ! test-boom", numbered(7, 0, 0), `
p/1:test-tee@0 tee | copy
p/1:test-tee@0 next
p/2:test-boom@0 drop | panic
c@0 transmit | c`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newNet(t, netConfig{}, pipe(t, "p", "a", "b", tc.stages))
			n.round()
			done := n.tracing(context.Background(), pipeline.TraceOptions{Packets: 1})
			n.pass(tc.packet)
			got := (<-done)[0]
			if p := path(got); p != strings.TrimSpace(tc.want) {
				t.Errorf("path is\n%s\nwant%s", p, tc.want)
			}
			if got.Number != 1 || got.Port != "a" || got.Length != 64 || !slices.Equal(got.Data, tc.packet) {
				t.Errorf("%+v, want the first packet of port a as it arrived", got)
			}
			if _, err := json.Marshal(got); err != nil {
				t.Error(err)
			}
			n.end()
		})
	}
}

func TestATraceFollowsPacketsToOtherWorkers(t *testing.T) {
	n := newNet(t, netConfig{workers: 3, owners: map[string][]int{"a": {0}, "b": {2}}, ports: []string{"a", "b"}},
		pipe(t, "p", "a", "b", "test-hand to=1 ! test-empty"))
	n.round()
	done := n.tracing(context.Background(), pipeline.TraceOptions{Packets: 1})
	n.pass(numbered(0, 0, 0))
	const want = `p/1:test-hand@0 worker | 1
p/2:test-empty@1 next
b@1 worker | 2
b@2 transmit | b`
	if got := path((<-done)[0]); got != want {
		t.Errorf("path is\n%s\nwant\n%s", got, want)
	}
	n.end()
}

func TestWhatTheEngineDropsIsTheEndOfAPath(t *testing.T) {
	two := netConfig{workers: 2, ring: 2048, owners: map[string][]int{"a": {0}, "b": {1}}, ports: []string{"a", "b"}}
	for _, tc := range []struct {
		stages string
		config netConfig
		want   string
	}{
		{"test-hand to=1", two, "p/1:test-hand@0 worker | 1\np/1:test-hand@0 drop | handoff_full"},
		{"test-empty", two, "p/1:test-empty@0 next\nb@0 drop | handoff_full"},
		{"test-empty", netConfig{}, "p/1:test-empty@0 next\nb@0 drop | tx_ring_full"},
	} {
		n := newNet(t, tc.config, pipe(t, "p", "a", "b", tc.stages))
		n.round()
		n.round()
		for range 10 { // until there is no room any more: only worker 0 works, and no kernel
			for range 128 {
				n.k["a"][0].Deliver(numbered(0, 0, 0))
			}
			for n.eng.RoundOf(0) > 0 {
			}
		}
		done := n.tracing(context.Background(), pipeline.TraceOptions{Packets: 1})
		n.deliver("a", numbered(0, 0, 1))
		n.eng.RoundOf(0)
		if got := path((<-done)[0]); got != tc.want {
			t.Errorf("%s: path is\n%s\nwant\n%s", tc.stages, got, tc.want)
		}
		n.settle()
		n.end()
	}
}

func TestATraceOfASourceBeginsWithIt(t *testing.T) {
	n := newNet(t, netConfig{ports: []string{"b"}}, pipeline.Pipeline{Name: "p", To: "b", Stages: pipe(t, "", "", "", "test-source count=3 ! test-empty").Stages})
	done := n.tracing(context.Background(), pipeline.TraceOptions{Packets: 3})
	n.settle()
	got := <-done
	for i, p := range got {
		const want = "p/1:test-source@0 next\np/2:test-empty@0 next\nb@0 transmit | b"
		if path(p) != want || p.Port != "p/1:test-source" || p.Number != i+1 || number(p.Data) != i {
			t.Errorf("%+v", p)
		}
	}
	n.end()
}

func TestATraceEndsAfterSoManyPacketsThatMatch(t *testing.T) {
	n := newNet(t, netConfig{}, pipe(t, "p", "a", "b", "test-empty"))
	n.round()
	match := func(p []byte) bool {
		if p[14] == 7 {
			panic("in Match")
		}
		return number(p)%2 == 1
	}
	done := n.tracing(context.Background(), pipeline.TraceOptions{Packets: 3, Match: match})
	for i := range 20 {
		n.pass(numbered(byte(i), 0, i))
	}
	var got []int
	for _, p := range <-done {
		got = append(got, number(p.Data))
	}
	if !slices.Equal(got, []int{1, 3, 5}) {
		t.Errorf("followed %v, want 1, 3 and 5", got)
	}
	if n.eng.Tracing() {
		t.Error("the trace goes on")
	}
	// A Match that panics chooses nothing, and is told of.
	done = n.tracing(context.Background(), pipeline.TraceOptions{Packets: 1, Match: match})
	n.pass(numbered(7, 0, 1), numbered(0, 0, 3))
	if got := (<-done)[0]; number(got.Data) != 3 || !strings.Contains(n.log.String(), "in Match") {
		t.Errorf("followed %+v; the log says %s", got, n.log)
	}
	n.end()
}

func TestATraceThatIsEndedGivesWhatItHas(t *testing.T) {
	n := newNet(t, netConfig{workers: 2, owners: map[string][]int{"a": {0}, "b": {0, 1}}, ports: []string{"a", "b"}},
		pipe(t, "p", "a", "b", "test-hand"))
	n.round()
	ctx, cancel := context.WithCancel(context.Background())
	done := n.tracing(ctx, pipeline.TraceOptions{Packets: 5})
	if err := n.eng.Trace(ctx, pipeline.TraceOptions{Packets: 1}, nil); !errors.Is(err, pipeline.ErrTracing) {
		t.Errorf("a second trace gives %v", err)
	}
	n.deliver("a", numbered(0, 0, 0), numbered(0, 1, 1))
	n.eng.RoundOf(0) // and worker 1 does not see the second
	cancel()
	got := <-done
	if len(got) != 2 || got[0].Number != 1 || len(got[0].Path) != 2 || len(got[1].Path) != 1 {
		t.Fatalf("got %+v, want a whole path and one of one step", got)
	}
	// The next trace knows nothing of what is still on its way.
	done = n.tracing(context.Background(), pipeline.TraceOptions{Packets: 1})
	n.eng.RoundOf(1)
	n.pass(numbered(0, 0, 2))
	if got := <-done; number(got[0].Data) != 2 || len(got[0].Path) != 2 {
		t.Errorf("the next trace has %+v", got)
	}
	n.end()
}

// The end of one trace must not end another that began right after it.
func TestTracesOneAfterTheOtherUnderLoadAllEnd(t *testing.T) {
	n := newNet(t, threeWorkers(), pipe(t, "p", "a", "b", "test-hand ! test-empty"))
	n.run()
	f := n.feed(1, map[string][]flow{"a": flows(6)})
	for i := range 60 {
		ctx, cancel := context.WithCancel(context.Background())
		packets := 3
		if i%3 == 2 {
			packets = pipeline.MaxTraced // is ended by the second packet, while workers go on
		}
		followed := 0
		var err error = pipeline.ErrTracing
		for errors.Is(err, pipeline.ErrTracing) {
			err = n.eng.Trace(ctx, pipeline.TraceOptions{Packets: packets}, func(p pipeline.TracedPacket) {
				if followed++; packets > 3 && followed == 2 {
					cancel()
				}
				if packets == 3 && p.Path[len(p.Path)-1].Verdict != "transmit" {
					t.Errorf("a path ends with %+v", p.Path[len(p.Path)-1])
				}
			})
		}
		cancel()
		if err != nil || followed < 2 {
			t.Errorf("trace %d followed %d packets: %v", i, followed, err)
		}
	}
	f.stop()
	n.stop()
	f.checkOrder(t)
	n.end()
}

func TestATraceOfTooManyPacketsIsRefused(t *testing.T) {
	n := newNet(t, netConfig{}, pipe(t, "p", "a", "b", ""))
	for _, packets := range []int{-1, 0, pipeline.MaxTraced + 1} {
		if err := n.eng.Trace(context.Background(), pipeline.TraceOptions{Packets: packets}, nil); err == nil || !strings.Contains(err.Error(), "want 1 to") {
			t.Errorf("%d packets: %v", packets, err)
		}
	}
	n.end()
}

func TestWithoutATraceNothingIsAllocated(t *testing.T) {
	n := newNet(t, netConfig{noLedger: true}, pipe(t, "p", "a", "b", "test-tee copy->x ! test-split odd->c ! test-write mark=1; x: test-empty -> c"))
	packets := [][]byte{numbered(0, 0, 0), numbered(1, 0, 1)}
	round := func() {
		n.k["a"][0].Deliver(packets...)
		n.round()
		n.k["b"][0].Drain(64)
		n.k["c"][0].Drain(64)
	}
	for range 100 {
		round()
	}
	if got := testing.AllocsPerRun(100, round); got != 0 {
		t.Errorf("%v allocations for a round", got)
	}
	n.settle()
	n.end()
}
