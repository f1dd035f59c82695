package stages

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
	"github.com/xdpipe/xdpipe/umem"
	"github.com/xdpipe/xdpipe/xsk"
	"github.com/xdpipe/xdpipe/xsk/xsktest"
)

// documentationFile is written by this test with -update.
const documentationFile = "../../docs/stages.md"

const documentationIntro = `<!-- Generated: go test ./pipeline/stages -run Documentation -update -->

# Stages

The built-in stages, as their modules describe themselves; ` + "`xdpipe stages NAME`" + ` prints the same, and ` + "`xdpipe stages -j`" + `
has it as JSON. Options are written ` + "`STAGE: {option: value}`" + ` in YAML and ` + "`STAGE option=value`" + ` in the quick form, outputs
` + "`outputs: {OUTPUT: TARGET}`" + ` and ` + "`OUTPUT->TARGET`" + `: see [configuration.md](configuration.md). A list is ` + "`[a, b]`" + ` in YAML; a single
value stands for a list of one. Drop reasons are those of the example; every stage can also drop for reasons of the engine,
which ` + "`xdpipe status`" + ` explains.

This file is generated from the code: change the module's texts there, then run
` + "`go test ./pipeline/stages -run Documentation -update`" + `.
`

func TestDocumentationOfStagesIsThatOfTheirModules(t *testing.T) {
	output, err := os.Getwd() // examples may write files
	must(t, err)
	output += "/" + documentationFile
	t.Chdir(t.TempDir())
	var b strings.Builder
	b.WriteString(documentationIntro)
	b.WriteString("\n| stage | | |\n| --- | --- | --- |\n")
	for _, m := range pipeline.Modules() {
		kind := m.Kind()
		if kind == "stage" {
			kind = ""
		}
		fmt.Fprintf(&b, "| [%s](#%s) | %s | %s |\n", m.Name, m.Name, cell(m.Doc), kind)
	}
	for _, m := range pipeline.Modules() {
		document(t, &b, m)
	}
	if *update {
		must(t, os.WriteFile(output, []byte(b.String()), 0o644))
	}
	have, err := os.ReadFile(output)
	must(t, err)
	if string(have) != b.String() {
		t.Errorf("docs/stages.md is not what the modules say: write it anew with: go test ./pipeline/stages -run Documentation -update")
	}
}

// document writes the section of a module.
func document(t *testing.T, b *strings.Builder, m pipeline.Module) {
	fmt.Fprintf(b, "\n## %s\n\n%s.", m.Name, capital(m.Doc))
	switch {
	case m.Kind() == "source":
		b.WriteString(" A source: a pipeline without `from` begins with it.")
	case m.Kind() == "sink":
		b.WriteString(" A sink: a pipeline without `to` ends with it.")
	case m.Writes:
		b.WriteString(" It changes packets.")
	}
	if m.Hands {
		b.WriteString(" It sends packets to other workers.")
	}
	b.WriteString("\n")
	if m.Help != "" {
		fmt.Fprintf(b, "\n%s\n", m.Help)
	}
	if m.Example == "" {
		t.Errorf("stage %s has no Example", m.Name)
	} else {
		fmt.Fprintf(b, "\n    %s\n", m.Example)
	}
	if len(m.Outputs) > 0 {
		b.WriteString("\n| output | | |\n| --- | --- | --- |\n")
		for _, o := range m.Outputs {
			must := "must be connected"
			if o.Optional {
				must = "optional"
			}
			fmt.Fprintf(b, "| `%s` | %s | %s |\n", o.Name, must, cell(o.Doc))
		}
	}
	if opts := m.Options(); len(opts) == 0 {
		b.WriteString("\nIt has no options.\n")
	} else {
		b.WriteString("\n| option | type | default | |\n| --- | --- | --- | --- |\n")
		for _, o := range opts {
			fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", o.Name, optionType(o), optionDefault(o), cell(o.Doc))
		}
	}
	if m.Example == "" {
		return
	}
	reasons := reasonsOf(t, m.Name, m.Example)
	if len(reasons) == 0 {
		return
	}
	b.WriteString("\n| drop reason | |\n| --- | --- |\n")
	for _, name := range slices.Sorted(maps.Keys(reasons)) {
		fmt.Fprintf(b, "| `%s` | %s |\n", name, cell(reasons[name]))
	}
}

func optionType(o pipeline.Option) string {
	text := o.Type
	if o.Unit != "" {
		text += " in " + o.Unit
	}
	switch {
	case o.Min != "" && o.Max != "":
		text += ", " + o.Min + " to " + o.Max
	case o.Min != "":
		text += ", " + o.Min + " or more"
	case o.Max != "":
		text += ", at most " + o.Max
	}
	return cell(text)
}

func optionDefault(o pipeline.Option) string {
	switch {
	case o.Required:
		return "required"
	case o.Default == "":
		return ""
	}
	return "`" + o.Default + "`"
}

// cell makes text one for a cell of a table.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;").Replace(text)
}

func capital(text string) string { return strings.ToUpper(text[:1]) + text[1:] }

// reasonsOf returns the drop reasons that the stage makes for itself when the
// pipeline is provisioned.
func reasonsOf(t *testing.T, name, stages string) map[string]string {
	t.Helper()
	specs, err := pipeline.ParseQuick(name, stages)
	must(t, err)
	specs = slices.DeleteFunc(specs, func(s pipeline.StageSpec) bool { return s.Type != name })
	if len(specs) == 0 {
		t.Fatalf("the example of %s does not have it: %s", name, stages)
	}
	specs = specs[:1]
	m, _ := pipeline.Lookup(name)
	specs[0].Last = true
	p := pipeline.Pipeline{Name: "example", From: "in", To: "out", Stages: specs}
	switch m.Kind() {
	case "source":
		p.From = ""
	case "sink":
		p.To = ""
	}
	ports := []string{"in", "out"}
	specs[0].To = pipeline.NameConfig{}
	for _, o := range specs[0].Outputs {
		ports = append(ports, o.To.Name)
	}
	with := engineOf(t, []pipeline.Pipeline{p}, ports...)
	p.From, p.To, p.Stages = "in", "out", nil
	without := engineOf(t, []pipeline.Pipeline{p}, ports...)
	reasons := with.Reasons()
	maps.DeleteFunc(reasons, func(name, doc string) bool { return without.Reasons()[name] == doc })
	return reasons
}

// engineOf returns an engine that does not run.
func engineOf(t *testing.T, pipelines []pipeline.Pipeline, ports ...string) *pipeline.Engine {
	t.Helper()
	mem, err := umem.New(umem.Options{Frames: 4096, Pages: umem.Pages4K})
	must(t, err)
	opts := pipeline.Options{
		Memory: mem, Log: slog.New(slog.DiscardHandler), Pipelines: pipelines,
		Workers: pipeline.WorkersConfig{Count: 1, Pin: pipeline.PinConfig{Off: true}},
	}
	slices.Sort(ports)
	for _, name := range slices.Compact(ports) {
		s, _, err := xsktest.New(mem, xsk.Options{RxSize: 64, TxSize: 64, FillSize: 64, CompletionSize: 64})
		must(t, err)
		opts.Ports = append(opts.Ports, pipeline.Port{Name: name, Queues: []pipeline.Queue{pipeline.NewXSK(s, "simulated", "native")}})
	}
	e, err := pipeline.New(opts)
	must(t, err)
	t.Cleanup(func() { must(t, cmp.Or(e.Close(), mem.Close())) })
	return e
}
