package traffic

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// readyPatience is several times what duplicate address detection takes by
	// default, which is up to two seconds.
	readyPatience = 10 * time.Second
	readyInterval = 10 * time.Millisecond
)

// awaitIPv6 waits for what the kernel still has to do, in its own time, before
// an IPv6 address that was just assigned works: duplicate address detection,
// and joining the group at which neighbours ask for it. Without this, the first
// packets of a new network would be lost, and not by the path. An address that
// is not assigned at all is left for the check to stumble over.
func awaitIPv6(ctx context.Context, peers ...Peer) error {
	until := time.Now().Add(readyPatience)
	for _, p := range peers {
		for {
			var missing string
			err := p.NS.Do(func() (err error) {
				missing, err = missingIPv6(p)
				return err
			})
			if err != nil {
				return fmt.Errorf("looking whether %s works on %s: %w", p.IPv6, p.Interface, err)
			}
			if missing == "" {
				break
			}
			if time.Now().After(until) {
				return fmt.Errorf("%s on %s does not work after %v: %s", p.IPv6, p.Interface, readyPatience, missing)
			}
			select {
			case <-time.After(readyInterval):
			case <-ctx.Done():
				return fmt.Errorf("waiting for %s on %s: %s: %w", p.IPv6, p.Interface, missing, context.Cause(ctx))
			}
		}
	}
	return nil
}

// missingIPv6 says what p's address waits for, if anything. It runs in p's
// namespace.
func missingIPv6(p Peer) (string, error) {
	link, err := netlink.LinkByName(p.Interface)
	if err != nil {
		return "", err
	}
	if link.Attrs().RawFlags&(unix.IFF_LOOPBACK|unix.IFF_NOARP) != 0 {
		return "", nil // no neighbours are asked for there
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V6)
	if err != nil {
		return "", err
	}
	ip := net.IP(p.IPv6.AsSlice())
	for _, a := range addrs {
		switch {
		case !a.IP.Equal(ip):
		case a.Flags&unix.IFA_F_DADFAILED != 0:
			return "", fmt.Errorf("duplicate address detection found another host with it")
		case a.Flags&unix.IFA_F_TENTATIVE != 0:
			return "duplicate address detection is still under way", nil
		default:
			return missingGroup(link.Attrs().Name, ip)
		}
	}
	return "", nil
}

// missingGroup looks for an address's solicited-node group (RFC 4291, 2.7.1)
// among those the interface has joined.
func missingGroup(iface string, ip net.IP) (string, error) {
	text, err := os.ReadFile("/proc/thread-self/net/igmp6")
	if err != nil {
		return "", err
	}
	group := hex.EncodeToString(append(net.ParseIP("ff02::1:ff00:0")[:13:13], ip[13:]...))
	// Index, interface, group, and more.
	for line := range bytes.Lines(text) {
		if f := bytes.Fields(line); len(f) > 2 && string(f[1]) == iface && string(f[2]) == group {
			return "", nil
		}
	}
	return "its solicited-node group is not joined yet", nil
}
