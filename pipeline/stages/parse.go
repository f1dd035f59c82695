// Package stages has the built-in stages, one file each. They use only what
// package pipeline offers to everyone.
package stages

import "github.com/xdpipe/xdpipe/pipeline"

func init() {
	pipeline.Register(pipeline.Module{
		Name: "parse",
		Doc:  "reads the headers into the packet's metadata for the stages after it",
		Help: `It knows Ethernet, up to two VLAN tags, ARP, IPv4, IPv6 with extension headers,
and the ports of TCP, UDP and SCTP. Stages that say so want it before them; each
packet needs it once.

With checksums it reads every byte of the packet and notes whether the checksums of
IPv4, TCP, UDP, ICMP and ICMPv6 are right; the status has how many were, as values.
Nothing can be said of fragments, of UDP without a checksum, and of packets of several
frames: these are unchecked. Packets that this machine sends itself, on veth and
loopback, often have no right checksum yet: it would be completed by the network card
(to have them right: ethtool -K IFACE tx off).`,
		Example: "parse drop_malformed=true ! count",
		New:     func() pipeline.Stage { return &Parse{} },
	})
}

// Parse reads the headers of every packet once.
type Parse struct {
	DropMalformed bool `stage:"drop_malformed" doc:"drop packets whose headers are cut short or contradict themselves"`
	Checksums     bool `stage:"checksums" doc:"check the checksums, and note the result in the metadata"`
	DropBad       bool `stage:"drop_bad_checksum" doc:"check the checksums, and drop packets of which one is wrong"`

	malformed pipeline.Reason
	bad       pipeline.Reason
	checked   [pipeline.ChecksumPartial + 1]uint64
}

// Provision implements pipeline.Provisioner.
func (s *Parse) Provision(ctx *pipeline.Context) error {
	s.malformed = ctx.Reason("malformed", "a header is cut short or contradicts itself; set drop_malformed: false to let these pass")
	s.bad = ctx.Reason("bad_checksum", "a checksum of IPv4, TCP, UDP, ICMP or ICMPv6 is wrong; if the sender is on this machine, its offload leaves them open: ethtool -K IFACE tx off; set drop_bad_checksum: false to let these pass")
	return nil
}

// Process implements pipeline.Stage.
func (s *Parse) Process(b *pipeline.Batch) {
	b.Parse()
	if s.DropMalformed {
		for i := range b.Len() {
			if b.Meta(i).Flags&pipeline.MetaMalformed != 0 {
				b.Drop(i, s.malformed)
			}
		}
	}
	if s.Checksums || s.DropBad {
		s.check(b)
	}
}

func (s *Parse) check(b *pipeline.Batch) {
	for i := range b.Len() {
		state := b.VerifyChecksum(i)
		s.checked[state]++
		if s.DropBad && state == pipeline.ChecksumBad {
			b.Drop(i, s.bad)
		}
	}
}

// Report implements pipeline.Reporter. Without checks there is nothing to say.
func (s *Parse) Report() map[string]uint64 {
	if !s.Checksums && !s.DropBad {
		return nil
	}
	return map[string]uint64{
		"checksum_good": s.checked[pipeline.ChecksumGood],
		"checksum_bad":  s.checked[pipeline.ChecksumBad],
		"unchecked":     s.checked[pipeline.ChecksumUnknown],
	}
}
