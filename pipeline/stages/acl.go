package stages

import (
	"cmp"
	"errors"
	"log/slog"
	"slices"

	"github.com/xdpipe/xdpipe/internal/acl"
	"github.com/xdpipe/xdpipe/pipeline"
)

func init() {
	pipeline.Register(pipeline.Module{
		Name: "acl",
		Doc:  "permits or denies packets by ordered rules, of which the first that matches decides",
		Help: `docs/acl.md has the language of the rules, what becomes of fragments and of what is
not IP, and the values in the status. 10,000 rules cost little more than ten. The
file may change while packets flow: it is taken again once it has stayed as it is
for a second, and if it has no mistakes.`,
		Example: "acl rules='permit udp dst_port=53' denied->rest ! count",
		New:     func() pipeline.Stage { return &ACL{Default: "deny", Watch: true, Top: 20} },
		Outputs: []pipeline.OutputInfo{
			{Name: "denied", Doc: "packets that are denied; unconnected, they are dropped as acl_denied or acl_unreadable", Optional: true},
		},
	})
}

// ACL is an access control list. What the rules look like, and what they say of
// fragments and of what is not IP, is in docs/acl.md; package internal/acl finds the
// rule of a packet.
type ACL struct {
	File    string   `stage:"file" doc:"rules, one a line; after those of the option rules"`
	Rules   []string `stage:"rules" doc:"rules, such as 'permit tcp dst=192.0.2.0/24 dst_port=443'"`
	Default string   `stage:"default" doc:"permit or deny: what becomes of packets that no rule matches"`
	Outside string   `stage:"outside" doc:"the port that faces outside: packets that came by it go in, all others out"`
	Watch   bool     `stage:"watch" doc:"take the rules of the file again when it changes"`
	Top     int      `stage:"top" min:"0" doc:"how many rules with the most hits are in the status"`

	source  *aclSource
	current *aclRules // what the worker uses
	hits    []uint64  // by rule of current
	scratch acl.Scratch

	toOutput           bool
	output             pipeline.Output
	denies, unreadable pipeline.Reason

	permitted, denied            uint64
	unmatched, unreadablePackets uint64
	reloads, failed              uint64 // of the sources before this one
}

// Validate implements pipeline.Validator.
func (s *ACL) Validate() error {
	if s.Default != "permit" && s.Default != "deny" {
		return pipeline.BadOption("default", "found %q, want permit or deny", s.Default)
	}
	if s.File == "" && len(s.Rules) == 0 {
		return errors.New("neither file nor rules: want the rules in one of them, or both")
	}
	if _, err := s.inline(); err != nil {
		return err
	}
	return nil
}

// inline returns the rules of the option.
func (s *ACL) inline() ([]acl.Rule, error) {
	rules, err := acl.ParseList(s.Rules, acl.Options{Directions: s.Outside != ""})
	if err != nil {
		return nil, &pipeline.OptionError{Option: "rules", Err: err}
	}
	return rules, nil
}

// Provision implements pipeline.Provisioner.
func (s *ACL) Provision(ctx *pipeline.Context) error {
	s.output, s.toOutput = ctx.Output("denied")
	s.denies = ctx.Reason("acl_denied", "a rule of the access control list denies it, or none permits it; the values of the stage show which, by line")
	s.unreadable = ctx.Reason("acl_unreadable", "headers that are damaged, or below more than two VLAN tags: the access control list cannot judge it")
	direction := acl.NoDirection
	if s.Outside != "" {
		direction = acl.Out
		if ctx.From == s.Outside {
			direction = acl.In
		} else if ctx.To != s.Outside && ctx.Worker == 0 {
			cmp.Or(ctx.Log, slog.Default()).Warn("the port outside is no end of this pipeline; its packets count as going out",
				"stage", ctx.Stage, "outside", s.Outside, "from", ctx.From, "to", ctx.To)
		}
	}
	inline, err := s.inline()
	if err != nil {
		return err
	}
	source, err := ctx.Shared(func() (any, error) {
		log := cmp.Or(ctx.Log, slog.Default()).With("stage", ctx.Stage)
		source, err := newACLSource(s.File, inline, acl.Options{Directions: s.Outside != ""}, direction, log)
		if err == nil && s.File != "" && s.Watch {
			source.start()
		}
		return source, err
	})
	if err != nil {
		return &pipeline.OptionError{Option: "file", Err: err}
	}
	s.source = source.(*aclSource)
	s.adopt(s.source.latest.Load())
	return nil
}

// Process implements pipeline.Stage.
func (s *ACL) Process(b *pipeline.Batch) {
	if latest := s.source.latest.Load(); latest != s.current {
		s.adopt(latest)
	}
	for first := 0; first < b.Len(); {
		n := s.current.set.Match(b, first, &s.scratch)
		for i, v := range s.scratch.Verdicts[:n] {
			switch {
			case v >= acl.Unreadable:
				s.other(b, first+i, v)
			case v.Action() == acl.Deny:
				s.hits[v.Rule()]++
				s.deny(b, first+i, s.denies)
			default:
				s.hits[v.Rule()]++
				s.permitted++
			}
		}
		first += n
	}
}

// other decides on a packet that no rule decides on.
func (s *ACL) other(b *pipeline.Batch, i int, v acl.Verdict) {
	switch {
	case v == acl.Unreadable:
		s.unreadablePackets++
		s.deny(b, i, s.unreadable)
	case s.Default == "permit":
		s.unmatched++
		s.permitted++
	default:
		s.unmatched++
		s.deny(b, i, s.denies)
	}
}

func (s *ACL) deny(b *pipeline.Batch, i int, why pipeline.Reason) {
	s.denied++
	if s.toOutput {
		b.To(i, s.output)
	} else {
		b.Drop(i, why)
	}
}

// adopt goes over to other rules. Those that were there before keep their hits.
func (s *ACL) adopt(rules *aclRules) {
	hits := make([]uint64, len(rules.rules))
	if s.current != nil {
		rules.inherit(hits, s.current, s.hits)
	}
	s.current, s.hits = rules, hits
}

// Inherit implements pipeline.Heir: rules that are the same keep their hits.
func (s *ACL) Inherit(old pipeline.Stage) {
	o, ok := old.(*ACL)
	if !ok || o.current == nil || s.current == nil {
		return
	}
	s.current.inherit(s.hits, o.current, o.hits)
	s.permitted, s.denied = o.permitted, o.denied
	s.unmatched, s.unreadablePackets = o.unmatched, o.unreadablePackets
	s.reloads, s.failed = o.reloads+o.source.reloads.Load(), o.failed+o.source.failed.Load()
}

// Report implements pipeline.Reporter. Rules are named for the line of the file,
// rule_LINE, and inline rules for their rank, inline_N.
func (s *ACL) Report() map[string]uint64 {
	values := map[string]uint64{
		"permitted": s.permitted, "denied": s.denied, "unmatched": s.unmatched, "unreadable": s.unreadablePackets,
		"rules": uint64(len(s.current.rules)), "reloads": s.reloads + s.source.reloads.Load(), "reload_errors": s.failed + s.source.failed.Load(),
	}
	var hit []int
	for i, n := range s.hits {
		if n > 0 {
			hit = append(hit, i)
		}
	}
	slices.SortStableFunc(hit, func(a, b int) int { return cmp.Compare(s.hits[b], s.hits[a]) })
	for _, i := range hit[:min(len(hit), s.Top)] {
		values[s.current.name(i)] = s.hits[i]
	}
	return values
}
