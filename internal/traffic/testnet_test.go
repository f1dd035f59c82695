package traffic

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// testNS is an unnamed network namespace, which ends with its handle.
type testNS struct{ handle netns.NsHandle }

// onOwnThread runs f on a thread that ends with it, so that no thread in
// another namespace returns to the runtime.
func onOwnThread(f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		result <- f()
	}()
	return <-result
}

func (n testNS) Do(f func() error) error {
	return onOwnThread(func() error {
		if err := netns.Set(n.handle); err != nil {
			return err
		}
		return f()
	})
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("needs root")
	}
	t.Skip("needs root")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newTestNS(t *testing.T) testNS {
	t.Helper()
	var ns testNS
	must(t, onOwnThread(func() (err error) {
		ns.handle, err = netns.New()
		return err
	}))
	t.Cleanup(func() { ns.handle.Close() })
	must(t, ns.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	}))
	return ns
}

// testNet is a client and a server and, unless they are joined directly, a
// namespace between them with the interfaces "left" and "right".
type testNet struct {
	client, server Peer
	middle         testNS
}

// newTestNet joins a client and a server by one veth pair, or by two with
// their middle ends in a namespace of their own and nothing between those.
func newTestNet(t *testing.T, direct bool, mtu int) *testNet {
	t.Helper()
	needRoot(t)
	n := &testNet{}
	clientNS, serverNS := newTestNS(t), newTestNS(t)
	if direct {
		addPair(t, clientNS, "client0", serverNS, "server0", mtu)
	} else {
		n.middle = newTestNS(t)
		addPair(t, clientNS, "client0", n.middle, "left", mtu)
		addPair(t, serverNS, "server0", n.middle, "right", mtu)
	}
	n.client = setUpEnd(t, clientNS, "client0", "192.0.2.1/24", "2001:db8::1/64")
	n.server = setUpEnd(t, serverNS, "server0", "192.0.2.2/24", "2001:db8::2/64")
	return n
}

func addPair(t *testing.T, a testNS, nameA string, b testNS, nameB string, mtu int) {
	t.Helper()
	must(t, a.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = nameA, mtu
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: nameB, PeerMTU: uint32(mtu), PeerNamespace: netlink.NsFd(b.handle)})
	}))
	for _, ns := range []testNS{a, b} {
		must(t, ns.Do(func() error {
			for _, name := range []string{nameA, nameB} {
				link, err := netlink.LinkByName(name)
				if errors.As(err, &netlink.LinkNotFoundError{}) {
					continue
				}
				if err != nil {
					return err
				}
				if err := netlink.LinkSetUp(link); err != nil {
					return err
				}
			}
			return nil
		}))
	}
}

func setUpEnd(t *testing.T, ns testNS, name string, cidrs ...string) Peer {
	t.Helper()
	p := Peer{NS: ns, Interface: name}
	must(t, ns.Do(func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		p.MAC = link.Attrs().HardwareAddr
		for _, cidr := range cidrs {
			addr, err := netlink.ParseAddr(cidr)
			if err != nil {
				return err
			}
			addr.Flags = unix.IFA_F_NODAD
			if err := netlink.AddrAdd(link, addr); err != nil {
				return err
			}
		}
		return nil
	}))
	p.IPv4, p.IPv6 = netip.MustParsePrefix(cidrs[0]).Addr(), netip.MustParsePrefix(cidrs[1]).Addr()
	return p
}

// bridge joins the two middle ends by a Linux bridge.
func (n *testNet) bridge(t *testing.T) {
	t.Helper()
	must(t, n.middle.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "bridge"
		br := &netlink.Bridge{LinkAttrs: attrs}
		if err := netlink.LinkAdd(br); err != nil {
			return err
		}
		for _, name := range []string{"left", "right"} {
			link, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			if err := netlink.LinkSetMaster(link, br); err != nil {
				return err
			}
			// The largest MTU of its ports, once all are there.
			if err := netlink.LinkSetMTU(br, link.Attrs().MTU); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(br)
	}))
}

// A fault makes of one frame those that leave instead. It is called from one
// goroutine per direction, toServer saying which.
type fault func(toServer bool, frame []byte) [][]byte

// misbehave joins the two middle ends by sockets that apply a fault.
func (n *testNet) misbehave(t *testing.T, f fault) {
	t.Helper()
	for _, p := range []Peer{n.client, n.server} {
		// The frames' checksums are needed in full once they pass a socket.
		must(t, p.NS.Do(func() error {
			e, err := ethtool.NewEthtool()
			if err != nil {
				return err
			}
			defer e.Close()
			return e.Change(p.Interface, map[string]bool{"tx-checksum-ip-generic": false})
		}))
	}
	left, err := openPacketSocket(Peer{NS: n.middle, Interface: "left"})
	must(t, err)
	right, err := openPacketSocket(Peer{NS: n.middle, Interface: "right"})
	must(t, err)
	var running sync.WaitGroup
	t.Cleanup(func() {
		left.SetReadDeadline(time.Unix(1, 0))
		right.SetReadDeadline(time.Unix(1, 0))
		running.Wait()
		left.Close()
		right.Close()
	})
	forward := func(from, to *packetSocket, toServer bool) {
		running.Go(func() {
			for {
				err := from.read(func(frame []byte) {
					for _, out := range f(toServer, frame) {
						if err := to.send(out); err != nil {
							t.Errorf("middlebox: sending %d bytes: %v", len(out), err)
						}
					}
				})
				if errors.Is(err, os.ErrDeadlineExceeded) {
					return
				}
				if err != nil {
					t.Errorf("middlebox: %v", err)
					return
				}
			}
		})
	}
	forward(left, right, true)
	forward(right, left, false)
}

// kind names what a frame carries, as the checks do.
func kind(frame []byte) string {
	at := func(i int) byte {
		if i < len(frame) {
			return frame[i]
		}
		return 0
	}
	if len(frame) < ethernetHeader {
		return ""
	}
	protocol := byte(0)
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_ARP:
		return "arp"
	case unix.ETH_P_8021Q, unix.ETH_P_8021AD:
		return "vlan"
	case unix.ETH_P_IP:
		protocol = at(23)
	case unix.ETH_P_IPV6:
		protocol = at(20)
	}
	switch protocol {
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	case unix.IPPROTO_ICMP:
		return "icmp"
	case unix.IPPROTO_ICMPV6:
		switch at(54) {
		case 135, 136: // neighbour solicitation, advertisement
			return "nd"
		case icmpv6EchoRequest, icmpv6EchoReply:
			return "icmpv6"
		}
	}
	return ""
}

// every applies f to each nth frame of a kind that goes one way and has at
// least 120 bytes, or whatever size with small set.
func every(nth int, what string, toServer, small bool, f func(frame []byte) [][]byte) fault {
	count := 0
	return func(dir bool, frame []byte) [][]byte {
		if dir != toServer || kind(frame) != what || !small && len(frame) < 120 {
			return [][]byte{frame}
		}
		if count++; count%nth != 0 {
			return [][]byte{frame}
		}
		return f(frame)
	}
}

func drop([]byte) [][]byte { return nil }

func double(frame []byte) [][]byte { return [][]byte{frame, frame} }

// swapWords exchanges two 16-bit words of the payload, which no Internet
// checksum notices.
func swapWords(frame []byte) [][]byte {
	frame[100], frame[101], frame[102], frame[103] = frame[102], frame[103], frame[100], frame[101]
	return [][]byte{frame}
}

func flipBit(frame []byte) [][]byte {
	frame[100] ^= 0x10
	return [][]byte{frame}
}

// swapOrder lets each nth frame of a kind to the server leave after the next.
func swapOrder(nth int, what string) fault {
	var held []byte
	count := 0
	return func(toServer bool, frame []byte) [][]byte {
		if !toServer || kind(frame) != what {
			return [][]byte{frame}
		}
		if held != nil {
			out := [][]byte{frame, held}
			held = nil
			return out
		}
		if count++; count%nth == 0 {
			held = append(held, frame...)
			return nil
		}
		return [][]byte{frame}
	}
}

// checkLeaks fails the test if it ends with more descriptors or goroutines than
// it began with. Cleanups registered after it run before it looks.
func checkLeaks(t *testing.T) {
	t.Helper()
	fds, goroutines := openDescriptors(t), runtime.NumGoroutine()
	t.Cleanup(func() {
		var left string
		for range 200 {
			f, g := openDescriptors(t), runtime.NumGoroutine()
			if f <= fds && g <= goroutines {
				return
			}
			left = fmt.Sprintf("%d descriptors and %d goroutines, %d and %d before", f, g, fds, goroutines)
			time.Sleep(10 * time.Millisecond)
		}
		stacks := make([]byte, 1<<20)
		t.Errorf("leak: %s\n%s", left, stacks[:runtime.Stack(stacks, true)])
	})
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

// TestMain has the runtime open its poller's descriptors before any test counts
// them.
func TestMain(m *testing.M) {
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		l.Close()
	}
	os.Exit(m.Run())
}
