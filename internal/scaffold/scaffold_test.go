package scaffold

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/xdpipe/xdpipe/pipeline/stages"

	"github.com/xdpipe/xdpipe/internal/source"
)

var update = flag.Bool("update", false, "write examples/minlen anew")

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The example is a module of its own, which make test vets and tests.
func TestTheExampleIsWhatIsWritten(t *testing.T) {
	files, err := Options{Stage: "minlen", Module: "github.com/xdpipe/xdpipe/examples/minlen"}.files()
	must(t, err)
	dir := filepath.Join("..", "..", "examples", "minlen")
	for name, want := range files {
		path := filepath.Join(dir, name)
		if *update {
			must(t, os.WriteFile(path, want, 0o644))
		}
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what xdpipe new stage writes (%v): go test ./internal/scaffold -update writes it anew", path, err)
		}
	}
	if lines := bytes.Count(files["minlen.go"], []byte("\n")); lines > 40 {
		t.Errorf("the stage has %d lines, want at most 40", lines)
	}
}

func TestWhatCannotBeWrittenIsRefusedAndLeavesNothing(t *testing.T) {
	tree, err := filepath.Abs(filepath.Join("..", ".."))
	must(t, err)
	for _, tt := range []struct {
		name string
		o    Options
		want string
	}{
		{"no name", Options{}, `"" is no name for a stage`},
		{"a name in capitals", Options{Stage: "MinLen"}, "want lower-case letters"},
		{"a name with a digit first", Options{Stage: "6in4"}, "a letter first"},
		{"a name with a slash", Options{Stage: "a/b"}, "want lower-case letters"},
		{"a name that is a path", Options{Stage: ".."}, "want lower-case letters"},
		{"a name that is no ASCII", Options{Stage: "größe"}, "want lower-case letters"},
		{"a key of stages", Options{Stage: "outputs"}, "means something else"},
		{"a name that Go hides", Options{Stage: "internal"}, "means something else"},
		{"the name of a stage that is there", Options{Stage: "parse"}, `a stage "parse" inside this binary already`},
		{"a module path that is none", Options{Stage: "x", Module: "example.com/a b"}, "module path"},
		{"a directory that is there", Options{Stage: "x", Dir: "there"}, "is there already: remove it"},
		{"a file that is there", Options{Stage: "x", Dir: "there/file"}, "is there already: remove it"},
		{"below a directory that is not there", Options{Stage: "x", Dir: "no-such/x"}, "no such file or directory"},
		{"a working tree that is gone", Options{Stage: "x", Source: source.Source{Dir: "/xdpipe-no-such"}}, "no such file or directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			must(t, os.Mkdir("there", 0o700))
			must(t, os.WriteFile("there/file", nil, 0o600))
			if tt.o.Source.Dir == "" {
				tt.o.Source.Dir = tree
			}
			_, err := Write(context.Background(), tt.o)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if left, err := os.ReadDir("."); err != nil || len(left) != 1 {
				t.Errorf("left %v, %v", left, err)
			}
		})
	}
}

func TestAnInterruptedOneLeavesNothing(t *testing.T) {
	tree, err := filepath.Abs(filepath.Join("..", ".."))
	must(t, err)
	t.Chdir(t.TempDir())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Write(ctx, Options{Stage: "x", Source: source.Source{Dir: tree}}); err == nil {
		t.Error("written")
	}
	if left, err := os.ReadDir("."); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestPackagesAreNamedAsGoWants(t *testing.T) {
	for stage, want := range map[string]string{"minlen": "minlen", "min-len_2": "minlen2", "x_test": "xtest", "select": "selectstage", "a-linux": "alinux"} {
		if got := (Options{Stage: stage}).Package(); got != want {
			t.Errorf("%s: package %s, want %s", stage, got, want)
		}
	}
}

func TestAWorkingTreeIsReplacedByTheWayToItOnlyFromInside(t *testing.T) {
	for _, tt := range []struct{ dir, tree, want string }{
		{"/src/xdpipe/examples/x", "/src/xdpipe", "../.."},
		{"/src/xdpipe/x", "/src/xdpipe", ".."},
		{"/src/x", "/src/xdpipe", "/src/xdpipe"},
		{"/tmp/x", "/src/xdpipe", "/src/xdpipe"},
	} {
		if got := from(tt.dir, tt.tree); got != tt.want {
			t.Errorf("from %s to %s is %s, want %s", tt.dir, tt.tree, got, tt.want)
		}
	}
}

// A binary that was released requires its version, and says that go.mod wants
// looking up when that cannot be done.
func TestAReleaseIsRequiredByItsVersion(t *testing.T) {
	t.Setenv("GOPROXY", "off")
	t.Setenv("GOFLAGS", "")
	t.Chdir(t.TempDir())
	r, err := Write(context.Background(), Options{Stage: "x", Source: source.Source{Version: "v1.99.0"}})
	must(t, err)
	mod, err := os.ReadFile(filepath.Join("x", "go.mod"))
	must(t, err)
	if want := "require github.com/xdpipe/xdpipe v1.99.0"; !strings.Contains(string(mod), want) || strings.Contains(string(mod), "replace") {
		t.Errorf("go.mod is\n%s", mod)
	}
	if r.Untidy == nil || !strings.Contains(r.Untidy.Error(), "github.com/xdpipe/xdpipe v1.99.0") {
		t.Errorf("tidied: %v", r.Untidy)
	}
}
