package scaffold

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/modfile"

	"github.com/xdpipe/xdpipe/internal/buildinfo"
	"github.com/xdpipe/xdpipe/internal/gocmd"
	"github.com/xdpipe/xdpipe/internal/source"
)

// writeMod writes go.mod, and, with a working tree of xdpipe, a go.sum: with the
// tree's requirements and sums, whatever builds there builds here, too.
func writeMod(dir string, o Options) error {
	mod := &modfile.File{}
	if err := mod.AddModuleStmt(o.Module); err != nil {
		return err
	}
	if o.Source.Dir == "" {
		return errors.Join(
			mod.AddGoStmt(gocmd.MinVersion),
			mod.AddRequire(buildinfo.XDPipe, o.Source.Version),
			write(dir, mod),
		)
	}
	tree, err := source.ReadMod(o.Source.Dir)
	if err != nil {
		return err
	}
	goVersion := gocmd.MinVersion
	if tree.Go != nil {
		goVersion = tree.Go.Version
	}
	if err := errors.Join(mod.AddGoStmt(goVersion), mod.AddRequire(buildinfo.XDPipe, "v0.0.0")); err != nil {
		return err
	}
	for _, r := range tree.Require {
		mod.AddNewRequire(r.Mod.Path, r.Mod.Version, true)
	}
	if err := mod.AddReplace(buildinfo.XDPipe, "", from(o.Dir, o.Source.Dir), ""); err != nil {
		return err
	}
	r := mod.Replace[len(mod.Replace)-1]
	r.Syntax.Before = []modfile.Comment{
		{Token: "// The xdpipe that wrote this is from a working tree and no release. To use one,"},
		{Token: "// remove this line and: go get " + buildinfo.XDPipe + "@latest"},
	}
	sums, err := os.ReadFile(filepath.Join(o.Source.Dir, "go.sum"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return errors.Join(write(dir, mod), os.WriteFile(filepath.Join(dir, "go.sum"), sums, 0o644))
}

func write(dir string, mod *modfile.File) error {
	mod.Cleanup()
	text, err := mod.Format()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "go.mod"), text, 0o644)
}

// from returns the way from a directory to a working tree: relative if it is in
// it, so that both can be moved.
func from(dir, tree string) string {
	if rel, err := filepath.Rel(dir, tree); err == nil && strings.Trim(rel, "./") == "" {
		return filepath.ToSlash(rel)
	}
	return tree
}

// tidy has the go command take what is not needed out of go.mod and go.sum, and
// put in what is. Without the go command, or the network where that is needed,
// both stay as they are.
func tidy(ctx context.Context, dir string) error {
	g, err := gocmd.New(dir)
	if err != nil {
		return err
	}
	return g.Run(ctx, "mod", "tidy")
}
