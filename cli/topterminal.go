package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// What the live view tells the terminal: the alternate screen and no cursor, and
// back again.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
)

// A terminal is where the live view is shown and keys come from.
type terminal struct {
	out *os.File
	in  *os.File // nil if keys cannot be had
}

// liveTerminal returns the terminal that out is, if it is one that a view can be
// shown on.
func liveTerminal(out io.Writer) (*terminal, bool) {
	f, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil, false
	}
	if name := os.Getenv("TERM"); name == "" || name == "dumb" {
		return nil, false
	}
	t := &terminal{out: f}
	if term.IsTerminal(int(os.Stdin.Fd())) {
		t.in = os.Stdin
	}
	return t, true
}

// topLive shows the view until a key, a signal or the count ends it. The terminal
// is as it was afterwards, whatever happens in between.
func topLive(ctx context.Context, w *watcher, t *terminal) (err error) {
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, unix.SIGWINCH)
	defer signal.Stop(resized)
	leave, err := t.enter()
	if err != nil {
		return err
	}
	defer func() {
		if e := leave(); err == nil {
			err = e
		}
	}()
	keys, stop, err := t.keys()
	if err != nil {
		return err
	}
	defer stop()

	s := &topScreen{interval: w.interval, order: stageOrders[0]}
	tick := time.NewTicker(w.interval)
	defer tick.Stop()
	for n := 0; ; n++ {
		rates, problem := w.read(ctx)
		s.show(time.Now(), n == 0, rates, problem)
		if err := t.draw(s); err != nil || w.count > 0 && n == w.count {
			return err
		}
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				waiting = false
				continue
			case <-resized:
			case k, ok := <-keys:
				if !ok || s.key(k) {
					return nil
				}
			}
			if err := t.draw(s); err != nil {
				return err
			}
		}
	}
}

// enter turns the terminal over to the view. leave gives it back.
func (t *terminal) enter() (leave func() error, err error) {
	restore := func() error { return nil }
	if t.in != nil {
		// Raw: keys come at once and are not echoed, and ctrl-C is a key.
		was, err := term.MakeRaw(int(t.in.Fd()))
		if err != nil {
			return nil, fmt.Errorf("set the terminal to raw mode: %w", err)
		}
		restore = func() error { return term.Restore(int(t.in.Fd()), was) }
	}
	leave = func() error {
		_, err := io.WriteString(t.out, leaveScreen)
		if e := restore(); err == nil {
			err = e
		}
		return err
	}
	if _, err := io.WriteString(t.out, enterScreen); err != nil {
		_ = leave() // the first error is the one to tell
		return nil, err
	}
	return leave, nil
}

func (t *terminal) draw(s *topScreen) error {
	width, height, err := term.GetSize(int(t.out.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		width, height = 80, 24 // a terminal that does not know
	}
	_, err = io.WriteString(t.out, frame(s.render(width, height)))
	return err
}

// frame is what draws the lines over those that are there.
func frame(lines []screenLine) string {
	var b strings.Builder
	b.WriteString("\x1b[H")
	for i, l := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		if l.bold {
			b.WriteString("\x1b[1m" + l.text + "\x1b[0m")
		} else {
			b.WriteString(l.text)
		}
		b.WriteString("\x1b[K") // the rest of the line
	}
	b.WriteString("\x1b[J") // the rest of the screen
	return b.String()
}

// keys returns the keys as they are pressed, one each; the channel is closed when
// the terminal is gone. stop ends it.
func (t *terminal) keys() (keys <-chan string, stop func(), err error) {
	if t.in == nil {
		return nil, func() {}, nil
	}
	wake, waker, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	ch := make(chan string)
	done := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(ch)
		defer wake.Close()
		buf := make([]byte, 64)
		for {
			fds := []unix.PollFd{{Fd: int32(t.in.Fd()), Events: unix.POLLIN}, {Fd: int32(wake.Fd()), Events: unix.POLLIN}}
			if _, err := unix.Poll(fds, -1); err == unix.EINTR {
				continue
			} else if err != nil || fds[1].Revents != 0 {
				return
			}
			n, err := unix.Read(int(t.in.Fd()), buf)
			if err == unix.EINTR {
				continue
			}
			if err != nil || n == 0 {
				return
			}
			for _, k := range splitKeys(string(buf[:n])) {
				select {
				case ch <- k:
				case <-done:
					return
				}
			}
		}
	})
	return ch, func() {
		close(done)
		waker.Close()
		reader.Wait()
	}, nil
}

// splitKeys takes apart what was read at once: single characters, and the
// sequences of keys such as arrows, which begin with ESC [ or ESC O and end with
// a letter or ~.
func splitKeys(s string) (keys []string) {
	for len(s) > 0 {
		n := 1
		if len(s) > 2 && s[0] == 0x1b && (s[1] == '[' || s[1] == 'O') {
			for n = 2; n < len(s)-1 && (s[n] < '@' || s[n] > '~'); n++ {
			}
			n++
		}
		keys = append(keys, s[:n])
		s = s[n:]
	}
	return keys
}
