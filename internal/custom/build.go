// Package custom builds binaries of xdpipe with more stages inside.
//
// A binary is compiled from a module that is made for it and removed again: its
// main imports the command line, the built-in stages and the plugins, its go.mod
// requires the modules they are from. Before the binary is put in its place it is
// asked what is inside.
package custom

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"

	"github.com/xdpipe/xdpipe/internal/buildinfo"
	"github.com/xdpipe/xdpipe/internal/gocmd"
	"github.com/xdpipe/xdpipe/internal/source"
)

// Options say what to build.
type Options struct {
	Plugins []Plugin
	Replace []Replacement
	Output  string // the file
	// Log is told what is being done; nil for nobody.
	Log func(format string, args ...any)
}

// A Result is a binary that was built.
type Result struct {
	File   string
	Source source.Source
	// Contents is what the binary said is inside. It is nil for one of another
	// operating system or architecture, which cannot be asked here.
	Contents *Contents
}

// mainModule is the path of the module that the binary is compiled from.
const mainModule = "xdpipe.build/custom"

// Build builds the binary. An error leaves a file that was there as it was.
func Build(ctx context.Context, o Options) (*Result, error) {
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	output, err := filepath.Abs(o.Output)
	if err != nil {
		return nil, err
	}
	if err := checkOutput(output); err != nil {
		return nil, err
	}
	if err := checkPlugins(o.Plugins); err != nil {
		return nil, err
	}
	src, err := sourceOf(o)
	if err != nil {
		return nil, err
	}
	o.Log("xdpipe: %s", src)
	dir, err := os.MkdirTemp("", "xdpipe-build-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := writeModule(dir, o, src); err != nil {
		return nil, err
	}
	g, err := gocmd.New(dir)
	if err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	if err := fetch(ctx, g, o); err != nil {
		return nil, err
	}
	// Beside the file, so that it gets there by renaming, whole or not at all.
	made, err := os.CreateTemp(filepath.Dir(output), ".xdpipe-build-*")
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", o.Output, err)
	}
	made.Close()
	defer os.Remove(made.Name())
	o.Log("compile")
	if err := g.Run(ctx, "build", "-mod=mod", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", made.Name(), "."); err != nil {
		return nil, explainBuild(err)
	}
	r := &Result{File: o.Output, Source: src}
	if runsHere(ctx, g) {
		if r.Contents, err = ask(ctx, made.Name()); err != nil {
			return nil, err
		}
		if err := r.Contents.check(o.Plugins); err != nil {
			return nil, err
		}
	}
	if err := os.Chmod(made.Name(), 0o755); err != nil {
		return nil, err
	}
	if err := os.Rename(made.Name(), output); err != nil {
		return nil, fmt.Errorf("write %s: %w", o.Output, err)
	}
	return r, nil
}

// checkOutput refuses to write where nothing can be, and over what is no program.
func checkOutput(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.IsDir() {
		return fmt.Errorf("write %s: it is a directory: give a file with -o", path)
	}
	magic := make([]byte, 4)
	if n, _ := f.Read(magic); n > 0 && !bytes.Equal(magic, []byte("\x7fELF")) {
		return fmt.Errorf("write %s: it is there already and is no program: remove it, or give another file with -o", path)
	}
	return nil
}

func checkPlugins(plugins []Plugin) error {
	for i, p := range plugins {
		for _, other := range plugins[:i] {
			if p.Import == other.Import {
				return fmt.Errorf("%s is there twice: as %s and as %s", p.Import, other, p)
			}
		}
	}
	return nil
}

// sourceOf returns where xdpipe itself is to come from.
func sourceOf(o Options) (source.Source, error) {
	for _, r := range o.Replace {
		switch {
		case r.Old.Path != buildinfo.XDPipe || r.Old.Version != "":
		case r.isDir():
			return source.Source{Dir: r.New.Path, How: "as given"}, nil
		default:
			return source.Source{Version: anyVersion(r.Old.Path), How: "replaced by " + r.New.String()}, nil
		}
	}
	var dirs []string
	for _, p := range o.Plugins {
		if p.Dir != "" {
			dirs = append(dirs, p.Dir)
		}
	}
	return source.Find(dirs...)
}

// writeModule writes the module to compile, as far as it is known before anything
// is fetched: what is on this machine is required and replaced.
func writeModule(dir string, o Options, src source.Source) error {
	var main strings.Builder
	fmt.Fprintf(&main, "// Command xdpipe, with more stages inside.\npackage main\n\nimport (\n\t%q\n\t_ %q\n\n", buildinfo.XDPipe+"/cli", buildinfo.XDPipe+"/pipeline/stages")
	for _, p := range o.Plugins {
		fmt.Fprintf(&main, "\t_ %q\n", p.Import)
	}
	main.WriteString(")\n\nfunc main() { cli.Main() }\n")

	local := map[string]string{} // directories by module
	if src.Dir != "" {
		local[buildinfo.XDPipe] = src.Dir
	}
	mod := &modfile.File{}
	if err := mod.AddModuleStmt(mainModule); err != nil {
		return err
	}
	for _, r := range o.Replace {
		if err := mod.AddReplace(r.Old.Path, r.Old.Version, r.New.Path, r.New.Version); err != nil {
			return err
		}
		switch {
		case r.Old.Version != "": // of one version: whoever requires it gets it
		case r.isDir():
			local[r.Old.Path] = r.New.Path
		default:
			if err := mod.AddRequire(r.Old.Path, anyVersion(r.Old.Path)); err != nil {
				return err
			}
		}
	}
	for _, p := range o.Plugins {
		if p.Dir != "" && local[p.Module] == "" {
			local[p.Module] = p.Dir
		}
	}
	if src.Version != "" {
		if err := mod.AddRequire(buildinfo.XDPipe, src.Version); err != nil {
			return err
		}
	}
	goVersion, required := gocmd.MinVersion, map[string]string{}
	var sums bytes.Buffer
	for path, from := range local {
		if err := mod.AddRequire(path, anyVersion(path)); err != nil {
			return err
		}
		if err := mod.AddReplace(path, "", from, ""); err != nil {
			return err
		}
		theirs, err := source.ReadMod(from)
		if err != nil {
			return err
		}
		if theirs.Go != nil && semver.Compare("v"+theirs.Go.Version, "v"+goVersion) > 0 {
			goVersion = theirs.Go.Version
		}
		// With all that they require, and its sums, the go command has nothing to look
		// up beyond what it compiles.
		for _, r := range theirs.Require {
			required[r.Mod.Path] = latest(required[r.Mod.Path], r.Mod.Version)
		}
		if data, err := os.ReadFile(filepath.Join(from, "go.sum")); err == nil {
			sums.Write(data)
			sums.WriteByte('\n')
		}
	}
	for path, version := range required {
		if local[path] == "" && !replaced(o.Replace, path) {
			mod.AddNewRequire(path, version, true)
		}
	}
	if err := mod.AddGoStmt(goVersion); err != nil {
		return err
	}
	mod.Cleanup()
	text, err := mod.Format()
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "main.go"), []byte(main.String()), 0o600),
		os.WriteFile(filepath.Join(dir, "go.mod"), text, 0o600),
		os.WriteFile(filepath.Join(dir, "go.sum"), sums.Bytes(), 0o600),
	)
}

// latest returns the later of two versions, of which one may be "".
func latest(a, b string) string {
	if semver.Compare(a, b) > 0 {
		return a
	}
	return b
}

// fetch has the go command choose and fetch the versions of what is not on this
// machine. They may want a later xdpipe than go.mod has; then it is that.
func fetch(ctx context.Context, g *gocmd.Command, o Options) error {
	args := []string{"get"}
	for _, p := range o.Plugins {
		if p.Dir == "" && !replaced(o.Replace, p.Import) {
			args = append(args, p.Import+"@"+p.Version)
		}
	}
	if len(args) == 1 {
		return nil
	}
	o.Log("fetch %s", strings.Join(args[1:], ", "))
	if err := g.Run(ctx, args...); err != nil {
		return explainFetch(err)
	}
	return nil
}

// replaced reports whether the module of the package is replaced, whatever its
// version.
func replaced(replace []Replacement, pkg string) bool {
	for _, r := range replace {
		if r.Old.Version == "" && (pkg == r.Old.Path || strings.HasPrefix(pkg, r.Old.Path+"/")) {
			return true
		}
	}
	return false
}
