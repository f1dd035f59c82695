package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"
)

// A metric is one figure of a measurement.
type metric struct {
	unit    string // as benchstat shows it
	title   string
	compare bool // a ratio between contenders means something
	value   func(measurement) float64
}

var metrics = []metric{
	{"pps", "frames per second that came back", true, measurement.pps},
	{"cpu-ns/pkt", "CPU time per frame, the forwarder's process", true, func(m measurement) float64 { return m.perFrame(m.cpu.total) }},
	{"user-ns/pkt", "of it in user mode", true, func(m measurement) float64 { user, _ := m.split(); return user }},
	{"sys-ns/pkt", "of it in the kernel", true, func(m measurement) float64 { _, system := m.split(); return system }},
	{"softirq-ns/pkt", "CPU time per frame beside it, the softirq thread of its CPU", false, func(m measurement) float64 { return m.perFrame(m.softirq) }},
	{"loss-%", "share of all frames sent that did not come back", false, measurement.loss},
	{"stolen-%", "share of the forwarder's CPU that others used", false, measurement.stolen},
	{"offered-pps", "frames per second that were sent", false, func(m measurement) float64 { return float64(m.sent) / m.seconds }},
}

// A reporter prints measurements as they come, and what they come to.
type reporter struct {
	w    io.Writer
	s    settings
	runs []measurement
}

func newReporter(w io.Writer, s settings) *reporter { return &reporter{w: w, s: s} }

// begin prints what benchstat takes as the configuration of what follows.
func (r *reporter) begin() {
	if r.s.json {
		return
	}
	fmt.Fprintf(r.w, "goos: %s\ngoarch: %s\npkg: github.com/xdpipe/xdpipe/bench/veth\ncpu: %s\nkernel: %s\n",
		runtime.GOOS, runtime.GOARCH, cpuModel(), kernelRelease())
}

// add prints a measurement as a line that benchstat reads.
func (r *reporter) add(m measurement) {
	r.runs = append(r.runs, m)
	if r.s.json {
		return
	}
	fmt.Fprintf(r.w, "BenchmarkForward/load=%s/forwarder=%s \t%d", m.load, m.contender, m.arrived)
	for _, metric := range metrics {
		fmt.Fprintf(r.w, "\t%s %s", figure(metric.value(m)), metric.unit)
	}
	fmt.Fprintln(r.w)
}

// figure prints a number with the digits that mean something.
func figure(v float64) string {
	switch {
	case v >= 100 || v == 0:
		return fmt.Sprintf("%.0f", v)
	case v >= 1:
		return fmt.Sprintf("%.1f", v)
	case v >= 0.01:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.3g", v) // a loss of a few frames in millions is not none
	}
}

// end prints the table, or the JSON document.
func (r *reporter) end() error {
	if r.s.json {
		e := json.NewEncoder(r.w)
		e.SetIndent("", "  ")
		return e.Encode(r.entries())
	}
	for _, l := range r.s.loads {
		r.table(l)
	}
	r.remarks()
	return nil
}

// values are a metric's figures for a contender under a load, round by round.
func (r *reporter) values(metric metric, load, contender string) []float64 {
	var v []float64
	for _, m := range r.runs {
		if m.load == load && m.contender == contender {
			v = append(v, metric.value(m))
		}
	}
	return v
}

func (r *reporter) table(l load) {
	how := "as fast as the generator can"
	if l.rate > 0 {
		how = fmt.Sprintf("%d frames per second, evenly", l.rate)
	}
	fmt.Fprintf(r.w, "\n# Load %s: %s, %d bytes, %d rounds of %v in turns\n", l.name, how, r.s.frame, r.s.rounds, r.s.window)
	first := r.s.contenders[0].name
	w := tabwriter.NewWriter(r.w, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer w.Flush()
	fmt.Fprintf(w, "\n\t\tmedian\tmin\tmax\t%s ÷ it\tmin\tmax\t\n", first)
	for _, metric := range metrics {
		ours := r.values(metric, l.name, first)
		for i, c := range r.s.contenders {
			unit := ""
			if i == 0 {
				unit = metric.unit
			}
			theirs := r.values(metric, l.name, c.name)
			s := spreadOf(theirs)
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t", unit, c.name, figure(s.median), figure(s.min), figure(s.max))
			if q := spreadOf(ratios(ours, theirs)); metric.compare && i > 0 && q.runs > 0 {
				fmt.Fprintf(w, "%.2f\t%.2f\t%.2f\t\n", q.median, q.min, q.max)
			} else {
				fmt.Fprint(w, "\t\t\t\n")
			}
		}
	}
}

// remarks prints what the figures do not show.
func (r *reporter) remarks() {
	fmt.Fprintln(r.w)
	for _, metric := range metrics {
		fmt.Fprintf(r.w, "# %s: %s\n", metric.unit, metric.title)
	}
	for _, c := range r.s.contenders {
		fmt.Fprintf(r.w, "# %s: %s\n", c.name, c.doc)
	}
	said := map[string]bool{}
	say := func(format string, args ...any) {
		if text := fmt.Sprintf(format, args...); !said[text] {
			said[text] = true
			fmt.Fprintln(r.w, text)
		}
	}
	for _, m := range r.runs {
		if m.other > 0 {
			say("# %s, load %s, round %d: %d frames came back that were not ours with swapped addresses; they are not counted",
				m.contender, m.load, m.round, m.other)
		}
		if m.arrived == 0 {
			say("# %s, load %s, round %d: nothing came back in the window", m.contender, m.load, m.round)
		}
	}
	for _, l := range r.s.loads {
		for _, m := range r.runs {
			// The pause between two of its system calls takes a few percent.
			if m.load == l.name && float64(m.sent)/m.seconds < 0.9*float64(l.rate) {
				say("# Load %s: the generator did not keep its rate in every run, since others used its CPU too.", l.name)
			}
		}
	}
	if worst := r.worstStolen(); worst > disturbance {
		say("# The machine was not idle: in the worst run others used %s%% of the forwarder's CPU. Compare CPU time rather than rates, and the loss of the paced load with stolen-%%.", figure(worst))
	}
	if r.s.softirqs == 0 {
		say("# softirq-ns/pkt is 0 because the softirq thread cannot be seen from here (a PID namespace)")
	}
}

// disturbance is the stolen-% from which rates say more of the machine than of
// the forwarder.
const disturbance = 5

func (r *reporter) worstStolen() float64 {
	worst := 0.0
	for _, m := range r.runs {
		worst = max(worst, m.stolen())
	}
	return worst
}

// An entry is one figure with its spread, in the form of `xdpipe bench -j`.
type entry struct {
	Name     string  `json:"name"`
	Unit     string  `json:"unit"`
	Median   float64 `json:"median"`
	Min      float64 `json:"min"`
	Max      float64 `json:"max"`
	Runs     int     `json:"runs"`
	Peer     string  `json:"peer,omitempty"` // the ratios are to it
	Ratio    float64 `json:"ratio,omitempty"`
	RatioMin float64 `json:"ratio_min,omitempty"`
	RatioMax float64 `json:"ratio_max,omitempty"`
}

// entries are one for each figure of each contender, and for the first one more
// for each peer, with the ratios to it.
func (r *reporter) entries() []entry {
	entries := []entry{}
	for _, l := range r.s.loads {
		for _, metric := range metrics {
			first := r.values(metric, l.name, r.s.contenders[0].name)
			for _, c := range r.s.contenders {
				v := r.values(metric, l.name, c.name)
				entries = append(entries, newEntry("forward/"+l.name+"/"+c.name, metric, v))
			}
			for _, peer := range r.s.contenders[1:] {
				if !metric.compare {
					continue
				}
				e := newEntry("forward/"+l.name+"/"+r.s.contenders[0].name, metric, first)
				q := spreadOf(ratios(first, r.values(metric, l.name, peer.name)))
				e.Peer, e.Ratio, e.RatioMin, e.RatioMax = peer.name, q.median, q.min, q.max
				entries = append(entries, e)
			}
		}
	}
	return entries
}

func newEntry(name string, metric metric, values []float64) entry {
	s := spreadOf(values)
	return entry{Name: name, Unit: metric.unit, Median: s.median, Min: s.min, Max: s.max, Runs: s.runs}
}

// cpuModel is the first "model name" of /proc/cpuinfo, or the architecture.
func cpuModel() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}
