package cli

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/xdpipe/xdpipe/bpf"
	"github.com/xdpipe/xdpipe/control"
	"github.com/xdpipe/xdpipe/internal/traffic"
	"github.com/xdpipe/xdpipe/lab"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually fails if ok does not become true. The deadline is generous, since
// it is no measurement.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
	}
}

// mentions fails for each text that is not there.
func mentions(t testing.TB, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in: %s", w, text)
		}
	}
}

// A site is a line to run on, with a run directory of its own.
type site struct {
	*lab.Line
	t      *testing.T
	lab    *lab.Lab
	runDir string
	client traffic.Peer
	server traffic.Peer
}

func newSite(t *testing.T, topo lab.Topology) *site {
	t.Helper()
	l := lab.ForTest(t)
	line, err := l.Line(topo)
	must(t, err)
	d := lab.DefaultTopology()
	return &site{
		Line: line, t: t, lab: l, runDir: newRunDir(t),
		client: traffic.Peer{NS: line.Client, Interface: line.ClientLink.Name, MAC: line.ClientLink.MAC, IPv4: d.Client[0].Addr(), IPv6: d.Client[1].Addr()},
		server: traffic.Peer{NS: line.Server, Interface: line.ServerLink.Name, MAC: line.ServerLink.MAC, IPv4: d.Server[0].Addr(), IPv6: d.Server[1].Addr()},
	}
}

// newRunDir is not t.TempDir, whose names are too long for a unix socket.
func newRunDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "xdpipe-it")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}

// flags are those that put an instance of this site apart from all others.
func (s *site) flags() []string { return []string{"--run-dir", s.runDir} }

// args are the arguments of a run between the two ports.
func (s *site) args(more ...string) []string {
	return append([]string{"run", "--run-dir", s.runDir, "--netns", s.Xdpipe.Name(), "-i", lab.ClientPort + "," + lab.ServerPort}, more...)
}

// forward starts a forwarder between the two ports for all packets.
func (s *site) forward(more ...string) *child {
	s.t.Helper()
	return startReady(s.t, childOptions{}, s.args(append([]string{"--all"}, more...)...)...)
}

// ports are the links an instance changes.
func (s *site) ports() []*control.Link { return []*control.Link{s.PortA, s.PortB} }

// A portState is what an instance may change about an interface.
type portState struct {
	programs    int
	promiscuity int
	offloads    map[string]bool
}

func (s *site) portState(l *control.Link) portState {
	s.t.Helper()
	programs, err := control.Attached(l)
	must(s.t, err)
	offloads, err := control.OffloadState(l)
	must(s.t, err)
	return portState{len(programs), promiscuity(s.t, l), offloads}
}

// before remembers the machine as it is, and returns a function that fails the
// test if anything of it is different, or if the run directory has an entry of
// an instance, alive or dead.
func (s *site) before() (check func(when string)) {
	s.t.Helper()
	var was []portState
	for _, l := range s.ports() {
		was = append(was, s.portState(l))
	}
	pages := hugepages(s.t)
	return func(when string) {
		s.t.Helper()
		for i, l := range s.ports() {
			if now := s.portState(l); fmt.Sprint(now) != fmt.Sprint(was[i]) {
				s.t.Errorf("%s: %s was changed\nfrom %v\nto   %v", when, l, was[i], now)
			}
		}
		if now := hugepages(s.t); now != pages {
			s.t.Errorf("%s: %d hugepages, were %d", when, now, pages)
		}
		s.noTraces(when)
	}
}

// noTraces fails if the run directory has journals, claims or sockets.
func (s *site) noTraces(when string) {
	s.t.Helper()
	for _, pattern := range []string{"*.journal*", "claims/*", "*.sock"} {
		if left, _ := filepath.Glob(filepath.Join(s.runDir, pattern)); len(left) > 0 {
			s.t.Errorf("%s: left in the run directory: %v", when, left)
		}
	}
}

// inNamespace calls f with a netlink handle of a namespace.
func inNamespace(t testing.TB, ns *control.Namespace, f func(h *netlink.Handle) error) {
	t.Helper()
	must(t, ns.Do(func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		return f(h)
	}))
}

// promiscuity is how many want the interface promiscuous.
func promiscuity(t testing.TB, l *control.Link) (count int) {
	t.Helper()
	inNamespace(t, l.Namespace, func(h *netlink.Handle) error {
		found, err := h.LinkByIndex(l.Index)
		if err == nil {
			count = found.Attrs().Promisc
		}
		return err
	})
	return count
}

// hugepages is how many pages of 2 MiB the kernel has set aside.
func hugepages(t testing.TB) (count int) {
	t.Helper()
	raw, err := os.ReadFile("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	must(t, err)
	_, err = fmt.Sscan(string(raw), &count)
	must(t, err)
	return count
}

// mountBPF mounts a bpf filesystem of the test's own.
func mountBPF(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(newRunDir(t), "bpf")
	must(t, os.Mkdir(dir, 0o700))
	must(t, unix.Mount("bpf", dir, "bpf", 0, ""))
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	return dir
}

// pins lists the files below a bpf filesystem, but for the kernel's own.
func pins(t testing.TB, dir string) (files []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && filepath.Ext(path) != ".debug" {
			files = append(files, path)
		}
		return err
	}))
	return files
}

// foreignProgram is an XDP program that passes everything, and is not ours.
func foreignProgram(t testing.TB, name string) *ebpf.Program {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: name, Type: ebpf.XDP, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()}, // XDP_PASS
	})
	must(t, err)
	t.Cleanup(func() { prog.Close() })
	return prog
}

// pinger sends echo requests from a namespace.
type pinger struct {
	conn *icmp.PacketConn
	to   net.Addr
	seq  int
}

func newPinger(t testing.TB, from *lab.NS, to netip.Addr) *pinger {
	t.Helper()
	p := &pinger{to: &net.IPAddr{IP: to.AsSlice()}}
	must(t, from.Do(func() (err error) {
		p.conn, err = icmp.ListenPacket("ip4:icmp", "0.0.0.0")
		return err
	}))
	t.Cleanup(func() { p.conn.Close() })
	return p
}

var pings atomic.Int32

// ping sends one request and reports whether its reply came within the time.
func (p *pinger) ping(wait time.Duration) bool {
	id := int(pings.Add(1)) & 0xffff
	p.seq++
	msg, err := (&icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: id, Seq: p.seq, Data: []byte("xdpipe")}}).Marshal(nil)
	if err != nil {
		return false
	}
	if _, err := p.conn.WriteTo(msg, p.to); err != nil {
		return false
	}
	if err := p.conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return false
	}
	for buf := make([]byte, 1500); ; {
		n, _, err := p.conn.ReadFrom(buf)
		if err != nil {
			return false
		}
		m, err := icmp.ParseMessage(1, buf[:n])
		if err != nil || m.Type != ipv4.ICMPTypeEchoReply {
			continue
		}
		if echo, ok := m.Body.(*icmp.Echo); ok && echo.ID == id && echo.Seq == p.seq {
			return true
		}
	}
}

// self is this process's pid.
func self() int { return os.Getpid() }

// attachNetlink puts a program on an interface the way `ip link` does, or takes
// it off with fd -1.
func attachNetlink(t testing.TB, l *control.Link, fd int) {
	t.Helper()
	inNamespace(t, l.Namespace, func(h *netlink.Handle) error {
		found, err := h.LinkByIndex(l.Index)
		if err != nil {
			return err
		}
		return netlink.LinkSetXdpFdWithFlags(found, fd, unix.XDP_FLAGS_DRV_MODE)
	})
}

// pinnedPolicy is the policy of the one pinned program below a bpf filesystem.
func pinnedPolicy(t testing.TB, bpffs string) string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(bpffs, "xdpipe", "*"))
	if err != nil || len(dirs) != 1 {
		t.Fatalf("pinned programs: %v, %v", dirs, err)
	}
	steering, err := bpf.LoadPinned(dirs[0])
	must(t, err)
	defer steering.Close()
	return steering.Policy().String()
}
