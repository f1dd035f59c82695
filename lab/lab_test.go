package lab

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/xdpipe/xdpipe/control"
)

// childEnv makes the test binary a process that makes a lab and then dies.
const childEnv = "XDPIPE_LAB_TEST_CHILD"

func TestMain(m *testing.M) {
	if how, ok := os.LookupEnv(childEnv); ok {
		childMain(how)
		return
	}
	os.Exit(m.Run())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// cable lays one between two hosts with addresses of both families.
func cable(t testing.TB, l *Lab, hostEnds bool) (a, b *NS, pair *Pair) {
	t.Helper()
	a, b = l.MustNamespace("a"), l.MustNamespace("b")
	pair, err := l.Pair(
		End{NS: a, Name: "veth0", Addrs: []netip.Prefix{prefix("192.0.2.1/24"), prefix("2001:db8::1/64")}, HostEnd: hostEnds},
		End{NS: b, Name: "veth0", Addrs: []netip.Prefix{prefix("192.0.2.2/24"), prefix("2001:db8::2/64")}, HostEnd: hostEnds},
		PairOptions{Queues: 2})
	must(t, err)
	return a, b, pair
}

// ping sends one echo request from a namespace and waits for its reply.
func ping(from *NS, to string) error {
	network, listen, proto := "ip4:icmp", "0.0.0.0", 1
	var request, reply icmp.Type = ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply
	if strings.Contains(to, ":") {
		network, listen, proto = "ip6:ipv6-icmp", "::", 58
		request, reply = ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
	}
	var conn *icmp.PacketConn
	err := from.Do(func() (err error) {
		conn, err = icmp.ListenPacket(network, listen)
		return err
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	id := os.Getpid() & 0xffff
	msg, err := (&icmp.Message{Type: request, Body: &icmp.Echo{ID: id, Seq: 1, Data: []byte("echo")}}).Marshal(nil)
	if err != nil {
		return err
	}
	if _, err := conn.WriteTo(msg, &net.IPAddr{IP: net.ParseIP(to)}); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	for buf := make([]byte, 1500); ; {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return fmt.Errorf("no reply from %s: %w", to, err)
		}
		m, err := icmp.ParseMessage(proto, buf[:n])
		if err != nil || m.Type != reply {
			continue
		}
		if echo, ok := m.Body.(*icmp.Echo); ok && echo.ID == id {
			return nil
		}
	}
}

func TestPingCrossesAPairInBothFamilies(t *testing.T) {
	l := ForTest(t)
	a, b, pair := cable(t, l, true)
	for _, to := range []string{"192.0.2.2", "2001:db8::2"} {
		must(t, ping(a, to))
	}
	must(t, ping(b, "192.0.2.1"))
	if !pair.A.Running || !pair.B.Running || pair.A.RXQueues != 2 {
		t.Errorf("ends: %+v, %+v", pair.A, pair.B)
	}
	must(t, pair.A.FlushNeighbours())
	must(t, ping(a, "192.0.2.2"))
}

func TestAHostEndHandsOverWholeChecksums(t *testing.T) {
	l := ForTest(t)
	_, _, pair := cable(t, l, true)
	state, err := control.OffloadState(pair.A)
	must(t, err)
	for _, name := range []string{"tx-checksum-ip-generic", "tx-tcp-segmentation", "tx-udp-segmentation", "tx-vlan-hw-insert"} {
		if state[name] {
			t.Errorf("%s is on", name)
		}
	}
}

func TestABridgeJoinsTwoCables(t *testing.T) {
	l := ForTest(t)
	line, err := l.Line(Topology{})
	must(t, err)
	_, err = line.Xdpipe.Bridge("br0", line.PortA, line.PortB)
	must(t, err)
	for _, to := range []string{"198.51.100.2", "2001:db8:1::2"} {
		must(t, ping(line.Client, to))
	}
}

func TestAPortSendsNothingOfItsOwn(t *testing.T) {
	l := ForTest(t)
	line, err := l.Line(Topology{Queues: 2, MTU: 3000})
	must(t, err)
	if addrs, err := line.PortA.Addresses(); err != nil || len(addrs) > 0 {
		t.Errorf("a port has addresses: %v, %v", addrs, err)
	}
	var conn net.Conn
	must(t, line.Client.Do(func() (err error) {
		conn, err = net.Dial("udp", "198.51.100.2:9") // makes the client ask by ARP
		return err
	}))
	_, err = conn.Write([]byte("x"))
	must(t, err)
	must(t, conn.Close())
	var stats []byte
	must(t, line.Xdpipe.Do(func() (err error) {
		stats, err = os.ReadFile("/proc/thread-self/net/dev")
		return err
	}))
	for line := range strings.Lines(string(stats)) {
		// After the name: 8 columns of reception, then bytes and packets sent.
		if f := strings.Fields(line); f[0] == ClientPort+":" && (f[2] == "0" || f[10] != "0") {
			t.Errorf("port: received %s packets, sent %s", f[2], f[10])
		}
	}
	if line.PortB.MTU != 3000 || line.PortB.RXQueues != 2 {
		t.Errorf("%+v", line.PortB)
	}
}

func TestProgramsRunInTheNamespaceAndEndWithTheLab(t *testing.T) {
	l := ForTest(t)
	a, _, _ := cable(t, l, false)
	out, err := a.Command(t.Context(), "cat", "/proc/net/dev").Output()
	must(t, err)
	if !bytes.Contains(out, []byte("veth0")) {
		t.Errorf("it ran elsewhere:\n%s", out)
	}
	plain := a.Command(t.Context(), "ls", "/sys/class/net")
	if out, err := plain.CombinedOutput(); err != nil || bytes.Contains(out, []byte("veth0")) {
		t.Errorf("/sys shows the namespace without Sysfs: %s, %v", out, err)
	}
	own := a.Command(t.Context(), "ls", "/sys/class/net")
	own.Sysfs = true
	if out, err := own.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("veth0")) || bytes.Contains(out, []byte("eth0\neth")) {
		t.Errorf("/sys with Sysfs: %s, %v", out, err)
	}
	deadly := a.Command(t.Context(), "true")
	deadly.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := deadly.Run(); err == nil || !strings.Contains(err.Error(), "Pdeathsig") {
		t.Errorf("Pdeathsig: %v", err)
	}
	long := a.Command(t.Context(), "sleep", "1000")
	must(t, long.Start())
	must(t, l.Close())
	var died *exec.ExitError
	if err := long.Wait(); !errors.As(err, &died) {
		t.Errorf("the program outlived the lab: %v", err)
	}
	if err := a.Command(t.Context(), "true").Start(); err == nil {
		t.Error("started a program in a closed lab")
	}
}

func TestAProgramEndsWithItsContext(t *testing.T) {
	l := ForTest(t)
	ctx, cancel := context.WithCancel(t.Context())
	c := l.MustNamespace("a").Command(ctx, "sleep", "1000")
	must(t, c.Start())
	cancel()
	if err := c.Wait(); err == nil {
		t.Error("it ended well")
	}
}

func TestSysctlIsTheNamespacesOwn(t *testing.T) {
	l := ForTest(t)
	a := l.MustNamespace("a")
	read := func() string {
		v, err := os.ReadFile("/proc/sys/net/ipv4/ip_default_ttl")
		must(t, err)
		return strings.TrimSpace(string(v))
	}
	outside := read()
	must(t, a.Sysctl("net.ipv4.ip_default_ttl", "17"))
	var inside string
	must(t, a.Do(func() error { inside = read(); return nil }))
	if inside != "17" || read() != outside {
		t.Errorf("inside %s, outside %s, was %s", inside, read(), outside)
	}
	for _, key := range []string{"vm.nr_hugepages", "net/../vm/x", "net.ipv4.no_such"} {
		if err := a.Sysctl(key, "1"); err == nil {
			t.Errorf("set %s", key)
		}
	}
}

func TestCloseLeavesNothingEvenAfterAPartialFailure(t *testing.T) {
	l := ForTest(t)
	a := l.MustNamespace("a")
	if _, err := l.Pair(End{NS: a, Name: "x"}, End{NS: a, Name: "x"}, PairOptions{}); err == nil {
		t.Error("both ends of one name")
	}
	if _, err := l.Pair(End{NS: a, Name: "x"}, End{}, PairOptions{}); err == nil {
		t.Error("an end in no namespace")
	}
	if _, err := l.Pair(End{NS: a, Name: "x", Addrs: []netip.Prefix{prefix("192.0.2.1/24"), prefix("192.0.2.1/24")}}, End{NS: a, Name: "y"}, PairOptions{}); err == nil {
		t.Error("one address twice")
	}
	if _, err := l.Namespace("a/b"); err == nil {
		t.Error("a name with a slash")
	}
	must(t, l.Close())
	must(t, l.Close())
	if _, err := l.Namespace("late"); err == nil {
		t.Error("made a namespace in a closed lab")
	}
}

// recorder stands for a test whose failure is wanted.
type recorder struct {
	testing.TB
	cleanup []func()
	failed  []string
}

func (r *recorder) Cleanup(f func()) { r.cleanup = append(r.cleanup, f) }
func (r *recorder) Errorf(f string, args ...any) {
	r.failed = append(r.failed, fmt.Sprintf(f, args...))
}

func TestForTestFailsATestThatLeavesSomething(t *testing.T) {
	ForTest(t)
	defer func(n int) { patience = n }(patience)
	patience = 5
	for _, c := range []struct {
		what  string
		leave func() (undo func())
	}{
		{"open file", func() func() { f, _ := os.Open("/dev/null"); return func() { f.Close() } }},
		{"goroutines", func() func() {
			stop := make(chan struct{})
			go func() { <-stop }()
			return func() { close(stop) }
		}},
	} {
		r := &recorder{TB: t}
		ForTest(r)
		undo := c.leave()
		r.cleanup[0]()
		undo()
		if len(r.failed) != 1 || !strings.Contains(r.failed[0], c.what) {
			t.Errorf("left %s: reported %q", c.what, r.failed)
		}
	}
}

func TestFiftyLabsDoNotGrowTheProcess(t *testing.T) {
	ForTest(t)
	cycle := func() {
		l, err := New(Options{Prefix: "xdpcycle", RunDir: t.TempDir()})
		must(t, err)
		defer l.Close()
		cable(t, l, true)
		must(t, l.Close())
	}
	threads := func() int {
		n, err := os.ReadDir("/proc/self/task")
		must(t, err)
		return len(n)
	}
	for range 5 {
		cycle()
	}
	before, beforeThreads := countResources(), threads()
	for range 50 {
		cycle()
	}
	if left := before.leftBehind("xdpcycle"); left != "" {
		t.Error(left)
	}
	// Idle threads of the runtime come and go; one left by each cycle is many more.
	for deadline := time.Now().Add(10 * time.Second); threads() > beforeThreads+5; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d threads, before %d", threads(), beforeThreads)
		}
		runtime.Gosched()
	}
}

func childMain(how string) {
	fail := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(3)
		}
	}
	dir, how, _ := strings.Cut(how, "|")
	l, err := New(Options{Prefix: fmt.Sprintf("xdpchild%d", os.Getppid()), RunDir: dir})
	fail(err)
	defer l.Close()
	a, err := l.Namespace("a")
	fail(err)
	b, err := l.Namespace("b")
	fail(err)
	_, err = l.Pair(End{NS: a, Name: "x"}, End{NS: b, Name: "x"}, PairOptions{})
	fail(err)
	fmt.Println(a.Name())
	if how == "panic" {
		panic("wanted")
	}
	time.Sleep(time.Minute) // killed long before
}

func startChild(t *testing.T, dir, how string) (cmd *exec.Cmd, namespace string) {
	t.Helper()
	cmd = exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+dir+"|"+how)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	name, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	return cmd, strings.TrimSpace(name)
}

func exists(name string) bool {
	_, err := os.Stat(control.NamespaceDir + "/" + name)
	return err == nil
}

func TestAPanicLeavesNothing(t *testing.T) {
	ForTest(t)
	cmd, name := startChild(t, t.TempDir(), "panic")
	if err := cmd.Wait(); err == nil {
		t.Error("the child did not panic")
	}
	if exists(name) {
		t.Errorf("namespace %s is still there", name)
	}
}

func TestWhatKill9LeftIsRemovedByTheNextLabOfThatPrefix(t *testing.T) {
	ForTest(t)
	dir := t.TempDir()
	cmd, name := startChild(t, dir, "wait")
	opts := Options{Prefix: fmt.Sprintf("xdpchild%d", os.Getpid()), RunDir: dir}
	l, err := New(opts)
	must(t, err)
	must(t, l.Close())
	if !exists(name) {
		t.Fatal("the lab of a live process was removed")
	}
	must(t, cmd.Process.Signal(unix.SIGKILL))
	_ = cmd.Wait()
	if !exists(name) {
		t.Fatal("nothing was left, so there is nothing to test")
	}
	l, err = New(opts)
	must(t, err)
	must(t, l.Close())
	if exists(name) {
		t.Errorf("namespace %s is still there", name)
	}
}

func TestALabThatIsUpOutlivesItsMakerUntilDown(t *testing.T) {
	ForTest(t)
	dir, name := t.TempDir(), fmt.Sprintf("xdpup%d", os.Getpid())
	l, line, err := Up(Topology{Name: name, RunDir: dir})
	must(t, err)
	t.Cleanup(func() { _ = Down(dir, name) })
	if line.PortA.Name != ClientPort || line.Client.Name() != name+"-client" {
		t.Errorf("%+v", line)
	}
	must(t, l.Close())
	if _, _, err := Up(Topology{Name: name, RunDir: dir}); !errors.Is(err, ErrUp) || !strings.Contains(err.Error(), "xdpipe lab down --name "+name) {
		t.Errorf("up twice: %v", err)
	}
	if names, err := Names(dir); err != nil || len(names) != 1 || names[0] != name {
		t.Errorf("names: %v, %v", names, err)
	}
	again, err := Load(dir, name)
	must(t, err)
	for label, want := range map[string]string{ClientNS: ClientLink, XdpipeNS: ServerPort, ServerNS: ServerLink} {
		ns, err := again.Namespace(label)
		must(t, err)
		if out, err := ns.Command(t.Context(), "cat", "/proc/net/dev").Output(); err != nil || !bytes.Contains(out, []byte(want)) {
			t.Errorf("%s: %s, %v", label, out, err)
		}
	}
	must(t, again.Close())
	must(t, Down(dir, name))
	for _, label := range []string{ClientNS, XdpipeNS, ServerNS} {
		if exists(name + "-" + label) {
			t.Errorf("%s is still there", label)
		}
	}
	if err := Down(dir, name); !errors.Is(err, ErrNotUp) {
		t.Errorf("down twice: %v", err)
	}
	if _, err := Load(dir, name); !errors.Is(err, ErrNotUp) {
		t.Errorf("load after down: %v", err)
	}
}

func TestUpThatFailsLeavesNothingAndTouchesNoForeignNamespace(t *testing.T) {
	ForTest(t)
	dir, name := t.TempDir(), fmt.Sprintf("xdpfail%d", os.Getpid())
	foreign, err := control.CreateNamespace(name + "-server")
	must(t, err)
	defer func() { must(t, control.DeleteNamespace(name+"-server")); foreign.Close() }()
	if _, _, err := Up(Topology{Name: name, RunDir: dir}); !errors.Is(err, os.ErrExist) {
		t.Fatalf("up beside a foreign namespace of that name: %v", err)
	}
	if !exists(name + "-server") {
		t.Error("the foreign namespace was removed")
	}
	if exists(name+"-client") || exists(name+"-xdpipe") {
		t.Error("half a lab is left")
	}
	if err := Down(dir, name); !errors.Is(err, ErrNotUp) {
		t.Errorf("half a lab is recorded: %v", err)
	}
	for _, bad := range []string{"", "..", "a/b", "-x"} {
		if _, err := Load(dir, bad); err == nil {
			t.Errorf("loaded %q", bad)
		}
	}
}
