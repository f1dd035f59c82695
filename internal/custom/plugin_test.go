package custom

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// inModule makes a module with a directory below it and goes there.
func inModule(t *testing.T, path string) {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module "+path+"\n"), 0o600))
	must(t, os.MkdirAll(filepath.Join(dir, "below"), 0o700))
	t.Chdir(filepath.Join(dir, "below"))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAPluginIsGivenByVersionOrDirectory(t *testing.T) {
	inModule(t, "example.com/acme/stage")
	dir, err := filepath.Abs("..")
	must(t, err)
	for _, tt := range []struct {
		text string
		want Plugin
	}{
		{"example.com/acme/stage@v1.2.0", Plugin{Import: "example.com/acme/stage", Version: "v1.2.0"}},
		{"example.com/acme/stage@main", Plugin{Import: "example.com/acme/stage", Version: "main"}},
		{"example.com/acme/stage", Plugin{Import: "example.com/acme/stage", Version: "latest"}},
		{"example.com/acme/stage=..", Plugin{Import: "example.com/acme/stage", Dir: dir, Module: "example.com/acme/stage"}},
		{"example.com/acme/stage/sub=../", Plugin{Import: "example.com/acme/stage/sub", Dir: dir, Module: "example.com/acme/stage"}},
		{"..", Plugin{Import: "example.com/acme/stage", Dir: dir, Module: "example.com/acme/stage"}},
		{dir, Plugin{Import: "example.com/acme/stage", Dir: dir, Module: "example.com/acme/stage"}},
	} {
		if got, err := ParsePlugin(tt.text); err != nil || got != tt.want {
			t.Errorf("%s is %+v, %v; want %+v", tt.text, got, err, tt.want)
		}
	}
}

func TestWhatIsNoPluginIsRefusedWithWhatWouldBe(t *testing.T) {
	inModule(t, "example.com/acme/stage")
	for _, tt := range []struct{ text, want string }{
		{"", "want MODULE@VERSION, MODULE=PATH, or a PATH"},
		{"=..", "want MODULE@VERSION, MODULE=PATH, or a PATH"},
		{"@v1.2.0", "want MODULE@VERSION, MODULE=PATH, or a PATH"},
		{"below dir", "want MODULE@VERSION"},
		{"example.com/a@", "want a version after the @"},
		{"example.com/a@v1@v2", "want a version after the @"},
		{"example.com/a=", "want a directory after the ="},
		{"example.com/a@v1=..", "a directory is of no version"},
		{"example.com/a=..", "the module in .. is example.com/acme/stage; give example.com/acme/stage=.."},
		{"example.com/acme/stages=..", "the module in .. is example.com/acme/stage;"},
		{"example.com/a=.", "is no Go module: there is no go.mod in it"},
		{".", "is no Go module: there is no go.mod in it"},
		{"./no-such", "no such file or directory"},
		{"github.com/xdpipe/xdpipe@v1.2.0", "always inside; another one is given by --replace"},
	} {
		if p, err := ParsePlugin(tt.text); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q is %+v, %v; want an error with %q", tt.text, p, err, tt.want)
		}
	}
}

func TestAReplacementIsADirectoryOrAVersion(t *testing.T) {
	inModule(t, "example.com/fork")
	dir, err := filepath.Abs("..")
	must(t, err)
	for _, tt := range []struct{ text, want string }{
		{"example.com/a=..", "example.com/a => " + dir},
		{"example.com/a@v1.2.0=..", "example.com/a@v1.2.0 => " + dir},
		{"example.com/a=example.com/fork@v1.3.0", "example.com/a => example.com/fork@v1.3.0"},
	} {
		r, err := ParseReplacement(tt.text)
		if got := r.Old.String() + " => " + r.New.String(); err != nil || got != tt.want {
			t.Errorf("%s is %s, %v; want %s", tt.text, got, err, tt.want)
		}
	}
	for _, tt := range []struct{ text, want string }{
		{"example.com/a", "want MODULE=PATH"},
		{"example.com/a=", "want MODULE=PATH"},
		{"=..", "want MODULE=PATH"},
		{"example.com/a=example.com/b c@v1", "want MODULE=PATH"},
		{"example.com/a=.", "is no Go module"},
		{"example.com/a=./no-such", "no such file or directory"},
		{"github.com/xdpipe/xdpipe=..", "the module in .. is example.com/fork and not xdpipe"},
	} {
		if r, err := ParseReplacement(tt.text); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q is %+v, %v; want an error with %q", tt.text, r, err, tt.want)
		}
	}
}

func TestADirectoryIsRequiredAsAVersionOfItsMajor(t *testing.T) {
	for path, want := range map[string]string{
		"example.com/a": "v0.0.0", "example.com/a/v2": "v2.0.0", "gopkg.in/a.v3": "v3.0.0",
	} {
		if got := anyVersion(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}
