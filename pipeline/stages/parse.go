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
packet needs it once.`,
		Example: "parse drop_malformed=true ! count",
		New:     func() pipeline.Stage { return &Parse{} },
	})
}

// Parse reads the headers of every packet once.
type Parse struct {
	DropMalformed bool `stage:"drop_malformed" doc:"drop packets whose headers are cut short or contradict themselves"`

	malformed pipeline.Reason
}

// Provision implements pipeline.Provisioner.
func (s *Parse) Provision(ctx *pipeline.Context) error {
	s.malformed = ctx.Reason("malformed", "a header is cut short or contradicts itself; set drop_malformed: false to let these pass")
	return nil
}

// Process implements pipeline.Stage.
func (s *Parse) Process(b *pipeline.Batch) {
	b.Parse()
	if !s.DropMalformed {
		return
	}
	for i := range b.Len() {
		if b.Meta(i).Flags&pipeline.MetaMalformed != 0 {
			b.Drop(i, s.malformed)
		}
	}
}
