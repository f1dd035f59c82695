package main

import "github.com/xdpipe/xdpipe/pipeline"

func init() {
	pipeline.Register(pipeline.Module{
		Name: "minlen",
		Doc:  "drops packets shorter than min bytes",
		New:  func() pipeline.Stage { return &MinLen{Min: 60} },
	})
}

// MinLen drops packets shorter than Min.
type MinLen struct {
	Min   int `stage:"min" unit:"bytes" doc:"shortest packet that passes"`
	short pipeline.Reason
}

// Provision registers the reason for its drops.
func (s *MinLen) Provision(ctx *pipeline.Context) error {
	s.short = ctx.Reason("too_short", "packet shorter than min; lower min if these are wanted")
	return nil
}

// Process drops what is too short.
func (s *MinLen) Process(b *pipeline.Batch) {
	for i := range b.Len() {
		if len(b.Data(i)) < s.Min { // valid until Process returns
			b.Drop(i, s.short)
		}
	}
}
