package xdpipe

import (
	"context"
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

// server answers over HTTP: questions about an instance, on a unix socket that
// only its owner may open, and requests for its metrics where they are wanted.
type server struct {
	http *http.Server
	done sync.WaitGroup
	path string
	end  context.CancelFunc // ends requests that stream
}

func serve(dir, name string, handler http.Handler) (*server, error) {
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
	s.start(listener, handler)
	return s, nil
}

// start answers on the listener, which is the server's from now on.
func (s *server) start(listener net.Listener, handler http.Handler) {
	var ctx context.Context
	ctx, s.end = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	s.done.Go(func() { _ = s.http.Serve(listener) })
}

// close ends requests that stream and waits for the others.
func (s *server) close() error {
	s.end()
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
