package stages

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/xdpipe/xdpipe/pipeline"
	"github.com/xdpipe/xdpipe/pipeline/pipelinetest"
)

// The tests here run stages that split, copy or move packets in graphs, on an
// engine with the ledger on.

func macSwapped(p []byte) []byte { return slices.Concat(p[6:12], p[:6], p[12:]) }

func wantPort(t *testing.T, r *pipelinetest.Result, port string, want ...[]byte) {
	t.Helper()
	got := r.Port(port)
	if len(got) != len(want) {
		t.Errorf("%d packets left by port %s, want %d", len(got), port, len(want))
		return
	}
	for i := range want {
		if !bytes.Equal(got[i].Data, want[i]) {
			t.Errorf("port %s, packet %d is %x, want %x", port, i, got[i].Data, want[i])
		}
	}
}

func TestMatchSendsTheRestIntoABranchAndTheyMeetAgain(t *testing.T) {
	udp, tcp, arp := udpPacket(), ipv4Packet(6, whole, ports, string(make([]byte, 16))), ethernet("\x08\x06")
	packets := pipelinetest.Packets(udp, tcp, arp, udp)
	r := pipelinetest.Run(t, "match expr='udp port 53' else->rest ! count; rest: match expr=tcp else->others ! macswap; others: count -> third", packets...)
	r.WantDrops(map[string]uint64{})
	wantPort(t, r, "third", arp)
	if got := r.Out(); len(got) != 3 || !slices.ContainsFunc(got, func(p pipelinetest.Packet) bool { return bytes.Equal(p.Data, macSwapped(tcp)) }) {
		t.Errorf("left: %v, want both UDP packets and the TCP packet with its addresses swapped", got)
	}
	r.WantValues("match", map[string]uint64{"matched": 3, "other": 3})

	r = pipelinetest.Run(t, "match expr='udp port 53'", packets...)
	r.WantOut(udp, udp)
	r.WantDrops(map[string]uint64{"not_matched": 2})
}

func TestTeeSendsTwoWaysWhatLaterStagesDoToOne(t *testing.T) {
	var packets [][]byte
	for i := range 300 {
		packets = append(packets, numbered(i, 60+i))
	}
	var swapped [][]byte
	for _, p := range packets {
		swapped = append(swapped, macSwapped(p))
	}
	in := pipelinetest.Packets(packets...)
	for _, tc := range []struct {
		stages      string
		out, copies [][]byte
		teed        uint64
		copied      uint64 // at least; the last holder of a packet needs no copy
	}{
		{"tee copy->copies", packets, packets, 300, 0},
		{"tee copy->copies ! macswap", swapped, packets, 300, 300},
		{"tee copy->branch ! count; branch: macswap -> copies", packets, swapped, 300, 0},
		{"tee copy->copies ! drop", nil, packets, 300, 0},
		{"tee copy->branch ! count; branch: drop -> copies", packets, nil, 300, 0},
		{"tee copy->copies ! tee copy->branch ! macswap; branch: macswap ! drop -> copies", swapped, packets, 600, 300},
	} {
		r := pipelinetest.Run(t, tc.stages, in...)
		wantPort(t, r, "out", tc.out...)
		wantPort(t, r, "copies", tc.copies...)
		if r.Packets.Teed != tc.teed {
			t.Errorf("%s: %d references made, want %d", tc.stages, r.Packets.Teed, tc.teed)
		}
		if r.Packets.Copied < tc.copied || r.Packets.Copied > tc.teed {
			t.Errorf("%s: %d packets copied, want %d to %d", tc.stages, r.Packets.Copied, tc.copied, tc.teed)
		}
	}
}

func TestSampleSendsSomeToABranchAndAllOn(t *testing.T) {
	var packets, sampled [][]byte
	for i := range 200 {
		packets = append(packets, numbered(i, 100))
		if (i+1)%7 == 0 {
			sampled = append(sampled, packets[i])
		}
	}
	r := pipelinetest.Run(t, "sample every=7 sampled->samples ! macswap ! macswap", pipelinetest.Packets(packets...)...)
	r.WantOut(packets...)
	wantPort(t, r, "samples", sampled...)
	r.WantDrops(map[string]uint64{})
	r.WantValues("sample", map[string]uint64{"packets": 200, "sampled": uint64(len(sampled))})
}

func TestRateLimitSendsWhatIsTooMuchToABranch(t *testing.T) {
	packets := pipelinetest.Packets(numbered(0, 60), numbered(1, 60), numbered(2, 60), numbered(3, 60))
	packets[3].At = time.Second // the others are of the same moment, nearly
	r := pipelinetest.Run(t, "ratelimit rate=1pps burst=2 exceeded->slow ! count; slow: count -> other", packets...)
	r.WantOut(packets[0].Data, packets[1].Data, packets[3].Data)
	wantPort(t, r, "other", packets[2].Data)
	r.WantDrops(map[string]uint64{})

	r = pipelinetest.Run(t, "ratelimit rate=1pps burst=2", packets...)
	r.WantDrops(map[string]uint64{"rate_exceeded": 1})
	r.WantValues("ratelimit", map[string]uint64{"passed": 3, "exceeded": 1})
}

func TestRateLimitSharesItsRateAmongTheWorkersOfAnEngine(t *testing.T) {
	// 40 packets of 1000 bytes, and another after two hours.
	r := newRig(t, 2, "ratelimit rate=1bps burst=40KB")
	for w := range 2 {
		if left := r.pass(w, slices.Repeat([][]byte{numbered(0, 1000)}, 50)...); len(left) != 20 {
			t.Errorf("%d packets left by worker %d, want its half of 40", len(left), w)
		}
	}
	must(t, r.stop())
}

func TestRateLimitKeepsItsBucketsOverAReload(t *testing.T) {
	const stages = "ratelimit rate=1bps burst=120 by=src" // two packets, and another after eight minutes
	r := newRig(t, 1, stages)
	reload := func(stages string) {
		t.Helper()
		specs, err := pipeline.ParseQuick("stages", stages)
		must(t, err)
		must(t, r.Swap([]pipeline.Pipeline{{Name: "p", From: "a", To: "b", Stages: specs}}))
	}
	packets := slices.Repeat([][]byte{udpPacket()}, 5)
	for _, step := range []struct {
		stages string
		want   int
	}{{stages, 2}, {"count ! " + stages, 0}, {stages + " ! count", 0}, {"ratelimit rate=1bps burst=240 by=src", 4}} {
		reload(step.stages)
		if left := r.pass(0, packets...); len(left) != step.want {
			t.Errorf("%s: %d packets left, want %d", step.stages, len(left), step.want)
		}
	}
	must(t, r.stop())
}

func TestHandoffKeepsTheOrderOfFlowsUnderLoad(t *testing.T) {
	const workers, flows, each = 3, 24, 400
	const total = flows * each
	for _, by := range []string{"flow", "src"} {
		r := newRig(t, workers, "handoff by="+by+" ! count")
		// Each queue has some of the flows, as a NIC deals them out, so that each flow is
		// handed from its worker to another or stays.
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				for n := range uint32(each) {
					for flow := uint32(w); flow < flows; flow += workers {
						p := udpFrom(0x0a000000+flow, 0xc0000201, uint16(1000+flow), 53)
						binary.BigEndian.PutUint32(p[42:], flow)
						binary.BigEndian.PutUint32(p[46:], n)
						for r.in[w].Deliver(p) == 0 { // as fast as the ring takes them
							runtime.Gosched()
						}
					}
				}
			})
		}
		// The far end of each worker's queue.
		var left [workers][][]byte
		var far sync.WaitGroup
		done := make(chan struct{})
		for w := range workers {
			far.Go(func() {
				for {
					left[w] = append(left[w], r.out[w].Transmitted()...)
					select {
					case <-done:
						left[w] = append(left[w], r.out[w].Transmitted()...)
						return
					case <-time.After(50 * time.Microsecond):
					}
				}
			})
		}
		wg.Wait()
		waitFor(t, func() bool {
			n := 0
			for w := range workers {
				n += r.account(w)
			}
			for _, p := range r.Snapshot().Ports {
				if p.Name == "b" { // rings that were full
					for _, d := range p.Drops {
						n += int(d)
					}
				}
			}
			return n == total
		})
		close(done)
		far.Wait()
		must(t, r.stop())

		at, last := map[uint32]int{}, map[uint32]uint32{}
		busy := map[int]bool{}
		count := 0
		for w := range workers {
			for _, p := range left[w] {
				flow, n := binary.BigEndian.Uint32(p[42:]), binary.BigEndian.Uint32(p[46:])
				if was, ok := at[flow]; ok && was != w {
					t.Fatalf("by %s: flow %d left by workers %d and %d", by, flow, was, w)
				}
				if prev, ok := last[flow]; ok && n <= prev {
					t.Fatalf("by %s: packet %d of flow %d left after packet %d", by, n, flow, prev)
				}
				at[flow], last[flow] = w, n
				busy[w] = true
				count++
			}
		}
		if len(at) != flows || len(busy) != workers {
			t.Errorf("by %s: %d of %d packets, %d of %d flows left by %d workers", by, count, total, len(at), flows, len(busy))
		}
		handed := uint64(0)
		for _, s := range r.Snapshot().Stages {
			if s.Type == "handoff" {
				for _, n := range s.Values {
					handed += n
				}
			}
		}
		if handed != uint64(total) {
			t.Errorf("by %s: %d packets handed to workers, %d were delivered", by, handed, total)
		}
	}
}

func TestHandoffToSomeWorkersLeavesTheOthersNothing(t *testing.T) {
	// workers takes one in the quick form; a list is for YAML.
	r := newRig(t, 3, "handoff workers=2 ! count")
	for w := range 3 {
		for range 10 {
			for r.in[w].Deliver(udpPacket()) == 0 {
				time.Sleep(time.Microsecond)
			}
		}
	}
	waitFor(t, func() bool { return r.account(2) == 30 })
	s := fmt.Sprint(r.account(0), r.account(1), len(r.out[2].Transmitted()))
	if s != "0 0 30" {
		t.Errorf("packets out of workers 0, 1, 2: %s, want all 30 out of the last", s)
	}
	must(t, r.stop())
}
