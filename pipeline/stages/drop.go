package stages

import "github.com/xdpipe/xdpipe/pipeline"

func init() {
	pipeline.Register(pipeline.Module{
		Name:    "drop",
		Doc:     "drops packets: all, or one in so many",
		Example: "drop every=100",
		New:     func() pipeline.Stage { return &Drop{Every: 1} },
	})
}

// Drop drops one packet in Every.
type Drop struct {
	Every int `stage:"every" unit:"packets" doc:"drop one packet in so many; 1 drops all"`

	seen    int
	dropped pipeline.Reason
}

// Validate implements pipeline.Validator.
func (s *Drop) Validate() error {
	if s.Every < 1 {
		return pipeline.BadOption("every", "found %d, want 1 or more", s.Every)
	}
	return nil
}

// Provision implements pipeline.Provisioner.
func (s *Drop) Provision(ctx *pipeline.Context) error {
	s.dropped = ctx.Reason("dropped", "a drop stage in the pipeline asks for it")
	return nil
}

// Process implements pipeline.Stage.
func (s *Drop) Process(b *pipeline.Batch) {
	for i := range b.Len() {
		if s.seen++; s.seen == s.Every {
			s.seen = 0
			b.Drop(i, s.dropped)
		}
	}
}
