package bpf

import (
	"errors"
	"fmt"
	"strings"
)

// MaxRules is how many rules a policy may have: the bits of the masks that the
// program works with.
const MaxRules = 64

// Policy says which packets go to user space. The zero value lets everything
// pass to the kernel. A Policy is data: changing it changes nothing until it is
// given to SetPolicy, which keeps a copy.
type Policy struct {
	// All redirects the packets that no rule matches. Without it they pass to the
	// kernel, unless Filter matches.
	All bool `json:"all,omitempty"`

	// Rules are tried in order; the first that matches decides.
	Rules []Rule `json:"rules,omitempty"`

	// Filter is an expression of the pcap-filter language, as package filter
	// compiles it: of the packets that no rule matches, those that it matches are
	// redirected. Empty is none. All and Filter exclude each other.
	Filter string `json:"filter,omitempty"`
}

// Validate returns nil for a policy that can be loaded. The error is a
// *RuleError with the rule's index where one rule is at fault, a *FilterError
// where it is the filter. A valid filter may still be too much for the kernel's
// verifier, which only SetPolicy can tell.
func (p Policy) Validate() error {
	if len(p.Rules) > MaxRules {
		return fmt.Errorf("policy has %d rules; at most %d are possible: join ports into ranges or addresses into prefixes", len(p.Rules), MaxRules)
	}
	for i, rule := range p.Rules {
		if err := rule.validate(); err != nil {
			err.Index = i
			return err
		}
	}
	if p.Filter == "" {
		return nil
	}
	if p.All {
		return errors.New("policy has a filter and redirects all packets: all leaves the filter nothing to decide; take out one of the two")
	}
	_, err := compileFilter(p.Filter)
	return err
}

// The words that begin the lines after the rules.
const (
	allLine    = "all"
	filterLine = "filter "
)

// String returns the policy as text: one rule to a line as ParseRule reads it,
// then "all" if the rest is redirected, or "filter" and the expression.
func (p Policy) String() string {
	var text strings.Builder
	for _, rule := range p.Rules {
		text.WriteString(rule.String())
		text.WriteByte('\n')
	}
	if p.All {
		text.WriteString(allLine + "\n")
	}
	if p.Filter != "" {
		text.WriteString(filterLine + oneLine(p.Filter) + "\n")
	}
	return text.String()
}

// oneLine returns an expression without line feeds. To the language they are
// spaces.
func oneLine(expression string) string {
	return strings.NewReplacer("\r", " ", "\n", " ").Replace(expression)
}

// Line returns the policy in one line, for people.
func (p Policy) Line() string {
	return strings.ReplaceAll(strings.TrimSuffix(p.String(), "\n"), "\n", "; ")
}

// parsePolicy reads what Policy.String wrote.
func parsePolicy(text string) (Policy, error) {
	var policy Policy
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if line == allLine {
			policy.All = true
			continue
		}
		if expression, ok := strings.CutPrefix(line, filterLine); ok {
			policy.Filter = expression
			continue
		}
		rule, err := ParseRule(line)
		if err != nil {
			return Policy{}, err
		}
		policy.Rules = append(policy.Rules, rule)
	}
	return policy, policy.Validate()
}
