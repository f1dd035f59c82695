package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket/pcapgo"

	"github.com/xdpipe/xdpipe/internal/traffic"
	"github.com/xdpipe/xdpipe/lab"
	"github.com/xdpipe/xdpipe/pipeline"
)

// traced starts a trace and waits until the instance follows packets.
func (s *site) traced(args ...string) *child {
	s.t.Helper()
	c := startChild(s.t, childOptions{}, append([]string{"trace", "--run-dir", s.runDir}, args...)...)
	c.await("following", &c.err, func(lines []string) bool { return strings.HasPrefix(lines[0], "following ") })
	return c
}

func TestATraceShowsThePathOfThePacketsThatMatch(t *testing.T) {
	s := newSite(t, lab.Topology{})
	c := s.forward("parse ! count")
	file := filepath.Join(t.TempDir(), "trace.pcapng")
	trace := s.traced("-n", "4", "-w", file, "icmp[icmptype] == icmp-echo", "or", "icmp[icmptype] == icmp-echoreply")
	s.check(traffic.ICMPv6, traffic.Options{Count: 20})
	p := newPinger(t, s.Client, s.server.IPv4)
	for len(trace.out.lines()) < 4*4 {
		if !p.ping(5 * time.Second) {
			t.Fatal("no echo")
		}
	}
	if status := trace.wait(); status != exitDone {
		t.Fatalf("status %d: %s", status, trace.err.String())
	}
	text := trace.out.String()
	client, server := s.client.IPv4.String(), s.server.IPv4.String()
	mentions(t, text, "#1 ", "#4 ",
		"veth-a queue 0 worker 0: "+client+" > "+server+" icmp EchoRequest, ",
		"veth-b queue 0 worker 0: "+server+" > "+client+" icmp EchoReply, ",
		"µs  veth-a-veth-b/1:parse  next      parsed: ipv4 icmp\n", "µs  veth-a-veth-b/2:count  next\n", "µs  veth-b                 transmit\n", "veth-b-veth-a/1:parse")
	if n := strings.Count(text, "\n"); n != 4*4 {
		t.Errorf("%d lines, want a head and three steps for each of 4 packets:\n%s", n, text)
	}

	raw, err := os.ReadFile(file)
	must(t, err)
	r, err := pcapgo.NewNgReader(bytes.NewReader(raw), pcapgo.DefaultNgReaderOptions)
	must(t, err)
	for range 4 {
		_, _, opts, err := r.ReadPacketDataWithOptions()
		must(t, err)
		mentions(t, opts.Comments[0], "worker 0\n", "/1:parse", "transmit")
	}
	c.stop()
}

func TestATraceSaysWhyAPacketWasDropped(t *testing.T) {
	s := newSite(t, lab.Topology{})
	c := s.forward("parse ! drop every=1")
	p := newPinger(t, s.Client, s.server.IPv4)
	trace := s.traced("-j", "-n", "1", "icmp or arp")
	eventually(t, "a packet of the trace", func() bool {
		p.ping(1) // nothing comes back
		select {
		case <-trace.ended:
			return true
		default:
			return false
		}
	})
	var got pipeline.TracedPacket
	must(t, json.Unmarshal([]byte(trace.out.String()), &got))
	last := got.Path[len(got.Path)-1]
	if got.Number != 1 || got.Port != "veth-a" || len(got.Data) != got.Length || last.Stage != "veth-a-veth-b/2:drop" || last.Verdict != "drop" || last.Reason == "" || last.After <= 0 {
		t.Errorf("%+v", got)
	}
	c.stop()
}

func TestATraceThatIsStoppedGivesWhatItHas(t *testing.T) {
	s := newSite(t, lab.Topology{})
	c := s.forward("count")
	p := newPinger(t, s.Client, s.server.IPv4)
	for _, tt := range []struct {
		name  string
		flags []string
		end   func(trace *child) int
	}{
		{"ctrl-C", nil, func(trace *child) int { return trace.signal(os.Interrupt) }},
		{"SIGTERM", nil, func(trace *child) int { return trace.signal(syscall.SIGTERM) }},
		{"the timeout", []string{"--timeout", "2s"}, func(trace *child) int { return trace.wait() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			trace := s.traced(append(tt.flags, "-n", "10000", "icmp")...)
			eventually(t, "a packet of the trace", func() bool {
				p.ping(0)
				return strings.Contains(trace.out.String(), "transmit")
			})
			if status := tt.end(trace); status != exitDone {
				t.Errorf("status %d: %s", status, trace.err.String())
			}
			mentions(t, trace.err.String(), " of 10000 packets\n")
			// The instance notices that nobody listens: the next trace may begin.
			eventually(t, "the end of the trace", func() bool {
				next := startChild(t, childOptions{}, "trace", "--run-dir", s.runDir, "-n", "1", "--timeout", "1ms")
				return next.wait() == exitDone
			})
		})
	}
	// The end of the instance is one of the trace.
	trace := s.traced("icmp6 and icmp")
	c.stop()
	if status := trace.wait(); status != exitDone {
		t.Errorf("status %d: %s", status, trace.err.String())
	}
	mentions(t, trace.err.String(), "0 of 10 packets")
}

func TestATraceIsRefusedWithTheReason(t *testing.T) {
	s := newSite(t, lab.Topology{})
	status, _, errOut := cli("trace", "--run-dir", s.runDir)
	if status != exitFailed {
		t.Errorf("no instance: status %d", status)
	}
	mentions(t, errOut, "no instance is running")
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"udp and"}, "column 8"},
		{[]string{"-n", "0"}, "1 to 10000"},
		{[]string{"-n", "10001"}, "1 to 10000"},
		{[]string{"--timeout", "-1s"}, "--timeout"},
		{[]string{"-j", "-w", "-"}, "standard output"},
	} {
		status, _, errOut := cli(append([]string{"trace", "--run-dir", s.runDir}, tt.args...)...)
		if status != exitUsage {
			t.Errorf("%v: status %d, want 2", tt.args, status)
		}
		mentions(t, errOut, tt.want)
	}

	file := filepath.Join(t.TempDir(), "kept")
	must(t, os.WriteFile(file, []byte("kept"), 0o600))
	if status, _, _ := cli("trace", "--run-dir", s.runDir, "-w", file); status != exitFailed {
		t.Errorf("status %d", status)
	}
	if raw, _ := os.ReadFile(file); string(raw) != "kept" {
		t.Error("a trace of nothing emptied the file")
	}

	c := s.forward("--name", "first", "count")
	first := s.traced("icmp6 and icmp")
	status, _, errOut = cli("trace", "--run-dir", s.runDir)
	if status != exitFailed {
		t.Errorf("a second trace: status %d", status)
	}
	mentions(t, errOut, "instance first: another trace is running")
	if status := first.signal(os.Interrupt); status != exitDone {
		t.Errorf("status %d", status)
	}
	status, _, errOut = cli("trace", "--run-dir", s.runDir, "-w", filepath.Join(t.TempDir(), "no", "such"))
	if status != exitFailed || strings.Contains(errOut, "following") {
		t.Errorf("a file that cannot be: status %d, %s", status, errOut)
	}

	steady(t, s.runDir, "second")
	status, _, errOut = cli("trace", "--run-dir", s.runDir)
	if status != exitFailed {
		t.Errorf("two instances: status %d", status)
	}
	mentions(t, errOut, "2 instances are running; name one of: first, second")
	status, _, errOut = cli("trace", "--run-dir", s.runDir, "--instance", "../first")
	if status != exitFailed {
		t.Errorf("no such instance: status %d", status)
	}
	mentions(t, errOut, `no instance "../first" is running; there is: first, second`)
	if status, _, errOut := cli("trace", "--run-dir", s.runDir, "--instance", "first", "--timeout", "10ms"); status != exitDone {
		t.Errorf("status %d: %s", status, errOut)
	}
	c.stop()
}

func TestATraceGoesIntoOtherProgramsAsAFile(t *testing.T) {
	s := newSite(t, lab.Topology{})
	c := s.forward("count")
	trace := s.traced("-n", "2", "-w", "-", "icmp")
	s.check(traffic.ICMP, traffic.Options{Count: 10})
	if status := trace.wait(); status != exitDone {
		t.Fatalf("status %d: %s", status, trace.err.String())
	}
	c.stop()
	raw := trace.out.String()
	r, err := pcapgo.NewNgReader(strings.NewReader(raw), pcapgo.DefaultNgReaderOptions)
	must(t, err)
	for range 2 {
		_, _, opts, err := r.ReadPacketDataWithOptions()
		must(t, err)
		mentions(t, opts.Comments[0], "transmit")
	}
	if _, err := exec.LookPath("tshark"); err == nil {
		cmd := exec.Command("tshark", "-r", "-", "-T", "fields", "-e", "frame.comment")
		cmd.Stdin = strings.NewReader(raw)
		out, err := cmd.Output()
		must(t, err)
		if n := strings.Count(string(out), "transmit"); n != 2 {
			t.Errorf("%d comments in:\n%s", n, out)
		}
	}
}
