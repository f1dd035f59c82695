package stages

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/xdpipe/xdpipe/pipeline"
	"github.com/xdpipe/xdpipe/pipeline/pipelinetest"
)

// goldenDir has for each stage a folder with cases. A case is a file NAME.stages that
// somebody wrote, and what came of it: NAME.golden with all counters, and NAME.PORT.pcap
// with the packets that left by a port, written by go test -update.
//
// A case is stages in the quick form, on lines that are joined. Lines that begin with
// # are for readers, and those with @ say how it is run:
//
//	@in FILE      the capture that comes in, beside the case; by default trafficFile
//	@in none      nothing comes in: the stages begin with a source
//	@batch N      packets that are taken in at once; by default the case is run with several
//	              numbers, and the same has to come of it
//	@workers N    how many workers there are
//	@descriptor N bytes that a descriptor has at most, so that longer packets have several
//	@for TIME     how long it is run if it begins with a source
//	@leave NAME   a value that depends on more than the packets, and is not compared
//
// @dir in the stages is a folder for what they write; the files in it are compared as
// NAME.FILE.pcap.
const goldenDir = "../../testdata/golden"

// A goldenCase is what a file NAME.stages says.
type goldenCase struct {
	path    string // without .stages
	stages  string
	in      string // "" if nothing comes in
	batches []int
	workers int
	most    int // bytes of a descriptor
	runFor  time.Duration
	leave   []string
}

func readGolden(t testing.TB, file string) goldenCase {
	t.Helper()
	data, err := os.ReadFile(file)
	must(t, err)
	c := goldenCase{path: strings.TrimSuffix(file, ".stages"), in: trafficFile, batches: []int{64, 1, 7, pipeline.MaxBatch}}
	var stages []string
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		word, value, _ := strings.Cut(line, " ")
		switch {
		case line == "" || line[0] == '#':
		case word == "@in" && value == "none":
			c.in = ""
		case word == "@in":
			c.in = filepath.Join(filepath.Dir(file), value)
		case word == "@batch":
			n, err := strconv.Atoi(value)
			must(t, err)
			c.batches = []int{n}
		case word == "@workers":
			c.workers, err = strconv.Atoi(value)
			must(t, err)
		case word == "@descriptor":
			c.most, err = strconv.Atoi(value)
			must(t, err)
		case word == "@for":
			c.runFor, err = time.ParseDuration(value)
			must(t, err)
		case word == "@leave":
			c.leave = append(c.leave, strings.Fields(value)...)
		case line[0] == '@':
			t.Fatalf("%s: unknown line %s", file, line)
		default:
			stages = append(stages, line)
		}
	}
	c.stages = strings.Join(stages, " ")
	return c
}

func goldenCases(t testing.TB) (all []goldenCase) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(goldenDir, "*", "*.stages"))
	must(t, err)
	if len(files) == 0 {
		t.Fatalf("no cases in %s", goldenDir)
	}
	for _, f := range files {
		all = append(all, readGolden(t, f))
	}
	return all
}

func (c goldenCase) name() string {
	rel, _ := filepath.Rel(goldenDir, c.path)
	return rel
}

// run runs the case and returns what came of it, and the folder with what its
// stages wrote.
func (c goldenCase) run(t *testing.T, batch int) (r *pipelinetest.Result, dir string) {
	var packets []pipelinetest.Packet
	if c.in != "" {
		packets = pipelinetest.ReadFile(t, c.in)
	}
	dir = t.TempDir()
	return pipelinetest.Config{Batch: batch, Frames: 1024, Workers: c.workers, Descriptor: c.most, For: c.runFor}.Run(t, strings.ReplaceAll(c.stages, "@dir", dir), packets...), dir
}

func TestGoldenCases(t *testing.T) {
	for _, c := range goldenCases(t) {
		t.Run(c.name(), func(t *testing.T) {
			for i, batch := range c.batches {
				r, dir := c.run(t, batch)
				checkGoldenMeta(t, r)
				if *update && i > 0 {
					*update = false // what the first wrote is compared with the others
					defer func() { *update = true }()
				}
				got := c.counters(r)
				golden := c.path + ".golden"
				if *update {
					c.clean(t)
					must(t, os.WriteFile(golden, []byte(got), 0o644))
				}
				want, err := os.ReadFile(golden)
				must(t, err)
				if got != string(want) {
					t.Errorf("in batches of %d the counters are\n%s, want\n%s(go test -update writes them anew)", batch, got, want)
				}
				for _, port := range goldenPorts(r) {
					if len(r.Port(port)) > 0 {
						r.WantPortFile(port, c.path+"."+port+".pcap")
					}
				}
				c.compareWritten(t, dir)
			}
		})
	}
}

// clean removes the captures of the case, so that none is left of a port that it
// has no more.
func (c goldenCase) clean(t testing.TB) {
	t.Helper()
	files, err := filepath.Glob(c.path + ".*.pcap")
	must(t, err)
	for _, f := range files {
		must(t, os.Remove(f))
	}
}

// compareWritten compares the captures that the stages wrote.
func (c goldenCase) compareWritten(t testing.TB, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	must(t, err)
	for _, f := range files {
		got := pipelinetest.ReadFile(t, f)
		for i := range got {
			got[i].At = 0 // not that of the packets
		}
		golden := c.path + "." + strings.TrimSuffix(filepath.Base(f), filepath.Ext(f)) + ".pcap"
		if *update {
			pipelinetest.WriteFile(t, golden, got)
			continue
		}
		want := pipelinetest.ReadFile(t, golden)
		if !slices.EqualFunc(got, want, func(a, b pipelinetest.Packet) bool { return bytes.Equal(a.Data, b.Data) }) {
			t.Errorf("%s has other packets than %s", filepath.Base(f), golden)
		}
	}
}

// goldenPorts returns the ports that packets may have left by.
func goldenPorts(r *pipelinetest.Result) (names []string) {
	for _, p := range r.Ports {
		if p.Name != "in" {
			names = append(names, p.Name)
		}
	}
	slices.Sort(names)
	return names
}

// counters are all that the case's stages and ports count, as text.
func (c goldenCase) counters(r *pipelinetest.Result) string {
	var b strings.Builder
	for _, s := range r.Stages {
		b.WriteString(s.Name)
		if c.workers > 1 {
			fmt.Fprintf(&b, " of worker %d", s.Worker)
		}
		fmt.Fprintf(&b, ": packets %d", s.Packets)
		for _, n := range []struct {
			name string
			n    uint64
		}{{"created", s.Created}, {"consumed", s.Consumed}, {"teed", s.Teed}, {"copied", s.Copied}} {
			if n.n > 0 {
				fmt.Fprintf(&b, ", %s %d", n.name, n.n)
			}
		}
		b.WriteByte('\n')
		named(&b, "drop", s.Drops, nil)
		named(&b, "value", s.Values, c.leave)
	}
	for _, p := range r.Ports {
		fmt.Fprintf(&b, "port %s: ", p.Name)
		if p.Name == "in" {
			fmt.Fprintf(&b, "packets %d\n", p.RxPackets)
			continue
		}
		fmt.Fprintf(&b, "packets %d\n", p.TxPackets)
		named(&b, "drop", p.Drops, nil)
	}
	return b.String()
}

func named(b *strings.Builder, what string, counters map[string]uint64, leave []string) {
	for _, name := range slices.Sorted(maps.Keys(counters)) {
		if !slices.Contains(leave, name) {
			fmt.Fprintf(b, "  %s %s %d\n", what, name, counters[name])
		}
	}
}

// checkGoldenMeta fails if what is known of a parsed packet that left is not what a
// parse of it finds.
func checkGoldenMeta(t *testing.T, r *pipelinetest.Result) {
	t.Helper()
	for _, port := range goldenPorts(r) {
		for i, p := range r.Port(port) {
			if p.Meta.Flags&(pipeline.MetaParsed|pipeline.MetaMulti) != pipeline.MetaParsed { // of several, only the first is parsed
				continue
			}
			f := p.Meta
			f.Parse(p.Data)
			f.Checksum = p.Meta.Checksum
			if got, want := metaText(p.Meta), metaText(f); got != want {
				t.Errorf("port %s, packet %d is %x with metadata\n%s, a parse of it finds\n%s", port, i+1, p.Data, got, want)
			}
		}
	}
}

func TestEveryStageHasAGoldenCase(t *testing.T) {
	have := map[string]bool{}
	for _, c := range goldenCases(t) {
		stage := filepath.Base(filepath.Dir(c.path))
		if !strings.Contains(c.stages, stage) {
			t.Errorf("%s does not have the stage %s", c.name(), stage)
		}
		have[stage] = true
	}
	for _, m := range pipeline.Modules() {
		if !have[m.Name] {
			t.Errorf("stage %s has no case in %s: write one, then go test -update", m.Name, goldenDir)
		}
	}
	for stage := range have {
		if _, ok := pipeline.Lookup(stage); !ok {
			t.Errorf("there are cases for %s, which is no stage", stage)
		}
	}
}

func TestGoldenCapturesAreAllOfACase(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(goldenDir, "*", "*"))
	must(t, err)
	for _, f := range files {
		name, _, _ := strings.Cut(filepath.Base(f), ".")
		if _, err := os.Stat(filepath.Join(filepath.Dir(f), name+".stages")); err != nil {
			t.Errorf("%s belongs to no case", f)
		}
	}
}
