package xdpipe

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrMetricsAddress is the error of Options.Metrics that is no address.
var ErrMetricsAddress = errors.New("want HOST:PORT such as 127.0.0.1:9100, or the path of a unix socket such as /run/xdpipe.metrics")

// listenMetrics listens on a TCP address or, if there is a slash in it, on a unix
// socket of that path.
func listenMetrics(addr string) (net.Listener, error) {
	if strings.Contains(addr, "/") {
		return listenMetricsUnix(addr)
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("metrics address %q: %w", addr, ErrMetricsAddress)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return nil, fmt.Errorf("metrics address %q: port %q: %w", addr, port, ErrMetricsAddress)
	}
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("metrics address: %w; who has it: ss -ltnp 'sport = :%s'", err, port)
	}
	if err != nil {
		return nil, fmt.Errorf("metrics address: %w", err)
	}
	return l, nil
}

func listenMetricsUnix(path string) (net.Listener, error) {
	if most := len(unix.RawSockaddrUnix{}.Path) - 1; len(path) > most {
		return nil, fmt.Errorf("metrics address: %s has %d bytes, and a socket's path at most %d: %w", path, len(path), most, ErrMetricsAddress)
	}
	// A socket that a killed run left would be in the way.
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == os.ModeSocket {
		conn, err := net.Dial("unix", path)
		if err == nil {
			conn.Close()
		} else if errors.Is(err, unix.ECONNREFUSED) {
			if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, fmt.Errorf("metrics address: %w", err)
			}
		}
	}
	l, err := net.Listen("unix", path)
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("metrics address: %w: someone listens there, or it is a file of another kind", err)
	}
	if err != nil {
		return nil, fmt.Errorf("metrics address: %w", err)
	}
	return l, nil
}
