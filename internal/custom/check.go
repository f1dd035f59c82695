package custom

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/xdpipe/xdpipe/internal/gocmd"
)

// askTime bounds how long a binary may take to say what is inside.
const askTime = 30 * time.Second

// runsHere reports whether what the go command compiles runs on this machine.
func runsHere(ctx context.Context, g *gocmd.Command) bool {
	out, err := g.Output(ctx, "env", "GOOS", "GOARCH")
	return err == nil && out == runtime.GOOS+"\n"+runtime.GOARCH
}

// ask runs the binary to have it say what is inside.
func ask(ctx context.Context, file string) (*Contents, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, file, "version", "-j")
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		said := err.Error()
		if lines := strings.TrimSpace(errOut.String()); lines != "" {
			said, _, _ = strings.Cut(lines, "\n") // of a panic, what it is about
			said = strings.TrimPrefix(said, "panic: ")
		}
		return nil, fmt.Errorf("the binary that was built does not start: %s", said)
	}
	c := &Contents{}
	if err := json.Unmarshal(out.Bytes(), c); err != nil {
		return nil, fmt.Errorf("the binary that was built does not say what is inside: %w", err)
	}
	return c, nil
}

// check holds what is inside a binary against what was to be.
func (c *Contents) check(plugins []Plugin) error {
	var wrong []error
	for _, r := range c.Refused {
		wrong = append(wrong, errors.New(r.Error))
	}
	for _, p := range plugins {
		if !c.from(p.Import) {
			wrong = append(wrong, fmt.Errorf("%s is compiled in and no stage is from it: its package has to call pipeline.Register in an init function", p))
		}
	}
	return errors.Join(wrong...)
}

// from reports whether a stage is from the module of the package, refused or not.
func (c *Contents) from(pkg string) bool {
	of := ""
	for path := range c.Modules {
		if (pkg == path || strings.HasPrefix(pkg, path+"/")) && len(path) > len(of) {
			of = path
		}
	}
	for _, s := range c.Stages {
		if s.Module.Path == of {
			return true
		}
	}
	for _, r := range c.Refused {
		if r.Module.Path == of {
			return true
		}
	}
	return false
}

// explainBuild adds to what the compiler said what to do, where that is known.
func explainBuild(err error) error {
	said := err.Error()
	switch {
	case strings.Contains(said, "is a program, not an importable package"):
		return fmt.Errorf("%w\nA plugin is imported: put its stage into a package that is not main, and give that package's path", err)
	case strings.Contains(said, "does not contain package"), strings.Contains(said, "no Go files in"):
		return fmt.Errorf("%w\nGive the path of the package with the stages: --with MODULE/PACKAGE@VERSION, or MODULE/PACKAGE=PATH", err)
	case strings.Contains(said, "use of internal package"):
		return fmt.Errorf("%w\nPackages named internal are their module's own; a plugin uses what package pipeline exports", err)
	case strings.Contains(said, "GOPROXY=off"):
		return fmt.Errorf("%w\nIt is not in the module cache, and GOPROXY=off forbids fetching it", err)
	}
	return err
}

// explainFetch does so for what was said when versions were chosen.
func explainFetch(err error) error {
	said := err.Error()
	switch {
	case strings.Contains(said, "requires") && strings.Contains(said, ", not "):
		return fmt.Errorf("the versions asked for do not go together: %w\nGive one with --with that both accept, or another module in its place with --replace", err)
	case strings.Contains(said, "GOPROXY=off"):
		return fmt.Errorf("%w\nGOPROXY=off forbids fetching it; give a directory with --with MODULE=PATH", err)
	}
	return explainBuild(err)
}
