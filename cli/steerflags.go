package cli

import (
	"errors"
	"strings"

	"github.com/spf13/pflag"

	"github.com/xdpipe/xdpipe/filter"
)

// steerFlags are the flags that say which packets to take.
type steerFlags struct {
	all     bool
	rules   []string
	filters []string // at most one; given twice it would be the last alone
}

func (s *steerFlags) register(flags *pflag.FlagSet) {
	flags.BoolVar(&s.all, "all", false, "take all packets")
	flags.StringArrayVar(&s.rules, "rule", nil, "take packets that match; may be repeated")
	flags.StringArrayVar(&s.filters, "filter", nil, "take packets that no rule matches and the pcap-filter expression `EXPR` does")
}

// filter is the expression, or "".
func (s *steerFlags) filter() string {
	if len(s.filters) == 0 {
		return ""
	}
	return s.filters[0]
}

// check refuses choices that are none, and an expression that is wrong.
func (s *steerFlags) check(verb string) error {
	if s.all == (len(s.rules) > 0 || len(s.filters) > 0) {
		return usagef("%s: say which packets to take: either --all, or --rule once or more, or --filter, or both of these", verb)
	}
	if len(s.filters) > 1 {
		return usagef("%s: --filter is given twice; join the expressions with or", verb)
	}
	if len(s.filters) == 0 {
		return nil
	}
	expression := s.filters[0]
	if strings.TrimSpace(expression) == "" {
		return usagef("%s: --filter: the expression is empty; for all packets use --all", verb)
	}
	_, err := filter.Compile(expression)
	var wrong *filter.Error
	switch {
	case errors.As(err, &wrong):
		return usagef("%s: --filter: column %d: %s\n%s", verb, wrong.Column, wrong.Message, caret(expression, wrong.Column))
	case err != nil:
		return usagef("%s: --filter: %v", verb, err)
	}
	return nil
}

// caretWidth is how much of an expression is shown on each side of a mistake, in
// bytes, so that it fits a line.
const caretWidth = 30

// caret shows a part of the expression with a mark under the byte at the column.
func caret(expression string, column int) string {
	at := min(column-1, len(expression))
	from, to := max(0, at-caretWidth), min(len(expression), at+caretWidth)
	before, after := "", ""
	if from > 0 {
		before = "…"
	}
	if to < len(expression) {
		after = "…"
	}
	show := func(s string) string { // one cell for each character, and no control characters
		return strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return ' '
			}
			return r
		}, strings.ToValidUTF8(s, "?"))
	}
	left := before + show(expression[from:at])
	return "  " + left + show(expression[at:to]) + after + "\n  " + strings.Repeat(" ", len([]rune(left))) + "^"
}
