package pipeline_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
)

var update = flag.Bool("update", false, "write the golden files anew")

// configDir has configurations, and beside each what comes of it: "ok" and what
// was read, or the mistakes found.
const configDir = "../testdata/config"

func TestConfigurations(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(configDir, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no configurations in %s: %v", configDir, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := outcome(t, filepath.Base(file), data)
			if ok := strings.HasPrefix(got, "ok\n"); ok != strings.HasPrefix(name, "ok-") {
				t.Errorf("is accepted: %v, which is not what its name says", ok)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("gives\n%s, want\n%s(go test -update writes it anew)", got, want)
			}
		})
	}
}

// outcome is what a golden file has.
func outcome(t testing.TB, file string, data []byte) string {
	c, err := pipeline.ParseConfig(file, data)
	if err != nil {
		checkErrors(t, err)
		return err.Error() + "\n"
	}
	var b strings.Builder
	b.WriteString("ok\n")
	dump(&b, "", reflect.ValueOf(*c))
	return b.String()
}

// checkErrors checks that an error is a list of mistakes, each with a position
// and a message of one line.
func checkErrors(t testing.TB, err error) {
	t.Helper()
	var errs pipeline.ConfigErrors
	if !errors.As(err, &errs) || len(errs) == 0 {
		t.Fatalf("error is %T, want ConfigErrors: %v", err, err)
	}
	for i, e := range errs {
		if e.Line < 1 || e.Column < 1 {
			t.Errorf("no position: %v", e)
		}
		if e.Message == "" || strings.Contains(e.Message, "\n") {
			t.Errorf("message is not one line: %q", e.Message)
		}
		if i > 0 && (e.Line < errs[i-1].Line || e.Line == errs[i-1].Line && e.Column < errs[i-1].Column) {
			t.Errorf("not in order: %v after %v", e, errs[i-1])
		}
	}
}

// dump writes the values that are set, one a line, with where they are. Stages
// are made, so that their options are seen as they arrive.
func dump(b *strings.Builder, path string, v reflect.Value) {
	if spec, ok := v.Interface().(pipeline.StageSpec); ok {
		stage, err := spec.New()
		fmt.Fprintf(b, "%s: %s %v\n", path, spec.Type, err)
		dump(b, path+"."+spec.Type, reflect.ValueOf(stage).Elem())
		return
	}
	if s, ok := v.Interface().(fmt.Stringer); ok {
		if !v.IsZero() {
			fmt.Fprintf(b, "%s: %v\n", path, s)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && f.Name != "Pos" {
				dump(b, strings.TrimPrefix(path+"."+f.Name, "."), v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			dump(b, fmt.Sprintf("%s[%d]", path, i), v.Index(i))
		}
	default:
		if !v.IsZero() {
			fmt.Fprintf(b, "%s: %v\n", path, v)
		}
	}
}

func TestAnUnknownNameFarFromAllOthersIsAnsweredWithTheList(t *testing.T) {
	_, err := pipeline.ParseConfig("c.yaml", []byte("ports: {a: {interface: x, steer: all}}\npipelines:\n  - {from: a, stages: [zzzzzzzz], to: a}\n"))
	if err == nil || !strings.HasPrefix(err.Error(), `c.yaml:3:24: stages: unknown stage "zzzzzzzz": want one of acl, count, drop, `) {
		t.Errorf("got %v", err)
	}
}

func TestPositionsAreKeptForLater(t *testing.T) {
	c, err := pipeline.ParseConfig("c.yaml", []byte("ports:\n  a:\n    interface: x\n    queues: [1]\n    steer: [udp]\nmemory: {frames: 1}\nworkers: {count: 1}\npipelines:\n  - {from: a, stages: [count], to: a}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		what string
		got  pipeline.Pos
		want pipeline.Pos
	}{
		{"port", c.Ports[0].Pos, pipeline.Pos{Line: 2, Column: 3}},
		{"queues", c.Ports[0].Queues.Pos, pipeline.Pos{Line: 4, Column: 13}},
		{"steer", c.Ports[0].Steer.Pos, pipeline.Pos{Line: 5, Column: 12}},
		{"rule", c.Ports[0].Steer.Rules[0].Pos, pipeline.Pos{Line: 5, Column: 13}},
		{"memory", c.Memory.Pos, pipeline.Pos{Line: 6, Column: 9}},
		{"workers", c.Workers.Pos, pipeline.Pos{Line: 7, Column: 10}},
		{"pipeline", c.Pipelines[0].Pos, pipeline.Pos{Line: 9, Column: 5}},
		{"from", c.Pipelines[0].From.Pos, pipeline.Pos{Line: 9, Column: 12}},
		{"stage", c.Pipelines[0].Stages[0].Pos, pipeline.Pos{Line: 9, Column: 24}},
		{"to", c.Pipelines[0].To.Pos, pipeline.Pos{Line: 9, Column: 36}},
	} {
		if tc.got != tc.want {
			t.Errorf("%s is at %v, want %v", tc.what, tc.got, tc.want)
		}
	}
	if err := c.Errorf(c.Ports[0].Pos, "no interface %s", "x"); err.Error() != "c.yaml:2:3: no interface x" {
		t.Errorf("Errorf gives %v", err)
	}
	if err := (&pipeline.Config{}).Errorf(pipeline.Pos{}, "no interface"); err.Error() != "no interface" {
		t.Errorf("Errorf of a configuration without a file gives %v", err)
	}
}

func TestLoadConfigNamesTheFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "c.yaml")
	if _, err := pipeline.LoadConfig(name); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), name) {
		t.Errorf("of no file: %v", err)
	}
	if err := os.WriteFile(name, []byte("x: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pipeline.LoadConfig(name); err == nil || !strings.HasPrefix(err.Error(), name+":1:1: ") {
		t.Errorf("of a wrong one: %v", err)
	}
}

func FuzzParseConfig(f *testing.F) {
	files, err := filepath.Glob(filepath.Join(configDir, "*.yaml"))
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds")
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("!%0a x")) // a tag with a line feed in it
	f.Fuzz(func(t *testing.T, data []byte) {
		outcome(t, "c.yaml", data) // checks the errors, and makes the stages
	})
}
