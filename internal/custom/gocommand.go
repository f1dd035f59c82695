package custom

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// A goCommand runs the go command in a directory.
type goCommand struct {
	path string
	dir  string
}

func newGoCommand(dir string) (*goCommand, error) {
	path, err := exec.LookPath("go")
	if err != nil {
		return nil, fmt.Errorf("compile: there is no go command in PATH: install Go %s or later (https://go.dev/dl), or set PATH", goLine)
	}
	return &goCommand{path, dir}, nil
}

// A goError is what the go command did not want to do, and what it said.
type goError struct {
	args   []string
	output string
	err    error
}

func (e *goError) Error() string {
	if e.output == "" {
		return fmt.Sprintf("go %s: %v", e.args[0], e.err)
	}
	return fmt.Sprintf("go %s: %s", e.args[0], strings.ReplaceAll(e.output, "\n", "\n  "))
}

func (e *goError) Unwrap() error { return e.err }

func (g *goCommand) run(ctx context.Context, args ...string) error {
	_, err := g.output(ctx, args...)
	return err
}

// output returns what the command writes to standard output.
func (g *goCommand) output(ctx context.Context, args ...string) (string, error) {
	slog.Debug("go", "args", args, "dir", g.dir)
	cmd := exec.CommandContext(ctx, g.path, args...)
	cmd.Dir = g.dir
	// A workspace or vendor directory that the user is in is not that of the binary.
	cmd.Env = append(os.Environ(), "GOWORK=off", "GO111MODULE=on", "CGO_ENABLED=0", "PWD="+g.dir)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return "", &goError{args, strings.TrimSpace(errOut.String()), err}
	}
	return strings.TrimSpace(out.String()), nil
}

// runsHere reports whether what the command compiles runs on this machine.
func (g *goCommand) runsHere(ctx context.Context) bool {
	out, err := g.output(ctx, "env", "GOOS", "GOARCH")
	return err == nil && out == runtime.GOOS+"\n"+runtime.GOARCH
}
