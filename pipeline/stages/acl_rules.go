package stages

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"slices"

	"github.com/xdpipe/xdpipe/internal/acl"
)

// aclRules are rules, compiled for one direction. They are not changed any more.
type aclRules struct {
	rules  []acl.Rule
	inline int // so many of the first are inline rules
	set    *acl.Set
	order  []hashedRule
}

// A hashedRule is the hash of a rule's text, and the rule.
type hashedRule struct {
	hash uint64
	rule int
}

var aclSeed = maphash.MakeSeed()

func newACLRules(rules []acl.Rule, inline int, d acl.Direction) *aclRules {
	r := &aclRules{rules: rules, inline: inline, set: acl.Compile(rules, d), order: make([]hashedRule, len(rules))}
	for i := range rules {
		r.order[i] = hashedRule{maphash.String(aclSeed, rules[i].String()), i}
	}
	slices.SortStableFunc(r.order, func(a, b hashedRule) int { return cmp.Compare(a.hash, b.hash) })
	return r
}

// inherit adds the hits of the rules of old to those of the same text. It is called
// by workers, and so does not compare texts and allocates nothing.
func (r *aclRules) inherit(hits []uint64, old *aclRules, oldHits []uint64) {
	for i, j := 0, 0; i < len(r.order) && j < len(old.order); {
		switch mine, theirs := r.order[i], old.order[j]; {
		case mine.hash < theirs.hash:
			i++
		case mine.hash > theirs.hash:
			j++
		default:
			hits[mine.rule] += oldHits[theirs.rule]
			i, j = i+1, j+1
		}
	}
}

// name returns the name of a rule in the status.
func (r *aclRules) name(i int) string {
	if i < r.inline {
		return fmt.Sprintf("inline_%d", r.rules[i].Line)
	}
	return fmt.Sprintf("rule_%d", r.rules[i].Line)
}
