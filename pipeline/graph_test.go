package pipeline_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
)

// graphs are the same graphs in the quick form and in YAML. Beside each in graphDir
// is what GraphOf makes of it, as text, JSON and for Graphviz.
var graphs = []struct{ name, from, to, quick, yaml string }{
	{"no-stages", "a", "b", "", `{from: a, to: b}`},
	{"a-chain", "a", "b", "parse ! drop every=3 ! count", `{from: a, to: b, stages: [parse, {drop: {every: 3}}, count]}`},
	{"back-where-it-came-from", "a", "a", "count", `{from: a, to: a, stages: [count]}`},
	{"a-branch", "a", "b", "test-split odd->rest ! count; rest: parse ! count",
		`{from: a, to: b, stages: [{test-split: {}, outputs: {odd: rest}}, count], branches: {rest: [parse, count]}}`},
	{"outputs-to-ports-and-labels", "a", "b", "test-split odd->tail even->c ! parse ! tail: count",
		`{from: a, to: b, stages: [{test-split: {}, outputs: {odd: tail, even: c}}, parse, {count: {}, as: tail}]}`},
	{"a-branch-that-leads-on", "a", "b", "test-split odd->x ! tail: count; x: parse ! drop every=2 -> tail",
		`{from: a, to: b, stages: [{test-split: {}, outputs: {odd: x}}, {count: {}, as: tail}], branches: {x: {stages: [parse, {drop: {every: 2}}], to: tail}}}`},
	{"branches-of-branches", "a", "b", "test-tee copy->x ! test-tee copy->y; x: test-split odd->y even->c -> c; y: test-sink",
		`{from: a, to: b, stages: [{test-tee: {}, outputs: {copy: x}}, {test-tee: {}, outputs: {copy: y}}], branches: {x: {stages: [{test-split: {}, outputs: {odd: y, even: c}}], to: c}, y: [test-sink]}}`},
	{"from-a-source-to-a-sink", "", "", "test-source ! count ! test-sink", `{stages: [test-source, count, test-sink]}`},
	{"from-a-source-to-a-sink-and-a-port", "", "b", "test-source ! test-split odd->x ! test-sink; x: count",
		`{to: b, stages: [test-source, {test-split: {}, outputs: {odd: x}}, test-sink], branches: {x: [count]}}`},
}

const graphDir = "../testdata/graph"

func TestTheQuickFormAndYAMLMeanTheSameGraph(t *testing.T) {
	ports := []string{"a", "b", "c"}
	for _, tc := range graphs {
		t.Run(tc.name, func(t *testing.T) {
			specs, err := pipeline.ParseQuick("quick", tc.quick)
			if err != nil {
				t.Fatal(err)
			}
			quick := pipeline.QuickPipeline(specs, tc.from, tc.to)
			quick.Name = tc.name
			c, err := pipeline.ParseConfig("c.yaml", []byte("ports: {a: {interface: x, steer: all}, b: {interface: y, steer: all}, c: {interface: z, steer: all}}\n"+
				"pipelines:\n  - "+strings.Replace(tc.yaml, "{", "{name: "+tc.name+", ", 1)+"\n"))
			if err != nil {
				t.Fatal(err)
			}
			g := pipeline.GraphOf(quick.Pipeline(), ports)
			if other := pipeline.GraphOf(c.Pipelines[0].Pipeline(), ports); !reflect.DeepEqual(g, other) {
				t.Errorf("the quick form is\n%v and YAML\n%v", g, other)
			}
			data, err := json.MarshalIndent(g, "", "\t")
			if err != nil {
				t.Fatal(err)
			}
			dot := pipeline.DOT([]pipeline.Graph{g})
			golden(t, filepath.Join(graphDir, tc.name+".golden"), g.String()+"\n"+string(data)+"\n\n"+dot)
			checkDOT(t, dot)
		})
	}
}

// golden compares with what the file has; -update writes it.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s(go test -update writes it anew)", got, want)
	}
}

// checkDOT lets Graphviz read it, where it is installed.
func checkDOT(t *testing.T, dot string) {
	t.Helper()
	if _, err := exec.LookPath("dot"); err != nil {
		return
	}
	cmd := exec.Command("dot", "-Tplain")
	cmd.Stdin = strings.NewReader(dot)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("dot: %v: %s\n%s", err, out, dot)
	}
}

func TestGraphsOfSeveralPipelinesShareTheirPorts(t *testing.T) {
	ports := []string{"a", "b"}
	both := []pipeline.Graph{
		pipeline.GraphOf(pipe(t, `say "hi"`, "a", "b", "count"), ports),
		pipeline.GraphOf(pipe(t, "back", "b", "a", "count"), ports),
	}
	dot := pipeline.DOT(both)
	if strings.Count(dot, `"a" [shape=cds]`) != 1 || strings.Count(dot, "subgraph") != 2 {
		t.Errorf("%s: want port a once and two pipelines", dot)
	}
	checkDOT(t, dot)
	checkDOT(t, pipeline.DOT(nil))
}

func TestMistakesInGraphsOfTheQuickFormAreNamedByTheirColumn(t *testing.T) {
	for _, tc := range []struct {
		text string
		want string // without the file
	}{
		{"odd->x", `1:1: found "odd->x", want a stage before it`},
		{"count ! odd->x", `1:9: found "odd->x", want a stage before it`},
		{"count ->", "1:7: stage count: -> leads nowhere; want a label or port behind it"},
		{"count -> ! drop", "1:7: stage count: -> leads nowhere"},
		{"count -> ; drop", "1:7: stage count: -> leads nowhere"},
		{`count -> "" ; drop`, `1:10: stage count: found "" behind ->`},
		{"count -> b ! drop", "1:12: stage count: found ! behind the end of the chain, want ; before the next"},
		{"count -> b drop", `1:12: stage count: found "drop" behind the end of the chain, want ; before the next`},
		{"count -> b -> c", `1:12: stage count: found "->" behind the end of the chain|1:15: stage count: found "c" behind the end of the chain`},
		{"count ->b every=2", `1:11: stage count: found "every=2" behind the end of the chain`},
		{"test-split odd->", "1:12: stage test-split: output odd leads nowhere; want odd->TARGET without spaces"},
		{"test-split odd-> x", `1:12: stage test-split: output odd leads nowhere|1:18: stage test-split: found "x"`},
		{";", "1:1: a stage is missing here"},
		{"count ; ; drop", "1:9: a stage is missing here"},
		{"x:", "1:3: a stage is missing here"},
		{"count ; x:", "1:11: a stage is missing here"},
		{"x: ! y: count", "1:4: a stage is missing here"},
		{"x: y: count", `1:4: found a second label, "y", want a stage behind "x"`},
		{"X: count", `1:1: found "X", want a label of lower-case letters, digits, _ and -`},
		{"count ; drop every=0 -> b", "1:20: stage drop: option every: found 0, want 1 or more"},
	} {
		_, err := pipeline.ParseQuick("quick", tc.text)
		if err == nil {
			t.Errorf("%q is accepted", tc.text)
			continue
		}
		checkErrors(t, err)
		got, want := strings.Split(err.Error(), "\n"), strings.Split(tc.want, "|")
		ok := len(got) == len(want)
		for i := 0; ok && i < len(got); i++ {
			ok = strings.HasPrefix(got[i], "quick:"+want[i])
		}
		if !ok {
			t.Errorf("%q gives\n%s, want\n%s", tc.text, err, tc.want)
		}
	}
}

func TestMistakesBetweenStagesOfTheQuickFormAreNamedByTheirColumn(t *testing.T) {
	for text, want := range map[string]string{
		"test-split ! count":                          `1:1: stage test-split: its output "odd" (packets of kind 1) leads nowhere`,
		"test-split odd->b evne->b":                   `1:19: stage test-split: unknown output "evne": did you mean "even"?`,
		"test-split odd->b odd->b":                    `1:19: stage test-split: output "odd" is there twice`,
		"test-split odd->rset ; rest: count":          `1:17: stages: unknown branch, label or port "rset": did you mean "rest"?`,
		"count -> bb":                                 `1:10: stages: unknown branch, label or port "bb": did you mean "b"?`,
		"x: count ! count -> x":                       "1:21: stages: packets would go round in a cycle: a-b/1:count → a-b/2:count → a-b/1:count",
		"count ; rest: count":                         `1:9: stages: nothing leads to "rest"`,
		"count ; count":                               "1:9: stages: nothing leads to stage count; give it a label and send an output there",
		"x: count ! x: count":                         `1:12: stages: the label "x" is there twice`,
		"count ! b: count":                            `1:9: stages: the label "b" is the name of a port; choose another`,
		"count ! test-source":                         "1:9: stage test-source makes packets, and so must be the first of a pipeline",
		"test-sink ! count":                           "1:1: stage test-sink takes all packets, and so must be the last of its chain",
		"test-sink -> b":                              `1:14: stage test-sink takes all packets: nothing goes on to "b"; leave that out`,
		"test-split odd->x -> x; x: test-sink; count": "1:39: stages: nothing leads to stage count",
	} {
		specs, err := pipeline.ParseQuick("quick", text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		p := pipeline.QuickPipeline(specs, "a", "b")
		_, err = tryNet(t, netConfig{ports: []string{"a", "b"}}, p.Pipeline())
		if err == nil || !strings.Contains(err.Error(), "quick:"+want) {
			t.Errorf("%q gives %v, want %s", text, err, want)
		}
	}
}

func TestAQuickFormKeepsThePortsThatItsChainsNeed(t *testing.T) {
	for text, want := range map[string]string{
		"":                    "a b",
		"count":               "a b",
		"test-source ! count": " b",
		"count ! test-sink":   "a ",
		"count -> c":          "a ",
		"test-split odd->x ! count; x: test-sink": "a b",
		"test-split odd->x ! test-sink; x: count": "a b",
		"test-split odd->x -> c; x: test-sink":    "a ",
	} {
		specs, err := pipeline.ParseQuick("quick", text)
		if err != nil {
			t.Fatal(err)
		}
		p := pipeline.QuickPipeline(specs, "a", "b")
		if got := p.From.Name + " " + p.To.Name; got != want {
			t.Errorf("%q has the ports %q, want %q", text, got, want)
		}
	}
}
