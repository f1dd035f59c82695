package bpf

import (
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
	// kernel.
	All bool `json:"all,omitempty"`

	// Rules are tried in order; the first that matches decides.
	Rules []Rule `json:"rules,omitempty"`
}

// Validate returns nil for a policy that can be loaded. The error is a
// *RuleError with the rule's index where one rule is at fault.
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
	return nil
}

// String returns the policy as text: one rule to a line as ParseRule reads it,
// then "all" if the rest is redirected.
func (p Policy) String() string {
	var text strings.Builder
	for _, rule := range p.Rules {
		text.WriteString(rule.String())
		text.WriteByte('\n')
	}
	if p.All {
		text.WriteString("all\n")
	}
	return text.String()
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
		if line == "all" {
			policy.All = true
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
