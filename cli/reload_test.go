package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/xdpipe/xdpipe"
	"github.com/xdpipe/xdpipe/internal/traffic"
	"github.com/xdpipe/xdpipe/lab"
)

// stageNames are those of the site's instance.
func (s *site) stageNames() string {
	s.t.Helper()
	var names []string
	for _, st := range s.status()[0].Stages {
		names = append(names, st.Name)
	}
	return strings.Join(names, " ")
}

// rewrite changes a file as editors do, at once.
func rewrite(t *testing.T, path, text string) {
	t.Helper()
	next := path + ".next"
	must(t, os.WriteFile(next, []byte(text), 0o600))
	must(t, os.Rename(next, path))
}

// counters are the series of a scrape that may not shrink.
func counters(t *testing.T, text string) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		at := strings.LastIndexByte(lines.Text(), ' ')
		series := lines.Text()[:max(at, 0)]
		if name, _, _ := strings.Cut(series, "{"); !strings.HasPrefix(name, "xdpipe_") || !strings.HasSuffix(name, "_total") {
			continue
		}
		n, err := strconv.ParseFloat(lines.Text()[at+1:], 64)
		must(t, err)
		all[series] = n
	}
	return all
}

func TestReloadsUnderTrafficLoseNothingAndCountersGoOn(t *testing.T) {
	t.Run("one worker", func(t *testing.T) {
		reloadUnderTraffic(t, newSite(t, lab.Topology{}), "", 1, []layout{
			{"[parse, count]", "1:parse 2:count"},
			{"[parse, count, macswap, macswap, count]", "1:parse 2:count 3:macswap 4:macswap 5:count"},
			{"[parse]", "1:parse"},
		})
	})
	t.Run("two workers that hand packets to each other", func(t *testing.T) {
		reloadUnderTraffic(t, newSite(t, lab.Topology{Queues: 2}), "workers: {count: 2}\nmemory: {frames: 131072}", 2, []layout{
			{"[parse, count]", "1:parse 2:count"},
			{"[parse, {handoff: {workers: [1]}}, count]", "1:parse 2:handoff 3:count"},
			{"[parse, {handoff: {workers: [0]}}]", "1:parse 2:handoff"},
		})
	})
}

// A layout is the stages of both pipelines, as a file has them and by their names.
type layout struct{ stages, names string }

// on are the names of all stages of the layout, as the status has them.
func (l layout) on(workers int) string {
	var names []string
	for range workers {
		for _, pipeline := range []string{"a-b", "b-a"} {
			for _, name := range strings.Fields(l.names) {
				names = append(names, pipeline+"/"+name)
			}
		}
	}
	return strings.Join(names, " ")
}

// reloadUnderTraffic changes from layout to layout, the first being what it starts
// with, while datagrams flow.
func reloadUnderTraffic(t *testing.T, s *site, top string, workers int, layouts []layout) {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	addr := free.Addr().String()
	must(t, free.Close())
	// Rings that hold what comes while a busy machine gives the worker no CPU: that
	// would not be the reload's loss.
	const rings = ", rings: {rx: 8192, fill: 8192}"
	path := writeConfig(t, s.config(top, rings, layouts[0].stages))
	c := startReady(t, childOptions{}, "run", "--run-dir", s.runDir, "--name", "kept", "--metrics", addr, path)

	count, rate := 40_000, 10_000
	if slow() || workers > 1 {
		count, rate = 15_000, 5_000
	}
	arrived := make(chan struct{})
	go func() {
		defer close(arrived)
		s.check(traffic.UDP, traffic.Options{Count: count, Rate: rate})
	}()
	t.Cleanup(func() { <-arrived })
	before := counters(t, scrape(t, addr))
	reloads, hangups := 0, 0
	for flowing := true; flowing; {
		select {
		case <-arrived:
			flowing = false // and once more, without traffic
		default:
		}
		reloads++
		i := reloads
		l := layouts[i%len(layouts)]
		rewrite(t, path, s.config(top, rings, l.stages))
		if i%2 == 0 {
			hangups++
			must(t, c.cmd.Process.Signal(syscall.SIGHUP))
			eventually(t, "the reload", func() bool { return s.stageNames() == l.on(workers) })
		} else {
			mentions(t, cliOK(t, append(s.flags(), "reload")...), "instance kept reloaded\n", "a-b")
		}
		if names := s.stageNames(); names != l.on(workers) {
			t.Errorf("after reload %d the stages are %s, want %s", i, names, l.on(workers))
		}
		after := counters(t, scrape(t, addr))
		for series, n := range before {
			if now, ok := after[series]; ok && now < n {
				t.Errorf("after reload %d %s went from %v back to %v", i, series, n, now)
			}
		}
		before = after
	}
	t.Logf("%d reloads", reloads)
	parsed := uint64(0) // by a stage that was there all the time
	for _, st := range s.status()[0].Stages {
		if st.Name == "a-b/1:parse" {
			parsed += st.Packets
		}
	}
	if parsed < uint64(count) {
		t.Errorf("a-b/1:parse has seen %d packets of %d", parsed, count)
	}
	eventually(t, fmt.Sprintf("a line in the log for each of %d reloads by SIGHUP", hangups), func() bool {
		return strings.Count(c.err.String(), "SIGHUP: reloaded") == hangups
	})
	c.stop()
	mentions(t, c.account(), "dropped: none")
}

func TestABadConfigurationChangesNothingAndSaysWhy(t *testing.T) {
	s := newSite(t, lab.Topology{})
	good := s.config("", "", "[parse, count]")
	path := writeConfig(t, good)
	c := startReady(t, childOptions{}, "run", "--run-dir", s.runDir, path)
	was := s.status()[0]
	for _, tt := range []struct {
		name, text string
		want       []string // of standard error and of the log
	}{
		{"mistakes in two lines", strings.NewReplacer("[parse, count], to: b", "[parse, cuont], to: b", "to: a", "to: z").Replace(good),
			[]string{path + ":", `"cuont"`, `did you mean`, `"z"`}},
		{"an option that provisioning refuses", strings.Replace(good, "[parse, count], to: b", "[{pcap: {file: /xdpipe/no/such}}], to: b", 1), []string{path + ":", "/xdpipe/no/such", "no such file"}},
		{"another interface", strings.Replace(good, "interface: veth-a", "interface: veth-x", 1), []string{path + ":", "port a", "start anew"}},
		{"no YAML", "ports: [", []string{path + ":"}},
		{"nothing", "", []string{path + ":1:1: ", "empty"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rewrite(t, path, tt.text)
			status, out, errOut := cli(append(s.flags(), "reload")...)
			if status != exitFailed || out != "" {
				t.Errorf("status %d: %s", status, out)
			}
			mentions(t, errOut, tt.want...)
			for line := range strings.Lines(errOut) {
				if !strings.HasPrefix(line, path+":") {
					t.Errorf("a line without a position: %s", line)
				}
			}
			var doc struct {
				OK     *bool
				Errors []xdpipe.Mistake
			}
			_, out, _ = cli(append(s.flags(), "reload", "-j")...)
			must(t, json.Unmarshal([]byte(out), &doc))
			if doc.OK == nil || *doc.OK || len(doc.Errors) == 0 || doc.Errors[0].File != path || doc.Errors[0].Line == 0 || doc.Errors[0].Message == "" {
				t.Errorf("%s", out)
			}

			logged := strings.Count(c.err.String(), "SIGHUP: not reloaded")
			must(t, c.cmd.Process.Signal(syscall.SIGHUP))
			eventually(t, "the refusal in the log", func() bool { return strings.Count(c.err.String(), "SIGHUP: not reloaded") > logged })
		})
	}
	must(t, os.Remove(path))
	status, _, errOut := cli(append(s.flags(), "reload")...)
	if status != exitFailed {
		t.Errorf("without a file: status %d", status)
	}
	mentions(t, errOut, path, "no such file")

	now := s.status()[0]
	if s.stageNames() != "a-b/1:parse a-b/2:count b-a/1:parse b-a/2:count" || fmt.Sprint(now.Interfaces[0].Program, now.Interfaces[0].Policy) != fmt.Sprint(was.Interfaces[0].Program, was.Interfaces[0].Policy) {
		t.Errorf("it was %+v\nand is %+v", was, now)
	}
	s.checkUDP(2000)
	c.stop()
	mentions(t, c.account(), "dropped: none")
}

func TestWhatWasStartedFromTheCommandLineHasNothingToReload(t *testing.T) {
	s := newSite(t, lab.Topology{})
	c := s.forward("--name", "quick", "count")
	status, _, errOut := cli(append(s.flags(), "reload", "quick")...)
	if status != exitFailed {
		t.Errorf("status %d", status)
	}
	mentions(t, errOut, "instance quick: ", "started from the command line", "xdpipe run CONFIG.yaml")
	must(t, c.cmd.Process.Signal(syscall.SIGHUP))
	c.await("SIGHUP: not reloaded", &c.err, func(lines []string) bool {
		return strings.Contains(strings.Join(lines, "\n"), "SIGHUP: not reloaded")
	})
	s.checkUDP(1000)
	c.stop()
}

func TestAReloadOfNoInstanceSaysWhichThereAre(t *testing.T) {
	dir := newRunDir(t)
	for _, tt := range []struct {
		args   []string
		status int
		want   string
	}{
		{nil, exitFailed, "no instance is running"},
		{[]string{"x"}, exitFailed, `no instance "x" is running`},
		{[]string{"x", "y"}, exitUsage, `unexpected argument "y"`},
	} {
		status, _, errOut := cli(append([]string{"reload", "--run-dir", dir}, tt.args...)...)
		if status != tt.status {
			t.Errorf("%v: status %d, want %d", tt.args, status, tt.status)
		}
		mentions(t, errOut, tt.want)
	}
	steady(t, dir, "older") // answers nothing but /status
	status, _, errOut := cli("reload", "--run-dir", dir)
	if status != exitFailed {
		t.Errorf("status %d", status)
	}
	mentions(t, errOut, "instance older: ", "404")
}

func TestAReloadReplacesWhatPortsSteer(t *testing.T) {
	s := newSite(t, lab.Topology{})
	path := writeConfig(t, s.config("", "", "[count]"))
	c := startReady(t, childOptions{}, "run", "--run-dir", s.runDir, path)
	rewrite(t, path, strings.ReplaceAll(s.config("", "", "[count]"), "steer: all", "steer: {protocol: udp}"))
	var doc struct {
		OK       bool
		Reloaded xdpipe.Reloaded
	}
	must(t, json.Unmarshal([]byte(cliOK(t, append(s.flags(), "reload", "-j")...)), &doc))
	if !doc.OK || doc.Reloaded.Name != "xdpipe" || len(doc.Reloaded.Pipelines) != 2 || doc.Reloaded.Steer["a"] != "protocol=udp,action=redirect" {
		t.Errorf("%+v", doc)
	}
	if policy := s.status()[0].Interfaces[0].Policy; policy != "protocol=udp,action=redirect" {
		t.Errorf("steers %s", policy)
	}
	c.stop()
}
