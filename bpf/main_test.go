package bpf

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	code := m.Run()
	// A fuzzing process has goroutines of its own.
	fuzzing := flag.Lookup("test.fuzz").Value.String() != ""
	if leaked := leakedGoroutines(); code == 0 && !fuzzing && leaked != "" {
		fmt.Fprintf(os.Stderr, "goroutines left after the tests:\n%s\n", leaked)
		code = 1
	}
	os.Exit(code)
}

// leakedGoroutines returns the stacks when goroutines other than the test's own
// are still there after a while.
func leakedGoroutines() string {
	for range 100 {
		if runtime.NumGoroutine() == 1 {
			return ""
		}
		time.Sleep(10 * time.Millisecond)
	}
	stacks := make([]byte, 1<<16)
	return string(stacks[:runtime.Stack(stacks, true)])
}

// needRoot skips a test that cannot work without root; CI must not skip.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("needs root, and CI is set: CI must run it")
	}
	t.Skip("needs root")
}

// openFiles returns what the process has open: descriptor to target.
func openFiles(t testing.TB) map[string]string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for _, entry := range entries {
		target, err := os.Readlink("/proc/self/fd/" + entry.Name())
		// The Go runtime's poller opens some when it is first used.
		if err != nil || strings.Contains(target, "eventpoll") || strings.Contains(target, "eventfd") {
			continue
		}
		files[entry.Name()] = target
	}
	return files
}

// noLeaks fails the test when it ends with files open that were not before.
func noLeaks(t testing.TB) {
	t.Helper()
	before := openFiles(t)
	t.Cleanup(func() {
		for fd, target := range openFiles(t) {
			if before[fd] != target {
				t.Errorf("file descriptor %s left open: %s", fd, target)
			}
		}
	})
}

// load returns a Steering that is closed with the test.
func load(t testing.TB) *Steering {
	t.Helper()
	needRoot(t)
	noLeaks(t)
	s, err := Load(Options{Queues: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// loadWithSocket returns a Steering with a socket for queue 0, which is where the
// packets of a test run come from. It is not bound: nothing reaches it.
func loadWithSocket(t testing.TB) *Steering {
	t.Helper()
	s := load(t)
	if err := s.Register(0, socket(t)); err != nil {
		t.Fatal(err)
	}
	return s
}

func socket(t testing.TB) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func setPolicy(t testing.TB, s *Steering, policy Policy) {
	t.Helper()
	if err := s.SetPolicy(policy); err != nil {
		t.Fatal(err)
	}
}

func counters(t testing.TB, s *Steering) Counters {
	t.Helper()
	c, err := s.Counters()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// rules parses rules, one to an argument.
func rules(t testing.TB, texts ...string) []Rule {
	t.Helper()
	var list []Rule
	for _, text := range texts {
		rule, err := ParseRule(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, rule)
	}
	return list
}

// Verdicts of XDP programs (enum xdp_action).
const (
	xdpDrop     = 1
	xdpPass     = 2
	xdpRedirect = 4
)

func verdict(t testing.TB, s *Steering, packet []byte) uint32 {
	t.Helper()
	result, err := s.Program().Run(&ebpf.RunOptions{Data: packet})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// context is struct xdp_md, as a test run takes it.
type context struct {
	Data, DataEnd, DataMeta, Ingress, Queue, Egress uint32
}

// verdictOfFragmented is verdict with no more than linear bytes of the packet in
// its linear part, for kernels that can.
func verdictOfFragmented(t testing.TB, s *Steering, packet []byte, linear int) uint32 {
	t.Helper()
	result, err := s.Program().Run(&ebpf.RunOptions{Data: packet, Context: context{DataEnd: uint32(linear)}})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// canFragment reports whether the kernel can (Linux 6.18).
func canFragment(t testing.TB, s *Steering) bool {
	t.Helper()
	_, err := s.Program().Run(&ebpf.RunOptions{Data: make([]byte, 64), Context: context{DataEnd: 14}})
	if err != nil && !errors.Is(err, unix.EINVAL) {
		t.Fatal(err)
	}
	if err != nil {
		t.Log("this kernel cannot run a program with a short linear part: not tested")
	}
	return err == nil
}
