package xdpipe_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xdpipe/xdpipe"
	"github.com/xdpipe/xdpipe/lab"
)

// get asks for a path at an address as the documentation of Options.Metrics has it.
func get(t testing.TB, addr, path string) (status int, body string) {
	t.Helper()
	network := "tcp"
	if strings.Contains(addr, "/") {
		network = "unix"
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		},
		DisableKeepAlives: true,
	}
	resp, err := (&http.Client{Transport: transport}).Get("http://instance" + path)
	must(t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(raw)
}

// freePort is a TCP address that nobody listens on.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

func TestMetricsAreServedWhereAskedForUntilTheEnd(t *testing.T) {
	l := lab.ForTest(t)
	pair, err := l.Pair(lab.End{NS: l.MustNamespace("metrics"), Name: "a"}, lab.End{NS: l.MustNamespace("peer"), Name: "b"}, lab.PairOptions{})
	must(t, err)
	o := portOptions(t, false)
	socket := filepath.Join(o.RunDir, "port.sock")
	for _, addr := range []string{freePort(t), filepath.Join(o.RunDir, "metrics")} {
		t.Run(addr, func(t *testing.T) {
			o.Metrics = addr
			cfg := portConfig(t, pair.A, "", 1)
			cfg.Name = "port"
			inst, err := xdpipe.Open(cfg, o)
			must(t, err)
			for _, at := range []string{addr, socket} {
				status, text := get(t, at, "/metrics")
				if status != http.StatusOK || !strings.Contains(text, `xdpipe_port_up{interface="a",name="port",port="p",queue="0"} 1`) || !strings.Contains(text, "go_goroutines ") || !strings.Contains(text, "process_open_fds ") {
					t.Errorf("%s: status %d: %s", at, status, text)
				}
			}
			// What is for the owner alone is on the owner's socket alone.
			if status, _ := get(t, socket, "/status"); status != http.StatusOK {
				t.Errorf("/status on the socket: %d", status)
			}
			if status, _ := get(t, addr, "/status"); status != http.StatusNotFound {
				t.Errorf("/status beside the metrics: %d, want 404", status)
			}
			_, list := get(t, socket, "/")
			for _, want := range []string{"instance port", "GET  /status", "GET  /metrics"} {
				if !strings.Contains(list, want) {
					t.Errorf("no %q in the index: %s", want, list)
				}
			}
			if _, list := get(t, addr, "/"); !strings.Contains(list, "/metrics") || strings.Contains(list, "/status") {
				t.Errorf("index beside the metrics: %s", list)
			}
			must(t, inst.Close())
			network := "tcp"
			if strings.Contains(addr, "/") {
				network = "unix"
			}
			if conn, err := net.Dial(network, addr); err == nil {
				conn.Close()
				t.Error("somebody listens after the end")
			}
			if _, err := os.Lstat(addr); err == nil {
				t.Error("the socket is there after the end")
			}
		})
	}
}

func TestAMetricsAddressThatCannotBeHadIsRefusedBeforeAnythingIsChanged(t *testing.T) {
	l := lab.ForTest(t)
	ns := l.MustNamespace("refused")
	pair, err := l.Pair(lab.End{NS: ns, Name: "a"}, lab.End{NS: ns, Name: "b"}, lab.PairOptions{})
	must(t, err)
	o := portOptions(t, false)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	file := filepath.Join(o.RunDir, "file")
	must(t, os.WriteFile(file, nil, 0o600))
	live, err := net.Listen("unix", filepath.Join(o.RunDir, "live"))
	must(t, err)
	defer live.Close()
	for _, tt := range []struct {
		addr  string
		usage bool
		want  string
	}{
		{"9100", true, `"9100"`},
		{"127.0.0.1", true, "want HOST:PORT"},
		{"127.0.0.1:http", true, `port "http"`},
		{"127.0.0.1:65536", true, "65536"},
		{"::1:9100", true, "want HOST:PORT"},
		{"/" + strings.Repeat("x", 120), true, "121 bytes"},
		{"192.0.2.1:9100", false, "cannot assign requested address"},
		{taken.Addr().String(), false, "address already in use; who has it: ss"},
		{file, false, "a file of another kind"},
		{live.Addr().String(), false, "someone listens there"},
		{filepath.Join(o.RunDir, "no", "such"), false, "no such file or directory"},
	} {
		o.Metrics = tt.addr
		inst, err := xdpipe.Open(portConfig(t, pair.A, "", 1), o)
		if err == nil {
			must(t, inst.Close())
			t.Errorf("%s: accepted", tt.addr)
			continue
		}
		if errors.Is(err, xdpipe.ErrMetricsAddress) != tt.usage || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.addr, err)
		}
	}
	for _, left := range []string{"*.journal*", "*.sock"} {
		if found, _ := filepath.Glob(filepath.Join(o.RunDir, left)); len(found) > 0 {
			t.Errorf("left: %v", found)
		}
	}
	if _, err := os.Stat(file); err != nil {
		t.Error("the file in the way was removed")
	}
}

func TestASocketThatAKilledRunLeftIsNotInTheWay(t *testing.T) {
	l := lab.ForTest(t)
	ns := l.MustNamespace("stale")
	pair, err := l.Pair(lab.End{NS: ns, Name: "a"}, lab.End{NS: ns, Name: "b"}, lab.PairOptions{})
	must(t, err)
	o := portOptions(t, false)
	o.Metrics = filepath.Join(o.RunDir, "metrics")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: o.Metrics})
	must(t, err)
	stale.SetUnlinkOnClose(false)
	must(t, stale.Close())
	inst, err := xdpipe.Open(portConfig(t, pair.A, "", 1), o)
	must(t, err)
	if status, _ := get(t, o.Metrics, "/metrics"); status != http.StatusOK {
		t.Errorf("status %d", status)
	}
	must(t, inst.Close())
}
