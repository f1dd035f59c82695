// Package minlen has the stage minlen for xdpipe.
package minlen

import "github.com/xdpipe/xdpipe/pipeline"

func init() {
	pipeline.Register(pipeline.Module{
		Name: "minlen",
		Doc:  "drops packets shorter than min bytes",
		API:  1,
		New:  func() pipeline.Stage { return &Stage{Min: 60} },
	})
}

// Stage drops packets shorter than Min.
type Stage struct {
	Min   int `stage:"min" unit:"bytes" doc:"shortest packet that passes"`
	short pipeline.Reason
}

// Provision registers the reason for its drops.
func (s *Stage) Provision(ctx *pipeline.Context) error {
	s.short = ctx.Reason("too_short", "packet shorter than min; lower min if these are wanted")
	return nil
}

// Process drops what is too short.
func (s *Stage) Process(b *pipeline.Batch) {
	for i := range b.Len() {
		if len(b.Data(i)) < s.Min { // valid until Process returns
			b.Drop(i, s.short)
		}
	}
}
