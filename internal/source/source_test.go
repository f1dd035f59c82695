package source

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xdpipe/xdpipe/internal/buildinfo"
)

// writeMod makes a module in the directory.
func writeMod(t *testing.T, dir, path, more string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module "+path+"\n"+more), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTheSourceIsTheVersionOfTheBinaryOrTheWorkingTreeThatItIsFrom(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	tree, elsewhere := filepath.Join(root, "xdpipe"), filepath.Join(root, "elsewhere")
	plugin := filepath.Join(root, "plugin")
	writeMod(t, tree, buildinfo.XDPipe, "")
	writeMod(t, filepath.Join(tree, "examples", "minlen"), "example.com/minlen", "")
	writeMod(t, elsewhere, "example.com/elsewhere", "")
	writeMod(t, plugin, "example.com/plugin", "replace "+buildinfo.XDPipe+" => ../xdpipe\n")
	for _, tt := range []struct {
		name    string
		version string
		replace string
		wd      string
		dirs    []string
		want    string // of the Source, or of the error
	}{
		{name: "released", version: "v1.2.0", wd: tree, want: "v1.2.0 (the version of this binary)"},
		{name: "in the tree", version: "(devel)", wd: filepath.Join(tree, "examples", "minlen"), want: "=> " + tree + " (the working directory is in it)"},
		{name: "of a commit", version: "v0.0.0-20260101000000-0123456789ab", wd: tree, want: "=> " + tree},
		{name: "of a commit with changes", version: "v1.2.0+dirty", wd: tree, want: "=> " + tree},
		{name: "a plugin in the tree", version: "(devel)", wd: elsewhere, dirs: []string{filepath.Join(tree, "examples", "minlen")}, want: "=> " + tree},
		{name: "a plugin that replaces xdpipe", version: "(devel)", wd: elsewhere, dirs: []string{plugin}, want: "=> " + tree + " (as " + filepath.Join(plugin, "go.mod")},
		{name: "built from a tree", version: "(devel)", replace: tree, wd: elsewhere, want: "=> " + tree + " (this binary was built from it)"},
		{name: "built from a tree that is gone", version: "(devel)", replace: filepath.Join(root, "gone"), wd: elsewhere, want: "give --replace github.com/xdpipe/xdpipe=PATH"},
		{name: "nowhere", version: "(devel)", wd: elsewhere, dirs: []string{elsewhere}, want: "give --replace github.com/xdpipe/xdpipe=PATH"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(tt.wd)
			s, err := find(buildinfo.Module{Path: buildinfo.XDPipe, Version: tt.version, Replace: tt.replace}, tt.dirs)
			got := s.String()
			if err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, tt.want) {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}
