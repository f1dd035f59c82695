package control

import (
	"testing"

	"github.com/vishvananda/netlink"
)

func promiscuity(t *testing.T, l *Link) int {
	t.Helper()
	var count int
	must(t, l.Namespace.rtnl(func(h *netlink.Handle) error {
		found, err := h.LinkByIndex(l.Index)
		if err == nil {
			count = found.Attrs().Promisc
		}
		return err
	}))
	return count
}

func TestPromiscuousIsCountedAndGivenBack(t *testing.T) {
	a, _ := newPair(t, VethOptions{})
	first, err := NewPromiscuous(a)
	must(t, err)
	second, err := NewPromiscuous(a)
	must(t, err)
	if n := promiscuity(t, a); n != 2 {
		t.Errorf("promiscuity %d with two members", n)
	}
	must(t, first.Close())
	must(t, first.Close())
	if n := promiscuity(t, a); n != 1 {
		t.Errorf("promiscuity %d after one of two has left", n)
	}
	must(t, second.Close())
	if n := promiscuity(t, a); n != 0 {
		t.Errorf("promiscuity %d after both have left", n)
	}
}
