package stages

import (
	"errors"
	"fmt"

	"github.com/xdpipe/xdpipe/filter"
	"github.com/xdpipe/xdpipe/pipeline"
)

func init() {
	pipeline.Register(pipeline.Module{
		Name: "match",
		Doc:  "passes packets that match a pcap-filter expression, and sends the others elsewhere",
		Help: `The language is that of tcpdump and of --filter. Packets need not be parsed
before. Of a packet of several frames the expression sees the first.`,
		Example: "match expr='udp port 53' else->rest ! count",
		New:     func() pipeline.Stage { return &Match{} },
		Outputs: []pipeline.OutputInfo{
			{Name: "else", Doc: "packets that do not match; unconnected, they are dropped as not_matched", Optional: true},
		},
	})
}

// Match passes packets that match Expr. It needs no parse stage before it. Of a
// packet of several frames the expression sees the first.
type Match struct {
	Expr string `stage:"expr" required:"true" doc:"pcap-filter expression, as tcpdump takes it: udp port 53 and not host 10.0.0.1"`

	filter          *filter.Filter
	other           pipeline.Output
	connected       bool
	notMatched      pipeline.Reason
	matched, others uint64
}

// Validate implements pipeline.Validator.
func (s *Match) Validate() error {
	f, err := compile(s.Expr)
	if err != nil {
		return &pipeline.OptionError{Option: "expr", Err: err}
	}
	s.filter = f
	return nil
}

// compile compiles an expression, with errors for configurations.
func compile(expr string) (*filter.Filter, error) {
	f, err := filter.Compile(expr)
	if fe := (*filter.Error)(nil); errors.As(err, &fe) {
		return nil, fmt.Errorf("column %d of %q: %s", fe.Column, expr, fe.Message)
	}
	return f, err
}

// Provision implements pipeline.Provisioner.
func (s *Match) Provision(ctx *pipeline.Context) error {
	if s.filter == nil {
		if err := s.Validate(); err != nil {
			return err
		}
	}
	s.other, s.connected = ctx.Output("else")
	s.notMatched = ctx.Reason("not_matched", "the expression of a match stage does not match the packet; widen it, or connect the stage's output else")
	return nil
}

// Process implements pipeline.Stage.
func (s *Match) Process(b *pipeline.Batch) {
	others := 0
	for i := range b.Len() {
		if s.filter.Match(b.Data(i)) {
			continue
		}
		others++
		if s.connected {
			b.To(i, s.other)
		} else {
			b.Drop(i, s.notMatched)
		}
	}
	s.matched += uint64(b.Len() - others)
	s.others += uint64(others)
}

// Report implements pipeline.Reporter.
func (s *Match) Report() map[string]uint64 {
	return map[string]uint64{"matched": s.matched, "other": s.others}
}
