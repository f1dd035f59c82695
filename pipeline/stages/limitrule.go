package stages

import (
	"fmt"
	"strings"

	"github.com/xdpipe/xdpipe/filter"
	"github.com/xdpipe/xdpipe/internal/rate"
)

// A LimitRule is a rate for the packets that match an expression.
type LimitRule struct {
	Rate  rate.Rate
	Burst Burst // zero: the stage's
	Expr  string

	filter *filter.Filter
}

// UnmarshalText reads RATE EXPRESSION or RATE burst BURST EXPRESSION, such as
// "1000pps udp port 53". The rate may be max, for exceptions from what later rules
// say.
func (r *LimitRule) UnmarshalText(text []byte) error {
	rest := string(text)
	first := nextWord(&rest)
	if first == "" {
		return fmt.Errorf("found an empty rule, want a rate and an expression such as 1000pps udp port 53")
	}
	*r = LimitRule{}
	if err := r.Rate.UnmarshalText([]byte(first)); err != nil {
		return fmt.Errorf("rule %q: %w", text, err)
	}
	if after := rest; nextWord(&after) == "burst" {
		if err := r.Burst.UnmarshalText([]byte(nextWord(&after))); err != nil {
			return fmt.Errorf("rule %q: %w", text, err)
		}
		rest = after
	}
	if r.Expr = strings.TrimSpace(rest); r.Expr == "" {
		return fmt.Errorf("rule %q has no expression behind the rate, want one such as udp port 53; for all packets use the option rate", text)
	}
	return r.compile()
}

// nextWord cuts the first word off s.
func nextWord(s *string) string {
	word, rest, _ := strings.Cut(strings.TrimSpace(*s), " ")
	*s = rest
	return word
}

func (r *LimitRule) compile() (err error) {
	if r.filter == nil {
		r.filter, err = compile(r.Expr)
	}
	return err
}
