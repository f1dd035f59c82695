// Package udpecho has the stage udpecho for xdpipe: a UDP echo server that never
// copies a byte.
package udpecho

import "github.com/xdpipe/xdpipe/pipeline"

func init() {
	pipeline.Register(pipeline.Module{
		Name:    "udpecho",
		Doc:     "sends datagrams to a port back to where they came from",
		Writes:  true,
		Outputs: []pipeline.OutputInfo{{Name: "reply", Doc: "the answers; if it is not connected they go to the next stage", Optional: true}},
		New:     func() pipeline.Stage { return &Stage{Port: 7} },
	})
}

// Stage answers datagrams to Port. It wants parse before it.
type Stage struct {
	Port uint16 `stage:"port" doc:"UDP port to answer on"`

	reply  pipeline.Output
	echoed uint64
}

// Provision finds the way out of the answers.
func (s *Stage) Provision(ctx *pipeline.Context) error {
	var connected bool
	if s.reply, connected = ctx.Output("reply"); !connected {
		s.reply = pipeline.Next
	}
	return nil
}

// Process turns each datagram round in its frame. Sums over what only changes
// places stay what they are, so no checksum is touched.
func (s *Stage) Process(b *pipeline.Batch) {
	for i := range b.Len() {
		m := b.Meta(i)
		// Port 0 and a source that equals our own port would make two echo servers play for ever.
		if m.Protocol != pipeline.ProtocolUDP || m.Flags&pipeline.MetaPorts == 0 || m.Flags&pipeline.MetaFragment != 0 ||
			m.DstPort != s.Port || m.SrcPort == s.Port || m.SrcPort == 0 {
			continue
		}
		b.Reverse(i)
		s.echoed++
		b.To(i, s.reply)
	}
}

// Report counts the answers.
func (s *Stage) Report() map[string]uint64 { return map[string]uint64{"echoed": s.echoed} }

var _ pipeline.Reporter = (*Stage)(nil)
