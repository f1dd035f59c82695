package cli

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/xdpipe/xdpipe/internal/custom"
)

// The way of docs/plugins.md, without the network. It takes a few seconds once the
// build cache is warm, and a minute when it is empty.
func TestANewStageBuildsPassesItsTestAndGoesIntoABinary(t *testing.T) {
	t.Setenv("GOPROXY", "off")
	t.Setenv("GOFLAGS", "-mod=mod")
	tree, err := filepath.Abs("..")
	must(t, err)
	t.Chdir(t.TempDir())
	replace := "--replace=github.com/xdpipe/xdpipe=" + tree

	mentions(t, cliOK(t, "new", "stage", "test-minlen", "--module", "example.com/acme/minlen", "--dir", "minlen", replace),
		"module example.com/acme/minlen with stage test-minlen", "testminlen.go", "testdata/out.pcap", "xdpipe build --with .")
	goIn(t, "minlen", "vet", "./...")
	mentions(t, goIn(t, "minlen", "test", "./..."), "ok", "example.com/acme/minlen")

	var built struct {
		File     string
		Contents custom.Contents
	}
	must(t, json.Unmarshal([]byte(cliOK(t, "build", "-j", "--with", "./minlen", "-o", "custom")), &built))
	if built.File != "custom" {
		t.Errorf("built %q", built.File)
	}
	tool := func(args ...string) string { return runTool(t, append([]string{"./custom"}, args...)...) }
	var inside custom.Contents
	must(t, json.Unmarshal([]byte(tool("version", "-j")), &inside))
	for _, c := range []custom.Contents{built.Contents, inside} {
		at := slices.IndexFunc(c.Stages, func(s custom.Origin) bool { return s.Name == "test-minlen" })
		if at < 0 || c.Stages[at].Module.Path != "example.com/acme/minlen" || c.Stages[at].Module.Version != "(devel)" {
			t.Errorf("stages are %+v", c.Stages)
		}
		if c.Version != "(devel)" || c.Replace != tree || c.Modules["golang.org/x/sys"] == "" {
			t.Errorf("%+v", c)
		}
	}
	mentions(t, tool("version"), "stages of example.com/acme/minlen (devel) => ", ": test-minlen\n", "with golang.org/x/sys v")
	mentions(t, tool("stages", "test-minlen"), "test-minlen: drops packets shorter than min bytes", "min", "integer in bytes", "default 60")
	config := writeConfig(t, "ports:\n  a: {interface: veth-a, steer: all}\npipelines:\n  - {from: a, stages: [{test-minlen: {min: 64}}, count], to: a}\n")
	tool("check", "--offline", config)

	// The other way: a main of one's own.
	goIn(t, "minlen", "build", "-o", "../copied", "./cmd/test-minlen")
	mentions(t, runTool(t, "./copied", "stages"), "test-minlen", "parse")
}

// goIn runs the go command in the directory.
func goIn(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestTheStageOfTheGuidePassesItsTest(t *testing.T) {
	t.Setenv("GOPROXY", "off")
	t.Setenv("GOFLAGS", "-mod=mod")
	tree, err := filepath.Abs("..")
	must(t, err)
	guide, err := os.ReadFile(filepath.Join(tree, "docs", "plugins.md"))
	must(t, err)
	var code []string // the blocks of Go: the stage, its test, and a main
	for _, block := range strings.Split(string(guide), "```go\n")[1:] {
		text, _, _ := strings.Cut(block, "```")
		code = append(code, text)
	}
	if len(code) != 3 {
		t.Fatalf("the guide has %d blocks of Go, want a stage, its test, and a main", len(code))
	}
	t.Chdir(t.TempDir())
	cliOK(t, "new", "stage", "maxlen", "--module", "example.com/you/maxlen", "--replace=github.com/xdpipe/xdpipe="+tree)
	must(t, os.WriteFile("maxlen/maxlen.go", []byte(code[0]), 0o600))
	must(t, os.WriteFile("maxlen/maxlen_test.go", []byte(code[1]), 0o600))
	must(t, os.WriteFile("maxlen/cmd/maxlen/main.go", []byte(strings.Replace(code[2], "\t_ \"example.com/acme/stage\"\n", "", 1)), 0o600))
	goIn(t, "maxlen", "vet", "./...")
	t.Setenv("XDPIPE_UPDATE", "1")
	goIn(t, "maxlen", "test", ".")
	t.Setenv("XDPIPE_UPDATE", "")
	goIn(t, "maxlen", "test", ".")
}

func TestPluginsThatAreGivenWrongAreWrongUsage(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example.com/other\n"), 0o600))
	t.Chdir(dir)
	for _, tt := range []struct {
		args   []string
		status int
		want   []string
	}{
		{[]string{"build"}, exitUsage, []string{"which stages", "--with MODULE@VERSION"}},
		{[]string{"build", "--with", ""}, exitUsage, []string{"--with", "want MODULE@VERSION, MODULE=PATH"}},
		{[]string{"build", "--with", "example.com/a=."}, exitUsage, []string{"the module in . is example.com/other"}},
		{[]string{"build", "--with", ".", "--replace", "x"}, exitUsage, []string{"--replace", "want MODULE=PATH"}},
		{[]string{"build", "--with", ".", "extra"}, exitUsage, []string{`unexpected argument "extra"`}},
		{[]string{"build", "--with", "."}, exitFailed, []string{"find the source of xdpipe", "--replace github.com/xdpipe/xdpipe=PATH"}},
		{[]string{"build", "--with", ".", "-o", "."}, exitFailed, []string{"it is a directory"}},
		{[]string{"new", "stage"}, exitUsage, []string{"NAME is missing"}},
		{[]string{"new", "stage", "X", "--replace", "github.com/xdpipe/xdpipe=."}, exitUsage, []string{"is example.com/other and not xdpipe"}},
		{[]string{"new", "stage", "x"}, exitFailed, []string{"find the source of xdpipe"}},
	} {
		status, out, errOut := cli(tt.args...)
		if status != tt.status || out != "" {
			t.Errorf("%v: status %d, want %d; output %q", tt.args, status, tt.status, out)
		}
		mentions(t, errOut, tt.want...)
	}
	if left, err := os.ReadDir("."); err != nil || len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}
}
