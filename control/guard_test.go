package control

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestTheInterfaceOfTheDefaultRouteIsGuarded(t *testing.T) {
	for _, c := range []struct {
		family, address, gateway, all string
	}{
		{"IPv4", "198.51.100.1/24", "198.51.100.254", "0.0.0.0/0"},
		{"IPv6", "2001:db8::1/64", "2001:db8::fe", "::/0"},
	} {
		t.Run(c.family, func(t *testing.T) {
			ns := newNamespace(t)
			a, b, err := CreateVeth(VethEnd{Name: "a", Namespace: ns}, VethEnd{Name: "b", Namespace: ns}, VethOptions{})
			must(t, err)
			must(t, a.SetUp(true))
			must(t, b.SetUp(true))
			must(t, a.AddAddress(netip.MustParsePrefix(c.address)))
			must(t, GuardDefaultRoute(a, false, false))
			_, all, err := net.ParseCIDR(c.all)
			must(t, err)
			must(t, ns.rtnl(func(h *netlink.Handle) error {
				return h.RouteAdd(&netlink.Route{LinkIndex: a.Index, Dst: all, Gw: net.ParseIP(c.gateway)})
			}))
			err = GuardDefaultRoute(a, false, false)
			var guarded *DefaultRouteError
			if !errors.As(err, &guarded) || guarded.Family != c.family || guarded.Gateway != c.gateway {
				t.Fatalf("got %v", err)
			}
			mentions(t, err, "a in network namespace", c.family, c.gateway, "rules", "--insist")
			must(t, GuardDefaultRoute(a, true, false))
			must(t, GuardDefaultRoute(a, false, true))
			must(t, GuardDefaultRoute(b, false, false))
		})
	}
}

func TestAPortBelowTheDefaultRoutesBridgeIsGuardedToo(t *testing.T) {
	a, b := newPair(t, VethOptions{})
	bridge, err := CreateBridge(a.Namespace, "br0", a)
	must(t, err)
	must(t, bridge.AddAddress(netip.MustParsePrefix("203.0.113.1/24")))
	_, all, _ := net.ParseCIDR("0.0.0.0/0")
	must(t, a.Namespace.rtnl(func(h *netlink.Handle) error {
		return h.RouteAdd(&netlink.Route{LinkIndex: bridge.Index, Dst: all, Gw: net.ParseIP("203.0.113.254")})
	}))
	mentions(t, GuardDefaultRoute(a, false, false), "a in", "on br0")
	must(t, GuardDefaultRoute(b, false, false))
}

func TestARouteOfAnotherTableIsNoDefaultRoute(t *testing.T) {
	a, _ := newPair(t, VethOptions{})
	_, all, _ := net.ParseCIDR("0.0.0.0/0")
	must(t, a.Namespace.rtnl(func(h *netlink.Handle) error {
		return h.RouteAdd(&netlink.Route{LinkIndex: a.Index, Dst: all, Table: 100, Gw: net.ParseIP("198.51.100.9")})
	}))
	must(t, GuardDefaultRoute(a, false, false))
}

func TestADefaultRouteThatLeadsNowhereGuardsNoInterface(t *testing.T) {
	a, _ := newPair(t, VethOptions{})
	_, all, _ := net.ParseCIDR("0.0.0.0/0")
	must(t, a.Namespace.rtnl(func(h *netlink.Handle) error {
		return h.RouteAdd(&netlink.Route{Dst: all, Type: unix.RTN_BLACKHOLE})
	}))
	must(t, GuardDefaultRoute(a, false, false))
}
