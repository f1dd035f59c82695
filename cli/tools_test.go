package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/xdpipe/xdpipe/lab"
)

// needTool skips where a program is not installed.
func needTool(t testing.TB, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed", name)
	}
}

// runTool runs a program if it is installed and returns its output.
func runTool(t testing.TB, args ...string) string {
	t.Helper()
	needTool(t, args[0])
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, errOut.String())
	}
	return string(out)
}

// runIn runs a program in a namespace of the site and returns its output.
func (s *site) runIn(ns *lab.NS, args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := ns.Command(ctx, args[0], args[1:]...)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("%v: %v\n%s%s", args, err, out, errOut.String())
	}
	return string(out)
}

func TestIperf3CrossesTheForwarder(t *testing.T) {
	needTool(t, "iperf3")
	s := newSite(t, lab.Topology{})
	c := s.forward("parse ! count")
	amount := "64M"
	if slow() {
		amount = "4M"
	}
	for _, reverse := range []bool{false, true} {
		server := s.Server.Command(context.Background(), "iperf3", "--server", "--one-off", "--forceflush")
		ready := &output{wrote: make(chan struct{}, 1)}
		server.Stdout = ready
		must(t, server.Start())
		eventually(t, "the start of the iperf3 server", func() bool { return bytes.Contains([]byte(ready.String()), []byte("listening")) })
		args := []string{"iperf3", "--client", s.server.IPv4.String(), "--bytes", amount, "--json"}
		if reverse {
			args = append(args, "--reverse")
		}
		var report struct {
			End struct {
				Sent     struct{ Bytes uint64 } `json:"sum_sent"`
				Received struct {
					Bytes uint64
					Bits  float64 `json:"bits_per_second"`
				} `json:"sum_received"`
			}
		}
		must(t, json.Unmarshal([]byte(s.runIn(s.Client, args...)), &report))
		must(t, server.Wait())
		r := report.End.Received
		if r.Bytes == 0 || (!reverse && r.Bytes < report.End.Sent.Bytes/2) {
			t.Errorf("sent %d bytes, received %d", report.End.Sent.Bytes, r.Bytes)
		}
		t.Logf("reverse %v: %d bytes received at %.2f Gbit/s", reverse, r.Bytes, r.Bits/1e9)
	}
	c.stop()
}

func TestCurlFetchesAFileAcrossTheForwarder(t *testing.T) {
	needTool(t, "curl")
	s := newSite(t, lab.Topology{})
	c := s.forward("parse ! count")
	file := make([]byte, 8<<20)
	for i := range file {
		file[i] = byte(rand.Uint32())
	}
	var listener net.Listener
	must(t, s.Server.Do(func() (err error) {
		listener, err = net.Listen("tcp4", netip.AddrPortFrom(s.server.IPv4, 8080).String())
		return err
	}))
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(file) })}
	go server.Serve(listener)
	defer server.Close()
	got := filepath.Join(t.TempDir(), "got")
	s.runIn(s.Client, "curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "50", "--output", got, fmt.Sprintf("http://%s:8080/", s.server.IPv4))
	body, err := os.ReadFile(got)
	must(t, err)
	if sha256.Sum256(body) != sha256.Sum256(file) {
		t.Errorf("%d bytes arrived, other than the %d sent", len(body), len(file))
	}
	c.stop()
}
