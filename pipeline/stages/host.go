package stages

import (
	"encoding/binary"

	"github.com/xdpipe/xdpipe/pipeline"
)

// A hostMask says which bits of addresses tell hosts apart. An IPv6 host has
// a whole /64 to choose addresses from, so that the address alone says little.
type hostMask struct {
	ipv4   uint32
	hi, lo uint64 // IPv6
}

// newHostMask returns the mask for prefixes of so many bits.
func newHostMask(ipv4, ipv6 int) hostMask {
	return hostMask{
		ipv4: ^uint32(0) << (32 - ipv4), // a shift by all bits gives 0
		hi:   ^uint64(0) << max(0, 64-ipv6),
		lo:   ^uint64(0) << min(64, 128-ipv6),
	}
}

// checkPrefixes is for Validate of stages with the options of a hostMask.
func checkPrefixes(ipv4, ipv6 int) error {
	if ipv4 < 1 || ipv4 > 32 {
		return pipeline.BadOption("ipv4_prefix", "found %d, want 1 to 32 bits", ipv4)
	}
	if ipv6 < 1 || ipv6 > 128 {
		return pipeline.BadOption("ipv6_prefix", "found %d, want 1 to 128 bits", ipv6)
	}
	return nil
}

// A host is a masked address: IPv6, or IPv4 as the IPv6 address ::ffff:a.b.c.d
// that stands for it.
type host struct {
	hi, lo uint64
}

const mappedIPv4 = 0xffff << 32

// source returns the source host of a parsed packet, and whether it is IP.
func (m hostMask) source(meta *pipeline.Meta, p []byte) (host, bool) {
	return m.at(meta, p, 12, 8)
}

// destination returns the destination host of a parsed packet, and whether it is
// IP.
func (m hostMask) destination(meta *pipeline.Meta, p []byte) (host, bool) {
	return m.at(meta, p, 16, 24)
}

// at reads an address at one of two offsets in the IP header.
func (m hostMask) at(meta *pipeline.Meta, p []byte, ipv4, ipv6 int) (host, bool) {
	l3 := int(meta.L3)
	switch {
	case meta.Flags&pipeline.MetaIPv4 != 0 && len(p) >= l3+20:
		a := binary.BigEndian.Uint32(p[l3+ipv4:]) & m.ipv4
		return host{0, mappedIPv4 | uint64(a)}, true
	case meta.Flags&pipeline.MetaIPv6 != 0 && len(p) >= l3+40:
		a := p[l3+ipv6:]
		return host{binary.BigEndian.Uint64(a) & m.hi, binary.BigEndian.Uint64(a[8:]) & m.lo}, true
	}
	return host{}, false
}

// parsed returns the packet's metadata, which it reads first if no stage before
// has.
func parsed(b *pipeline.Batch, i int) *pipeline.Meta {
	m := b.Meta(i)
	if m.Flags&pipeline.MetaParsed == 0 {
		m.Parse(b.Data(i))
	}
	return m
}
