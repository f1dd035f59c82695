package traffic

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// Namespace is a network namespace.
type Namespace interface {
	// Do runs f on a thread inside the namespace and returns its error. Sockets
	// created in f belong to the namespace and may be used anywhere afterwards.
	Do(f func() error) error
}

// Peer is one end of the path under test. It is only read.
type Peer struct {
	NS        Namespace
	Interface string           // name inside NS of the interface that leads to the other end
	IPv4      netip.Addr       // needed by checks that use IPv4
	IPv6      netip.Addr       // needed by checks that use IPv6; a link-local one has its zone set
	MAC       net.HardwareAddr // of Interface; needed by ARP, ND and VLAN
}

// addr returns the peer's address of the family asked for.
func (p Peer) addr(v6 bool) netip.Addr {
	if v6 {
		return p.IPv6
	}
	return p.IPv4
}

// validate reports what a check of the given family would miss in p, which
// plays role in it.
func (p Peer) validate(role string, v6, mac bool) error {
	addr := p.addr(v6)
	switch {
	case p.NS == nil:
		return fmt.Errorf("%s: no namespace given; set Peer.NS", role)
	case p.Interface == "":
		return fmt.Errorf("%s: no interface given; set Peer.Interface", role)
	case v6 && !(addr.Is6() && !addr.Is4In6()):
		return fmt.Errorf("%s: %q is not an IPv6 address; set Peer.IPv6", role, addr)
	case !v6 && !addr.Is4():
		return fmt.Errorf("%s: %q is not an IPv4 address; set Peer.IPv4", role, addr)
	case mac && len(p.MAC) != 6:
		return fmt.Errorf("%s: %q is not an Ethernet address; set Peer.MAC", role, p.MAC)
	}
	return nil
}

// iface returns the peer's interface as its namespace knows it now.
func (p Peer) iface() (*net.Interface, error) {
	var ifi *net.Interface
	err := p.NS.Do(func() (err error) {
		ifi, err = net.InterfaceByName(p.Interface)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("looking up interface %s: %w", p.Interface, err)
	}
	return ifi, nil
}

// pathMTU returns the smaller MTU of the two ends, in bytes.
func pathMTU(client, server Peer) (int, error) {
	c, err := client.iface()
	if err != nil {
		return 0, err
	}
	s, err := server.iface()
	if err != nil {
		return 0, err
	}
	if mtu := min(c.MTU, s.MTU); mtu > 0 {
		return mtu, nil
	}
	return 0, errors.New("an interface reports no MTU; set Options.MTU")
}

// path names one direction in messages.
func path(from, to string, src, dst Peer, v6 bool) string {
	return fmt.Sprintf("%s %s to %s %s", from, src.addr(v6), to, dst.addr(v6))
}
