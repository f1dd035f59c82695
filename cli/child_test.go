package cli

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A child is the program running as a process of its own.
type child struct {
	t      *testing.T
	cmd    *exec.Cmd
	out    output // standard output
	err    output // standard error
	ended  chan struct{}
	status int // once ended: the exit status, -1 if a signal ended it
}

// output is what a process has written so far.
type output struct {
	mu    sync.Mutex
	text  bytes.Buffer
	wrote chan struct{} // has room for one
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.wrote <- struct{}{}:
	default:
	}
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func (o *output) lines() []string {
	return strings.Split(strings.TrimSuffix(o.String(), "\n"), "\n")
}

// childOptions say how to start a child. The zero value is as root, with this
// process's environment.
type childOptions struct {
	env   []string
	user  uint32                    // 0: root
	start func(cmd *exec.Cmd) error // nil: cmd.Start
}

// startChild starts the program with these arguments. It ends with the test at
// the latest.
func startChild(t *testing.T, o childOptions, args ...string) *child {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), childLife)
	c := &child{t: t, cmd: exec.CommandContext(ctx, "/proc/self/exe", args...), ended: make(chan struct{})}
	c.out.wrote, c.err.wrote = make(chan struct{}, 1), make(chan struct{}, 1)
	c.cmd.Env = append(append(os.Environ(), cliEnv+"=1"), o.env...)
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.err
	c.cmd.WaitDelay = 5 * time.Second
	if o.user != 0 {
		c.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: o.user, Gid: o.user}}
	}
	start := (*exec.Cmd).Start
	if o.start != nil {
		start = o.start
	}
	if err := start(c.cmd); err != nil {
		cancel()
		t.Fatalf("start xdpipe %s: %v", strings.Join(args, " "), err)
	}
	go func() {
		defer close(c.ended)
		defer cancel()
		err := c.cmd.Wait()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			c.status = -2
			return
		}
		c.status = c.cmd.ProcessState.ExitCode()
	}()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-c.ended
		if t.Failed() {
			t.Logf("xdpipe %s\nstandard output: %s\nstandard error: %s", strings.Join(args, " "), tail(c.out.String()), tail(c.err.String()))
		}
	})
	return c
}

// tail is the end of a long text.
func tail(s string) string {
	const most = 4000
	if len(s) > most {
		return "…" + s[len(s)-most:]
	}
	return s
}

// startReady starts the program and waits until it says ready.
func startReady(t *testing.T, o childOptions, args ...string) *child {
	t.Helper()
	c := startChild(t, o, args...)
	c.awaitLine("ready")
	return c
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// awaitLine waits until a line of standard error is this one.
func (c *child) awaitLine(line string) {
	c.t.Helper()
	c.await(line, &c.err, func(lines []string) bool { return slices.Contains(lines, line) })
}

func (c *child) await(what string, o *output, there func([]string) bool) {
	c.t.Helper()
	timeout := time.After(30 * time.Second)
	for !there(o.lines()) {
		select {
		case <-o.wrote:
		case <-c.ended:
			if !there(o.lines()) {
				c.t.Fatalf("ended with status %d before it wrote %q", c.status, what)
			}
			return
		case <-timeout:
			c.t.Fatalf("did not write %q", what)
		}
	}
}

// kill9 kills it and waits for its end.
func (c *child) kill9() {
	c.t.Helper()
	must(c.t, c.cmd.Process.Kill())
	<-c.ended
}

// wait waits for it to end by itself and returns the exit status.
func (c *child) wait() int {
	c.t.Helper()
	select {
	case <-c.ended:
	case <-time.After(60 * time.Second):
		c.t.Fatal("did not end")
	}
	return c.status
}

// signal sends a signal and waits for the end.
func (c *child) signal(s os.Signal) int {
	c.t.Helper()
	must(c.t, c.cmd.Process.Signal(s))
	return c.wait()
}

// stop ends it as users do and checks that it was a clean end.
func (c *child) stop() {
	c.t.Helper()
	if status := c.signal(syscall.SIGTERM); status != exitDone {
		c.t.Fatalf("SIGTERM ended it with status %d, want 0", status)
	}
	c.checkAccount()
}

// account returns the last line of standard error, which is the frame account.
func (c *child) account() string {
	lines := c.err.lines()
	return lines[len(lines)-1]
}

func (c *child) checkAccount() {
	c.t.Helper()
	if line := c.account(); !strings.HasPrefix(line, "account: ") || !strings.Contains(line, "all returned") {
		c.t.Errorf("the last line on standard error is %q, want an account with all frames returned", line)
	}
}

// cli runs the program in this process. A run that is not refused, as the test
// expects, ends by itself.
func cli(args ...string) (status int, out, errOut string) {
	if args[0] == "run" {
		args = append([]string{"run", "--duration=1s"}, args[1:]...)
	}
	var o, e bytes.Buffer
	status = run(args, &o, &e)
	return status, o.String(), e.String()
}

// cliOK runs the program in this process and expects it to succeed.
func cliOK(t *testing.T, args ...string) string {
	t.Helper()
	status, out, errOut := cli(args...)
	if status != exitDone {
		t.Fatalf("xdpipe %s: status %d\n%s%s", strings.Join(args, " "), status, out, errOut)
	}
	return out
}
