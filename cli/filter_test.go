package cli

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/xdpipe/xdpipe/control"
	"github.com/xdpipe/xdpipe/lab"
)

const dnsPort, otherPort = 53, 5353

// datagrams opens a socket of the kernel's behind the client's port, and one of
// the client to send to it.
func (s *site) datagrams(address netip.Addr, port uint16) (in *net.UDPConn, out net.Conn) {
	s.t.Helper()
	at := netip.AddrPortFrom(address, port)
	must(s.t, s.Xdpipe.Do(func() (err error) {
		in, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		return err
	}))
	s.t.Cleanup(func() { in.Close() })
	must(s.t, s.Client.Do(func() (err error) {
		out, err = net.Dial("udp4", at.String())
		return err
	}))
	s.t.Cleanup(func() { out.Close() })
	return in, out
}

// arrives sends a datagram and reports whether the kernel's socket gets it.
func arrives(t testing.TB, in *net.UDPConn, out net.Conn, wait time.Duration) bool {
	t.Helper()
	_, err := out.Write([]byte("a datagram"))
	must(t, err)
	must(t, in.SetReadDeadline(time.Now().Add(wait)))
	_, err = in.Read(make([]byte, 100))
	return err == nil
}

// checkKernelTCP has the kernel behind the client's port echo over TCP.
func (s *site) checkKernelTCP(address netip.Addr) {
	s.t.Helper()
	var listener net.Listener
	must(s.t, s.Xdpipe.Do(func() (err error) {
		listener, err = net.Listen("tcp4", netip.AddrPortFrom(address, dnsPort).String())
		return err
	}))
	defer listener.Close()
	echoed := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			// Not io.Copy: it splices through pipes that the runtime keeps.
			var all []byte
			if all, err = io.ReadAll(conn); err == nil {
				_, err = conn.Write(all)
			}
			conn.Close()
		}
		echoed <- err
	}()
	var conn net.Conn
	must(s.t, s.Client.Do(func() (err error) {
		conn, err = net.DialTimeout("tcp4", listener.Addr().String(), 5*time.Second)
		return err
	}))
	defer conn.Close()
	must(s.t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	sent := strings.Repeat("over TCP ", 5000)
	go func() {
		_, _ = io.WriteString(conn, sent) // what is missing is seen at the other end
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	must(s.t, err)
	if string(got) != sent {
		s.t.Errorf("%d bytes came back over TCP, want %d", len(got), len(sent))
	}
	must(s.t, <-echoed)
}

func TestAFilterTakesItsPacketsAndLeavesTheOthersToTheKernel(t *testing.T) {
	for _, mode := range []string{"native", "generic"} {
		t.Run(mode, func(t *testing.T) {
			s := newSite(t, lab.Topology{})
			address := s.addressPort()
			taken, takenOut := s.datagrams(address, dnsPort)
			left, leftOut := s.datagrams(address, otherPort)
			unchanged := s.before()
			c := startReady(t, childOptions{}, "run", "--run-dir", s.runDir, "--netns", s.Xdpipe.Name(), "-i", lab.ClientPort,
				"--mode", mode, "--rule", "protocol=udp,dst_port=9,action=drop", "--filter", "udp port 53 and not host 10.0.0.1", "count ! drop")

			ping := newPinger(t, s.Client, address)
			const each = 50
			for i := range each {
				if !ping.ping(5 * time.Second) {
					t.Fatalf("echo %d was not answered by the kernel", i)
				}
				if !arrives(t, left, leftOut, 5*time.Second) {
					t.Fatalf("datagram %d to another port did not reach the kernel", i)
				}
				if _, err := takenOut.Write([]byte("for the pipeline")); err != nil {
					t.Fatal(err)
				}
			}
			s.checkKernelTCP(address)
			eventually(t, "the reception of all datagrams", func() bool { return s.status()[0].Ports[0].RxPackets >= each })

			st := s.status()[0]
			a := st.Interfaces[0]
			if a.Policy != "protocol=udp,dst_port=9,action=drop; filter udp port 53 and not host 10.0.0.1" {
				t.Errorf("steer is %q", a.Policy)
			}
			if n := a.Steering["filter"].Packets; n != each || st.Ports[0].RxPackets != each || a.Steering["redirect"].Packets != each {
				t.Errorf("the filter took %d packets, the port received %d, want %d of both: %v", n, st.Ports[0].RxPackets, each, a.Steering)
			}
			if n := a.Steering["pass_no_match"].Packets; n < 2*each {
				t.Errorf("%d packets passed unmatched, want %d or more: %v", n, 2*each, a.Steering)
			}
			must(t, taken.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
			if _, err := taken.Read(make([]byte, 100)); err == nil {
				t.Error("a datagram that the filter takes reached the kernel")
			}
			c.stop()
			unchanged("after the end")
			if !arrives(t, taken, takenOut, 5*time.Second) {
				t.Error("after the end datagrams do not reach the kernel again")
			}
		})
	}
}

func TestAPinnedFilterIsTakenOverAndLeftAsItWas(t *testing.T) {
	s := newSite(t, lab.Topology{})
	bpffs := mountBPF(t)
	address := s.addressPort()
	in, out := s.datagrams(address, dnsPort)
	with := func(args ...string) []string {
		return append(args, "--run-dir", s.runDir, "--bpffs", bpffs, "--netns", s.Xdpipe.Name())
	}
	said := cliOK(t, with("attach", lab.ClientPort, "--rule", "vlan=7,action=pass", "--filter", "udp port 53")...)
	mentions(t, said, "pinned", "vlan=7,action=pass; filter udp port 53")
	const pinned = "vlan=7,action=pass\nfilter udp port 53\n"
	if policy := pinnedPolicy(t, bpffs); policy != pinned {
		t.Errorf("the pinned policy is %q", policy)
	}
	if !arrives(t, in, out, 5*time.Second) {
		t.Error("without an instance the datagram does not reach the kernel")
	}

	run := func(flags ...string) *child {
		t.Helper()
		return startReady(t, childOptions{}, append([]string{"run", "--run-dir", s.runDir, "--bpffs", bpffs, "--netns", s.Xdpipe.Name(), "-i", lab.ClientPort}, append(flags, "count ! drop")...)...)
	}
	took := func() uint64 { return s.status()[0].Ports[0].RxPackets }
	send := func() {
		t.Helper()
		_, err := out.Write([]byte("a datagram"))
		must(t, err)
	}
	c := run("--filter", "udp dst port 53")
	if st := s.status()[0].Interfaces[0]; !st.Pinned || st.Policy != "filter udp dst port 53" {
		t.Errorf("pinned %v, steer %q", st.Pinned, st.Policy)
	}
	send()
	eventually(t, "the reception of the datagram", func() bool { return took() == 1 })
	c.stop()
	if policy := pinnedPolicy(t, bpffs); policy != pinned {
		t.Errorf("after the run the policy is %q", policy)
	}
	run("--all").kill9()
	c = run("--filter", "tcp port 80")
	if !arrives(t, in, out, 5*time.Second) {
		t.Error("a datagram that this run's filter does not take did not reach the kernel")
	}
	c.stop()
	if policy := pinnedPolicy(t, bpffs); policy != pinned {
		t.Errorf("after a run that was killed, and another, the policy is %q", policy)
	}
	cliOK(t, with("detach", lab.ClientPort)...)
	if left := pins(t, bpffs); len(left) > 0 {
		t.Errorf("pins left: %v", left)
	}
	if programs, err := control.Attached(s.PortA); err != nil || len(programs) > 0 {
		t.Errorf("programs after detach: %v, %v", programs, err)
	}
}

func TestTheMarkStandsUnderTheMistake(t *testing.T) {
	long := strings.Repeat("udp port 53 or ", 10)
	for _, tt := range []struct {
		expression string
		column     int
		want       string
	}{
		{"udp prot 53", 5, "  udp prot 53\n      ^"},
		{"udp", 4, "  udp\n     ^"},
		{"", 1, "  \n  ^"},
		{"é prot", 4, "  é prot\n    ^"},
		{"udp\nprot", 5, "  udp prot\n      ^"},
		{long + "x" + long, len(long) + 1, "  …udp port 53 or udp port 53 or xudp port 53 or udp port 53 or…\n  " + strings.Repeat(" ", 31) + "^"},
		{"udp", 100, "  udp\n     ^"},
	} {
		if got := caret(tt.expression, tt.column); got != tt.want {
			t.Errorf("%q, column %d:\n%s\nwant\n%s", tt.expression, tt.column, got, tt.want)
		}
	}
}
