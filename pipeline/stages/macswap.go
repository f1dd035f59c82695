package stages

import (
	"encoding/binary"

	"github.com/xdpipe/xdpipe/pipeline"
)

func init() {
	pipeline.Register(pipeline.Module{
		Name:    "macswap",
		Doc:     "swaps the source and destination MAC addresses",
		Help:    "With it a pipeline that leads back to the port it comes from reflects packets.",
		Example: "macswap",
		Writes:  true,
		New:     func() pipeline.Stage { return &MACSwap{} },
	})
}

// MACSwap sends packets back to where they came from on their link.
type MACSwap struct {
	short pipeline.Reason
}

// Provision implements pipeline.Provisioner.
func (s *MACSwap) Provision(ctx *pipeline.Context) error {
	s.short = ctx.Reason("too_short", "the packet ends within its Ethernet header")
	return nil
}

// Process implements pipeline.Stage.
func (s *MACSwap) Process(b *pipeline.Batch) {
	for i := range b.Len() {
		p := b.Data(i)
		if len(p) < 14 {
			b.Drop(i, s.short)
			continue
		}
		// The twelve bytes of both addresses as 8 + 4, swapped halves of six:
		// destination d0…d5, source s0…s5.
		d := binary.LittleEndian.Uint64(p[0:8])  // d0 … d5 s0 s1
		t := binary.LittleEndian.Uint32(p[8:12]) // s2 … s5
		src := d>>48 | uint64(t)<<16
		binary.LittleEndian.PutUint64(p[0:8], src|d<<48)
		binary.LittleEndian.PutUint32(p[8:12], uint32(d>>16))
	}
}
