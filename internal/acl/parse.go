package acl

import (
	"errors"
	"fmt"
	"strings"
)

// MaxRules is how many rules there may be, which bounds what compiling them takes.
const MaxRules = 100_000

// Options say what rules may have.
type Options struct {
	// Directions allows the words in and out. Without it they are mistakes: rules
	// that name a direction mean nothing where no port faces outside.
	Directions bool
}

// Parse reads the rules of a file, one a line. file is its name for messages.
//
//	# comments reach to the end of the line
//	permit tcp dst=192.0.2.0/24 dst_port=80
//	deny in src=10.0.0.0/8
//
// A rule is its action, permit or deny, and conditions, separated by spaces or
// commas:
//
//	src, dst            an IPv4 or IPv6 address or prefix
//	src_port, dst_port  a port or a range, N-M, of TCP, UDP or SCTP
//	port                the same, of either end
//	protocol            a name such as tcp, or a number from 0 to 255
//	ethertype           arp, ipv4, ipv6 or a number such as 0x88cc
//	vlan                the outermost tag's id, from 0 to 4094
//	in, out             the packet's direction
//	fragment, first_fragment, later_fragment
//	any                 nothing else: every packet
//
// Those with a value are written key=value or key value; names of protocols and
// ethertypes may stand alone. The error, if any, is Errors.
func Parse(file string, text []byte, opts Options) ([]Rule, error) {
	p := parser{file: file, opts: opts}
	rest := strings.TrimPrefix(string(text), "\ufeff")
	for p.line = 1; rest != "" && len(p.errs) < maxErrors; p.line++ {
		var line string
		line, rest, _ = strings.Cut(rest, "\n")
		line, _, _ = strings.Cut(line, "#")
		p.rule(strings.TrimSuffix(line, "\r"))
	}
	return p.result()
}

// ParseList reads inline rules, one an item. The error, if any, is Errors.
func ParseList(list []string, opts Options) ([]Rule, error) {
	p := parser{opts: opts}
	for i, item := range list {
		if len(p.errs) == maxErrors {
			break
		}
		p.line = i + 1
		before := len(p.rules) + len(p.errs)
		if p.rule(item); len(p.rules)+len(p.errs) == before {
			p.errorf(1, "found nothing, want a rule: permit or deny, and conditions")
		}
	}
	return p.result()
}

type parser struct {
	file  string
	opts  Options
	line  int
	rules []Rule
	errs  Errors
}

func (p *parser) result() ([]Rule, error) {
	if len(p.errs) > 0 {
		return nil, p.errs
	}
	return p.rules, nil
}

func (p *parser) errorf(column int, format string, args ...any) {
	p.errs = append(p.errs, &Error{p.file, p.line, column, fmt.Sprintf(format, args...)})
}

// A word of a rule, and the column it starts in, from 1.
type word struct {
	text   string
	column int
}

func split(line string) []word {
	var words []word
	start := -1
	for i := 0; i <= len(line); i++ {
		end := i == len(line) || line[i] == ' ' || line[i] == '\t' || line[i] == ','
		switch {
		case end && start >= 0:
			words = append(words, word{line[start:i], start + 1})
			start = -1
		case !end && start < 0:
			start = i
		}
	}
	return words
}

// rule reads one rule, or nothing from a line without words. A mistake ends it.
func (p *parser) rule(line string) {
	words := split(line)
	if len(words) == 0 {
		return
	}
	r := Rule{Line: p.line}
	switch words[0].text {
	case "permit":
	case "deny":
		r.Action = Deny
	default:
		p.errorf(words[0].column, "found %s, want permit or deny: %s", quoted(words[0].text), didYouMean(words[0].text, []string{"permit", "deny"}))
		return
	}
	if len(p.rules) == MaxRules {
		p.errorf(words[0].column, "this is rule %d; at most %d are possible", MaxRules+1, MaxRules)
		return
	}
	c := conditions{rule: &r, opts: p.opts, at: map[string]int{}}
	end := words[len(words)-1].column + len(words[len(words)-1].text)
	for rest := words[1:]; len(rest) > 0; {
		column := rest[0].column
		n, err := c.read(rest)
		if err != nil {
			var at *columnError
			if errors.As(err, &at) {
				column = at.column
			}
			p.errorf(column, "%v", err)
			return
		}
		rest = rest[n:]
	}
	if key, err := c.check(); err != nil {
		if key != "" {
			end = c.at[key]
		}
		p.errorf(end, "%v", err)
		return
	}
	p.rules = append(p.rules, r)
}
