package control

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAMissingInterfaceIsNamedWithItsNamespaceAndNearNames(t *testing.T) {
	ns := newNamespace(t)
	_, _, err := CreateVeth(VethEnd{Name: "uplink0", Namespace: ns}, VethEnd{Name: "uplink1", Namespace: ns}, VethOptions{})
	must(t, err)
	for _, c := range []struct {
		name  string
		words []string
	}{
		{"uplnk0", []string{"uplnk0", ns.Name(), "did you mean", "uplink0"}},
		{"zzz", []string{"zzz", ns.Name(), "it has", "lo", "uplink1"}},
	} {
		_, err := LinkByName(ns, c.name)
		var missing *LinkNotFoundError
		if !errors.As(err, &missing) || !errors.Is(err, unix.ENODEV) {
			t.Fatalf("%s: %v is not a LinkNotFoundError", c.name, err)
		}
		mentions(t, err, c.words...)
	}
}

func TestVethEndsHaveTheirQueuesMTUMACAndNamespace(t *testing.T) {
	na, nb := newNamespace(t), newNamespace(t)
	mac := []byte{0x02, 0, 0, 0, 0, 0x0a}
	a, b, err := CreateVeth(VethEnd{Name: "a", Namespace: na, MAC: mac}, VethEnd{Name: "b", Namespace: nb}, VethOptions{Queues: 3, MTU: 3000})
	must(t, err)
	for _, l := range []*Link{a, b} {
		if l.RXQueues != 3 || l.TXQueues != 3 || l.MTU != 3000 || l.Kind != "veth" || l.Driver != "veth" {
			t.Errorf("%v: %+v", l, l)
		}
		if n, err := RXQueueCount(l); err != nil || n != 3 {
			t.Errorf("%v has %d queues, %v", l, n, err)
		}
	}
	if a.MAC.String() != "02:00:00:00:00:0a" || a.Namespace != na || b.Namespace != nb {
		t.Errorf("a is %+v", a)
	}
	_, _, err = CreateVeth(VethEnd{Name: "name-of-16-bytes", Namespace: na}, VethEnd{Name: "b2", Namespace: nb}, VethOptions{})
	mentions(t, err, "name-of-16-bytes", "15")
}

func TestALinkMovesToAnotherNamespace(t *testing.T) {
	a, b := newPair(t, VethOptions{Queues: 2})
	to := newNamespace(t)
	moved, err := a.Move(to)
	must(t, err)
	if moved.Namespace != to || moved.Name != a.Name || moved.RXQueues != 2 {
		t.Errorf("moved is %+v", moved)
	}
	var missing *LinkNotFoundError
	if err := a.Refresh(); !errors.As(err, &missing) {
		t.Errorf("the link is still where it was: %v", err)
	}
	must(t, moved.SetUp(true))
	must(t, b.SetUp(true))
	must(t, moved.Refresh())
	if !moved.Running {
		t.Error("the pair is not connected after the move")
	}
}

func TestLinksAreChangedByIndexAlsoAfterARename(t *testing.T) {
	a, _ := newPair(t, VethOptions{})
	stale := *a
	must(t, a.SetUp(false))
	must(t, rename(a, "renamed"))
	must(t, stale.SetMTU(1400))
	must(t, a.Refresh())
	if a.Name != "renamed" || a.MTU != 1400 || a.Up {
		t.Errorf("%+v", a)
	}
	p := netip.MustParsePrefix("2001:db8::1/64")
	must(t, a.SetUp(true))
	must(t, a.AddAddress(p))
	addrs, err := a.Addresses()
	must(t, err)
	if !slices.Contains(addrs, p) {
		t.Errorf("addresses %v lack %v", addrs, p)
	}
	must(t, a.Delete())
	must(t, a.Delete())
	if err := a.Refresh(); !errors.Is(err, unix.ENODEV) {
		t.Errorf("refresh of a deleted link: %v", err)
	}
}
