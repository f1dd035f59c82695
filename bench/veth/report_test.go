package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"golang.org/x/perf/benchfmt"
)

// fixedRuns are two rounds of two contenders under one load, in turns.
func fixedRuns() (settings, []measurement) {
	s := settings{plan: plan{frame: 64, window: time.Second, softirqs: 1}, rounds: 2,
		contenders: contenders[:1:1], loads: []load{{name: "overload"}}}
	s.contenders = append(s.contenders, contenders[len(contenders)-1])
	var runs []measurement
	for round, pps := range [][2]uint64{{200_000, 100_000}, {300_000, 100_000}} {
		for i, c := range s.contenders {
			runs = append(runs, measurement{
				contender: c.name, load: "overload", round: round + 1, seconds: 1,
				sent: 1_000_000, arrived: pps[i], sentAll: 1_000_000, arrivedAll: pps[i],
				cpu: cpuTime{total: time.Second, user: 250 * time.Millisecond, system: 250 * time.Millisecond},
			})
		}
	}
	return s, runs
}

func reported(s settings, runs []measurement) string {
	var out bytes.Buffer
	r := newReporter(&out, s)
	r.begin()
	for _, m := range runs {
		r.add(m)
	}
	if err := r.end(); err != nil {
		return err.Error()
	}
	return out.String()
}

func TestTheOutputIsWhatBenchstatReads(t *testing.T) {
	s, runs := fixedRuns()
	reader := benchfmt.NewReader(strings.NewReader(reported(s, runs)), "output")
	results := 0
	for reader.Scan() {
		switch rec := reader.Result().(type) {
		case *benchfmt.SyntaxError:
			t.Errorf("%v", rec)
		case *benchfmt.Result:
			results++
			base, parts := rec.Name.Parts()
			if string(base) != "Forward" || len(parts) != 2 || string(parts[0]) != "/load=overload" || !strings.HasPrefix(string(parts[1]), "/forwarder=") {
				t.Errorf("name is %s with %q", base, parts)
			}
			if _, ok := rec.Value("pps"); !ok {
				t.Errorf("%s has no pps", rec.Name)
			}
		}
	}
	if results != len(runs) {
		t.Errorf("%d results for %d runs", results, len(runs))
	}
}

func TestNoContenderIsNamedAsBenchstatNamesANumberOfCPUs(t *testing.T) {
	for _, c := range contenders {
		_, parts := benchfmt.Name("Forward/forwarder=" + c.name).Parts()
		if len(parts) != 1 {
			t.Errorf("%s: its last part is taken for GOMAXPROCS", c.name)
		}
	}
}

func TestTheTableHasSpreadAndRatiosPerRound(t *testing.T) {
	s, runs := fixedRuns()
	out := reported(s, runs)
	var row []string
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] == s.contenders[1].name {
			row = fields
			break
		}
	}
	// pps of the second, and the first ÷ it: 2 and 3 in the two rounds.
	if got := strings.Join(row, " "); got != s.contenders[1].name+" 100000 100000 100000 2.50 2.00 3.00" {
		t.Errorf("the second contender's row is %q in\n%s", got, out)
	}
}

func TestTheJSONHasTheFieldsOfTheContract(t *testing.T) {
	s, runs := fixedRuns()
	s.json = true
	var got []map[string]any
	if err := json.Unmarshal([]byte(reported(s, runs)), &got); err != nil {
		t.Fatal(err)
	}
	for _, e := range got {
		if e["unit"] == "pps" && e["peer"] == s.contenders[1].name {
			for key, want := range map[string]any{"name": "forward/overload/xdpipe", "median": 250e3, "min": 200e3, "max": 300e3,
				"runs": 2.0, "ratio": 2.5, "ratio_min": 2.0, "ratio_max": 3.0} {
				if e[key] != want {
					t.Errorf("%s is %v, want %v", key, e[key], want)
				}
			}
			return
		}
	}
	t.Errorf("no entry with the ratios of pps in %v", got)
}

func TestWhatTheFiguresDoNotShowIsSaid(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*measurement)
		want  string
	}{
		"frames that are not ours":  {func(m *measurement) { m.other = 7 }, "# xdpipe, load overload, round 1: 7 frames came back that were not ours"},
		"nothing came back":         {func(m *measurement) { m.arrived = 0 }, "# xdpipe, load overload, round 1: nothing came back in the window"},
		"a machine with other work": {func(m *measurement) { m.busy = m.cpu.total + 200*time.Millisecond }, "others used 20.0% of the forwarder's CPU"},
		"a generator held up":       {func(m *measurement) { m.sent = 400_000 }, "# Load overload: the generator did not keep its rate"},
	} {
		t.Run(name, func(t *testing.T) {
			s, runs := fixedRuns()
			s.loads[0].rate = 1_000_000
			if out := reported(s, runs); strings.Contains(out, c.want) {
				t.Fatalf("said without cause:\n%s", out)
			}
			c.spoil(&runs[0])
			if out := reported(s, runs); !strings.Contains(out, c.want) {
				t.Errorf("%q is not in\n%s", c.want, out)
			}
		})
	}
}

func TestFiguresOfAMeasurement(t *testing.T) {
	m := measurement{seconds: 2, sent: 4000, arrived: 1000, sentAll: 4000, arrivedAll: 3999,
		cpu: cpuTime{total: 2 * time.Millisecond, user: 10 * time.Millisecond, system: 30 * time.Millisecond}}
	user, system := m.split()
	for name, c := range map[string]struct{ got, want float64 }{
		"pps": {m.pps(), 500}, "cpu": {m.perFrame(m.cpu.total), 2000}, "user": {user, 500}, "system": {system, 1500}, "loss": {m.loss(), 0.025},
	} {
		if c.got != c.want {
			t.Errorf("%s is %v, want %v", name, c.got, c.want)
		}
	}
	if none := (measurement{seconds: 1}); none.perFrame(time.Second) != 0 || none.loss() != 0 {
		t.Error("a measurement without frames has figures per frame")
	}
}
