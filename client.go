package xdpipe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xdpipe/xdpipe/control"
)

// Instances asks all live instances for their status, in the order of their
// names. One that does not answer is an error beside the others' answers.
func Instances(ctx context.Context, runDir string) ([]Status, error) {
	all := []Status{}
	sockets, err := sockets(runDir)
	errs := []error{err}
	for _, c := range sockets {
		s, err := c.status(ctx)
		switch {
		case err == nil:
			all = append(all, s)
		case dead(err):
			// Its process is gone; the next start removes the socket.
		default:
			errs = append(errs, c.blame(err))
		}
	}
	return all, errors.Join(errs...)
}

// sockets lists the sockets of a run directory, in the order of their names. Some
// may be those of dead instances.
func sockets(runDir string) ([]client, error) {
	if runDir == "" {
		runDir = control.DefaultRunDir
	}
	// Not Glob, for which a directory that may not be read is an empty one.
	entries, err := os.ReadDir(runDir) // sorted
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("list instances: %w; ask as the user they run as, root as a rule", err)
	case err != nil:
		return nil, fmt.Errorf("list instances: %w", err)
	}
	var list []client
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), socketSuffix); ok {
			list = append(list, client{name, filepath.Join(runDir, e.Name())})
		}
	}
	return list, nil
}

// dead reports whether the error is that of asking an instance that has ended.
func dead(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT)
}

// A client speaks to an instance through its socket.
type client struct {
	name string
	path string
}

func (c client) blame(err error) error { return fmt.Errorf("instance %s: %w", c.name, err) }

func (c client) dial(ctx context.Context) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", c.path)
}

// askTimeout is far longer than an answer takes: a process that is stopped, as
// by a debugger, takes the connection and never answers.
const askTimeout = 3 * time.Second

var errNoAnswer = fmt.Errorf("no answer within %v: is its process stopped?", askTimeout)

func (c client) status(ctx context.Context) (s Status, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, askTimeout, errNoAnswer)
	defer cancel()
	resp, err := c.do(ctx, http.MethodGet, "/status")
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return s, answered(resp)
	}
	return s, json.NewDecoder(resp.Body).Decode(&s)
}

// begin makes a request whose answer takes its time, but begins at once.
func (c client) begin(ctx context.Context, method, target string) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(askTimeout, func() { cancel(errNoAnswer) })
	resp, err := c.do(ctx, method, target)
	if err == nil && timer.Stop() {
		resp.Body = cancelBody{resp.Body, cancel}
		return resp, nil
	}
	if err == nil {
		resp.Body.Close()
		err = errNoAnswer
	}
	cancel(nil)
	return nil, err
}

// cancelBody frees the context of a request with its body.
type cancelBody struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

func (b cancelBody) Close() error {
	defer b.cancel(nil)
	return b.ReadCloser.Close()
}

// do makes a request on a connection of its own. The caller closes the body.
func (c client) do(ctx context.Context, method, target string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://instance"+target, nil)
	if err != nil {
		return nil, err
	}
	// The connection ends with the body, since it is not kept.
	transport := &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
		DisableKeepAlives: true,
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil && ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return resp, err
}

// answered makes an error of an answer that is none of success: its text, if it
// is one of ours.
func answered(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if line := strings.TrimSpace(string(text)); line != "" && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		return errors.New(line)
	}
	return fmt.Errorf("answered %s", resp.Status)
}
