package xdpipe

import (
	"time"

	"github.com/xdpipe/xdpipe/pipeline"
)

// Rates are what an instance did between two readings of its status, for each
// second. Their JSON is an element of "instances" in `xdpipe top -j`.
type Rates struct {
	Name      string          `json:"name"`
	PID       int             `json:"pid"`
	Started   time.Time       `json:"started"`
	At        time.Time       `json:"at"`
	Interval  float64         `json:"interval_seconds"`
	Places    pipeline.Places `json:"places"` // at the end of the interval
	Ports     []PortRates     `json:"ports"`
	Pipelines []PipelineRates `json:"pipelines"`
	Stages    []StageRates    `json:"stages"`
}

// PortRates are those of one queue of a port.
type PortRates struct {
	Name      string             `json:"name"`
	Interface string             `json:"interface"`
	Queue     int                `json:"queue"`
	State     string             `json:"state"`
	RxPackets float64            `json:"rx_packets"` // per second, as all that follows
	RxBits    float64            `json:"rx_bits"`    // of Ethernet frames without the frame check sequence
	TxPackets float64            `json:"tx_packets"`
	TxBits    float64            `json:"tx_bits"`
	Drops     map[string]float64 `json:"drops"` // by reason, without zeros
}

// PipelineRates are those of one pipeline.
type PipelineRates struct {
	Name   string  `json:"name"`
	State  string  `json:"state"`  // running; dropping, passing or stopped after too many panics
	Panics uint64  `json:"panics"` // of its stages, since the start or the last reload
	Drops  float64 `json:"drops"`  // per second, because it does not run
}

// StageRates are those of one stage on one worker.
type StageRates struct {
	Name           string             `json:"name"`
	Type           string             `json:"type"`
	Worker         int                `json:"worker"`
	Calls          float64            `json:"calls"`   // per second
	Packets        float64            `json:"packets"` // per second
	PacketsPerCall float64            `json:"packets_per_call"`
	NsPerPacket    float64            `json:"ns_per_packet"` // of the calls timed in the interval, or since the start if none was
	Load           float64            `json:"load"`          // the part of a core the stage takes, 0 to 1
	Drops          map[string]float64 `json:"drops"`         // per second by reason, without zeros
}

// RatesBetween compares two readings of one instance. If before is not of the same
// instance, as the zero Status is, the interval is the time since the start.
func RatesBetween(before, after Status) Rates {
	r := Rates{
		Name: after.Name, PID: after.PID, Started: after.Started, At: after.At, Places: after.Memory.Places,
		Ports: []PortRates{}, Pipelines: []PipelineRates{}, Stages: []StageRates{},
	}
	if before.Name != after.Name || before.PID != after.PID || !before.Started.Equal(after.Started) {
		before = Status{At: after.Started}
	}
	r.Interval = after.At.Sub(before.At).Seconds()
	per := perSecond(r.Interval)

	type queue struct {
		port   string
		number int
	}
	ports := map[queue]pipeline.PortStatus{}
	for _, p := range before.Ports {
		ports[queue{p.Name, p.Queue}] = p
	}
	for _, p := range after.Ports {
		was := ports[queue{p.Name, p.Queue}]
		r.Ports = append(r.Ports, PortRates{
			Name: p.Name, Interface: p.Interface, Queue: p.Queue, State: p.State,
			RxPackets: per.rate(was.RxPackets, p.RxPackets), RxBits: 8 * per.rate(was.RxBytes, p.RxBytes),
			TxPackets: per.rate(was.TxPackets, p.TxPackets), TxBits: 8 * per.rate(was.TxBytes, p.TxBytes),
			Drops: per.rates(was.Drops, p.Drops),
		})
	}

	dropped := map[string]uint64{}
	for _, p := range before.Pipelines {
		dropped[p.Name] = p.Dropped
	}
	for _, p := range after.Pipelines {
		r.Pipelines = append(r.Pipelines, PipelineRates{p.Name, p.State, p.Panics, per.rate(dropped[p.Name], p.Dropped)})
	}

	type node struct {
		stage  string
		worker int
	}
	stages := map[node]pipeline.StageStatus{}
	for _, s := range before.Stages {
		stages[node{s.Name, s.Worker}] = s
	}
	for _, s := range after.Stages {
		was := stages[node{s.Name, s.Worker}]
		if was.Packets > s.Packets {
			was = pipeline.StageStatus{} // a new stage of the old one's name
		}
		rates := StageRates{
			Name: s.Name, Type: s.Type, Worker: s.Worker,
			Calls: per.rate(was.Calls, s.Calls), Packets: per.rate(was.Packets, s.Packets),
			Drops: per.rates(was.Drops, s.Drops),
		}
		if rates.Calls > 0 {
			rates.PacketsPerCall = rates.Packets / rates.Calls
		}
		switch {
		case s.TimedPackets > was.TimedPackets && s.TimedNs >= was.TimedNs:
			rates.NsPerPacket = float64(s.TimedNs-was.TimedNs) / float64(s.TimedPackets-was.TimedPackets)
		case rates.Packets > 0:
			rates.NsPerPacket = s.NsPerPacket
		}
		rates.Load = rates.Packets * rates.NsPerPacket / 1e9
		r.Stages = append(r.Stages, rates)
	}
	return r
}

// perSecond turns the difference of counters into rates; it is the seconds between.
type perSecond float64

// rate is 0 for a counter that shrank: it is a difference itself, or started anew.
func (p perSecond) rate(before, after uint64) float64 {
	if p <= 0 || after < before {
		return 0
	}
	return float64(after-before) / float64(p)
}

func (p perSecond) rates(before, after map[string]uint64) map[string]float64 {
	rates := map[string]float64{}
	for name, n := range after {
		if r := p.rate(before[name], n); r > 0 {
			rates[name] = r
		}
	}
	return rates
}
