package demo_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xdpipe/xdpipe/internal/demo"
	"github.com/xdpipe/xdpipe/lab"
)

// runDir is short enough for a unix socket in it.
func runDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "xdpipe-demo")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// promised are the checks a whole demo consists of, in order.
var promised = []string{
	"forwarder", "arp", "neighbour discovery", "icmp echo", "icmpv6 echo",
	"tcp ipv4", "tcp ipv4 over a bridge", "throughput ipv4",
	"tcp ipv6", "tcp ipv6 over a bridge", "throughput ipv6",
	"udp", "vlan", "frames of 3000 bytes", "account", "closed",
}

func TestEveryCheckOfASmallDemoPasses(t *testing.T) {
	lab.ForTest(t) // skips without root, and looks at what is left
	var reported []string
	progress := map[string]bool{}
	dir := runDir(t)
	r, err := demo.Run(context.Background(), demo.Options{
		RunDir: dir, Scale: 20,
		Report:   func(c demo.Check) { reported = append(reported, c.Name) },
		Progress: func(check string, _, _ uint64) { progress[check] = true },
	})
	if err != nil {
		t.Fatal(err)
	}
	if !r.OK {
		t.Error("not ok")
	}
	var names []string
	for _, c := range r.Checks {
		names = append(names, c.Name)
		if !c.OK || c.Detail == "" {
			t.Errorf("%s: ok %v, %s", c.Name, c.OK, c.Detail)
		}
		t.Logf("%s: %s", c.Name, c.Detail)
	}
	want := strings.Join(promised, ", ")
	if got := strings.Join(names, ", "); got != want {
		t.Errorf("checks: %s\nwant:   %s", got, want)
	}
	if got := strings.Join(reported, ", "); got != want {
		t.Errorf("reported: %s\nwant:     %s", got, want)
	}
	if !progress["tcp ipv4"] || !progress["udp"] {
		t.Errorf("progress was told of %v", progress)
	}
	for _, pattern := range []string{"*.journal", "*.sock", "claims/*", "labs/*/*.journal"} {
		if left, _ := filepath.Glob(filepath.Join(dir, pattern)); len(left) > 0 {
			t.Errorf("left in the run directory: %v", left)
		}
	}
}

func TestADemoThatIsInterruptedCleansUp(t *testing.T) {
	for _, at := range []string{"forwarder", "arp", "tcp ipv4", "udp"} {
		t.Run("after "+at, func(t *testing.T) {
			lab.ForTest(t)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			r, err := demo.Run(ctx, demo.Options{RunDir: runDir(t), Scale: 100, Report: func(c demo.Check) {
				if c.Name == at {
					cancel()
				}
			}})
			if !errors.Is(err, context.Canceled) || r != nil {
				t.Errorf("result %v, error %v; want the context's error alone", r, err)
			}
		})
	}
}
