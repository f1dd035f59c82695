package stages

import "github.com/xdpipe/xdpipe/pipeline"

func init() {
	pipeline.Register(pipeline.Module{
		Name: "count",
		Doc:  "counts packets and bytes, and with a parse stage before it also by protocol",
		New:  func() pipeline.Stage { return &Count{} },
	})
}

// Count counts what passes. Its counters are in the status, as values.
type Count struct {
	packets, bytes                       uint64
	arp, ipv4, ipv6, vlan                uint64
	tcp, udp, icmp, fragments, malformed uint64
}

// Process implements pipeline.Stage.
func (s *Count) Process(b *pipeline.Batch) {
	s.packets += uint64(b.Len())
	for i := range b.Len() {
		s.bytes += uint64(len(b.Data(i)))
		m := b.Meta(i)
		if m.Flags == 0 {
			continue // not parsed
		}
		switch m.EtherType {
		case pipeline.EtherTypeIPv4:
			s.ipv4++
		case pipeline.EtherTypeIPv6:
			s.ipv6++
		case pipeline.EtherTypeARP:
			s.arp++
		}
		if m.VLANs > 0 {
			s.vlan++
		}
		if m.Flags&(pipeline.MetaFragment|pipeline.MetaMalformed) != 0 {
			if m.Flags&pipeline.MetaFragment != 0 {
				s.fragments++
			} else {
				s.malformed++
			}
		}
		if m.Flags&pipeline.MetaL4 != 0 {
			switch m.Protocol {
			case pipeline.ProtocolTCP:
				s.tcp++
			case pipeline.ProtocolUDP:
				s.udp++
			case pipeline.ProtocolICMP, pipeline.ProtocolICMPv6:
				s.icmp++
			}
		}
	}
}

// Report implements pipeline.Reporter.
func (s *Count) Report() map[string]uint64 {
	return map[string]uint64{
		"packets": s.packets, "bytes": s.bytes,
		"arp": s.arp, "ipv4": s.ipv4, "ipv6": s.ipv6, "vlan": s.vlan,
		"tcp": s.tcp, "udp": s.udp, "icmp": s.icmp,
		"fragments": s.fragments, "malformed": s.malformed,
	}
}
