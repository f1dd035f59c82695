// Package gocmd runs the go command.
package gocmd

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
)

// MinVersion is the go line of a module that uses xdpipe, if nothing it requires
// wants more.
const MinVersion = "1.26.0"

// A Command runs the go command in a directory.
type Command struct {
	path string
	dir  string
}

// New looks for the go command. It is to run in the directory.
func New(dir string) (*Command, error) {
	path, err := exec.LookPath("go")
	if err != nil {
		return nil, fmt.Errorf("there is no go command in PATH: install Go %s or later (https://go.dev/dl), or set PATH", MinVersion)
	}
	return &Command{path, dir}, nil
}

// An Error is what the go command did not want to do, and what it said.
type Error struct {
	Args   []string
	Output string // of standard error
	Err    error
}

func (e *Error) Error() string {
	if e.Output == "" {
		return fmt.Sprintf("go %s: %v", e.Args[0], e.Err)
	}
	return fmt.Sprintf("go %s: %s", e.Args[0], strings.ReplaceAll(e.Output, "\n", "\n  "))
}

func (e *Error) Unwrap() error { return e.Err }

// Run runs the command.
func (c *Command) Run(ctx context.Context, args ...string) error {
	_, err := c.Output(ctx, args...)
	return err
}

// Output runs the command and returns what it writes to standard output.
func (c *Command) Output(ctx context.Context, args ...string) (string, error) {
	slog.Debug("go", "args", args, "dir", c.dir)
	cmd := exec.CommandContext(ctx, c.path, args...)
	cmd.Dir = c.dir
	// A workspace that the user is in is not that of the directory.
	cmd.Env = append(os.Environ(), "GOWORK=off", "GO111MODULE=on", "CGO_ENABLED=0", "PWD="+c.dir)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return "", &Error{args, strings.TrimSpace(errOut.String()), err}
	}
	return strings.TrimSpace(out.String()), nil
}
