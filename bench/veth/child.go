package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xdpipe/xdpipe/lab"
)

// A child is a contender in its own process.
type child struct {
	name    string
	cmd     *lab.Cmd
	stdin   io.Closer
	reports chan report
	attachment
}

// Setting up takes a fraction of a second, and so does ending; a process that
// takes longer hangs.
const childPatience = 15 * time.Second

// startChild starts a contender in the namespace and waits until it is ready.
func startChild(ctx context.Context, ns *lab.NS, c contender, cpu int) (_ *child, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := ns.Command(ctx, self)
	cmd.Env = append(cleanEnv(os.Environ()),
		roleEnv+"="+c.name, ifaceEnv+"="+farName, fmt.Sprintf("%s=%d", cpuEnv, cpu))
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	ch := &child{name: c.name, cmd: cmd, stdin: stdin, reports: make(chan report, 2)}
	go ch.read(stdout)
	ready, err := ch.next(ctx)
	if err == nil && ready.Ready == nil {
		err = fmt.Errorf("it reported its end first")
	}
	if err != nil {
		ch.kill()
		return nil, fmt.Errorf("set up %s: %w", c.name, err)
	}
	ch.attachment = *ready.Ready
	return ch, nil
}

// cleanEnv leaves out what would make one contender do more than it does in use:
// xdpipe's ledger.
func cleanEnv(env []string) []string {
	var kept []string
	for _, v := range env {
		if !strings.HasPrefix(v, "XDPIPE_VERIFY=") {
			kept = append(kept, v)
		}
	}
	return kept
}

func (ch *child) read(stdout io.Reader) {
	defer close(ch.reports)
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r report
		if json.Unmarshal(lines.Bytes(), &r) == nil {
			ch.reports <- r
		}
	}
}

func (ch *child) next(ctx context.Context) (report, error) {
	select {
	case r, ok := <-ch.reports:
		if !ok {
			return r, fmt.Errorf("its process ended; what it said is above")
		}
		return r, nil
	case <-time.After(childPatience):
		return report{}, fmt.Errorf("nothing heard of it for %v", childPatience)
	case <-ctx.Done():
		return report{}, context.Cause(ctx)
	}
}

func (ch *child) pid() int { return ch.cmd.Process.Pid }

// stop ends the contender and returns its own account.
func (ch *child) stop(ctx context.Context) (json.RawMessage, error) {
	defer ch.kill()
	if err := ch.cmd.Process.Signal(unix.SIGTERM); err != nil {
		return nil, fmt.Errorf("stop %s: %w", ch.name, err)
	}
	r, err := ch.next(ctx)
	if err != nil {
		return nil, fmt.Errorf("stop %s: %w", ch.name, err)
	}
	if err := ch.cmd.Wait(); err != nil {
		return nil, fmt.Errorf("stop %s: %w", ch.name, err)
	}
	return r.Final, nil
}

// kill makes sure that the process is gone. It may follow stop.
func (ch *child) kill() {
	ch.stdin.Close()
	_ = ch.cmd.Process.Kill()
	for range ch.reports { // until its output ends, as Wait wants it
	}
	_ = ch.cmd.Wait()
}
