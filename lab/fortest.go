package lab

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/xdpipe/xdpipe/control"
)

// TB is what [ForTest] needs of a *testing.T or *testing.B.
type TB interface {
	Helper()
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skip(args ...any)
	TempDir() string
}

// ForTest makes a lab that is closed when the test ends, also by a panic. It
// skips the test without root, unless the environment variable CI is set: there
// a test that did not run fails. The test fails too if it leaves a namespace, a
// file descriptor or a goroutine; call ForTest first, so that this is looked at
// last, and not in parallel tests, which would count each other's.
func ForTest(t TB) *Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatalf("needs root to make network namespaces, and with CI set it must not be skipped")
		}
		t.Skip("needs root to make network namespaces")
	}
	before := countResources()
	l, err := New(Options{Prefix: "xdptest", RunDir: t.TempDir()})
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("%v", err)
		}
		if left := before.leftBehind(l.id); left != "" {
			t.Errorf("the test left behind: %s", left)
		}
	})
	return l
}

// resources are what a test must give back.
type resources struct {
	files      map[string]string // what each descriptor is
	goroutines int
}

func countResources() resources {
	warmUp()
	return resources{files: openFiles(), goroutines: runtime.NumGoroutine()}
}

// warmUp makes the process open what it opens once and keeps.
func warmUp() {
	_, _ = control.ProcessNamespace()
	if r, w, err := os.Pipe(); err == nil { // the runtime's poller
		r.Close()
		w.Close()
	}
}

func openFiles() map[string]string {
	files := map[string]string{}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil { // ReadDir's own is closed by now
			files[e.Name()] = target
		}
	}
	return files
}

// patience is how often leftBehind looks, every 20 ms, before it believes that
// something stays. A variable for tests of what stays.
var patience = 150

// leftBehind says what there is more than before. Threads and finished
// goroutines take a moment to go.
func (r resources) leftBehind(lab string) string {
	var left []string
	for range patience {
		left = nil
		if n := runtime.NumGoroutine() - r.goroutines; n > 0 {
			left = append(left, fmt.Sprintf("%d goroutines", n))
		}
		now := openFiles()
		if len(now) > len(r.files) {
			for fd, target := range now {
				if r.files[fd] != target {
					left = append(left, "open file "+target)
				}
			}
		}
		entries, _ := os.ReadDir(control.NamespaceDir)
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), lab+"-") {
				left = append(left, "network namespace "+e.Name())
			}
		}
		if len(left) == 0 {
			return ""
		}
		time.Sleep(20 * time.Millisecond)
	}
	return strings.Join(left, ", ")
}
