package stages

import "github.com/xdpipe/xdpipe/pipeline"

func init() {
	pipeline.Register(pipeline.Module{
		Name: "tee",
		Doc:  "sends every packet to the output copy as well as to the next stage",
		Help: `Both references are to the same bytes. Where a stage behind either writes to
them, the packet is copied for it, and counted as copied.`,
		Example: "tee copy->mirror ! count",
		New:     func() pipeline.Stage { return &Tee{} },
		Outputs: []pipeline.OutputInfo{
			{Name: "copy", Doc: "a further reference to each packet; a copy is made only for a stage that writes to it"},
		},
	})
}

// Tee sends packets two ways. Both hold the same frame: what it costs is a
// count, not a copy.
type Tee struct {
	copy pipeline.Output
}

// Provision implements pipeline.Provisioner.
func (s *Tee) Provision(ctx *pipeline.Context) error {
	s.copy, _ = ctx.Output("copy")
	return nil
}

// Process implements pipeline.Stage.
func (s *Tee) Process(b *pipeline.Batch) {
	for i := range b.Len() {
		b.Tee(i, s.copy)
	}
}
