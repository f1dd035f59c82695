package xdpipe

import (
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/xdpipe/xdpipe/bpf"
	"github.com/xdpipe/xdpipe/pipeline"
)

var update = flag.Bool("update", false, "write the golden files anew")

// exampleStatus has something in every field that metrics are made of.
func exampleStatus() Status {
	return Status{
		Name: "bridge", PID: 7, Started: time.Unix(1_700_000_000, 250e6), At: time.Unix(1_700_000_060, 0),
		Snapshot: pipeline.Snapshot{
			Memory: pipeline.MemoryStatus{
				Frames: 100, FrameSize: 4096,
				Places: pipeline.Places{Free: 40, Fill: 30, Rx: 5, Tx: 6, Completion: 7, Batch: 8, Foreign: 4, Total: 100},
			},
			Ports: []pipeline.PortStatus{
				{
					Name: "wan", Interface: "veth-a", Queue: 0, Worker: 0, Mode: "native", State: stateUp,
					RxPackets: 1000, RxBytes: 64000, TxPackets: 900, TxBytes: 57600, CopiedPackets: 3,
					Drops:  map[string]uint64{"rx_ring_full": 12, "tx_ring_full": 4, "tx_dropped": 100},
					Socket: &pipeline.SocketStatus{Kicks: 50, Wakes: 60, SendAgain: 1, SendBusy: 2, SendNoBufs: 3, SendErrors: 4},
				},
				{Name: "wan", Interface: "veth-a", Queue: 1, Worker: 1, Mode: "generic", ZeroCopy: true, State: "link down"},
			},
			Pipelines: []pipeline.PipelineStatus{
				{Name: "wan-lan", From: "wan", To: "lan", State: "running", Panics: 2},
				{Name: "lan-wan", From: "lan", To: "wan", State: "dropping", Panics: 8, Dropped: 70},
			},
			Packets: pipeline.PacketStatus{Created: 1, Teed: 2, Consumed: 3, Copied: 4, Drops: map[string]uint64{"pipeline_disabled": 75, "acl_denied": 6}},
			Stages: []pipeline.StageStatus{
				{
					Name: "wan-lan/1:parse", Type: "parse", Worker: 0, Calls: 20, Packets: 1000, NsPerPacket: 5,
					TimedPackets: 128, TimedNs: 640, Drops: map[string]uint64{"malformed": 9}, Values: map[string]uint64{"packets": 991},
				},
				{Name: "wan-lan/1:parse", Type: "parse", Worker: 1, Drops: map[string]uint64{}},
			},
		},
		Interfaces: []InterfaceStatus{{
			Port: "wan", Interface: "veth-a", RuleHits: []uint64{5, 6},
			Steering: bpf.Counters{
				Redirect: bpf.Counter{Packets: 1000, Bytes: 64000}, PassNoSocket: bpf.Counter{Packets: 3, Bytes: 180},
				DropRule: bpf.Counter{Packets: 2, Bytes: 120}, Truncated: bpf.Counter{Packets: 1, Bytes: 20},
			}.ByReason(),
		}},
	}
}

// scrape is what Prometheus gets of a collector, which may not be inconsistent.
func scrape(t *testing.T, c prometheus.Collector) string {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(c)
	w := httptest.NewRecorder()
	promhttp.HandlerFor(r, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestMetricsAreThoseOfTheGoldenFileAndKeepTheConventions(t *testing.T) {
	c := &collector{status: exampleStatus}
	text := scrape(t, c)
	isGolden(t, "metrics.golden", versionless(text))
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	guide, err := os.ReadFile("docs/running.md")
	must(t, err)
	for _, d := range families {
		name := strings.Split(d.String(), `"`)[1]
		if !strings.Contains(text, "\n"+name+"{") {
			t.Errorf("%s is described and not there", name)
		}
		if !strings.Contains(string(guide), "`"+name+"`") {
			t.Errorf("%s is not in docs/running.md", name)
		}
	}
}

// versionless leaves out what differs from one build to the next.
func versionless(text string) string {
	var kept []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "xdpipe_build_info{") {
			line = "xdpipe_build_info{…} 1\n"
		}
		kept = append(kept, line)
	}
	return strings.Join(kept, "")
}

func TestNamesThatAreNoTextDoNotFailTheAnswer(t *testing.T) {
	s := exampleStatus()
	s.Name, s.Ports[0].Interface = "b\xffr", "veth\x1b\xfe"
	s.Stages[0].Drops = map[string]uint64{"odd\xff": 1, "odd\xfe": 2, "quote\"\n": 4}
	text := scrape(t, &collector{status: func() Status { return s }})
	for _, want := range []string{`name="b�r"`, `reason="odd�",stage="wan-lan/1:parse",type="parse",worker="0"} 3`, `reason="quote\"\n"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in:\n%s", want, text)
		}
	}
}

func TestCountersDoNotGoBackwards(t *testing.T) {
	s := exampleStatus()
	c := &collector{status: func() Status { return s }}
	has := func(want ...string) {
		t.Helper()
		text := scrape(t, c)
		for _, w := range want {
			if !strings.Contains(text, w+"\n") {
				t.Errorf("no %s in:\n%s", w, text)
			}
		}
	}
	// The kernel drops a packet that counted as transmitted, and a difference of
	// two of its counters shrinks.
	s.Ports = s.Ports[:1]
	s.Ports[0].TxPackets, s.Ports[0].Drops = 1000, map[string]uint64{"rx_dropped": 7}
	has(`xdpipe_port_transmit_packets_total{interface="veth-a",name="bridge",port="wan",queue="0"} 1000`,
		`queue="0",reason="rx_dropped"} 7`)
	s.Ports[0].TxPackets, s.Ports[0].Drops = 999, map[string]uint64{"rx_dropped": 6, "tx_dropped": 1}
	has(`xdpipe_port_transmit_packets_total{interface="veth-a",name="bridge",port="wan",queue="0"} 1000`,
		`queue="0",reason="tx_dropped"} 1`, `queue="0",reason="rx_dropped"} 7`)
}
