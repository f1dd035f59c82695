package control

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// childEnv makes the test binary run as a process that a test kills.
const childEnv = "XDPIPE_CONTROL_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		childMain()
		return
	}
	_, _ = ProcessNamespace() // opened once and kept
	before := countResources()
	code := m.Run()
	if flag.Lookup("test.fuzz").Value.String() != "" {
		os.Exit(code) // the fuzzing engine has goroutines of its own
	}
	if left := leftovers(before); code == 0 && left != "" {
		fmt.Fprintln(os.Stderr, "FAIL: the tests left behind:", left)
		code = 1
	}
	os.Exit(code)
}

type resources struct{ fds, goroutines, threads int }

func countResources() resources {
	fds, _ := os.ReadDir("/proc/self/fd")
	threads, _ := os.ReadDir("/proc/self/task")
	return resources{len(fds), runtime.NumGoroutine(), len(threads)}
}

// leftovers waits a moment for what ends on its own, such as discarded threads.
func leftovers(before resources) string {
	var left []string
	for range 100 {
		left = nil
		now := countResources()
		if now.fds > before.fds {
			left = append(left, fmt.Sprintf("%d file descriptors", now.fds-before.fds))
		}
		if now.goroutines > before.goroutines {
			left = append(left, fmt.Sprintf("%d goroutines", now.goroutines-before.goroutines))
		}
		for _, name := range namespaceNames() {
			if strings.HasPrefix(name, testPrefix()) {
				left = append(left, "namespace "+name)
			}
		}
		if len(left) == 0 {
			return ""
		}
		time.Sleep(20 * time.Millisecond)
	}
	return strings.Join(left, ", ")
}

func testPrefix() string { return fmt.Sprintf("xdpc%d-", os.Getpid()) }

// needRoot skips without root, except in CI, where a test that did not run
// must not look as if it passed.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("needs root, and in CI it must not be skipped")
	}
	t.Skip("needs root")
}

var testSerial atomic.Int32

func newNamespace(t testing.TB) *Namespace {
	t.Helper()
	needRoot(t)
	ns, err := CreateNamespace(fmt.Sprintf("%s%d", testPrefix(), testSerial.Add(1)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := DeleteNamespace(ns.Name()); err != nil {
			t.Error(err)
		}
		ns.Close()
	})
	return ns
}

// newPair makes veth ends a and b in namespaces of their own, up.
func newPair(t testing.TB, opts VethOptions) (a, b *Link) {
	t.Helper()
	na, nb := newNamespace(t), newNamespace(t)
	a, b, err := CreateVeth(VethEnd{Name: "a", Namespace: na}, VethEnd{Name: "b", Namespace: nb}, opts)
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range []*Link{a, b} {
		must(t, l.SetUp(true))
		must(t, l.AddAddress(netip.MustParsePrefix(fmt.Sprintf("198.51.100.%d/24", i+1))))
	}
	must(t, a.Refresh())
	must(t, b.Refresh())
	return a, b
}

func newProgram(t testing.TB, name string, frags bool) *ebpf.Program {
	t.Helper()
	spec := &ebpf.ProgramSpec{Name: name, Type: ebpf.XDP, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}}
	if frags {
		spec.Flags = unix.BPF_F_XDP_HAS_FRAGS
	}
	prog, err := ebpf.NewProgram(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	return prog
}

// mountBPF mounts a bpf filesystem of the test's own.
func mountBPF(t testing.TB) string {
	t.Helper()
	needRoot(t)
	dir := filepath.Join(t.TempDir(), "bpf")
	must(t, os.Mkdir(dir, 0o700))
	must(t, unix.Mount("bpf", dir, "bpf", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	return dir
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually fails if ok does not become true; the deadline is generous, since
// it is no measurement.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
	}
}

func mentions(t testing.TB, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; wanted one that mentions %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not mention %q", err, w)
		}
	}
}

func rename(l *Link, name string) error {
	return l.change("rename", func(h *netlink.Handle, link netlink.Link) error { return h.LinkSetName(link, name) })
}
