package control

import (
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// DefaultRouteError says that an interface carries the default route, so that
// taking its packets could cut off whoever asked for it.
type DefaultRouteError struct {
	Interface string
	Through   string // the interface the route names, where that is on top of Interface
	Family    string // "IPv4" or "IPv6"
	Gateway   string // "" for a route without one
}

func (e *DefaultRouteError) Error() string {
	route := e.Family + " default route"
	if e.Gateway != "" {
		route += " via " + e.Gateway
	}
	if e.Through != "" {
		route += " (on " + e.Through + ")"
	}
	return fmt.Sprintf("%s carries the %s, and taking all its packets may cut this machine off: steer by rules that leave management traffic alone, or use --insist", e.Interface, route)
}

// DefaultRoute tells whether the interface carries a default route of the main
// table, itself or below a bridge, bond, VLAN or the like. It is nil if not.
func DefaultRoute(l *Link) (*DefaultRouteError, error) {
	var found *DefaultRouteError
	err := l.change("read default routes of", func(h *netlink.Handle, _ netlink.Link) error {
		links, err := listLinks(h)
		if err != nil {
			return err
		}
		for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			routes, err := h.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
			if err != nil {
				return err
			}
			for _, r := range routes {
				if ones, _ := maskOf(r); ones != 0 {
					continue
				}
				for _, hop := range hopsOf(r) {
					if hop.LinkIndex == 0 {
						continue // blackhole, unreachable, prohibit
					}
					if !slices.Contains(below(links, hop.LinkIndex), l.Index) {
						continue
					}
					found = &DefaultRouteError{Interface: l.String(), Family: "IPv4"}
					if family == netlink.FAMILY_V6 {
						found.Family = "IPv6"
					}
					if hop.Gw != nil {
						found.Gateway = hop.Gw.String()
					}
					if hop.LinkIndex != l.Index {
						found.Through = nameOf(links, hop.LinkIndex)
					}
					return nil
				}
			}
		}
		return nil
	})
	return found, err
}

// GuardDefaultRoute refuses, with a *[DefaultRouteError], an interface that
// carries the default route, unless the rules take chosen packets only
// (selective) or the user has insisted.
func GuardDefaultRoute(l *Link, selective, insist bool) error {
	if selective || insist {
		return nil
	}
	found, err := DefaultRoute(l)
	if err != nil {
		return err
	}
	if found != nil {
		return found
	}
	return nil
}

func maskOf(r netlink.Route) (ones, bits int) {
	if r.Dst == nil {
		return 0, 0
	}
	return r.Dst.Mask.Size()
}

// hopsOf lists the next hops of a route, one or several.
func hopsOf(r netlink.Route) []netlink.NexthopInfo {
	if len(r.MultiPath) == 0 {
		return []netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw}}
	}
	hops := make([]netlink.NexthopInfo, 0, len(r.MultiPath))
	for _, hop := range r.MultiPath {
		hops = append(hops, *hop)
	}
	return hops
}

// below lists the interfaces that a packet sent to index may leave through:
// itself, the members of a bridge or bond, the device under a VLAN.
func below(links []netlink.Link, index int) []int {
	reached := []int{index}
	for i := 0; i < len(reached); i++ {
		for _, l := range links {
			a := l.Attrs()
			if a.MasterIndex == reached[i] && !slices.Contains(reached, a.Index) {
				reached = append(reached, a.Index)
			}
			if a.Index == reached[i] && stacked(l.Type()) && a.ParentIndex != 0 && !slices.Contains(reached, a.ParentIndex) {
				reached = append(reached, a.ParentIndex)
			}
		}
	}
	return reached
}

// stacked tells for which kinds the parent is the device below in the same
// namespace. A veth's parent is its peer, perhaps elsewhere with that index.
func stacked(kind string) bool {
	switch kind {
	case "vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec":
		return true
	}
	return false
}

func nameOf(links []netlink.Link, index int) string {
	for _, l := range links {
		if l.Attrs().Index == index {
			return l.Attrs().Name
		}
	}
	return fmt.Sprintf("interface %d", index)
}
