package control

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// VethEnd is one end of a veth pair.
type VethEnd struct {
	Name      string           // 1 to 15 bytes
	Namespace *Namespace       // nil is the process's own
	MAC       net.HardwareAddr // nil lets the kernel choose
}

// VethOptions apply to both ends.
type VethOptions struct {
	// Queues is the number of RX and of TX queues of each end. 0 is 1. Native
	// XDP needs at least as many RX queues as the peer has TX queues.
	Queues int
	// MTU in bytes; 0 is the kernel's 1500. Native XDP with a program that does
	// not take fragments ends at about 3500.
	MTU int
}

// CreateVeth makes a pair of connected interfaces, each directly in its
// namespace, and leaves both down. Deleting either, or its namespace, deletes
// both.
func CreateVeth(a, b VethEnd, opts VethOptions) (*Link, *Link, error) {
	fail := func(err error) (*Link, *Link, error) {
		return nil, nil, fmt.Errorf("create veth pair %s, %s: %w%s", a.Name, b.Name, err, needsCapability(err, "CAP_NET_ADMIN"))
	}
	for _, end := range []VethEnd{a, b} {
		if n := len(end.Name); n < 1 || n >= unix.IFNAMSIZ {
			return fail(fmt.Errorf("interface name %q has %d bytes; it must have 1 to %d", end.Name, n, unix.IFNAMSIZ-1))
		}
	}
	var err error
	if a.Namespace, err = orProcess(a.Namespace); err != nil {
		return fail(err)
	}
	if b.Namespace, err = orProcess(b.Namespace); err != nil {
		return fail(err)
	}
	queues := max(opts.Queues, 1)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = a.Name, opts.MTU, a.MAC
	attrs.NumRxQueues, attrs.NumTxQueues = queues, queues
	err = a.Namespace.rtnl(func(h *netlink.Handle) error {
		return h.LinkAdd(&netlink.Veth{
			LinkAttrs: attrs,
			PeerName:  b.Name, PeerHardwareAddr: b.MAC, PeerMTU: uint32(opts.MTU),
			PeerNumRxQueues: uint32(queues), PeerNumTxQueues: uint32(queues),
			PeerNamespace: netlink.NsFd(b.Namespace.FD()),
		})
	})
	if err != nil {
		return fail(err)
	}
	la, err := LinkByName(a.Namespace, a.Name)
	if err != nil {
		return fail(err)
	}
	lb, err := LinkByName(b.Namespace, b.Name)
	if err != nil {
		return fail(errors.Join(err, la.Delete()))
	}
	return la, lb, nil
}
