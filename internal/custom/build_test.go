package custom

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

// These tests compile and link xdpipe, a second or two each once the build cache
// is warm.

// stageCode is a package with a stage.
func stageCode(pkg, stage, api string) string {
	return fmt.Sprintf(`package %s

import "github.com/xdpipe/xdpipe/pipeline"

func init() {
	pipeline.Register(pipeline.Module{Name: %q, API: %s, Doc: "does nothing", New: func() pipeline.Stage { return &Stage{} }})
}

type Stage struct{}

func (*Stage) Process(*pipeline.Batch) {}
`, pkg, stage, api)
}

// writeFiles writes files, whose paths may have directories, and returns the
// directory.
func writeFiles(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

func goMod(path string, require ...string) string {
	text := "module " + path + "\n\ngo 1.26.0\n\nrequire github.com/xdpipe/xdpipe v0.0.0\n"
	for _, r := range require {
		text += "\nrequire " + r + "\n"
	}
	return text
}

// offline forbids the go command the network and leaves it nothing but the module
// cache.
func offline(t *testing.T) {
	t.Helper()
	t.Setenv("GOPROXY", "off")
	t.Setenv("GOFLAGS", "-mod=mod")
}

// buildOf builds a binary with these plugins, and returns what it says is inside.
func buildOf(t *testing.T, with []string, replace ...string) (*Contents, error) {
	t.Helper()
	o := Options{Output: filepath.Join(t.TempDir(), "custom")}
	for _, text := range with {
		p, err := ParsePlugin(text)
		must(t, err)
		o.Plugins = append(o.Plugins, p)
	}
	for _, text := range replace {
		r, err := ParseReplacement(text)
		must(t, err)
		o.Replace = append(o.Replace, r)
	}
	r, err := Build(context.Background(), o)
	left, globErr := filepath.Glob(filepath.Join(filepath.Dir(o.Output), "*"))
	must(t, globErr)
	hidden, globErr := filepath.Glob(filepath.Join(filepath.Dir(o.Output), ".*"))
	must(t, globErr)
	left = append(left, hidden...)
	if err != nil {
		if len(left) > 0 {
			t.Errorf("a build that failed left %v", left)
		}
		return nil, err
	}
	if len(left) != 1 || left[0] != o.Output {
		t.Errorf("the build wrote %v, want %s alone", left, o.Output)
	}
	return r.Contents, nil
}

func TestABinaryHasTheStagesOfItsPluginsAndSaysFromWhere(t *testing.T) {
	offline(t)
	a := writeFiles(t, map[string]string{
		"go.mod": goMod("example.com/a"), "a.go": stageCode("a", "test-a", "0"), "b/b.go": stageCode("b", "test-b", "1"),
	})
	v2 := writeFiles(t, map[string]string{"go.mod": goMod("example.com/c/v2"), "c.go": stageCode("c", "test-c", "1")})
	c, err := buildOf(t, []string{a, "example.com/a/b=" + a, "example.com/c/v2=" + v2})
	if err != nil {
		t.Fatal(err)
	}
	modules, stages := c.ByModule()
	want := map[string]string{"example.com/a": "test-a test-b", "example.com/c/v2": "test-c"}
	for path, names := range want {
		if got := strings.Join(stages[path], " "); got != names {
			t.Errorf("stages of %s are %q, want %q", path, got, names)
		}
	}
	for _, m := range modules {
		if m.Path == "example.com/a" && (m.Replace != a || m.Version != "(devel)") {
			t.Errorf("%+v, want it to be from %s", m, a)
		}
	}
	if !slices.ContainsFunc(c.Stages, func(s Origin) bool { return s.Name == "parse" && s.Module.Path == "github.com/xdpipe/xdpipe" }) {
		t.Errorf("no stage parse of xdpipe among %+v", c.Stages)
	}
}

func TestABinaryThatIsNotWhatWasAskedForIsRefusedAndNotLeft(t *testing.T) {
	offline(t)
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  []string
	}{
		{"for a newer API", map[string]string{"p.go": stageCode("p", "test-p", "2")},
			[]string{`stage "test-p" of example.com/p (devel) => `, "is for stage API 2 and this xdpipe has 1", "a newer xdpipe"}},
		{"without a stage", map[string]string{"p.go": "package p\n"},
			[]string{"example.com/p=", "no stage is from it", "pipeline.Register in an init function"}},
		{"with a name that is taken", map[string]string{"p.go": stageCode("p", "parse", "1")},
			[]string{"does not start", `module "parse" registered twice`, "by example.com/p and github.com/xdpipe/xdpipe/pipeline/stages"}},
		{"that does not compile", map[string]string{"p.go": "package p\n\nvar x int = \"\"\n"},
			[]string{"p.go:3:13", "cannot use"}},
		{"of package main", map[string]string{"main.go": stageCode("main", "test-p", "1") + "func main() {}\n"},
			[]string{"is a program, not an importable package", "package that is not main"}},
		{"without a package at its root", map[string]string{"sub/p.go": stageCode("p", "test-p", "1")},
			[]string{"example.com/p", "MODULE/PACKAGE=PATH"}},
		{"that uses what is internal", map[string]string{"p.go": "package p\n\nimport _ \"github.com/xdpipe/xdpipe/internal/edit\"\n"},
			[]string{"use of internal package", "what package pipeline exports"}},
		{"that needs what is not here", map[string]string{"p.go": "package p\n\nimport _ \"example.com/elsewhere\"\n"},
			[]string{"example.com/elsewhere", "GOPROXY=off"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.files["go.mod"] = goMod("example.com/p")
			_, err := buildOf(t, []string{writeFiles(t, tt.files)})
			if err == nil {
				t.Fatal("built")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no %q in: %v", want, err)
				}
			}
		})
	}
}

func TestWhatCannotBeBuiltIsRefusedBeforeAnythingIsCompiled(t *testing.T) {
	dir := writeFiles(t, map[string]string{"go.mod": goMod("example.com/p"), "config.yaml": "ports: {}\n", "d/x": ""})
	plugin, err := ParsePlugin(dir)
	must(t, err)
	for _, tt := range []struct {
		name, output string
		plugins      []Plugin
		want         string
	}{
		{"over a directory", filepath.Join(dir, "d"), nil, "it is a directory: give a file with -o"},
		{"over what is no program", filepath.Join(dir, "config.yaml"), nil, "is there already and is no program"},
		{"into a directory that is not there", filepath.Join(dir, "no-such", "xdpipe"), nil, "no such file or directory"},
		{"one plugin twice", filepath.Join(dir, "xdpipe"), []Plugin{plugin, {Import: "example.com/p", Version: "v1.2.0"}}, "example.com/p is there twice"},
		{"without Go", filepath.Join(dir, "xdpipe"), []Plugin{plugin}, "there is no go command in PATH: install Go"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("PATH", dir)
			_, err := Build(context.Background(), Options{Plugins: tt.plugins, Output: tt.output})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	if text, err := os.ReadFile(filepath.Join(dir, "config.yaml")); err != nil || string(text) != "ports: {}\n" {
		t.Errorf("the file that was there is %q, %v", text, err)
	}
}

func TestABuildThatIsInterruptedLeavesNothing(t *testing.T) {
	offline(t)
	dir := writeFiles(t, map[string]string{"go.mod": goMod("example.com/p"), "p.go": stageCode("p", "test-p", "1")})
	plugin, err := ParsePlugin(dir)
	must(t, err)
	out := t.TempDir()
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	ctx, cancel := context.WithCancel(context.Background())
	_, err = Build(ctx, Options{Plugins: []Plugin{plugin}, Output: filepath.Join(out, "xdpipe"), Log: func(format string, _ ...any) {
		if format == "compile" {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want it cancelled", err)
	}
	for _, d := range []string{out, tmp} {
		if left, err := os.ReadDir(d); err != nil || len(left) > 0 {
			t.Errorf("left in %s: %v, %v", d, left, err)
		}
	}
}

// published serves modules to the go command, beside what the module cache has,
// and keeps them out of that.
func published(t *testing.T, modules map[module.Version]map[string]string) {
	t.Helper()
	cache, err := exec.Command("go", "env", "GOMODCACHE").Output()
	must(t, err)
	proxy := t.TempDir()
	for m, files := range modules {
		at := filepath.Join(proxy, filepath.FromSlash(m.Path), "@v")
		must(t, os.MkdirAll(at, 0o700))
		list, err := os.OpenFile(filepath.Join(at, "list"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		must(t, err)
		fmt.Fprintln(list, m.Version)
		must(t, list.Close())
		must(t, os.WriteFile(filepath.Join(at, m.Version+".info"), []byte(`{"Version":"`+m.Version+`"}`), 0o600))
		must(t, os.WriteFile(filepath.Join(at, m.Version+".mod"), []byte(files["go.mod"]), 0o600))
		f, err := os.Create(filepath.Join(at, m.Version+".zip"))
		must(t, err)
		must(t, zip.CreateFromDir(f, m, writeFiles(t, files)))
		must(t, f.Close())
	}
	t.Setenv("GOPROXY", "file://"+proxy+",file://"+filepath.Join(strings.TrimSpace(string(cache)), "cache", "download"))
	t.Setenv("GONOSUMDB", "example.com")
	t.Setenv("GOFLAGS", "-modcacherw")
	t.Setenv("GOMODCACHE", t.TempDir())
}

func TestPluginsAreOfTheVersionsAskedForOrRefused(t *testing.T) {
	stage := func(version string) module.Version {
		return module.Version{Path: "example.com/acme/stage", Version: version}
	}
	published(t, map[module.Version]map[string]string{
		stage("v1.2.0"): {"go.mod": goMod("example.com/acme/stage"), "s.go": stageCode("stage", "acme", "1")},
		stage("v1.3.0"): {"go.mod": goMod("example.com/acme/stage"), "s.go": stageCode("stage", "acme-new", "1")},
		{Path: "example.com/needs-new", Version: "v1.0.0"}: {
			"go.mod": goMod("example.com/needs-new", "example.com/acme/stage v1.3.0"),
			"n.go":   stageCode("needs", "needs", "1"),
		},
	})
	fork := writeFiles(t, map[string]string{"go.mod": goMod("example.com/acme/stage"), "s.go": stageCode("stage", "forked", "1")})
	for _, tt := range []struct {
		name    string
		with    []string
		replace []string
		version string // of the stage's module
		stages  string
		err     []string
	}{
		{name: "an old one", with: []string{"example.com/acme/stage@v1.2.0"}, version: "v1.2.0", stages: "acme"},
		{name: "the latest one", with: []string{"example.com/acme/stage"}, version: "v1.3.0", stages: "acme-new"},
		{name: "a directory in its place", with: []string{"example.com/acme/stage@v1.2.0"}, replace: []string{"example.com/acme/stage=" + fork}, version: "(devel)", stages: "forked"},
		{name: "one that is not there", with: []string{"example.com/acme/stage@v1.9.0"}, err: []string{"example.com/acme/stage@v1.9.0"}},
		{name: "two that do not go together", with: []string{"example.com/acme/stage@v1.2.0", "example.com/needs-new@v1.0.0"},
			err: []string{"do not go together", "example.com/needs-new@v1.0.0 requires example.com/acme/stage@v1.3.0", "--replace"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := buildOf(t, tt.with, tt.replace...)
			if len(tt.err) > 0 {
				for _, want := range tt.err {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("no %q in: %v", want, err)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			_, stages := c.ByModule()
			if v, s := c.Modules["example.com/acme/stage"], strings.Join(stages["example.com/acme/stage"], " "); v != tt.version || s != tt.stages {
				t.Errorf("version %s with stages %q, want %s with %q", v, s, tt.version, tt.stages)
			}
		})
	}
}
