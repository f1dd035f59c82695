package stages

import (
	"fmt"
	"math/bits"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/xdpipe/xdpipe/internal/ranges"
	"github.com/xdpipe/xdpipe/pipeline"
)

// header checks the options of the headers.
func (s *Generate) header() (h genHeader, err error) {
	h = genHeader{src: s.Src, dst: s.Dst, vlan: s.VLAN, protocol: s.Protocol, ttl: s.TTL, dscp: s.DSCP}
	if _, ok := genProtocols[h.protocol]; !ok {
		return h, pipeline.BadOption("protocol", "found %q, want udp, tcp or icmp", h.protocol)
	}
	for _, mac := range []struct {
		option, text string
		to           *[]byte
	}{{"src_mac", s.SrcMAC, &h.srcMAC}, {"dst_mac", s.DstMAC, &h.dstMAC}} {
		addr, err := net.ParseMAC(mac.text)
		if err != nil || len(addr) != 6 {
			return h, pipeline.BadOption(mac.option, "found %q, want a MAC address such as 02:00:00:00:00:01", mac.text)
		}
		*mac.to = addr
	}
	for _, n := range []struct {
		option             string
		value, least, most int
	}{{"vlan", s.VLAN, 0, 4094}, {"ttl", s.TTL, 1, 255}, {"dscp", s.DSCP, 0, 63}} {
		if n.value < n.least || n.value > n.most {
			return h, pipeline.BadOption(n.option, "found %d, want %d to %d", n.value, n.least, n.most)
		}
	}
	flags := []string{"fin", "syn", "rst", "psh", "ack", "urg"} // from the lowest bit on
	for _, name := range s.TCPFlags {
		bit := slices.Index(flags, strings.ToLower(name))
		if bit < 0 {
			return h, pipeline.BadOption("tcp_flags", "found %q, want some of %s", name, strings.Join(flags, ", "))
		}
		h.tcpFlags |= 1 << bit
	}
	ipv6 := h.src.First.Is6() || h.dst.First.Is6()
	src, dst := "198.18.0.1", "198.19.0.1"
	if ipv6 {
		src, dst = "2001:2::1", "2001:2:0:1::1"
	}
	if h.src.N == 0 {
		h.src = ranges.Addresses{First: netip.MustParseAddr(src), N: 1}
	}
	if h.dst.N == 0 {
		h.dst = ranges.Addresses{First: netip.MustParseAddr(dst), N: 1}
	}
	if h.src.First.Is6() != h.dst.First.Is6() {
		return h, pipeline.BadOption("dst", "found %v, and src is %v: want both IPv4 or both IPv6", h.dst, h.src)
	}
	return h, nil
}

// setFlows sets what the flows vary over.
func (s *Generate) setFlows(h genHeader) error {
	src, dst := s.SrcPort, s.DstPort
	switch {
	case h.protocol == "icmp" && src.N > 0:
		return pipeline.BadOption("src_port", "icmp has no ports")
	case h.protocol == "icmp" && dst.N > 0:
		return pipeline.BadOption("dst_port", "icmp has no ports")
	case src.N == 0:
		src = ranges.Ports{First: 1024, N: 1}
	}
	if dst.N == 0 {
		dst = ranges.Ports{First: 9, N: 1}
	}
	s.flows = genFlows{
		src: ranges.Low(h.src.First), dst: ranges.Low(h.dst.First),
		srcPort: uint64(src.First), dstPort: uint64(dst.First),
		n: [4]uint64{h.src.N, h.dst.N, uint64(src.N), uint64(dst.N)},
	}
	// The stamp has 32 bits for the flow.
	const most = 1 << 32
	all := uint64(1)
	for _, n := range s.flows.n {
		if hi, lo := bits.Mul64(all, n); hi == 0 {
			all = min(lo, most)
		} else {
			all = most
		}
	}
	if s.Flows > all {
		return pipeline.BadOption("flows", "found %d, but src, dst, src_port and dst_port have %d combinations; give one of them a wider range", s.Flows, all)
	}
	s.flows.flows = s.Flows
	if s.Flows == 0 {
		s.flows.flows = all
	}
	return nil
}

// frameSizes returns the lengths of packets in bytes without FCS, in turn, and the
// stamp's length. headers is how many bytes there are before the payload.
func (s *Generate) frameSizes(headers int) (lengths []int, stamp int, err error) {
	mix := len(s.Size) > 0
	for _, z := range s.Size {
		mix = mix && z.Mix
		lengths = append(lengths, z.List...)
	}
	if len(lengths) > ranges.MostSize {
		return nil, 0, pipeline.BadOption("size", "found %d sizes, want at most %d", len(lengths), ranges.MostSize)
	}
	for i, n := range lengths {
		if n > longestPacket+fcsBytes {
			return nil, 0, pipeline.BadOption("size", "found %d bytes, want at most %d, which a frame of memory holds", n, longestPacket+fcsBytes)
		}
		lengths[i] = n - fcsBytes
	}
	// What fits the headers, in place of sizes that need not be exact.
	raise := func(stamp int) {
		if len(lengths) == 0 {
			lengths = []int{0}
			mix = true
		}
		for i := range lengths {
			if mix {
				lengths[i] = max(lengths[i], headers+stamp, leastPacket)
			}
		}
	}
	switch strings.ToLower(s.Stamp) {
	case "long":
		stamp = stampLongSize
	case "short":
		stamp = stampShortSize
	case "false", "off", "no":
	case "auto", "true", "on", "yes":
		stamp = stampShortSize
		raise(stamp)
		if slices.Min(lengths) >= headers+stampLongSize {
			stamp = stampLongSize
		}
	default:
		return nil, 0, pipeline.BadOption("stamp", "found %q, want long, short, auto or false", s.Stamp)
	}
	raise(stamp)
	if least := slices.Min(lengths); least < leastPacket {
		return nil, 0, pipeline.BadOption("size", "found %d bytes, want at least %d, the smallest Ethernet frame", least+fcsBytes, leastPacket+fcsBytes)
	} else if least < headers+stamp {
		hint := ""
		if stamp > 0 {
			hint = fmt.Sprintf("; or set stamp to false, for %d", max(headers, leastPacket)+fcsBytes)
			if stamp == stampLongSize {
				hint = fmt.Sprintf("; or set stamp to short, for %d", max(headers+stampShortSize, leastPacket)+fcsBytes)
			}
		}
		return nil, 0, pipeline.BadOption("size", "found %d bytes, want at least %d for headers, stamp and FCS (%d, %d, %d)%s",
			least+fcsBytes, headers+stamp+fcsBytes, headers, stamp, fcsBytes, hint)
	}
	return lengths, stamp, nil
}
