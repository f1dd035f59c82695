package cli

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A pseudoTerminal is a terminal whose screen is what the test reads and whose
// keyboard is what it writes.
type pseudoTerminal struct {
	t      *testing.T
	master *os.File
	slave  *os.File
	seen   output // all that was written to it
	read   chan struct{}
}

func newTerminal(t *testing.T, width, height uint16) *pseudoTerminal {
	t.Helper()
	// Non-blocking, so that closing ends a read.
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	must(t, err)
	p := &pseudoTerminal{t: t, master: os.NewFile(uintptr(fd), "ptmx"), read: make(chan struct{})}
	p.seen.wrote = make(chan struct{}, 1)
	must(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	must(t, err)
	p.slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	p.resize(width, height)
	go func() {
		defer close(p.read)
		buf := make([]byte, 4096)
		for {
			n, err := p.master.Read(buf)
			p.seen.Write(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		p.slave.Close()
		p.master.Close()
		<-p.read
		if t.Failed() {
			t.Logf("the terminal saw: %q", tail(p.seen.String()))
		}
	})
	return p
}

func (p *pseudoTerminal) resize(width, height uint16) {
	p.t.Helper()
	must(p.t, unix.IoctlSetWinsize(int(p.slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width}))
}

func (p *pseudoTerminal) modes() unix.Termios {
	p.t.Helper()
	modes, err := unix.IoctlGetTermios(int(p.slave.Fd()), unix.TCGETS)
	must(p.t, err)
	return *modes
}

func (p *pseudoTerminal) press(keys string) {
	p.t.Helper()
	_, err := p.master.WriteString(keys)
	must(p.t, err)
}

// start starts the program with this terminal as its own.
func (p *pseudoTerminal) start(args ...string) *child {
	p.t.Helper()
	return startChild(p.t, childOptions{env: []string{"TERM=xterm"}, start: func(cmd *exec.Cmd) error {
		cmd.Stdin, cmd.Stdout = p.slave, p.slave
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		return cmd.Start()
	}}, args...)
}

// sees waits until the text has appeared after all that was seen before.
func (p *pseudoTerminal) sees(text string) {
	p.t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		p.seen.mu.Lock()
		at := bytes.Index(p.seen.text.Bytes(), []byte(text))
		if at >= 0 {
			p.seen.text.Next(at + len(text))
		}
		p.seen.mu.Unlock()
		if at >= 0 {
			return
		}
		// Not the program's end: what it wrote last may not have been read yet.
		select {
		case <-p.seen.wrote:
		case <-timeout:
			p.t.Fatalf("the terminal did not see %q", text)
		}
	}
}

func TestTheLiveViewTakesATerminalAndGivesItBackAsItWas(t *testing.T) {
	dir := newRunDir(t)
	steady(t, dir, "bridge")
	for _, tt := range []struct {
		name string
		end  func(p *pseudoTerminal, c *child) int
	}{
		{"q", func(p *pseudoTerminal, c *child) int { p.press("q"); return c.wait() }},
		{"ctrl-C", func(p *pseudoTerminal, c *child) int { p.press("\x03"); return c.wait() }},
		{"SIGTERM", func(p *pseudoTerminal, c *child) int { return c.signal(syscall.SIGTERM) }},
		{"SIGINT", func(p *pseudoTerminal, c *child) int { return c.signal(syscall.SIGINT) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newTerminal(t, 120, 30)
			before := p.modes()
			c := p.start("top", "--run-dir", dir, "-d", "50ms")
			p.sees(enterScreen)
			p.sees("rates since the start")
			p.sees("rates over 50ms")
			p.sees("wan-lan/1:parse")
			if p.modes() == before {
				t.Error("keys are echoed and come a line at a time")
			}
			if status := tt.end(p, c); status != exitDone || c.err.String() != "" {
				t.Errorf("status %d, standard error %q", status, c.err.String())
			}
			p.sees(leaveScreen)
			if p.modes() != before {
				t.Errorf("the terminal's modes were %+v and are %+v", before, p.modes())
			}
		})
	}
}

func TestTheLiveViewHearsKeysAndFollowsTheSizeOfTheTerminal(t *testing.T) {
	dir := newRunDir(t)
	steady(t, dir, "bridge")
	p := newTerminal(t, 120, 30)
	c := p.start("top", "--run-dir", dir, "-d", "1h") // nothing but keys and sizes make it draw
	p.sees("stages by order")
	p.sees("acl_denied 1.00M")
	p.press("n")
	p.sees("stages by ns/packet")
	p.press("\x1b[B ")
	p.sees("HELD")
	p.sees("\x1b[J")
	p.resize(40, 10)
	p.sees("q quit  sort: o order p packets n ns/pa…\x1b[K\x1b[J")
	p.press("q")
	if status := c.wait(); status != exitDone {
		t.Errorf("status %d", status)
	}
}

func TestTheLiveViewEndsAfterItsCountAndWithItsTerminal(t *testing.T) {
	dir := newRunDir(t)
	steady(t, dir, "bridge")
	p := newTerminal(t, 120, 30)
	c := p.start("top", "--run-dir", dir, "-d", "50ms", "-n", "2")
	if status := c.wait(); status != exitDone {
		t.Errorf("status %d", status)
	}
	p.sees(leaveScreen)

	gone := newTerminal(t, 120, 30)
	c = gone.start("top", "--run-dir", dir, "-d", "50ms")
	gone.sees("wan-lan/1:parse")
	must(t, gone.slave.Close())
	must(t, gone.master.Close())
	c.wait() // of the hangup or of a write that failed: it does not stay
}

func TestATerminalThatCannotShowAViewGetsLines(t *testing.T) {
	dir := newRunDir(t)
	steady(t, dir, "bridge")
	p := newTerminal(t, 120, 30)
	c := startChild(t, childOptions{env: []string{"TERM=dumb"}, start: func(cmd *exec.Cmd) error {
		cmd.Stdin, cmd.Stdout = p.slave, p.slave
		return cmd.Start()
	}}, "top", "--run-dir", dir, "-d", "50ms", "-n", "1")
	if status := c.wait(); status != exitDone {
		t.Errorf("status %d", status)
	}
	p.sees("#time")
	if strings.Contains(p.seen.String(), "\x1b") {
		t.Errorf("escape sequences on a dumb terminal")
	}
}
