package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/xdpipe/xdpipe"
	"github.com/xdpipe/xdpipe/pipeline"
)

var update = flag.Bool("update", false, "write the golden files anew")

// isGolden compares text with a file of testdata.
func isGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		must(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if got != string(want) {
		t.Errorf("not what %s has (-update writes it anew):\n%s", path, got)
	}
}

// hostile is a name that would clear the screen if it got through.
const hostile = "ev\x1b[2J\x07il\u202e\n"

// runningStatus is the status of an instance that has run for so many seconds.
func runningStatus(name string, seconds uint64) xdpipe.Status {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := xdpipe.Status{
		Name: name, PID: 42, Started: start, At: start.Add(time.Duration(seconds) * time.Second),
		Snapshot: pipeline.Snapshot{
			Memory: pipeline.MemoryStatus{Frames: 16384, Places: pipeline.Places{Free: 8000, Fill: 4000, Rx: 10, Tx: 20, Completion: 30, Batch: 0, Foreign: 4324, Total: 16384}},
			Ports: []pipeline.PortStatus{
				{Name: "wan", Interface: "veth-a", State: "up", RxPackets: 1234567 * seconds, RxBytes: 79012288 * seconds, TxPackets: 9 * seconds, TxBytes: 540 * seconds,
					Drops: map[string]uint64{"rx_ring_full": 1500 * seconds}},
				{Name: "lan", Interface: "veth-b", Queue: 1, State: "link down", Drops: map[string]uint64{}},
			},
			Pipelines: []pipeline.PipelineStatus{
				{Name: "wan-lan", From: "wan", To: "lan", State: "running"},
				{Name: "lan-wan", From: "lan", To: "wan", State: "dropping", Panics: 8, Dropped: 12500 * seconds},
			},
			Stages: []pipeline.StageStatus{
				{Name: "wan-lan/1:parse", Type: "parse", Calls: 20000 * seconds, Packets: 1234567 * seconds, TimedPackets: 1000 * seconds, TimedNs: 4200 * seconds,
					Drops: map[string]uint64{"malformed": 2 * seconds, "too_short": 3 * seconds}},
				{Name: "wan-lan/2:acl", Type: "acl", Calls: 20000 * seconds, Packets: 1234500 * seconds, TimedPackets: 1000 * seconds, TimedNs: 51500 * seconds,
					Drops: map[string]uint64{"acl_denied": 1000000 * seconds}},
				{Name: "wan-lan/3:" + hostile, Type: "count", Worker: 1, Calls: seconds, Packets: seconds, Drops: map[string]uint64{hostile: seconds}},
			},
		},
	}
	return s
}

// fakeInstance answers on a socket in a run directory with what status returns.
func fakeInstance(t *testing.T, dir, name string, status func() any) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(dir, name+".sock"))
	must(t, err)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(status())
	})
	server := &http.Server{Handler: mux}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-ended })
}

// steady is an instance whose every reading is one second after the one before.
func steady(t *testing.T, dir, name string) {
	var seconds atomic.Uint64
	seconds.Store(10)
	fakeInstance(t, dir, name, func() any { return runningStatus(name, seconds.Add(1)) })
}

func screenText(lines []screenLine) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.text + "\n")
	}
	return b.String()
}

func TestTheLiveViewIsThatOfTheGoldenFiles(t *testing.T) {
	bridge := xdpipe.RatesBetween(runningStatus("bridge", 10), runningStatus("bridge", 11))
	evil := xdpipe.RatesBetween(xdpipe.Status{}, runningStatus(hostile, 1))
	for _, tt := range []struct {
		name          string
		width, height int
		rates         []xdpipe.Rates
		problem       error
		keys          []string
	}{
		{"two", 130, 24, []xdpipe.Rates{bridge, evil}, nil, nil},
		{"narrow", 60, 14, []xdpipe.Rates{bridge}, nil, nil},
		{"scrolled", 100, 8, []xdpipe.Rates{bridge}, nil, []string{"j", "j", "j", "\x1b[B", "\x1b[A"}},
		{"to-the-end", 100, 8, []xdpipe.Rates{bridge}, nil, []string{"\x1b[6~", "\x1b[6~", "\x1b[6~"}},
		{"by-ns", 100, 14, []xdpipe.Rates{bridge}, nil, []string{"n", " "}},
		{"by-drops", 100, 14, []xdpipe.Rates{bridge}, nil, []string{"d"}},
		{"none", 60, 5, nil, &xdpipe.NoInstanceError{}, nil},
		{"two-rows", 60, 2, []xdpipe.Rates{bridge}, nil, nil},
		{"one-row", 10, 1, []xdpipe.Rates{bridge}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &topScreen{interval: time.Second, order: stageOrders[0]}
			s.show(time.Date(2026, 1, 2, 3, 4, 16, 0, time.UTC), false, tt.rates, tt.problem)
			s.render(tt.width, tt.height)
			for _, k := range tt.keys {
				if s.key(k) {
					t.Errorf("%q ended it", k)
				}
			}
			lines := s.render(tt.width, tt.height)
			if len(lines) != tt.height {
				t.Errorf("%d lines on a screen of %d", len(lines), tt.height)
			}
			for _, l := range lines {
				if n := len([]rune(l.text)); n > tt.width {
					t.Errorf("%d characters in %d columns: %s", n, tt.width, l.text)
				}
			}
			isGolden(t, "top-"+tt.name+".golden", screenText(lines))
			for _, escape := range []string{"\x1b[2J", "\x07", "\u202e"} {
				if strings.Contains(frame(lines), escape) {
					t.Errorf("%q got to the terminal", escape)
				}
			}
		})
	}
}

func TestAHeldViewTakesNoReadings(t *testing.T) {
	s := &topScreen{interval: time.Second, order: stageOrders[0]}
	first := []xdpipe.Rates{{Name: "first"}}
	s.show(time.Time{}, true, first, nil)
	s.key(" ")
	s.show(time.Time{}, false, []xdpipe.Rates{{Name: "second"}}, nil)
	mentions(t, screenText(s.render(100, 20)), "first", "HELD", "since the start")
	s.key(" ")
	s.show(time.Time{}, false, []xdpipe.Rates{{Name: "second"}}, nil)
	mentions(t, screenText(s.render(100, 20)), "second", "over 1s")
	for _, k := range []string{"q", "\x03"} {
		if !s.key(k) {
			t.Errorf("%q does not end it", k)
		}
	}
}

func TestKeysAreTakenApart(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want []string
	}{
		{"", nil},
		{"qn", []string{"q", "n"}},
		{"\x1b[A\x1b[6~x\x1bOB", []string{"\x1b[A", "\x1b[6~", "x", "\x1bOB"}},
		{"\x1b", []string{"\x1b"}},
		{"\x1b[", []string{"\x1b", "["}},
		{"\x1b[12", []string{"\x1b[12"}},
	} {
		if got := splitKeys(tt.in); !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestNumbersHaveThreeDigitsAndAPrefix(t *testing.T) {
	for f, want := range map[float64]string{
		0: "0", 0.25: "0.2", 7: "7", 99.4: "99.4", 99.97: "100", 123: "123", 999.4: "999", 999.6: "1.00k", 1234: "1.23k", 9994: "9.99k", 9996: "10.0k", 99960: "100k",
		123456: "123k", 999600: "1.00M", 1.5e9: "1.50G", 4e11: "400G", 4e12: "4.00T", 4e16: "40000T",
	} {
		if got := si(f); got != want {
			t.Errorf("%v: %s, want %s", f, got, want)
		}
	}
}

func TestOffTheTerminalTopPrintsLinesOfColumns(t *testing.T) {
	dir := newRunDir(t)
	steady(t, dir, "bridge")
	out := cliOK(t, "top", "--run-dir", dir, "-n", "2", "-d", "50ms")
	isGolden(t, "top-lines.golden", out)
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if want := map[string]int{"port": 13, "pipeline": 7, "stage": 12, "frames": 11}[fields[2]]; len(fields) != want {
			t.Errorf("%d columns, want %d: %s", len(fields), want, line)
		}
	}
}

func TestTopPrintsAJSONDocumentForEachInterval(t *testing.T) {
	dir := newRunDir(t)
	steady(t, dir, "bridge")
	steady(t, dir, "other")
	out := cliOK(t, "top", "--run-dir", dir, "-n", "3", "-d", "50ms", "-j", "bridge")
	documents := 0
	for line := range strings.Lines(out) {
		documents++
		var doc struct {
			At        time.Time
			Instances []xdpipe.Rates
		}
		must(t, json.Unmarshal([]byte(line), &doc))
		if len(doc.Instances) != 1 || doc.At.IsZero() {
			t.Fatalf("%s", line)
		}
		r := doc.Instances[0]
		if r.Name != "bridge" || r.Interval != 1 || r.Ports[0].RxPackets != 1234567 || r.Stages[1].NsPerPacket != 51.5 || r.Stages[1].Drops["acl_denied"] != 1e6 || r.Places.Total != 16384 {
			t.Errorf("%+v", r)
		}
	}
	if documents != 3 {
		t.Errorf("%d documents, want 3", documents)
	}
}

func TestTopSaysWhatItCannotShow(t *testing.T) {
	dir := newRunDir(t)
	for _, tt := range []struct {
		args   []string
		status int
		want   string
	}{
		{nil, exitFailed, "no instance is running"},
		{[]string{"bridge"}, exitFailed, `no instance "bridge" is running, nor any other`},
		{[]string{"a", "b"}, exitUsage, `unexpected argument "b"`},
		{[]string{"-n", "-1"}, exitUsage, "-n -1"},
		{[]string{"-d", "0s"}, exitUsage, "50ms or more"},
	} {
		status, _, errOut := cli(append([]string{"top", "--run-dir", dir}, tt.args...)...)
		if status != tt.status {
			t.Errorf("%v: status %d, want %d", tt.args, status, tt.status)
		}
		mentions(t, errOut, tt.want)
	}
	steady(t, dir, "other")
	_, _, errOut := cli("top", "--run-dir", dir, "bridge")
	mentions(t, errOut, `no instance "bridge" is running; there is: other`)
}

func TestAnInstanceThatDoesNotAnswerIsToldOfOnceBesideTheOthers(t *testing.T) {
	dir := newRunDir(t)
	steady(t, dir, "bridge")
	fakeInstance(t, dir, "sick", func() any { return "no status" })
	status, out, errOut := cli("top", "--run-dir", dir, "-n", "2", "-d", "50ms")
	if status != exitDone || strings.Count(out, " bridge ") != 2*8 {
		t.Errorf("status %d: %s", status, out)
	}
	if strings.Count(errOut, "instance sick: ") != 1 {
		t.Errorf("standard error: %s", errOut)
	}
}

func TestAStopEndsTheLinesCleanly(t *testing.T) {
	dir := newRunDir(t)
	steady(t, dir, "bridge")
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM} {
		c := startChild(t, childOptions{}, "top", "--run-dir", dir, "-d", "50ms")
		c.await("a line", &c.out, func(lines []string) bool { return len(lines) > 5 })
		if status := c.signal(s); status != exitDone || c.err.String() != "" {
			t.Errorf("%v: status %d, standard error %q", s, status, c.err.String())
		}
	}
	var out bytes.Buffer
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	a := &app{out: &out, err: &out, runDir: dir}
	if err := a.topLines(ctx, &watcher{runDir: dir, interval: time.Hour}); err != nil || out.Len() > 0 {
		t.Errorf("stopped before the first reading: %v, %s", err, fmt.Sprint(out.String()))
	}
}
