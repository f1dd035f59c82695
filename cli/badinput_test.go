package cli

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xdpipe/xdpipe/control"
	"github.com/xdpipe/xdpipe/lab"
)

// writeConfig writes a configuration and returns its path.
func writeConfig(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	must(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// config is a configuration of the site's two ports, with more lines at the top,
// and in the ports and the stages given.
func (s *site) config(top, portKeys, stages string) string {
	ns := s.Xdpipe.Name()
	return fmt.Sprintf(`%s
ports:
  a: {interface: veth-a, netns: %s, steer: all%s}
  b: {interface: veth-b, netns: %s, steer: all%s}
pipelines:
  - {from: a, stages: %s, to: b}
  - {from: b, stages: %s, to: a}
`, top, ns, portKeys, ns, portKeys, stages, stages)
}

func TestWhatCannotRunIsRefusedWithTheReasonAndChangesNothing(t *testing.T) {
	s := newSite(t, lab.Topology{})
	const failed, usage = exitFailed, exitUsage
	in := func(args ...string) []string {
		return append([]string{"run", "--run-dir", s.runDir, "--netns", s.Xdpipe.Name()}, args...)
	}
	file := func(text string) []string { return []string{"run", "--run-dir", s.runDir, writeConfig(t, text)} }
	unreadable := filepath.Join(t.TempDir(), "directory.yaml")
	must(t, os.Mkdir(unreadable, 0o700))

	unchanged := s.before()
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		want   []string
	}{
		{"no such interface", in("-i", "veth-x", "--all", "count"), failed,
			[]string{"no interface veth-x in network namespace " + s.Xdpipe.Name(), "did you mean", "veth-a"}},
		{"no such namespace", []string{"run", "--run-dir", s.runDir, "--netns", "xdpipe-no-such", "-i", "veth-a", "--all", "count"}, failed,
			[]string{"xdpipe-no-such"}},
		{"queue out of range", in("-i", "veth-a", "--queues", "0,7", "--all", "count"), failed,
			[]string{"queue 7 is out of range", "veth-a", "has 1, 0 to 0"}},
		{"no hugepages", in("-i", "veth-a", "--pages", "2m", "--all", "count"), failed,
			[]string{"2m pages", "16 pages wanted, 0 free", "sysctl vm.nr_hugepages=16", "--reserve-hugepages"}},
		{"more workers than queues", in("-i", "veth-a", "--workers", "2", "--all", "count"), failed,
			[]string{"worker 1 has nothing to do", "use fewer workers, more queues, or a handoff stage"}},
		{"zero-copy required of a driver without", in("-i", "veth-a", "--zerocopy", "require", "--all", "count"), failed,
			[]string{"veth-a", "no zero-copy mode", "prefer or never"}},
		{"no such stage", in("-i", "veth-a", "--all", "parse ! cuont"), failed,
			[]string{`pipeline:1:9: stages: unknown stage "cuont": did you mean "count"?`}},
		{"a capture file that cannot be made", in("-i", "veth-a", "--all", "pcap file=/xdpipe-no-such/x.pcapng"), failed,
			[]string{"stage pcap", "/xdpipe-no-such/x.pcapng", "no such file or directory"}},
		{"no such rule", in("-i", "veth-a", "--rule", "protocol=udpx", "count"), failed, []string{"steer", "udpx"}},
		{"a name that is none", in("-i", "veth-a", "--all", "--name", "../x", "count"), failed, []string{"instance name", "../x"}},
		{"no configuration", []string{"run", "--run-dir", s.runDir, "/xdpipe-no-such.yaml"}, failed,
			[]string{"read configuration", "/xdpipe-no-such.yaml", "no such file or directory"}},
		{"a configuration that cannot be read", []string{"run", "--run-dir", s.runDir, unreadable}, failed,
			[]string{"read configuration", unreadable, "is a directory"}},

		{"no stages, no interfaces, no file", []string{"run"}, usage, []string{"want a configuration file, or interfaces with -i"}},
		{"neither all nor rules", in("-i", "veth-a", "count"), usage, []string{"either --all, or --rule"}},
		{"all and rules", in("-i", "veth-a", "--all", "--rule", "protocol=udp", "count"), usage, []string{"either --all, or --rule"}},
		{"all and a filter", in("-i", "veth-a", "--all", "--filter", "udp", "count"), usage, []string{"either --all, or --rule", "--filter"}},
		{"two filters", in("-i", "veth-a", "--filter", "udp", "--filter", "tcp", "count"), usage, []string{"--filter is given twice", "or"}},
		{"an empty filter", in("-i", "veth-a", "--filter", " ", "count"), usage, []string{"--filter: the expression is empty", "--all"}},
		{"a filter that is wrong", in("-i", "veth-a", "--filter", "udp prot 53", "count"), usage,
			[]string{`run: --filter: column 5: found "prot"`, "\n  udp prot 53\n      ^\n"}},
		{"a filter that ends early", in("-i", "veth-a", "--rule", "arp", "--filter", "udp port", "count"), usage, []string{"column 9", "ends where"}},
		{"a filter that needs a lookup", in("-i", "veth-a", "--filter", "host www.example.com", "count"), usage,
			[]string{"column 6", `"www.example.com" would have to be looked up`}},
		{"a filter for a file", []string{"run", "--filter", "udp", "x.yaml"}, usage, []string{"--filter is for -i", "docs/configuration.md"}},
		{"a filter given as a rule", in("-i", "veth-a", "--rule", "udp port 53", "count"), failed,
			[]string{`"udp port 53" is a filter expression, not a rule`, "--filter"}},
		{"attach with a filter that is wrong", []string{"attach", "--run-dir", s.runDir, "--netns", s.Xdpipe.Name(), "veth-a", "--filter", "udp or"}, usage,
			[]string{"attach: --filter: column 7", "\n  udp or\n        ^\n"}},
		{"three interfaces", in("-i", "veth-a,veth-b,veth-c", "--all", "count"), usage, []string{"one interface or two", "configuration file"}},
		{"stages without quotes", in("-i", "veth-a", "--all", "parse", "count"), usage, []string{`"count"`, "in quotes"}},
		{"a mode that is none", in("-i", "veth-a", "--all", "--mode", "fast", "count"), usage, []string{`"fast"`, "native, generic or auto"}},
		{"a queue that is none", in("-i", "veth-a", "--all", "--queues", "x", "count"), usage, []string{`"x"`, "0,1"}},
		{"a queue twice", in("-i", "veth-a", "--all", "--queues", "0,0", "count"), usage, []string{`"0,0"`, "different numbers"}},
		{"pages that are none", in("-i", "veth-a", "--all", "--pages", "3m", "count"), usage, []string{`"3m"`, "auto, 1g, 2m, thp, 4k"}},
		{"no workers", in("-i", "veth-a", "--all", "--workers", "0", "count"), usage, []string{"--workers 0", "1 or more"}},
		{"an unknown flag", in("-i", "veth-a", "--fast"), usage, []string{"unknown flag: --fast", "xdpipe help"}},
		{"an unknown verb", []string{"rum"}, usage, []string{"rum"}},

		{"too few frames", file(s.config("memory: {frames: 1024}", "", "[count]")), failed,
			[]string{"config.yaml:1:9: memory: 1024 frames are too few: the rings of 2 sockets", "set frames to 1", "or use smaller rings"}},
		{"frames too small for the kernel", file(s.config("memory: {frame_size: 1024}", "", "[count]")), failed,
			[]string{"config.yaml:1:9: memory:", "frame_size 1024 is out of range", "2048"}},
		{"frames of no power of two", file(s.config("memory: {frame_size: 3000}", "", "[count]")), failed,
			[]string{"frame_size 3000 is out of range", "power of two"}},
		{"frames larger than a page", file(s.config("memory: {frame_size: 8192}", "", "[count]")), failed,
			[]string{"frame_size 8192 is out of range", "page size"}},
		{"headroom that leaves nothing", file(s.config("memory: {frame_size: 2048, headroom: 2000}", "", "[count]")), failed,
			[]string{"config.yaml:1:9: memory:", "headroom 2000 is out of range", "0 to 1791"}},
		{"headroom that leaves too little for the MTU", file(s.config("memory: {frame_size: 2048, headroom: 512}", "", "[count]")), failed,
			[]string{"config.yaml:3:3: port a:", "MTU 1500", "frame_size is 2048: set it to 4096", "mtu 1258"}},
		{"a ring out of range", file(s.config("", ", rings: {rx: 99999999}", "[count]")), failed,
			[]string{"rx_size 99999999 is out of range", "1 to 1048576"}},
		{"the interface twice", file(strings.Replace(s.config("", "", "[count]"), "interface: veth-b", "interface: veth-a", 1)), failed,
			[]string{"config.yaml:4:3: port b: interface veth-a", "is port a already"}},
		{"an unknown stage", file(s.config("", "", "[parse, cuont]")), failed,
			[]string{`config.yaml:6:31: stages: unknown stage "cuont": did you mean "count"?`}},
		{"an unknown key", file(s.config("", ", quues: all", "[count]")), failed,
			[]string{`config.yaml:3:`, `port a: unknown key "quues": did you mean "queues"?`}},
		{"an unknown option", file(s.config("", "", "[{pcap: {file: x, snap: 3}}]")), failed,
			[]string{`config.yaml:6:`, `stage pcap: unknown key "snap": did you mean "snaplen"?`}},
		{"a wrong type", file(s.config("memory: {frames: many}", "", "[count]")), failed,
			[]string{`config.yaml:1:18: memory: frames: found "many", want`}},
		{"an option of a wrong type", file(s.config("", "", "[{pcap: {file: x, snaplen: long}}]")), failed,
			[]string{`config.yaml:6:`, `snaplen`, `found "long", want`}},
		{"a missing key", file("ports:\n  a: {steer: all}\npipelines:\n  - {from: a, to: a}\n"), failed,
			[]string{"config.yaml:2:6: port a: interface is missing"}},
		{"no port of that name", file(strings.Replace(s.config("", "", "[count]"), "to: b", "to: c", 1)), failed,
			[]string{`config.yaml:6:`, `unknown port "c"`}},
		{"a queue that the file gives and nobody has", file(s.config("", ", queues: [3]", "[count]")), failed,
			[]string{"config.yaml:3:", "port a: queue 3 is out of range"}},
		{"a rule that is none", file(strings.Replace(s.config("", "", "[count]"), "steer: all", "steer: [protocol=udpx]", 1)), failed,
			[]string{"config.yaml:3:", "port a: steer", "udpx"}},
		{"a filter in a file that is wrong", file(strings.Replace(s.config("", "", "[count]"), "steer: all", "steer: {filter: udp prot 53}", 1)), failed,
			[]string{"config.yaml:3:", `: steer: filter: found "prot"`}},
		{"a filter in a file that is written as a rule", file(strings.Replace(s.config("", "", "[count]"), "steer: all", "steer: udp port 53", 1)), failed,
			[]string{"config.yaml:3:", "port a: steer", `"udp port 53" is a filter expression, not a rule`}},
		{"no YAML", file("ports: [\n"), failed, []string{"config.yaml:"}},
		{"an empty file", file(""), failed, []string{"config.yaml:1:1: empty"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, out, errOut := cli(tt.args...)
			if status != tt.status {
				t.Errorf("status %d, want %d", status, tt.status)
			}
			mentions(t, errOut, tt.want...)
			if out != "" {
				t.Errorf("wrote to standard output: %s", out)
			}
			for _, line := range strings.Split(strings.TrimSpace(errOut), "\n") {
				if strings.Contains(line, "goroutine ") || strings.HasPrefix(line, "panic") {
					t.Fatalf("panicked: %s", errOut)
				}
			}
			unchanged("after the refusal")
		})
	}
}

func TestAnMTUThatNoFrameHoldsIsRefused(t *testing.T) {
	s := newSite(t, lab.Topology{MTU: 9000})
	status, _, errOut := cli(s.args("--all", "count")...)
	if status != exitFailed {
		t.Errorf("status %d, want 1", status)
	}
	mentions(t, errOut, "MTU 9000 is out of range", "ip link set dev veth-a mtu 3818")
	must(t, s.PortA.SetMTU(3818))
	status, _, errOut = cli(s.args("--all", "count")...)
	if status != exitFailed {
		t.Errorf("status %d, want 1", status)
	}
	mentions(t, errOut, "port veth-b", "MTU 9000")
	s.noTraces("after the refusals")
}

func TestAnMTUThatNeedsLargerFramesSaysSo(t *testing.T) {
	s := newSite(t, lab.Topology{MTU: 3000})
	unchanged := s.before()
	path := writeConfig(t, s.config("memory: {frame_size: 2048}", "", "[count]"))
	status, _, errOut := cli("run", "--run-dir", s.runDir, path)
	if status != exitFailed {
		t.Errorf("status %d, want 1", status)
	}
	mentions(t, errOut, "config.yaml:3:3: port a:", "MTU 3000", "frame_size is 2048: set it to 4096", "mtu 1770")
	unchanged("after the refusal")
}

func TestAnInterfaceThatIsDownIsRefused(t *testing.T) {
	s := newSite(t, lab.Topology{})
	must(t, s.PortB.SetUp(false))
	unchanged := s.before()
	status, _, errOut := cli(s.args("--all", "count")...)
	if status != exitFailed {
		t.Errorf("status %d, want 1", status)
	}
	mentions(t, errOut, "port veth-b", "is down", "ip link set dev veth-b up")
	unchanged("after the refusal")
}

func TestTheDefaultRoutesInterfaceIsTakenOnlyBySelectiveRulesOrByInsisting(t *testing.T) {
	s := newSite(t, lab.Topology{})
	s.addressPort()
	inNamespace(t, s.PortA.Namespace, func(h *netlink.Handle) error {
		return h.RouteAdd(&netlink.Route{LinkIndex: s.PortA.Index, Gw: s.client.IPv4.AsSlice()})
	})
	unchanged := s.before()
	for _, tt := range []struct {
		flags []string
		why   string
	}{
		{[]string{"--all"}, "redirects all packets"},
		{[]string{"--rule", "protocol=tcp"}, "rule 0 (protocol=tcp,action=redirect) can take SSH"},
		{[]string{"--filter", "tcp"}, "the filter (tcp) can take SSH"},
		{[]string{"--filter", "host 192.0.2.7"}, "the filter (host 192.0.2.7) can take ARP"},
	} {
		status, _, errOut := cli(s.args(append(tt.flags, "count")...)...)
		if status != exitFailed {
			t.Errorf("%v: status %d, want 1", tt.flags, status)
		}
		mentions(t, errOut, "veth-a", "default route via 198.51.100.1", "cut this machine off", "--insist", tt.why)
	}
	status, _, errOut := cli("attach", "--run-dir", s.runDir, "--netns", s.Xdpipe.Name(), lab.ClientPort, "--all")
	if status != exitFailed {
		t.Errorf("attach: status %d, want 1", status)
	}
	mentions(t, errOut, "default route", "--insist")
	unchanged("after the refusals")

	for _, flags := range [][]string{{"--all", "--insist"}, {"--rule", "protocol=udp,dst_port=9999"}, {"--filter", "udp port 53 and not host 10.0.0.1"}} {
		startReady(t, childOptions{}, s.args(append(flags, "count")...)...).stop()
	}
	unchanged("after the runs")
}

// nobody owns nothing and may do nothing.
const nobody = 65534

func TestWithoutPermissionTheCapabilityIsNamed(t *testing.T) {
	s := newSite(t, lab.Topology{})
	unchanged := s.before()
	dir := newRunDir(t)
	must(t, os.Chown(dir, nobody, nobody))
	// Born in the namespace, since entering one takes a capability too.
	inside := childOptions{user: nobody, start: func(cmd *exec.Cmd) error { return s.Xdpipe.Do(cmd.Start) }}

	c := startChild(t, inside, "run", "--run-dir", dir, "-i", "veth-a,veth-b", "--all", "count")
	if status := c.wait(); status != exitFailed {
		t.Errorf("run ended with status %d, want 1", status)
	}
	mentions(t, c.err.String(), "CAP_NET_ADMIN", "root")

	c = startChild(t, childOptions{user: nobody}, "run", "--run-dir", dir, "--netns", s.Xdpipe.Name(), "-i", "veth-a", "--all", "count")
	if status := c.wait(); status != exitFailed {
		t.Errorf("run into a namespace ended with status %d, want 1", status)
	}
	mentions(t, c.err.String(), "CAP_SYS_ADMIN")

	c = startChild(t, inside, "attach", "--run-dir", dir, "veth-a", "--all")
	if status := c.wait(); status != exitFailed {
		t.Errorf("attach ended with status %d, want 1", status)
	}
	mentions(t, c.err.String(), "CAP_BPF")

	for _, args := range [][]string{{"demo"}, {"lab", "up"}} {
		c = startChild(t, childOptions{user: nobody}, append(args, "--run-dir", dir)...)
		if status := c.wait(); status != exitFailed {
			t.Errorf("%v ended with status %d, want 1", args, status)
		}
		mentions(t, c.err.String(), "root")
	}

	// The run directory of root is not for others.
	c = startChild(t, inside, "run", "--run-dir", s.runDir, "-i", "veth-a", "--all", "count")
	if status := c.wait(); status != exitFailed {
		t.Errorf("run in root's directory ended with status %d, want 1", status)
	}
	mentions(t, c.err.String(), s.runDir)
	unchanged("after the refusals")
}

func TestEachMissingCapabilityIsNamed(t *testing.T) {
	s := newSite(t, lab.Topology{})
	unchanged := s.before()
	for _, tt := range []struct {
		name string
		drop []int
	}{
		{"CAP_NET_ADMIN", []int{unix.CAP_NET_ADMIN}},
		{"CAP_NET_RAW", []int{unix.CAP_NET_RAW}},
		{"CAP_BPF", []int{unix.CAP_BPF, unix.CAP_SYS_ADMIN}}, // the latter includes the former
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := childOptions{env: []string{dropped(tt.drop...)}, start: func(cmd *exec.Cmd) error { return s.Xdpipe.Do(cmd.Start) }}
			c := startChild(t, o, "run", "--run-dir", s.runDir, "-i", "veth-a,veth-b", "--all", "count")
			if status := c.wait(); status != exitFailed {
				t.Errorf("ended with status %d, want 1", status)
			}
			mentions(t, c.err.String(), tt.name)
			unchanged("after the refusal")
		})
	}
}

// dropped is the environment of a child without capabilities.
func dropped(capabilities ...int) string {
	var numbers []string
	for _, c := range capabilities {
		numbers = append(numbers, strconv.Itoa(c))
	}
	return dropEnv + "=" + strings.Join(numbers, ",")
}

func TestALockedMemoryLimitThatCannotBeRaisedIsNoMatterUnlessItBinds(t *testing.T) {
	s := newSite(t, lab.Topology{})
	unchanged := s.before()
	limited := func(drop ...int) childOptions {
		return childOptions{env: []string{memlockEnv + "=65536", dropped(drop...)}}
	}
	// CAP_IPC_LOCK lifts the limit for the frames, and maps have not counted
	// since Linux 5.11.
	c := startReady(t, limited(unix.CAP_SYS_RESOURCE), s.args("--all", "count")...)
	s.checkUDP(500)
	c.stop()

	c = startChild(t, limited(unix.CAP_SYS_RESOURCE, unix.CAP_IPC_LOCK), s.args("--all", "count")...)
	if status := c.wait(); status != exitFailed {
		t.Errorf("ended with status %d, want 1", status)
	}
	mentions(t, c.err.String(), "veth-a queue 0", "locked-memory limit", "ulimit -l unlimited", "CAP_IPC_LOCK")
	unchanged("after the refusal")
}

func TestARunDirectoryThatOthersMayWriteToIsRefused(t *testing.T) {
	s := newSite(t, lab.Topology{})
	must(t, os.Chmod(s.runDir, 0o777))
	status, _, errOut := cli(s.args("--all", "count")...)
	if status != exitFailed {
		t.Errorf("status %d, want 1", status)
	}
	mentions(t, errOut, s.runDir, "others may write to it")
	if programs, err := control.Attached(s.PortA); err != nil || len(programs) > 0 {
		t.Errorf("programs after the refusal: %v, %v", programs, err)
	}
}

func TestARunDirectoryTooLongForASocketIsRefusedWithTheReason(t *testing.T) {
	s := newSite(t, lab.Topology{})
	unchanged := s.before()
	dir := filepath.Join(s.runDir, strings.Repeat("long", 30))
	status, _, errOut := cli(append(s.args("--all", "count"), "--run-dir", dir)...)
	if status != exitFailed {
		t.Errorf("status %d, want 1", status)
	}
	mentions(t, errOut, "status socket", "107 bytes", "--run-dir")
	unchanged("after the refusal")
}
