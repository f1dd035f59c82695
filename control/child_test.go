package control

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// childMain is the process that holds everything an instance can hold and is
// then killed. Its arguments are in the environment, since the flags are go test's.
func childMain() {
	if os.Getenv(childEnv) == "nobody" {
		childWithoutRights()
		return
	}
	args := strings.Split(os.Getenv(childEnv), "|")
	ns, name, dir, pages, pin := args[0], args[1], args[2], args[3], args[4]
	hugepagesDir = pages
	step := func(err error) {
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	}
	n, err := OpenNamespace(ns)
	step(err)
	l, err := LinkByName(n, name)
	step(err)
	j, err := OpenJournal(dir, "victim")
	step(err)
	_, err = DisableOffloads(l, j, PortOffloads(ModeNative))
	step(err)
	_, err = ReserveHugepages(j, mib2, 4)
	step(err)
	_, err = Claim(dir, "victim", l, 0)
	step(err)
	_, err = NewPromiscuous(l)
	step(err)
	prog := newProgram(fatalTB{}, SteeringProgram, true)
	_, err = RecordPin(j, pin)
	step(err)
	step(prog.Pin(pin))
	_, err = Attach(l, prog, AttachOptions{})
	step(err)
	// An AF_XDP fill ring, mapped as a socket's owner has it.
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	step(err)
	step(unix.SetsockoptInt(fd, unix.SOL_XDP, unix.XDP_UMEM_FILL_RING, 64))
	_, err = unix.Mmap(fd, unix.XDP_UMEM_PGOFF_FILL_RING, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	step(err)
	fmt.Println("ready")
	time.Sleep(time.Minute) // killed long before
}

// childWithoutRights prints what a user without any capability is told.
func childWithoutRights() {
	lo, err := LinkByName(nil, "lo")
	fmt.Println("link:", err)
	_, err = Features(lo)
	fmt.Println("features:", err)
	_, err = NewPromiscuous(lo)
	fmt.Println("promiscuous:", err)
	fmt.Println("mtu:", lo.SetMTU(lo.MTU))
	_, err = OpenNamespacePath("/proc/1/ns/net")
	fmt.Println("namespace:", err)
}

func TestWithoutCapabilitiesReadingWorksAndChangingNamesTheCapability(t *testing.T) {
	needRoot(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"=nobody")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	must(t, err)
	for _, want := range []string{"link: <nil>\n", "features: <nil>\n", "CAP_NET_RAW", "set mtu", "CAP_NET_ADMIN", "/proc/1/ns/net"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
}

// fatalTB lets the child use helpers of the tests.
type fatalTB struct{ testing.TB }

func (fatalTB) Helper()           {}
func (fatalTB) Cleanup(func())    {}
func (fatalTB) Fatal(args ...any) { fmt.Println(append([]any{"error:"}, args...)...); os.Exit(1) }

func startChild(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+strings.Join(args, "|"))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(io.LimitReader(out, 1<<16)).ReadString('\n')
	if err != nil || line != "ready\n" {
		t.Fatalf("child: %q, %v", line, err)
	}
	return cmd
}

func TestKill9LeavesNothingAfterRestoreStale(t *testing.T) {
	a, _ := newPair(t, VethOptions{})
	dir, pages := runDirFor(t), fakeHugepages(t, 2, 100)
	pin := filepath.Join(mountBPF(t), "program")
	child := startChild(t, a.Namespace.Name(), a.Name, dir, pages, pin)

	if on(t, a, "rx-vlan-hw-parse") || total(t) != 6 || promiscuity(t, a) != 1 {
		t.Fatal("the child did not do what it was to do")
	}
	_, err := Claim(dir, "heir", a, 0)
	mentions(t, err, "victim", fmt.Sprintf("pid %d", child.Process.Pid))
	_, err = Attach(a, newProgram(t, "mine", false), AttachOptions{})
	mentions(t, err, fmt.Sprintf("pid %d", child.Process.Pid), "stop that xdpipe")
	if done, err := RestoreStale(dir); err != nil || len(done) > 0 {
		t.Fatalf("restored a live instance: %v, %v", done, err)
	}
	found := false
	for _, h := range mappedHolders() {
		found = found || h.PID == child.Process.Pid && !h.Certain
	}
	if !found {
		t.Error("the child's AF_XDP rings were not found")
	}

	must(t, child.Process.Signal(syscall.SIGKILL))
	_ = child.Wait()
	eventually(t, "the end of the program and of promiscuous mode", func() bool {
		programs, err := Attached(a)
		return err == nil && len(programs) == 0 && promiscuity(t, a) == 0
	})
	if _, err := OpenJournal(dir, "victim"); err == nil {
		t.Error("the name could be taken before what it left was put back")
	}
	done, err := RestoreStale(dir)
	must(t, err)
	if len(done) != 3 {
		t.Errorf("restored %v, want offloads, hugepages and the pin", done)
	}
	if !on(t, a, "rx-vlan-hw-parse") {
		t.Error("the offload is still off")
	}
	if total(t) != 2 {
		t.Errorf("%d hugepages, want 2", total(t))
	}
	if _, err := os.Stat(pin); err == nil {
		t.Error("the pin is still there")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, claimsDir, "*")); len(left) > 0 {
		t.Errorf("claims left: %v", left)
	}
	heir, err := Claim(dir, "heir", a, 0)
	must(t, err)
	must(t, heir.Close())
	must(t, openJournal(t, dir, "victim").Close())
}
