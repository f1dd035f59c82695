package control

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xdpipe/xdpipe/internal/edit"
)

// Link is a network interface as it was when it was read. Its methods go by
// its index, so they reach the same interface after a rename. Not safe for
// use by several goroutines at once while one of them calls Refresh.
type Link struct {
	Name      string
	Index     int // unique within Namespace only
	Namespace *Namespace
	MAC       net.HardwareAddr
	MTU       int // bytes, without the Ethernet header
	Up        bool
	Running   bool   // up, and with a carrier
	Kind      string // "veth", "bridge", …; "device" for hardware
	Driver    string // as ethtool names it; "" if it names none
	RXQueues  int    // allocated, not necessarily in use; see Queues of [Features]
	TXQueues  int
	Master    int // index of the bridge or bond it belongs to, or 0
	Parent    int // index of the link below (of a veth: the peer, in its own namespace), or 0
}

// LinkNotFoundError says that a namespace has no such interface.
type LinkNotFoundError struct {
	Name      string
	Namespace string   // as [Namespace.String] has it
	Near      []string // names much like it
	Existing  []string
}

func (e *LinkNotFoundError) Error() string {
	msg := fmt.Sprintf("no interface %s in %s", e.Name, e.Namespace)
	if len(e.Near) > 0 {
		return fmt.Sprintf("%s; did you mean %s?", msg, listOr(e.Near, ""))
	}
	return fmt.Sprintf("%s; it has %s", msg, listOr(e.Existing, "none"))
}

// Unwrap makes errors.Is(err, unix.ENODEV) true.
func (e *LinkNotFoundError) Unwrap() error { return unix.ENODEV }

// LinkByName finds an interface by name. A nil namespace is the process's own.
// The error is a *[LinkNotFoundError] if there is none.
func LinkByName(ns *Namespace, name string) (*Link, error) {
	return findLink(ns, name, func(h *netlink.Handle) (netlink.Link, error) { return h.LinkByName(name) })
}

// LinkByIndex finds an interface by its index in the namespace.
func LinkByIndex(ns *Namespace, index int) (*Link, error) {
	return findLink(ns, fmt.Sprintf("with index %d", index), func(h *netlink.Handle) (netlink.Link, error) { return h.LinkByIndex(index) })
}

func findLink(ns *Namespace, what string, get func(*netlink.Handle) (netlink.Link, error)) (*Link, error) {
	ns, err := orProcess(ns)
	if err != nil {
		return nil, err
	}
	var l *Link
	err = ns.rtnl(func(h *netlink.Handle) error {
		found, err := get(h)
		var missing netlink.LinkNotFoundError
		if errors.As(err, &missing) || errors.Is(err, unix.ENODEV) {
			return notFound(h, ns, what)
		}
		if err != nil {
			return fmt.Errorf("read interface %s in %v: %w", what, ns, err)
		}
		l = linkFrom(ns, found)
		return nil
	})
	if err != nil {
		return nil, err
	}
	// Not every kind has ethtool operations; those have no driver name.
	_ = ns.ethtool(func(e *ethtool.Ethtool) error {
		l.Driver, err = e.DriverName(l.Name)
		return err
	})
	return l, nil
}

// Links lists the interfaces of a namespace, without their drivers.
func Links(ns *Namespace) ([]*Link, error) {
	ns, err := orProcess(ns)
	if err != nil {
		return nil, err
	}
	var links []*Link
	err = ns.rtnl(func(h *netlink.Handle) error {
		all, err := listLinks(h)
		for _, l := range all {
			links = append(links, linkFrom(ns, l))
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list interfaces of %v: %w", ns, err)
	}
	return links, nil
}

// listLinks asks again when links came or went while the kernel was listing them.
func listLinks(h *netlink.Handle) ([]netlink.Link, error) {
	for range 10 {
		all, err := h.LinkList()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
	return nil, netlink.ErrDumpInterrupted
}

func linkFrom(ns *Namespace, found netlink.Link) *Link {
	a := found.Attrs()
	return &Link{
		Name: a.Name, Index: a.Index, Namespace: ns,
		MAC: a.HardwareAddr, MTU: a.MTU,
		Up: a.Flags&net.FlagUp != 0, Running: a.Flags&net.FlagUp != 0 && a.RawFlags&unix.IFF_LOWER_UP != 0,
		Kind: found.Type(), RXQueues: a.NumRxQueues, TXQueues: a.NumTxQueues,
		Master: a.MasterIndex, Parent: a.ParentIndex,
	}
}

func notFound(h *netlink.Handle, ns *Namespace, name string) error {
	e := &LinkNotFoundError{Name: name, Namespace: ns.String()}
	all, err := listLinks(h)
	if err != nil {
		return e
	}
	for _, l := range all {
		other := l.Attrs().Name
		e.Existing = append(e.Existing, other)
		if edit.Distance(name, other) <= 1+len(name)/4 {
			e.Near = append(e.Near, other)
		}
	}
	return e
}

func orProcess(ns *Namespace) (*Namespace, error) {
	if ns != nil {
		return ns, nil
	}
	return ProcessNamespace()
}

// Refresh reads the link again. The error is a *[LinkNotFoundError] if it is gone.
func (l *Link) Refresh() error {
	now, err := LinkByIndex(l.Namespace, l.Index)
	if err != nil {
		return fmt.Errorf("interface %s: %w", l.Name, err)
	}
	*l = *now
	return nil
}

// String gives the name, with the namespace if that is not the process's own.
func (l *Link) String() string {
	if l.Namespace == nil || l.Namespace.process {
		return l.Name
	}
	return fmt.Sprintf("%s in %v", l.Name, l.Namespace)
}

// change runs fn with the link's handle; doing says what for the error.
func (l *Link) change(doing string, fn func(h *netlink.Handle, link netlink.Link) error) error {
	err := l.Namespace.rtnl(func(h *netlink.Handle) error {
		return fn(h, &netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: l.Name, Index: l.Index}})
	})
	if err != nil {
		return fmt.Errorf("%s %v: %w%s", doing, l, err, needsCapability(err, "CAP_NET_ADMIN"))
	}
	return nil
}

// SetUp brings the link up, or down. Up in the snapshot follows.
func (l *Link) SetUp(up bool) error {
	doing, set := "bring up", (*netlink.Handle).LinkSetUp
	if !up {
		doing, set = "bring down", (*netlink.Handle).LinkSetDown
	}
	if err := l.change(doing, set); err != nil {
		return err
	}
	l.Up = up
	return nil
}

// SetMTU sets the largest packet, in bytes, without the Ethernet header.
func (l *Link) SetMTU(mtu int) error {
	err := l.change(fmt.Sprintf("set mtu %d of", mtu), func(h *netlink.Handle, link netlink.Link) error { return h.LinkSetMTU(link, mtu) })
	if err != nil {
		return err
	}
	l.MTU = mtu
	return nil
}

// AddAddress gives the link an address. IPv6 addresses are usable at once:
// duplicate address detection is skipped for them.
func (l *Link) AddAddress(p netip.Prefix) error {
	bits := 8 * len(p.Addr().AsSlice())
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), bits)}}
	if p.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	return l.change(fmt.Sprintf("add address %v to", p), func(h *netlink.Handle, link netlink.Link) error { return h.AddrAdd(link, addr) })
}

// Addresses lists the link's addresses, IPv4 first.
func (l *Link) Addresses() ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	err := l.change("list addresses of", func(h *netlink.Handle, link netlink.Link) error {
		for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			addrs, err := h.AddrList(link, family)
			if err != nil {
				return err
			}
			for _, a := range addrs {
				ip, ok := netip.AddrFromSlice(a.IP)
				ones, _ := a.Mask.Size()
				if ok {
					prefixes = append(prefixes, netip.PrefixFrom(ip.Unmap(), ones))
				}
			}
		}
		return nil
	})
	return prefixes, err
}

// AddNeighbour adds or replaces a permanent neighbour entry (ARP or ND).
func (l *Link) AddNeighbour(ip netip.Addr, mac net.HardwareAddr) error {
	return l.change(fmt.Sprintf("add neighbour %v to", ip), func(h *netlink.Handle, _ netlink.Link) error {
		return h.NeighSet(&netlink.Neigh{LinkIndex: l.Index, State: netlink.NUD_PERMANENT, IP: ip.AsSlice(), HardwareAddr: mac})
	})
}

// FlushNeighbours forgets what was learnt about neighbours on this link, so
// that the next packet asks again. Permanent entries stay.
func (l *Link) FlushNeighbours() error {
	return l.change("flush neighbours of", func(h *netlink.Handle, _ netlink.Link) error {
		for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			known, err := h.NeighList(l.Index, family)
			if err != nil {
				return err
			}
			for i := range known {
				if known[i].State&(netlink.NUD_PERMANENT|netlink.NUD_NOARP) != 0 {
					continue
				}
				if err := h.NeighDel(&known[i]); err != nil && !errors.Is(err, unix.ENOENT) {
					return err
				}
			}
		}
		return nil
	})
}

// SetMaster puts the link into a bridge, or takes it out if master is nil.
func (l *Link) SetMaster(master *Link) error {
	index, doing := 0, "remove from its bridge"
	if master != nil {
		index, doing = master.Index, "put into "+master.Name
	}
	return l.change(doing, func(h *netlink.Handle, link netlink.Link) error { return h.LinkSetMasterByIndex(link, index) })
}

// Move takes the link into another namespace and returns it as it is there: down,
// without its addresses, perhaps with another index. l itself is gone. The kernel
// refuses if the namespace has an interface of that name.
func (l *Link) Move(to *Namespace) (*Link, error) {
	to, err := orProcess(to)
	if err != nil {
		return nil, err
	}
	err = l.change("move to "+to.String(), func(h *netlink.Handle, link netlink.Link) error { return h.LinkSetNsFd(link, to.FD()) })
	if err != nil {
		return nil, err
	}
	return LinkByName(to, l.Name)
}

// Delete removes the link; of a veth pair, both ends. One already gone is no error.
func (l *Link) Delete() error {
	err := l.change("delete", (*netlink.Handle).LinkDel)
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// CreateBridge makes a bridge with the given ports in their namespace and
// brings it up. Ports must be in the same namespace.
func CreateBridge(ns *Namespace, name string, ports ...*Link) (*Link, error) {
	ns, err := orProcess(ns)
	if err != nil {
		return nil, err
	}
	err = ns.rtnl(func(h *netlink.Handle) error {
		return h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}})
	})
	if err != nil {
		return nil, fmt.Errorf("create bridge %s in %v: %w%s", name, ns, err, needsCapability(err, "CAP_NET_ADMIN"))
	}
	bridge, err := LinkByName(ns, name)
	if err != nil {
		return nil, err
	}
	for _, p := range ports {
		if err := p.SetMaster(bridge); err != nil {
			return nil, errors.Join(err, bridge.Delete())
		}
	}
	if err := bridge.SetUp(true); err != nil {
		return nil, errors.Join(err, bridge.Delete())
	}
	return bridge, nil
}
