// Package source finds the source of xdpipe that this binary is from, for builds
// and modules that require it.
package source

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/xdpipe/xdpipe/internal/buildinfo"
)

// A Source is where xdpipe is to be taken from: a version that Go can fetch, or a
// working tree.
type Source struct {
	Version string // "" for a working tree
	Dir     string // absolute; "" for a version
	How     string // how it was found, for people
}

func (s Source) String() string {
	what := buildinfo.XDPipe + " " + s.Version
	if s.Dir != "" {
		what = buildinfo.XDPipe + " => " + s.Dir
	}
	return what + " (" + s.How + ")"
}

// Find finds the source of this binary. dirs are where a working tree may be,
// themselves or above, beside the working directory and the binary's place.
func Find(dirs ...string) (Source, error) {
	return find(buildinfo.Self(), dirs)
}

func find(self buildinfo.Module, dirs []string) (Source, error) {
	if fetchable(self.Version) && self.Replace == "" {
		return Source{Version: self.Version, How: "the version of this binary"}, nil
	}
	if wd, err := os.Getwd(); err == nil {
		if dir := above(wd); dir != "" {
			return Source{Dir: dir, How: "the working directory is in it"}, nil
		}
	}
	if exe, err := os.Executable(); err == nil {
		if dir := above(filepath.Dir(exe)); dir != "" {
			return Source{Dir: dir, How: "this binary is in it"}, nil
		}
	}
	for _, d := range dirs {
		if dir := above(d); dir != "" {
			return Source{Dir: dir, How: d + " is in it"}, nil
		}
		if dir := replacedBy(d); dir != "" {
			return Source{Dir: dir, How: "as " + filepath.Join(d, "go.mod") + " replaces it"}, nil
		}
	}
	if dir := self.Replace; filepath.IsAbs(dir) && is(dir) {
		return Source{Dir: dir, How: "this binary was built from it"}, nil
	}
	return Source{}, fmt.Errorf("find the source of xdpipe: this binary (version %s) was built from a working tree, and neither the working directory nor the binary is in one: run it inside, or give --replace %s=PATH",
		self.Version, buildinfo.XDPipe)
}

// fetchable reports whether Go can fetch the version: one that was released. That
// of a commit is that of a working tree, which may have been published or not.
func fetchable(version string) bool {
	return strings.HasPrefix(version, "v") && !strings.Contains(version, "+") && !module.IsPseudoVersion(version)
}

// above returns the working tree that the directory is in, or "".
func above(dir string) string {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return ""
	}
	for {
		if is(dir) {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return ""
		}
		dir = parent
	}
}

// is reports whether the directory is the root of a working tree of xdpipe.
func is(dir string) bool {
	path, err := ModulePath(dir)
	return err == nil && path == buildinfo.XDPipe
}

// replacedBy returns the working tree that the go.mod in the directory replaces
// xdpipe with, or "".
func replacedBy(dir string) string {
	path := filepath.Join(dir, "go.mod")
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	mod, err := modfile.Parse(path, data, nil)
	if err != nil {
		return ""
	}
	for _, r := range mod.Replace {
		if r.Old.Path == buildinfo.XDPipe && r.New.Version == "" {
			to := r.New.Path
			if !filepath.IsAbs(to) {
				to = filepath.Join(dir, to)
			}
			if to, err := filepath.Abs(to); err == nil && is(to) {
				return to
			}
		}
	}
	return ""
}

// ModulePath returns the path of the module whose root is the directory.
func ModulePath(dir string) (string, error) {
	mod, err := ReadMod(dir)
	if err != nil {
		return "", err
	}
	return mod.Module.Mod.Path, nil
}

// ReadMod reads the go.mod of the directory, as far as it means something to those
// who require the module: without what it replaces.
func ReadMod(dir string) (*modfile.File, error) {
	path := filepath.Join(dir, "go.mod")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(dir); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%s is no Go module: there is no go.mod in it", dir)
	}
	if err != nil {
		return nil, err
	}
	mod, err := modfile.ParseLax(path, data, nil)
	if err != nil {
		return nil, err
	}
	if mod.Module == nil {
		return nil, fmt.Errorf("%s has no module line", path)
	}
	return mod, nil
}
