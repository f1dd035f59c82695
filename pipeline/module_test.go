package pipeline_test

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xdpipe/xdpipe/pipeline"
)

// everyType is a stage with an option of each type there is.
type everyType struct {
	Flag     bool           `stage:"flag" doc:"a flag"`
	Int      int            `stage:"int" unit:"packets" min:"1" max:"100" doc:"a number"`
	Small    int8           `stage:"small" doc:"a number of few bits"`
	Uint     uint16         `stage:"uint" doc:"a number without a sign"`
	Float    float64        `stage:"float" doc:"any number"`
	Text     string         `stage:"text" doc:"words"`
	Wait     time.Duration  `stage:"wait" doc:"a time"`
	Address  netip.Addr     `stage:"address" doc:"a type that reads itself"`
	Mode     choice         `stage:"mode" doc:"one that is a number inside"`
	Ports    []uint16       `stage:"ports" doc:"several numbers"`
	Networks []netip.Prefix `stage:"networks" doc:"several that read themselves"`
	Needed   string         `stage:"needed" required:"true" doc:"there is no default for it"`

	Untagged string // not an option
	hidden   string
}

func (*everyType) Process(*pipeline.Batch) {}

type choice int

func (c *choice) UnmarshalText(b []byte) error {
	*c = choice(len(b))
	return nil
}

func init() {
	pipeline.Register(pipeline.Module{
		Name: "test-options", Doc: "has every type of option",
		New: func() pipeline.Stage { return &everyType{Int: 7, Wait: 2 * time.Second, hidden: "h"} },
	})
}

func TestOptionsDescribeEveryType(t *testing.T) {
	m, ok := pipeline.Lookup("test-options")
	if !ok {
		t.Fatal("not registered")
	}
	want := []pipeline.Option{
		{Name: "flag", Type: "bool", Default: "false", Doc: "a flag"},
		{Name: "int", Type: "integer", Unit: "packets", Default: "7", Min: "1", Max: "100", Doc: "a number"},
		{Name: "small", Type: "integer", Default: "0", Doc: "a number of few bits"},
		{Name: "uint", Type: "integer", Default: "0", Doc: "a number without a sign"},
		{Name: "float", Type: "number", Default: "0", Doc: "any number"},
		{Name: "text", Type: "string", Doc: "words"},
		{Name: "wait", Type: "duration", Default: "2s", Doc: "a time"},
		{Name: "address", Type: "addr", Doc: "a type that reads itself"},
		{Name: "mode", Type: "choice", Default: "0", Doc: "one that is a number inside"},
		{Name: "ports", Type: "list of integer", Doc: "several numbers"},
		{Name: "networks", Type: "list of prefix", Doc: "several that read themselves"},
		{Name: "needed", Type: "string", Required: true, Doc: "there is no default for it"},
	}
	got := m.Options()
	if !reflect.DeepEqual(got, want) {
		g, _ := json.MarshalIndent(got, "", " ")
		t.Errorf("options are\n%s", g)
	}
}

func TestEveryBuiltInOptionIsDocumented(t *testing.T) {
	for _, name := range []string{"parse", "count", "drop", "macswap", "pcap"} {
		m, ok := pipeline.Lookup(name)
		if !ok || m.Doc == "" {
			t.Errorf("%s: registered %v, doc %q", name, ok, m.Doc)
			continue
		}
		for _, o := range m.Options() {
			if o.Doc == "" || o.Type == "" {
				t.Errorf("%s: option %+v", name, o)
			}
		}
	}
}

func TestModulesAreSortedByName(t *testing.T) {
	var names []string
	for _, m := range pipeline.Modules() {
		names = append(names, m.Name)
	}
	if !slices.IsSorted(names) || !slices.Contains(names, "parse") {
		t.Errorf("modules are %v", names)
	}
	if _, ok := pipeline.Lookup("no-such"); ok {
		t.Error("a module is there that nobody registered")
	}
}

type notAStruct int

func (notAStruct) Process(*pipeline.Batch) {}

func TestRegisterPanicsAtMistakesOfTheProgram(t *testing.T) {
	stage := func() pipeline.Stage { return &empty{} }
	for _, tc := range []struct {
		name string
		m    pipeline.Module
		want string
	}{
		{"a name that is taken", pipeline.Module{Name: "count", New: stage}, `module "count" registered twice, by github.com/xdpipe/xdpipe/pipeline/stages and github.com/xdpipe/xdpipe/pipeline_test`},
		{"no name", pipeline.Module{New: stage}, `module name "": want lower-case`},
		{"a name in capitals", pipeline.Module{Name: "Count", New: stage}, `module name "Count": want lower-case`},
		{"a name with a space", pipeline.Module{Name: "a b", New: stage}, "want lower-case"},
		{"a name with !", pipeline.Module{Name: "a!", New: stage}, "want lower-case"},
		{"a name with =", pipeline.Module{Name: "a=b", New: stage}, "want lower-case"},
		{"a name that is not ASCII", pipeline.Module{Name: "größe", New: stage}, "want lower-case"},
		{"no New", pipeline.Module{Name: "test-no-new"}, `module "test-no-new" has no New`},
		{"a New of nothing", pipeline.Module{Name: "test-nil", New: func() pipeline.Stage { return nil }}, "want a pointer to a struct"},
		{"a New of no struct", pipeline.Module{Name: "test-int", New: func() pipeline.Stage { return notAStruct(1) }}, "want a pointer to a struct"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			defer func() {
				if got, _ := recover().(string); !strings.HasPrefix(got, "pipeline: ") || !strings.Contains(got, tc.want) {
					t.Errorf("panics with %q, want %q in it", got, tc.want)
				}
				if _, ok := pipeline.Lookup(tc.m.Name); ok && tc.m.Name != "count" {
					t.Errorf("%q is registered all the same", tc.m.Name)
				}
			}()
			pipeline.Register(tc.m)
		})
	}
}

type testSource struct{ everyType }

func (*testSource) Due() int64 { return pipeline.Never }

type testSink struct{ everyType }

func (*testSink) Sink() {}

func TestKindSaysWhereAStageStands(t *testing.T) {
	for want, stage := range map[string]pipeline.Stage{"stage": &everyType{}, "source": &testSource{}, "sink": &testSink{}} {
		m := pipeline.Module{New: func() pipeline.Stage { return stage }}
		if got := m.Kind(); got != want {
			t.Errorf("%T is a %s, want a %s", stage, got, want)
		}
	}
}
