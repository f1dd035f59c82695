package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"golang.org/x/sys/unix"

	"github.com/xdpipe/xdpipe/control"
	"github.com/xdpipe/xdpipe/internal/traffic"
	"github.com/xdpipe/xdpipe/lab"
)

func TestUDPAndICMPCrossInEveryModeWithNothingLostOrCopied(t *testing.T) {
	for _, tt := range []struct{ mode, want string }{{"auto", "native"}, {"native", "native"}, {"generic", "generic"}} {
		t.Run(tt.mode, func(t *testing.T) {
			s := newSite(t, lab.Topology{})
			unchanged := s.before()
			c := s.forward("--mode", tt.mode, "parse ! count")
			s.checkUDP(5000)
			s.check(traffic.ICMP, traffic.Options{Count: 200})
			s.check(traffic.ICMPv6, traffic.Options{Count: 200})
			for _, p := range s.status()[0].Ports {
				if p.Mode != tt.want || p.ZeroCopy || p.CopiedPackets != 0 || p.State != "up" {
					t.Errorf("port: %+v", p)
				}
			}
			c.stop()
			mentions(t, c.account(), "copied 0, dropped: none")
			unchanged("after the end")
		})
	}
}

func TestAConfigurationFileRunsAndTCPCrosses(t *testing.T) {
	s := newSite(t, lab.Topology{})
	capture := filepath.Join(t.TempDir(), "tap.pcapng")
	path := writeConfig(t, strings.Replace(s.config("name: from-file", ", mode: native", "[parse, count]"),
		"stages: [parse, count], to: b", "stages: [parse, {pcap: {file: "+capture+", snaplen: 64}}, count], to: b", 1))
	c := startReady(t, childOptions{}, "run", "--run-dir", s.runDir, path)
	bytes := int64(32 << 20)
	if slow() {
		bytes = 4 << 20
	}
	s.check(traffic.TCP, traffic.Options{Bytes: bytes})
	s.check(traffic.TCP, traffic.Options{Bytes: bytes / 4, IPv6: true})
	st := s.status()
	if len(st) != 1 || st[0].Name != "from-file" {
		t.Fatalf("status: %+v", st)
	}
	var names []string
	for _, stage := range st[0].Stages {
		names = append(names, stage.Name)
	}
	if got := strings.Join(names, " "); got != "a-b/1:parse a-b/2:pcap a-b/3:count b-a/1:parse b-a/2:count" {
		t.Errorf("stages: %s", got)
	}
	c.stop()
	if n, _ := countPackets(t, capture, nil); n == 0 {
		t.Error("the tap is empty")
	}
}

func TestOneInterfaceSendsBackWhatLeavesThePipeline(t *testing.T) {
	s := newSite(t, lab.Topology{})
	c := startReady(t, childOptions{}, "run", "--run-dir", s.runDir, "--netns", s.Xdpipe.Name(), "-i", lab.ClientPort, "--all", "macswap ! count")
	const experimental = 0x88b5 // IEEE Std 802: for local experiments
	protocol := uint16(experimental)
	var fd int
	must(t, s.Client.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(protocol>>8|protocol<<8))
		return err
	}))
	defer unix.Close(fd)
	at := unix.SockaddrLinklayer{Protocol: protocol>>8 | protocol<<8, Ifindex: s.ClientLink.Index}
	must(t, unix.Bind(fd, &at))
	must(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}))
	host, port := s.ClientLink.MAC, s.PortA.MAC
	for i := range 300 {
		frame := append(append([]byte{}, port...), host...)
		frame = append(frame, experimental>>8, experimental&0xff)
		frame = append(frame, fmt.Sprintf("number %04d %*s", i, i, "")...)
		must(t, unix.Sendto(fd, frame, 0, &at))
		want := append(append([]byte{}, host...), port...)
		want = append(want, frame[12:]...)
		got := make([]byte, 2048)
		n, err := unix.Read(fd, got)
		if err != nil {
			t.Fatalf("frame %d did not come back: %v", i, err)
		}
		if string(got[:n]) != string(want) {
			t.Fatalf("frame %d came back as\n%x, want\n%x", i, got[:n], want)
		}
	}
	c.stop()
	mentions(t, c.account(), "dropped: none")
}

func TestReadyIsSaidOnceInAFileTooAndTheEndIsClean(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(*child) int
	}{
		{"SIGTERM", func(c *child) int { return c.signal(syscall.SIGTERM) }},
		{"SIGINT", func(c *child) int { return c.signal(syscall.SIGINT) }},
		{"the duration", func(c *child) int { return c.wait() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, lab.Topology{})
			unchanged := s.before()
			ready := filepath.Join(t.TempDir(), "ready")
			args := []string{"--all", "--ready-file", ready}
			if tt.name == "the duration" {
				args = append(args, "--duration", "1s")
			}
			c := startReady(t, childOptions{}, s.args(append(args, "count")...)...)
			if _, err := os.Stat(ready); err != nil {
				t.Errorf("ready was said, but not in the file: %v", err)
			}
			if tt.name != "the duration" {
				s.checkUDP(200)
			}
			if status := tt.end(c); status != exitDone {
				t.Errorf("ended with status %d, want 0", status)
			}
			c.checkAccount()
			if n := strings.Count("\n"+c.err.String(), "\nready\n"); n != 1 {
				t.Errorf("said ready %d times", n)
			}
			if c.out.String() != "" {
				t.Errorf("wrote to standard output: %s", c.out.String())
			}
			if _, err := os.Stat(ready); err == nil {
				t.Error("the ready file is there after the end")
			}
			unchanged("after the end")
		})
	}
}

// statusFields are those of the command-line contract.
var statusFields = map[string][]string{
	"instance":     {"name", "pid", "memory", "ports", "stages"},
	"memory":       {"frames", "frame_size", "pages", "places"},
	"places":       {"free", "fill", "rx", "tx", "completion", "batch", "foreign", "total"},
	"port":         {"name", "interface", "queue", "mode", "zero_copy", "need_wakeup", "rx_packets", "rx_bytes", "tx_packets", "tx_bytes", "copied_packets", "drops", "xdp_statistics"},
	"stage":        {"name", "type", "worker", "calls", "packets", "ns_per_packet", "drops"},
	"xdp_features": {"native", "generic", "redirect", "zero_copy", "multi_buffer", "zc_max_segs"},
	"features":     {"interface", "driver", "mtu", "queues", "xdp", "rx_metadata", "tx_metadata"},
	"queues":       {"rx", "tx", "combined", "max"},
}

// hasFields fails for each field of the contract that the object does not have.
func hasFields(t testing.TB, kind string, object any) map[string]any {
	t.Helper()
	m, ok := object.(map[string]any)
	if !ok {
		t.Fatalf("%s is %T, want an object", kind, object)
	}
	for _, f := range statusFields[kind] {
		if _, ok := m[f]; !ok {
			t.Errorf("%s has no field %q", kind, f)
		}
	}
	return m
}

func TestStatusHasEveryFieldOfTheContract(t *testing.T) {
	s := newSite(t, lab.Topology{})
	s.forward("parse ! count")
	s.checkUDP(500)
	var doc struct{ Instances []any }
	must(t, json.Unmarshal([]byte(cliOK(t, append(s.flags(), "status", "-j")...)), &doc))
	if len(doc.Instances) != 1 {
		t.Fatalf("%d instances", len(doc.Instances))
	}
	instance := hasFields(t, "instance", doc.Instances[0])
	memory := hasFields(t, "memory", instance["memory"])
	hasFields(t, "places", memory["places"])
	ports, stages := instance["ports"].([]any), instance["stages"].([]any)
	if len(ports) != 2 || len(stages) != 4 {
		t.Fatalf("%d ports and %d stages", len(ports), len(stages))
	}
	for _, p := range ports {
		hasFields(t, "port", p)
	}
	for _, st := range stages {
		hasFields(t, "stage", st)
	}
	text := cliOK(t, append(s.flags(), "status")...)
	mentions(t, text, "instance xdpipe, pid", "veth-a", "veth-b", "veth-a-veth-b/1:parse", "native", "frames: 16384 = free")
}

func TestPlacesAddUpWhileTrafficFlows(t *testing.T) {
	s := newSite(t, lab.Topology{})
	c := s.forward("parse ! count")
	f := s.startFlood()
	f.awaitFlow(t, "traffic")
	var last uint64
	for range 100 {
		st := s.status()
		if len(st) != 1 {
			t.Fatalf("%d instances answer", len(st))
		}
		p := st[0].Memory.Places
		if p.Sum() != p.Total || p.Total != st[0].Memory.Frames || min(p.Free, p.Fill, p.Rx, p.Tx, p.Completion, p.Batch, p.Foreign) < 0 {
			t.Fatalf("places %+v add up to %d", p, p.Sum())
		}
		if rx := st[0].Ports[0].RxPackets; rx < last {
			t.Fatalf("received %d packets, then %d", last, rx)
		} else {
			last = rx
		}
	}
	f.awaitFlow(t, "traffic after 100 questions")
	c.stop()
	mentions(t, c.account(), "all returned")
}

func TestTwoWorkersOnTwoQueuesForwardWithoutLoss(t *testing.T) {
	s := newSite(t, lab.Topology{Queues: 2})
	c := s.forward("--workers", "2", "parse ! count")
	// Flows are spread by a hash, so that several use both queues.
	for range 12 {
		s.checkUDP(250)
	}
	s.check(traffic.TCP, traffic.Options{Bytes: 4 << 20})
	var perQueue [2]uint64
	workers := map[int]bool{}
	for _, p := range s.status()[0].Ports {
		perQueue[p.Queue] += p.RxPackets
		workers[p.Worker] = true
	}
	if perQueue[0] == 0 || perQueue[1] == 0 || len(workers) != 2 {
		t.Errorf("packets by queue: %v, workers: %v", perQueue, workers)
	}
	s.checkPlaces()
	c.stop()
	mentions(t, c.account(), "dropped: none")
}

func TestRulesTakeTheirPacketsAndLeaveTheOthersToTheKernel(t *testing.T) {
	s := newSite(t, lab.Topology{})
	address := s.addressPort()
	// ARP stays with the kernels at the ports, which know nothing of each other.
	must(t, s.ClientLink.AddNeighbour(s.server.IPv4, s.ServerLink.MAC))
	must(t, s.ServerLink.AddNeighbour(s.client.IPv4, s.ClientLink.MAC))
	var in *net.UDPConn
	must(t, s.Xdpipe.Do(func() (err error) {
		in, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(address, 7777)))
		return err
	}))
	defer in.Close()
	var out net.Conn
	must(t, s.Client.Do(func() (err error) {
		out, err = net.Dial("udp4", netip.AddrPortFrom(address, 7777).String())
		return err
	}))
	defer out.Close()

	c := startReady(t, childOptions{}, s.args("--rule", "protocol=icmp", "count")...)
	ping := newPinger(t, s.Client, s.server.IPv4)
	for i := range 50 {
		if !ping.ping(5 * time.Second) {
			t.Fatalf("echo %d did not cross", i)
		}
	}
	if newPinger(t, s.Client, address).ping(200 * time.Millisecond) {
		t.Error("the kernel answered an echo that the rule takes")
	}
	for i := range 50 {
		_, err := out.Write([]byte("for the kernel"))
		must(t, err)
		must(t, in.SetReadDeadline(time.Now().Add(5*time.Second)))
		if _, err := in.Read(make([]byte, 100)); err != nil {
			t.Fatalf("datagram %d did not reach the kernel: %v", i, err)
		}
	}
	st := s.status()[0]
	a := st.Interfaces[0]
	if len(a.RuleHits) != 1 || a.RuleHits[0] != 51 || st.Ports[0].RxPackets != 51 {
		t.Errorf("the rule took %v packets, the port received %d, want 51 of both", a.RuleHits, st.Ports[0].RxPackets)
	}
	if a.Policy == "" || !strings.Contains(a.Policy, "icmp") {
		t.Errorf("steer is %q", a.Policy)
	}
	var passed uint64
	for name, n := range a.Steering {
		if strings.HasPrefix(name, "pass") {
			passed += n.Packets
		}
	}
	if passed < 50 {
		t.Errorf("passed %d packets to the kernel, want 50 or more: %v", passed, a.Steering)
	}
	c.stop()
}

func TestTheTapHasEveryPacketThatPassed(t *testing.T) {
	s := newSite(t, lab.Topology{})
	file := filepath.Join(t.TempDir(), "tap.pcapng")
	c := startReady(t, childOptions{}, s.args("--all", "pcap file="+file+" ! count")...)
	s.checkUDP(1000)
	c.stop()
	udp, stages := countPackets(t, file, func(p gopacket.Packet) bool {
		layer, ok := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
		return ok && layer.Protocol == layers.IPProtocolUDP && layer.DstIP.Equal(s.server.IPv4.AsSlice())
	})
	if udp != 1001 { // and one that the check sends ahead
		t.Errorf("%d datagrams in the file, want 1001", udp)
	}
	// Both directions tap into the one file, each under its name.
	if got := strings.Join(stages, " "); got != "veth-a-veth-b/1:pcap veth-b-veth-a/1:pcap" {
		t.Errorf("interfaces of the file: %s", got)
	}
	for _, tool := range [][]string{{"tshark", "-r", file, "-Y", "udp"}, {"tcpdump", "-n", "-r", file, "udp"}} {
		t.Run(tool[0], func(t *testing.T) {
			if n := strings.Count(runTool(t, tool...), "\n"); n < 1001 {
				t.Errorf("it shows %d datagrams, want 1001", n)
			}
		})
	}
}

// countPackets reads a pcapng file, counts the packets that match, or all, and
// names the stages that wrote to it.
func countPackets(t testing.TB, file string, match func(gopacket.Packet) bool) (count int, stages []string) {
	t.Helper()
	f, err := os.Open(file)
	must(t, err)
	defer f.Close()
	r, err := pcapgo.NewNgReader(f, pcapgo.DefaultNgReaderOptions)
	must(t, err)
	for {
		data, _, err := r.ReadPacketData()
		if err == io.EOF {
			for i := range r.NInterfaces() {
				link, err := r.Interface(i)
				must(t, err)
				stages = append(stages, link.Name)
			}
			return count, stages
		}
		must(t, err)
		if match == nil || match(gopacket.NewPacket(data, r.LinkType(), gopacket.Default)) {
			count++
		}
	}
}

func TestAPinnedProgramIsTakenOverAndLeftAsItWas(t *testing.T) {
	s := newSite(t, lab.Topology{})
	bpffs := mountBPF(t)
	ns := s.Xdpipe.Name()
	with := func(args ...string) []string {
		return append(args, "--run-dir", s.runDir, "--bpffs", bpffs, "--netns", ns)
	}
	program := func() control.AttachedProgram {
		t.Helper()
		programs, err := control.Attached(s.PortA)
		must(t, err)
		if len(programs) != 1 || !programs[0].Ours() {
			t.Fatalf("programs: %v", programs)
		}
		return programs[0]
	}

	out := cliOK(t, with("attach", lab.ClientPort, "--rule", "protocol=icmp")...)
	mentions(t, out, "veth-a", "steering program", "native mode", "pinned", "protocol=icmp")
	pinned := program()
	if len(pinned.Owners) != 0 {
		t.Errorf("the pinned program is held by %v", pinned.Owners)
	}
	status, _, errOut := cli(with("attach", lab.ClientPort, "--all")...)
	if status != exitFailed {
		t.Errorf("a second attach: status %d, want 1", status)
	}
	mentions(t, errOut, "veth-a", fmt.Sprintf("id %d", pinned.ID), "pinned", "xdpipe detach veth-a")

	c := startReady(t, childOptions{}, s.args("--bpffs", bpffs, "--all", "count")...)
	if now := program(); now.ID != pinned.ID {
		t.Errorf("the run has program %d, want the pinned one, %d", now.ID, pinned.ID)
	}
	st := s.status()[0]
	if !st.Interfaces[0].Pinned || st.Interfaces[1].Pinned || st.Interfaces[0].Program != pinned.ID {
		t.Errorf("interfaces: %+v", st.Interfaces)
	}
	s.checkUDP(500)
	status, _, errOut = cli(with("detach", lab.ClientPort)...)
	if status != exitFailed {
		t.Errorf("detach under a running instance: status %d, want 1", status)
	}
	mentions(t, errOut, "veth-a", fmt.Sprint(c.pid()))
	s.checkUDP(500)
	c.stop()

	if now := program(); now.ID != pinned.ID {
		t.Errorf("after the run there is program %d, want %d", now.ID, pinned.ID)
	}
	if policy := pinnedPolicy(t, bpffs); policy != "protocol=icmp,action=redirect\n" {
		t.Errorf("after the run the policy is %q", policy)
	}
	// Without a socket all goes to the kernel, ICMP too.
	if !newPinger(t, s.Client, s.addressPort()).ping(5 * time.Second) {
		t.Error("the kernel does not answer under the pinned program")
	}

	t.Run("also after kill -9", func(t *testing.T) {
		c := startReady(t, childOptions{}, s.args("--bpffs", bpffs, "--all", "count")...)
		c.kill9()
		c = startReady(t, childOptions{}, s.args("--bpffs", bpffs, "--rule", "protocol=udp", "count")...)
		c.stop()
		if policy := pinnedPolicy(t, bpffs); policy != "protocol=icmp,action=redirect\n" {
			t.Errorf("after the next run the policy is %q", policy)
		}
	})

	out = cliOK(t, with("detach", lab.ClientPort)...)
	mentions(t, out, "veth-a", "steering program removed")
	if left := pins(t, bpffs); len(left) > 0 {
		t.Errorf("pins left: %v", left)
	}
	out = cliOK(t, with("detach", lab.ClientPort)...)
	mentions(t, out, "no steering program of ours")
	if programs, err := control.Attached(s.PortA); err != nil || len(programs) > 0 {
		t.Errorf("programs after detach: %v, %v", programs, err)
	}
}
