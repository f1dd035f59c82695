package stages

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// An addressSet is addresses and prefixes to look up unicast addresses in, for
// stages that are given a handful of them: a look-up goes through all.
type addressSet struct {
	v4 []prefix4
	v6 []prefix6
}

type prefix4 struct{ address, mask uint32 }

type prefix6 struct{ high, low, highMask, lowMask uint64 }

// parseAddress reads an IPv4 or IPv6 address, or a prefix of them.
func parseAddress(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if a, addrErr := netip.ParseAddr(text); addrErr == nil && a.Zone() == "" {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	switch {
	case err != nil:
		return p, fmt.Errorf("found %q, want an IPv4 or IPv6 address or prefix such as 192.0.2.1 or 2001:db8::/64", text)
	case p.Addr().Is4In6():
		return p, fmt.Errorf("found %q, an IPv4 address inside an IPv6 one; write %v", text, p.Addr().Unmap())
	case p.Masked() != p:
		return p, fmt.Errorf("found %q, want %v for the one address, or %v for all of the prefix", text, p.Addr(), p.Masked())
	case p.IsSingleIP() && !isUnicast(p.Addr()):
		return p, fmt.Errorf("found %q, want an address that one host can have", text)
	}
	return p, nil
}

// isUnicast reports whether one host can have the address.
func isUnicast(a netip.Addr) bool {
	if a.Is4() {
		b := a.As4()
		return unicast4(b[:])
	}
	b := a.As16()
	return unicast6(b[:])
}

// unicast4 reports whether the IPv4 address is one that a host can have: not of
// 0.0.0.0/8, nor multicast, reserved or broadcast (RFC 1122, 3.2.1.3).
func unicast4(a []byte) bool { return a[0] != 0 && a[0] < 224 }

// unicast6 reports whether the IPv6 address is one that a host can have: neither
// unspecified nor multicast.
func unicast6(a []byte) bool {
	return a[0] != 0xff && binary.BigEndian.Uint64(a)|binary.BigEndian.Uint64(a[8:]) != 0
}

func (s *addressSet) add(p netip.Prefix) {
	if p.Addr().Is4() {
		a := p.Addr().As4()
		s.v4 = append(s.v4, prefix4{binary.BigEndian.Uint32(a[:]), uint32(leadingOnes(p.Bits()) >> 32)})
		return
	}
	a := p.Addr().As16()
	s.v6 = append(s.v6, prefix6{
		binary.BigEndian.Uint64(a[:]), binary.BigEndian.Uint64(a[8:]),
		leadingOnes(min(p.Bits(), 64)), leadingOnes(max(p.Bits()-64, 0)),
	})
}

// leadingOnes is a mask of n bits, 0 to 64.
func leadingOnes(n int) uint64 { return ^(^uint64(0) >> n) }

// has4 reports whether the set has the IPv4 address, and it is one of a host.
func (s *addressSet) has4(a []byte) bool {
	v := binary.BigEndian.Uint32(a)
	for _, p := range s.v4 {
		if v&p.mask == p.address {
			return unicast4(a)
		}
	}
	return false
}

// has6 reports whether the set has the IPv6 address, and it is one of a host.
func (s *addressSet) has6(a []byte) bool {
	high, low := binary.BigEndian.Uint64(a), binary.BigEndian.Uint64(a[8:])
	for _, p := range s.v6 {
		if high&p.highMask == p.high && low&p.lowMask == p.low {
			return unicast6(a)
		}
	}
	return false
}
