package xdpipe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xdpipe/xdpipe/control"
)

// socketSuffix ends the names of the sockets that instances answer on.
const socketSuffix = ".sock"

// server answers questions about an instance, over HTTP on a unix socket that
// only its owner may open.
type server struct {
	http *http.Server
	done sync.WaitGroup
	path string
}

func serve(dir, name string, status func() Status) (*server, error) {
	s := &server{path: filepath.Join(dir, name+socketSuffix)}
	// The name is ours, by the journal's lock: a socket there is a dead one's.
	if err := os.Remove(s.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("status socket: %w", err)
	}
	// sun_path of unix(7) has 108 bytes, the last one zero.
	if most := len(unix.RawSockaddrUnix{}.Path) - 1; len(s.path) > most {
		return nil, fmt.Errorf("status socket: %s has %d bytes, and a socket's path at most %d bytes: use a shorter --run-dir or --name", s.path, len(s.path), most)
	}
	// The directory is mode 0700 already; the socket is 0600 for those who look.
	listener, err := net.Listen("unix", s.path)
	if err != nil {
		return nil, fmt.Errorf("status socket: %w", err)
	}
	if err := os.Chmod(s.path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("status socket: %w", err), listener.Close())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(status()) // the client went away
	})
	s.http = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	s.done.Go(func() { _ = s.http.Serve(listener) })
	return s, nil
}

func (s *server) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close()
	}
	s.done.Wait()
	return err
}

// RestoreStale undoes what instances that died (kill -9) changed and could not
// put back, and removes their claims and sockets; runDir "" is
// control.DefaultRunDir. It leaves live instances alone. Open calls it first.
func RestoreStale(runDir string) ([]control.Restored, error) {
	restored, err := control.RestoreStale(runDir)
	return restored, errors.Join(err, sweepSockets(runDir))
}

// sweepSockets removes the sockets of dead instances, each while its name is
// held, so that nobody starts under it meanwhile.
func sweepSockets(runDir string) error {
	if runDir == "" {
		runDir = control.DefaultRunDir
	}
	paths, err := filepath.Glob(filepath.Join(runDir, "*"+socketSuffix))
	errs := []error{err}
	for _, path := range paths {
		if conn, err := net.Dial("unix", path); err == nil {
			conn.Close()
			continue // alive
		}
		name, err := control.OpenJournal(runDir, strings.TrimSuffix(filepath.Base(path), socketSuffix))
		if errors.As(err, new(*control.InstanceBusyError)) || errors.Is(err, control.ErrStaleJournal) {
			continue // alive, or with changes that could not be undone yet
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
		errs = append(errs, name.Close())
	}
	return errors.Join(errs...)
}

// Instances asks all live instances for their status, in the order of their
// names. One that does not answer is an error beside the others' answers.
func Instances(ctx context.Context, runDir string) ([]Status, error) {
	if runDir == "" {
		runDir = control.DefaultRunDir
	}
	all := []Status{}
	// Not Glob, for which a directory that may not be read is an empty one.
	entries, err := os.ReadDir(runDir) // sorted
	if errors.Is(err, os.ErrNotExist) {
		return all, nil
	}
	if errors.Is(err, os.ErrPermission) {
		return all, fmt.Errorf("list instances: %w; ask as the user they run as, root as a rule", err)
	}
	if err != nil {
		return all, fmt.Errorf("list instances: %w", err)
	}
	var errs []error
	for _, e := range entries {
		path := filepath.Join(runDir, e.Name())
		if filepath.Ext(path) != socketSuffix {
			continue
		}
		s, err := ask(ctx, path)
		switch {
		case err == nil:
			all = append(all, s)
		case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOENT):
			// Its process is gone; the next start removes the socket.
		default:
			errs = append(errs, fmt.Errorf("instance %s: %w", strings.TrimSuffix(filepath.Base(path), socketSuffix), err))
		}
	}
	return all, errors.Join(errs...)
}

// askTimeout is far longer than an answer takes: a process that is stopped, as
// by a debugger, takes the connection and never answers.
const askTimeout = 3 * time.Second

func ask(ctx context.Context, path string) (s Status, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, askTimeout, fmt.Errorf("no answer within %v: is its process stopped?", askTimeout))
	defer cancel()
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
		DisableKeepAlives: true,
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://instance/status", nil)
	if err != nil {
		return s, err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil && ctx.Err() != nil {
		return s, context.Cause(ctx)
	}
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return s, fmt.Errorf("answered %s", resp.Status)
	}
	return s, json.NewDecoder(resp.Body).Decode(&s)
}
