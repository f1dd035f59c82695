package stages

import "github.com/xdpipe/xdpipe/pipeline"

func init() {
	pipeline.Register(pipeline.Module{
		Name: "count",
		Doc:  "counts packets and bytes, and with a parse stage before it also by protocol",
		Help: `Its counters are values in the status: packets, bytes, arp, vlan, ipv4, ipv6,
fragments, malformed, tcp, udp and icmp, the last of both versions.`,
		Example: "parse ! count",
		New:     func() pipeline.Stage { return &Count{} },
	})
}

// Count counts what passes. Its counters are in the status, as values.
type Count struct {
	packets, bytes uint64
	byFlags        [1 << 9]uint64 // by the MetaHeaders of the metadata
	byProtocol     [1 << 8]uint64 // of the transport header, where there is one
}

// Process implements pipeline.Stage.
func (s *Count) Process(b *pipeline.Batch) {
	s.packets += uint64(b.Len())
	var bytes uint64
	// Packets of a kind come in runs: counting a run costs a comparison, counting
	// in memory waits for the write of the packet before.
	var flags pipeline.MetaFlags
	var protocol uint8
	run := uint64(0)
	for i := range b.Len() {
		bytes += uint64(b.Size(i))
		m := b.Meta(i)
		if m.Flags != flags || m.Protocol != protocol {
			s.add(flags, protocol, run)
			flags, protocol, run = m.Flags, m.Protocol, 0
		}
		run++
	}
	s.add(flags, protocol, run)
	s.bytes += bytes
}

// add counts n packets of a kind.
func (s *Count) add(flags pipeline.MetaFlags, protocol uint8, n uint64) {
	s.byFlags[flags%pipeline.MetaFlags(len(s.byFlags))] += n
	if flags&pipeline.MetaL4 != 0 {
		s.byProtocol[protocol] += n
	}
}

// Report implements pipeline.Reporter.
func (s *Count) Report() map[string]uint64 {
	with := func(flag pipeline.MetaFlags) (n uint64) {
		for flags, packets := range s.byFlags {
			if pipeline.MetaFlags(flags)&flag != 0 {
				n += packets
			}
		}
		return n
	}
	return map[string]uint64{
		"packets": s.packets, "bytes": s.bytes,
		"arp": with(pipeline.MetaARP), "vlan": with(pipeline.MetaVLAN),
		"ipv4": with(pipeline.MetaIPv4), "ipv6": with(pipeline.MetaIPv6),
		"fragments": with(pipeline.MetaFragment), "malformed": with(pipeline.MetaMalformed),
		"tcp": s.byProtocol[pipeline.ProtocolTCP], "udp": s.byProtocol[pipeline.ProtocolUDP],
		"icmp": s.byProtocol[pipeline.ProtocolICMP] + s.byProtocol[pipeline.ProtocolICMPv6],
	}
}
