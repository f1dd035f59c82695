package cli

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xdpipe/xdpipe/internal/traffic"
	"github.com/xdpipe/xdpipe/lab"
)

// The kernel of the client is the judge of what the stage answers: it resolves the
// addresses, pings them, and finds them taken when it would have them itself.
func TestRespondAnswersTheKernelForAHostThatIsNotThere(t *testing.T) {
	s := newSite(t, lab.Topology{})
	nobody := net.HardwareAddr{2, 0, 0, 0, 0, 0x77}
	s.server.IPv4, s.server.IPv6 = netip.MustParseAddr("198.51.100.77"), netip.MustParseAddr("2001:db8:1::77")
	s.server.MAC = nobody
	c := startReady(t, childOptions{}, "run", "--run-dir", s.runDir, "--netns", s.Xdpipe.Name(), "-i", lab.ClientPort, "--all",
		"parse ! respond addresses=198.51.100.77,2001:db8:1::77 mac="+nobody.String()+" reply->"+lab.ClientPort+" ! drop")
	s.check(traffic.ARP, traffic.Options{Count: 50})
	s.check(traffic.ND, traffic.Options{Count: 50})
	s.check(traffic.ICMP, traffic.Options{Count: 500})
	s.check(traffic.ICMPv6, traffic.Options{Count: 500})
	s.addressIsTaken(s.server.IPv6)

	var respond map[string]uint64
	for _, st := range s.status()[0].Stages {
		if st.Type == "respond" {
			respond = st.Values
		}
	}
	for _, name := range []string{"arp", "nd"} {
		if respond[name] < 50 {
			t.Errorf("%s: %d answered, want 50 or more", name, respond[name])
		}
	}
	for _, name := range []string{"icmp", "icmpv6"} {
		if respond[name] < 550 { // with those of the resolutions
			t.Errorf("%s: %d answered, want 550 or more", name, respond[name])
		}
	}
	for name, n := range respond {
		if n > 0 && len(name) > 8 && name[:8] == "ignored_" {
			t.Errorf("%s: %d", name, n)
		}
	}
	c.stop()
}

// addressIsTaken gives the client's interface the address and wants duplicate
// address detection to find that it is another's.
func (s *site) addressIsTaken(address netip.Addr) {
	s.t.Helper()
	name := s.ClientLink.Name
	var handle *netlink.Handle
	must(s.t, s.Client.Do(func() (err error) {
		for key, value := range map[string]string{"accept_dad": "1", "dad_transmits": "1"} {
			if err := os.WriteFile(filepath.Join("/proc/sys/net/ipv6/conf", name, key), []byte(value), 0); err != nil {
				return err
			}
		}
		handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	}))
	defer handle.Close()
	link, err := handle.LinkByName(name)
	must(s.t, err)
	own := &netlink.Addr{IPNet: &net.IPNet{IP: address.AsSlice(), Mask: net.CIDRMask(128, 128)}}
	must(s.t, handle.AddrAdd(link, own))
	flags := 0
	eventually(s.t, "an end of duplicate address detection", func() bool {
		addresses, err := handle.AddrList(link, netlink.FAMILY_V6)
		must(s.t, err)
		for _, a := range addresses {
			if a.IP.Equal(own.IP) {
				flags = a.Flags
			}
		}
		return flags&unix.IFA_F_TENTATIVE == 0 || flags&unix.IFA_F_DADFAILED != 0
	})
	if flags&unix.IFA_F_DADFAILED == 0 {
		s.t.Errorf("the kernel took the address %v for free, flags %#x", address, flags)
	}
	must(s.t, handle.AddrDel(link, own))
}
