package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/xdpipe/xdpipe/control"
	"github.com/xdpipe/xdpipe/internal/demo"
	"github.com/xdpipe/xdpipe/lab"
)

// demoNamespaces are those that a demo of this process id made.
func demoNamespaces(pid int) (names []string) {
	entries, _ := os.ReadDir(control.NamespaceDir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), fmt.Sprintf("xdpdemo-%d-", pid)) {
			names = append(names, e.Name())
		}
	}
	return names
}

// nothingOfDemo fails if a demo left namespaces, or anything in its run directory.
func nothingOfDemo(t *testing.T, runDir string, pid int) {
	t.Helper()
	if left := demoNamespaces(pid); len(left) > 0 {
		t.Errorf("namespaces left: %v", left)
	}
	for _, pattern := range []string{"*.journal*", "claims/*", "*.sock", "labs/*/*.journal*"} {
		if left, _ := filepath.Glob(filepath.Join(runDir, pattern)); len(left) > 0 {
			t.Errorf("left in the run directory: %v", left)
		}
	}
}

func TestTheDemosLastLineIsItsResultAndNothingIsLeft(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a quarter of a minute")
	}
	if slow() {
		t.Skip("the demo's rates are those of the program as users run it; internal/demo runs its checks in this mode")
	}
	lab.ForTest(t) // for what it looks at
	dir := newRunDir(t)
	c := startChild(t, childOptions{}, "demo", "-j", "--run-dir", dir)
	status := c.wait()
	lines := c.out.lines()
	var r demo.Result
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
		t.Fatalf("the last line is no result: %v: %q", err, lines[len(lines)-1])
	}
	if !r.OK || status != exitDone || len(r.Checks) < 12 {
		t.Errorf("status %d, result: %+v", status, r)
	}
	for _, check := range r.Checks {
		if !check.OK || check.Name == "" || check.Detail == "" {
			t.Errorf("check: %+v", check)
		}
	}
	if !strings.HasPrefix(lines[len(lines)-1], `{"ok":true,"checks":[{"name":`) {
		t.Errorf("the result begins with %.60s", lines[len(lines)-1])
	}
	nothingOfDemo(t, dir, c.pid())
}

// startDemo starts a demo and waits until traffic flows.
func startDemo(t *testing.T, dir string) *child {
	t.Helper()
	c := startChild(t, childOptions{}, "demo", "--run-dir", dir)
	c.await("ok   icmp echo", &c.out, func(lines []string) bool {
		return strings.Contains(strings.Join(lines, "\n"), "icmp echo")
	})
	if len(demoNamespaces(c.pid())) < 3 {
		t.Fatalf("namespaces while it runs: %v", demoNamespaces(c.pid()))
	}
	return c
}

func TestCtrlCEndsTheDemoWithNothingLeft(t *testing.T) {
	lab.ForTest(t)
	dir := newRunDir(t)
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM} {
		c := startDemo(t, dir)
		if status := c.signal(s); status != exitFailed && status != exitDone {
			t.Errorf("%v ended it with status %d", s, status)
		}
		nothingOfDemo(t, dir, c.pid())
		if strings.Contains(c.err.String(), "panic") {
			t.Error("panicked")
		}
	}
}

func TestTheNextDemoRemovesWhatAKilledOneLeft(t *testing.T) {
	lab.ForTest(t)
	dir := newRunDir(t)
	killed := startDemo(t, dir)
	killed.kill9()
	if len(demoNamespaces(killed.pid())) < 3 {
		t.Fatal("the kill left nothing to remove")
	}
	next := startDemo(t, dir)
	if left := demoNamespaces(killed.pid()); len(left) > 0 {
		t.Errorf("namespaces of the killed demo are there still: %v", left)
	}
	next.signal(syscall.SIGINT)
	nothingOfDemo(t, dir, killed.pid())
	nothingOfDemo(t, dir, next.pid())
}
