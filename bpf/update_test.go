package bpf

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
)

// What the old policy redirects the new one drops. A packet that saw tables of
// both would match the first rule of the new policy, or none: it would pass.
func TestAPacketSeesAllOfOnePolicyWhileTheyAreSwapped(t *testing.T) {
	s := loadWithSocket(t)
	policies := []Policy{
		{Rules: rules(t, "src=192.0.2.0/24 dst_port=53 vlan=5")},
		{Rules: rules(t, "src=198.51.100.0/24 action=pass", "src=192.0.2.0/24 dst_port=53 vlan=5 action=drop")},
	}
	setPolicy(t, s, policies[0])
	b := packet{tags: []uint16{5}, src: "192.0.2.1", dst: "203.0.113.1", protocol: ProtocolUDP, dstPort: 53}.bytes()

	stop := make(chan struct{})
	var flowing sync.WaitGroup
	var packets uint64
	flowing.Go(func() {
		for ; ; packets++ {
			select {
			case <-stop:
				return
			default:
			}
			got, err := s.Program().Run(&ebpf.RunOptions{Data: b})
			if err != nil || got != xdpRedirect && got != xdpDrop {
				t.Errorf("packet %d: verdict %d, error %v", packets, got, err)
				return
			}
		}
	})
	const swaps = 60
	for i := range swaps {
		if err := s.SetPolicy(policies[(i+1)%2]); err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	flowing.Wait()
	c := counters(t, s)
	if got := c.Redirect.Packets + c.DropRule.Packets; got != packets || c.Total().Packets != packets {
		t.Errorf("%d packets under the two policies' verdicts, want %d: %+v", got, packets, c)
	}
	if c.Redirect.Packets == 0 || c.DropRule.Packets == 0 {
		t.Errorf("the policies were not both in force while packets flowed: %+v", c)
	}
	t.Logf("%d swaps while %d packets flowed", swaps, packets)
}

func TestSwappedPoliciesLeaveNothingInTheTries(t *testing.T) {
	s := load(t)
	count := func() int {
		n := 0
		var four steerPrefix4
		var six steerPrefix6
		var mask uint64
		for entries := s.maps.Prefixes4.Iterate(); entries.Next(&four, &mask); n++ {
		}
		for entries := s.maps.Prefixes6.Iterate(); entries.Next(&six, &mask); n++ {
		}
		return n
	}
	for range 10 {
		setPolicy(t, s, Policy{Rules: rules(t, "src=192.0.2.0/24", "dst=192.0.2.0/24", "dst=192.0.0.0/16", "src=2001:db8::/32", "src=2001:db8::/32 udp")})
		if n := count(); n != 4 {
			t.Fatalf("%d prefixes, want 4", n)
		}
	}
	setPolicy(t, s, Policy{})
	if n := count(); n != 0 {
		t.Errorf("%d prefixes without a policy, want none", n)
	}
}

func TestTheMostPrefixesFit(t *testing.T) {
	s := load(t)
	var policy Policy
	for i := range MaxRules {
		policy.Rules = append(policy.Rules, rules(t, fmt.Sprintf("src=192.0.2.%d dst=198.51.100.%d", 4*i, 4*i))...)
	}
	for range 3 {
		setPolicy(t, s, policy)
	}
	policy.Rules = policy.Rules[:0:0]
	for i := range MaxRules {
		policy.Rules = append(policy.Rules, rules(t, fmt.Sprintf("src=2001:db8::%x dst=2001:db8:1::%x", 4*i, 4*i))...)
	}
	for range 3 {
		setPolicy(t, s, policy)
	}
	if got := verdict(t, s, packet{src: "2001:db8::fc", dst: "2001:db8:1::fc"}.bytes()); got != xdpPass {
		t.Errorf("verdict %d", got)
	}
	if hits := counters(t, s).Rules[63]; hits != 1 {
		t.Errorf("the last rule has %d hits, want 1", hits)
	}
}

func TestARefusedPolicyLeavesTheOldOneInForce(t *testing.T) {
	s := loadWithSocket(t)
	setPolicy(t, s, Policy{Rules: rules(t, "arp")})
	err := s.SetPolicy(Policy{All: true, Rules: append(rules(t, "udp"), Rule{VLAN: 4095})})
	var wrong *RuleError
	if !errors.As(err, &wrong) || wrong.Index != 1 || wrong.Field != "vlan" {
		t.Fatalf("error %v, want a *RuleError about the vlan of rule 1", err)
	}
	if got := verdict(t, s, packet{etherType: EtherTypeARP}.bytes()); got != xdpRedirect {
		t.Errorf("verdict %d of the old policy, want redirect", got)
	}
	if got := s.Policy(); got.String() != "ethertype=arp,action=redirect\n" {
		t.Errorf("policy %q, want the old one", got)
	}
}

func TestPolicyReturnsACopy(t *testing.T) {
	s := load(t)
	given := Policy{Rules: rules(t, "arp")}
	setPolicy(t, s, given)
	given.Rules[0].Action = Drop
	s.Policy().Rules[0].Action = Drop
	if got := s.Policy().Rules[0].Action; got != Redirect {
		t.Errorf("action %s: the policy can be changed from outside", got)
	}
}
