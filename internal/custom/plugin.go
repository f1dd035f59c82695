package custom

import (
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/xdpipe/xdpipe/internal/buildinfo"
	"github.com/xdpipe/xdpipe/internal/source"
)

// A Plugin is a package with stages that goes into a binary.
type Plugin struct {
	Import  string // the package's import path
	Version string // of its module, or a query such as latest; "" with a Dir
	Dir     string // the module's directory, absolute; "" for one to be fetched
	Module  string // the module's path; known with a Dir
}

// ParsePlugin reads PATH, IMPORT, IMPORT@VERSION, or MODULE=PATH.
func ParsePlugin(text string) (Plugin, error) {
	name, dir, local := strings.Cut(text, "=")
	if isPath(text) {
		name, dir, local = "", text, true
	}
	p := Plugin{}
	var versioned bool
	if p.Import, p.Version, versioned = strings.Cut(name, "@"); name != "" {
		if err := module.CheckImportPath(p.Import); err != nil {
			return p, fmt.Errorf("%q: %w; want MODULE@VERSION, MODULE=PATH, or a PATH that begins with ./, ../ or /", text, err)
		}
	}
	switch {
	case name == "" && (!local || !isPath(text)):
		return p, fmt.Errorf("%q: want MODULE@VERSION, MODULE=PATH, or a PATH that begins with ./, ../ or /", text)
	case p.Import == buildinfo.XDPipe:
		return p, fmt.Errorf("%q is xdpipe itself, which is always inside; another one is given by --replace %s=PATH", text, buildinfo.XDPipe)
	case versioned && local:
		return p, fmt.Errorf("%q: a directory is of no version; give %s=%s, or %s@%s", text, p.Import, dir, p.Import, p.Version)
	case versioned && (p.Version == "" || strings.ContainsAny(p.Version, "@ ")):
		return p, fmt.Errorf("%q: want a version after the @, such as v1.2.0 or latest", text)
	case !local:
		if p.Version == "" {
			p.Version = "latest"
		}
		return p, nil
	case dir == "":
		return p, fmt.Errorf("%q: want a directory after the =", text)
	}
	var err error
	if p.Dir, err = filepath.Abs(dir); err != nil {
		return p, err
	}
	if p.Module, err = source.ModulePath(p.Dir); err != nil {
		return p, fmt.Errorf("%q: %w", text, err)
	}
	if p.Import == "" {
		p.Import = p.Module
	}
	if p.Import != p.Module && !strings.HasPrefix(p.Import, p.Module+"/") {
		return p, fmt.Errorf("%q: the module in %s is %s; give %s=%s", text, dir, p.Module, p.Module, dir)
	}
	return p, nil
}

func (p Plugin) String() string {
	if p.Dir != "" {
		return p.Import + "=" + p.Dir
	}
	return p.Import + "@" + p.Version
}

// isPath tells a directory from a module's path, as the go command does.
func isPath(s string) bool {
	return modfile.IsDirectoryPath(s)
}

// A Replacement puts another module in the place of one.
type Replacement struct {
	Old module.Version // without a version: of all
	New module.Version // without a version: a directory, absolute
}

// ParseReplacement reads MODULE[@VERSION]=PATH or MODULE[@VERSION]=MODULE@VERSION.
func ParseReplacement(text string) (Replacement, error) {
	const want = "want MODULE=PATH, or MODULE=MODULE@VERSION"
	var r Replacement
	before, after, ok := strings.Cut(text, "=")
	if !ok || after == "" {
		return r, fmt.Errorf("%q: %s", text, want)
	}
	r.Old.Path, r.Old.Version, _ = strings.Cut(before, "@")
	if err := module.CheckImportPath(r.Old.Path); err != nil {
		return r, fmt.Errorf("%q: %w; %s", text, err, want)
	}
	if path, version, ok := strings.Cut(after, "@"); ok && !isPath(after) {
		if err := module.CheckPath(path); err != nil {
			return r, fmt.Errorf("%q: %w; %s", text, err, want)
		}
		r.New = module.Version{Path: path, Version: version}
		return r, nil
	}
	dir, err := filepath.Abs(after)
	if err != nil {
		return r, err
	}
	path, err := source.ModulePath(dir)
	if err != nil {
		return r, fmt.Errorf("%q: %w", text, err)
	}
	if r.Old.Path == buildinfo.XDPipe && path != buildinfo.XDPipe {
		return r, fmt.Errorf("%q: the module in %s is %s and not xdpipe", text, after, path)
	}
	r.New.Path = dir
	return r, nil
}

func (r Replacement) isDir() bool { return r.New.Version == "" }

// anyVersion is a version of the module for a require that a replace makes one of
// a directory.
func anyVersion(path string) string {
	if _, major, ok := module.SplitPathVersion(path); ok {
		if prefix := module.PathMajorPrefix(major); prefix != "" {
			return prefix + ".0.0"
		}
	}
	return "v0.0.0"
}
