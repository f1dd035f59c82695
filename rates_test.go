package xdpipe

import (
	"reflect"
	"testing"
	"time"

	"github.com/xdpipe/xdpipe/pipeline"
)

// reading is a status of one port and one stage, at so many seconds since the start.
func reading(seconds int, packets, drops uint64) Status {
	start := time.Unix(1_700_000_000, 0)
	return Status{
		Name: "x", PID: 1, Started: start, At: start.Add(time.Duration(seconds) * time.Second),
		Snapshot: pipeline.Snapshot{
			Ports: []pipeline.PortStatus{{
				Name: "p", RxPackets: packets, RxBytes: 100 * packets, TxPackets: packets - drops, TxBytes: 100 * packets,
				Drops: map[string]uint64{"tx_ring_full": drops},
			}},
			Stages: []pipeline.StageStatus{{
				Name: "p-p/1:count", Type: "count", Calls: packets / 10, Packets: packets,
				TimedPackets: packets / 2, TimedNs: 10 * packets, Drops: map[string]uint64{"too_short": drops},
			}},
		},
	}
}

func TestRatesAreOfTheIntervalOrSinceTheStart(t *testing.T) {
	other := reading(10, 1000, 0)
	other.PID = 2
	// The calls timed in the interval took 60 ns a packet, all before 20 ns.
	slower := reading(20, 3000, 100)
	slower.Stages[0].TimedNs = 10*1000 + 60*1000
	untimed := reading(20, 1100, 0)
	untimed.Stages[0].TimedPackets, untimed.Stages[0].TimedNs, untimed.Stages[0].NsPerPacket = 500, 10*1000, 20
	renewed := reading(20, 500, 0)
	for _, tt := range []struct {
		name                                          string
		before, after                                 Status
		interval, rx, bits, calls, perCall, ns, drops float64
	}{
		{"of two readings", reading(10, 1000, 0), slower, 10, 200, 160000, 20, 10, 60, 10},
		{"since the start", Status{}, reading(10, 1000, 50), 10, 100, 80000, 10, 10, 20, 5},
		{"of another instance before", other, reading(10, 1000, 50), 10, 100, 80000, 10, 10, 20, 5},
		{"of nothing that happened", reading(10, 1000, 5), reading(20, 1000, 5), 10, 0, 0, 0, 0, 0, 0},
		{"of few calls, none of them timed", reading(10, 1000, 0), untimed, 10, 10, 8000, 1, 10, 20, 0},
		{"of no time", reading(10, 1000, 0), reading(10, 1000, 0), 0, 0, 0, 0, 0, 0, 0},
		{"of a stage that started anew", reading(10, 1000, 0), renewed, 10, 0, 0, 5, 10, 20, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := RatesBetween(tt.before, tt.after)
			p, s := r.Ports[0], r.Stages[0]
			got := []float64{r.Interval, p.RxPackets, p.RxBits, s.Calls, s.PacketsPerCall, s.NsPerPacket, s.Drops["too_short"]}
			want := []float64{tt.interval, tt.rx, tt.bits, tt.calls, tt.perCall, tt.ns, tt.drops}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("interval, rx, bits, calls, packets/call, ns, drops are %v, want %v", got, want)
			}
			if load := s.Packets * tt.ns / 1e9; s.Load != load {
				t.Errorf("load %v, want %v", s.Load, load)
			}
			if len(p.Drops) != 0 == (tt.drops == 0) {
				t.Errorf("drops of the port: %v", p.Drops)
			}
		})
	}
}
