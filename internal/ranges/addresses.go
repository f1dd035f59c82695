// Package ranges has the types of options that are one value or several in a
// row: addresses, ports and sizes.
package ranges

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
)

// MostAddresses is the most addresses that Addresses stands for; of longer prefixes the
// first are taken.
const MostAddresses = 1 << 32

// Addresses are N addresses from First on, all IPv4 or all IPv6 with the same upper 64
// bits. The zero value is none.
type Addresses struct {
	First netip.Addr
	N     uint64
}

// UnmarshalText reads ADDRESS, PREFIX/BITS (all addresses of the prefix) or
// FIRST-LAST.
func (a *Addresses) UnmarshalText(text []byte) error {
	s := string(text)
	if prefix, err := netip.ParsePrefix(s); err == nil && !prefix.Addr().Is4In6() {
		free := prefix.Addr().BitLen() - prefix.Bits()
		n := uint64(MostAddresses)
		if free < 32 {
			n = 1 << free
		}
		*a = Addresses{prefix.Masked().Addr(), n}
		return nil
	}
	from, to, isRange := strings.Cut(s, "-")
	first, err := netip.ParseAddr(from)
	last := first
	if err == nil && isRange {
		last, err = netip.ParseAddr(to)
	}
	if err != nil || first.Zone() != "" || last.Zone() != "" {
		return fmt.Errorf("found %q, want an address, a prefix such as 10.0.0.0/24 or 2001:db8::/64, or a range such as 10.0.0.1-10.0.0.9", s)
	}
	first, last = first.Unmap(), last.Unmap()
	if first.Is4() != last.Is4() || last.Less(first) || upper(first) != upper(last) || Low(last)-Low(first) >= MostAddresses {
		return fmt.Errorf("found %q, want a range of at most 2^32 addresses, the smaller first", s)
	}
	*a = Addresses{first, Low(last) - Low(first) + 1}
	return nil
}

func (a Addresses) String() string {
	switch a.N {
	case 0:
		return ""
	case 1:
		return a.First.String()
	}
	last := Low(a.First) + a.N - 1
	if a.First.Is4() {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(last))
		return fmt.Sprintf("%v-%v", a.First, netip.AddrFrom4(b))
	}
	b := a.First.As16()
	binary.BigEndian.PutUint64(b[8:], last)
	return fmt.Sprintf("%v-%v", a.First, netip.AddrFrom16(b))
}

// Low returns an IPv4 address as a number, of an IPv6 address the lower 64 bits.
func Low(a netip.Addr) uint64 {
	if a.Is4() {
		b := a.As4()
		return uint64(binary.BigEndian.Uint32(b[:]))
	}
	b := a.As16()
	return binary.BigEndian.Uint64(b[8:])
}

// upper returns the bits that Low leaves out.
func upper(a netip.Addr) uint64 {
	if a.Is4() {
		return 0
	}
	b := a.As16()
	return binary.BigEndian.Uint64(b[:])
}
