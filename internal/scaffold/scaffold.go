// Package scaffold writes new plugins: a Go module with a stage, its test, and all
// that goes with it.
package scaffold

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"go/format"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"time"

	"golang.org/x/mod/module"

	"github.com/xdpipe/xdpipe/internal/source"
	"github.com/xdpipe/xdpipe/pipeline"
)

//go:embed template
var templates embed.FS

// Options say what to write. Stage alone is enough.
type Options struct {
	Stage  string // as configurations write it
	Module string // the module's path; "" for one of example.com
	Dir    string // where it goes; "" for a directory named like the stage
	Source source.Source
}

// A Result is a module that was written.
type Result struct {
	Dir   string   `json:"dir"`
	Stage string   `json:"stage"`
	Path  string   `json:"module"`
	Files []string `json:"files"` // in Dir
	// Untidy is why go.mod and go.sum have more, or less, than the module needs.
	Untidy error `json:"-"`
}

var stageName = regexp.MustCompile(`^[a-z][a-z0-9_-]*$`)

// notStages are names that mean something else to configurations or to Go.
var notStages = []string{"as", "outputs", "main", "internal", "vendor", "testdata"}

// tidyTime bounds how long the go command may take to look things up.
const tidyTime = time.Minute

// Write writes the module. An error leaves nothing behind.
func Write(ctx context.Context, o Options) (*Result, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(o.Dir); err == nil {
		return nil, fmt.Errorf("%s is there already: remove it, or give another directory with --dir", o.Dir)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	files, err := o.files()
	if err != nil {
		return nil, err
	}
	// Beside the directory, so that it gets there by renaming, whole or not at all.
	dir, err := os.MkdirTemp(filepath.Dir(o.Dir), ".xdpipe-new-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	for name, data := range files {
		to := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, data, 0o644)); err != nil {
			return nil, err
		}
	}
	r := &Result{Dir: o.Dir, Stage: o.Stage, Path: o.Module}
	if err := writeMod(dir, o); err != nil {
		return nil, err
	}
	tidyCtx, cancel := context.WithTimeout(ctx, tidyTime)
	defer cancel()
	r.Untidy = tidy(tidyCtx, dir)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			r.Files = append(r.Files, name)
		}
	}
	for name := range files {
		r.Files = append(r.Files, name)
	}
	slices.Sort(r.Files)
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	return r, os.Rename(dir, o.Dir)
}

// complete checks the options and fills in those that are not given.
func (o *Options) complete() (err error) {
	if !stageName.MatchString(o.Stage) {
		return fmt.Errorf("%q is no name for a stage: want lower-case letters, digits, _ and -, a letter first", o.Stage)
	}
	if slices.Contains(notStages, o.Stage) {
		return fmt.Errorf("%q is no name for a stage: it means something else to configurations or to Go", o.Stage)
	}
	if m, taken := pipeline.Lookup(o.Stage); taken {
		return fmt.Errorf("there is a stage %q inside this binary already, which %s: choose another name", o.Stage, m.Doc)
	}
	if o.Module == "" {
		o.Module = "example.com/" + o.Stage
	}
	if err := module.CheckImportPath(o.Module); err != nil {
		return fmt.Errorf("module path: %w", err)
	}
	if o.Dir == "" {
		o.Dir = o.Stage
	}
	o.Dir, err = filepath.Abs(o.Dir)
	return err
}

// Package returns the name of the stage's package, and of its files.
func (o Options) Package() string {
	name := strings.NewReplacer("-", "", "_", "").Replace(o.Stage)
	if token.IsKeyword(name) {
		name += "stage"
	}
	return name
}

// API is the stage API that the code is for.
func (o Options) API() int { return pipeline.APIVersion }

// files returns the files but those of the go command, by name.
func (o Options) files() (map[string][]byte, error) {
	all, err := template.ParseFS(templates, "template/*.tmpl")
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for from, to := range map[string]string{
		"stage.go":      o.Package() + ".go",
		"stage_test.go": o.Package() + "_test.go",
		"main.go":       path.Join("cmd", o.Stage, "main.go"),
		"README.md":     "README.md",
	} {
		var text bytes.Buffer
		if err := all.ExecuteTemplate(&text, from+".tmpl", o); err != nil {
			return nil, err
		}
		files[to] = text.Bytes()
		if strings.HasSuffix(to, ".go") {
			if files[to], err = format.Source(text.Bytes()); err != nil {
				return nil, fmt.Errorf("%s: %w", to, err)
			}
		}
	}
	files["testdata/in.pcap"], files["testdata/out.pcap"], err = captures()
	return files, err
}
