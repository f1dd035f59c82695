package bpf

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestPolicyValidateNamesTheRule(t *testing.T) {
	err := Policy{Rules: append(rules(t, "arp", "udp"), Rule{EtherType: 5})}.Validate()
	var wrong *RuleError
	if !errors.As(err, &wrong) || wrong.Index != 2 || !strings.HasPrefix(err.Error(), "rule 2: ethertype: ") {
		t.Errorf("error %v, want one about the ethertype of rule 2", err)
	}
	many := Policy{Rules: slices.Repeat(rules(t, "arp"), MaxRules)}
	if err := many.Validate(); err != nil {
		t.Errorf("%d rules: %v", MaxRules, err)
	}
	many.Rules = append(many.Rules, many.Rules[0])
	if err := many.Validate(); err == nil || !strings.Contains(err.Error(), "65 rules; at most 64") {
		t.Errorf("%d rules: error %v", len(many.Rules), err)
	}
	if err := (Policy{}).Validate(); err != nil {
		t.Errorf("the zero policy: %v", err)
	}
}

func TestSelectivePoliciesLeaveManagementAlone(t *testing.T) {
	tests := []struct {
		rule  string
		takes string // "" for none
	}{
		{"udp dst_port=53", ""},
		{"udp port=53", ""},
		{"tcp dst_port=80", ""},
		{"tcp dst_port=8000-8999", ""},
		{"tcp port=443", ""},
		{"udp dst_port=40000-50000", ""},
		{"tcp dst_port=50000", ""},
		{"dst_port=4789", ""},
		{"protocol=47", ""},
		{"icmp", ""},
		{"vlan=100", ""},
		{"vlan=100 arp", ""},
		{"ethertype=0x88cc", ""},
		{"dst=192.0.2.0/24", ""},
		{"src=198.51.0.0/16 tcp", ""},
		{"dst=2001:db8::/32", ""},
		{"src=fe80::/64 tcp", ""},
		{"arp action=pass", ""},
		{"tcp dst_port=22 action=pass", ""},
		{"ipv4 udp src_port=547 dst_port=546", ""},

		{"arp", "ARP"},
		{"ipv4", "SSH"},
		{"ipv4 action=drop", "SSH"},
		{"ipv6", "IPv6 neighbour discovery"},
		{"icmp6", "IPv6 neighbour discovery"},
		{"src=::/0", "IPv6 neighbour discovery"},
		{"dst=ff02::/64", "IPv6 neighbour discovery"},
		{"src=fe80::/64", "IPv6 neighbour discovery"},
		{"tcp", "SSH"},
		{"tcp dst_port=22", "SSH"},
		{"tcp port=1-1024", "SSH"},
		{"tcp src_port=20-25", "SSH"},
		{"tcp dst_port=32768-60999", "SSH"},
		{"port=22", "SSH"},
		{"src=10.0.0.0/8", "SSH"},
		{"src=0.0.0.0/1", "SSH"},
		{"udp", "DHCP"},
		{"udp dst_port=68", "DHCP"},
		{"udp ipv6", "DHCPv6"},
		{"udp src=2001::/16", "DHCPv6"},
	}
	for _, test := range tests {
		t.Run(test.rule, func(t *testing.T) {
			policy := Policy{Rules: append(rules(t, "udp dst_port=53"), rules(t, test.rule)...)}
			err := policy.CheckSelective()
			switch {
			case policy.Selective() != (err == nil):
				t.Error("Selective and CheckSelective disagree")
			case test.takes == "" && err != nil:
				t.Errorf("error %v, want none", err)
			case test.takes != "" && (err == nil || !strings.Contains(err.Error(), "rule 1 ") || !strings.Contains(err.Error(), "can take "+test.takes+";")):
				t.Errorf("error %v, want rule 1 taking %s", err, test.takes)
			}
		})
	}
	if (Policy{All: true, Rules: rules(t, "tcp action=pass")}).Selective() {
		t.Error("all packets are redirected, and the policy is selective")
	}
	if !(Policy{}).Selective() {
		t.Error("the zero policy is not selective")
	}
}

func TestSelectiveFiltersLeaveManagementAlone(t *testing.T) {
	for _, test := range []struct {
		filter string
		takes  string // "" for none
	}{
		{"udp port 53 and not host 10.0.0.1", ""},
		{"udp port 53", ""},
		{"udp dst port 53", ""},
		{"tcp port 443 or tcp port 80", ""},
		{"tcp port 8080", ""},
		{"udp portrange 8000-8999", ""},
		{"ip proto 47", ""},
		{"vlan", ""},
		{"vlan 100 and arp", ""},
		{"ether proto 0x88cc", ""},
		{"icmp[icmptype] = icmp-echo", ""},
		{"icmp6 and ip6[40] = 128", ""},
		{"net 192.0.2.0/24 and udp port 4789", ""},
		{"greater 1000 and udp port 53", ""},
		{"tcp port 22 and udp", ""},

		{"arp", "ARP"},
		{"ether host 02:00:00:00:00:01", "ARP"},
		{"broadcast", "ARP"},
		{"not tcp", "ARP"},
		{"greater 100", "ARP"},
		{"host 192.0.2.1", "ARP"},
		{"icmp", "ICMP errors"},
		{"ip", "ICMP errors"},
		{"ip host 192.0.2.1", "ICMP errors"},
		{"ip[6] & 0x40 != 0", "ICMP errors"},
		{"ip6 proto 58 and ip6[40] = 2", "ICMPv6 errors"},
		{"icmp6 and ip6[40] > 127", "IPv6 neighbour discovery"},
		{"tcp", "SSH"},
		{"tcp port 22", "SSH"},
		{"tcp[tcpflags] & tcp-syn != 0", "SSH"},
		{"tcp and host 192.0.2.1", "SSH"},
		{"src net 10.0.0.0/8 and tcp", "SSH"},
		{"tcp portrange 20-25", "SSH"},
		{"tcp portrange 32768-60999", "SSH"},
		{"port 22", "SSH"},
		{"tcp src port 22 and dst portrange 50000-60000", "SSH"},
		{"udp", "DHCP"},
		{"udp port 68", "DHCP"},
		{"udp and ip6", "DHCPv6"},
	} {
		t.Run(test.filter, func(t *testing.T) {
			policy := Policy{Rules: rules(t, "udp dst_port=53"), Filter: test.filter}
			err := policy.CheckSelective()
			switch {
			case policy.Selective() != (err == nil):
				t.Error("Selective and CheckSelective disagree")
			case test.takes == "" && err != nil:
				t.Errorf("error %v, want none", err)
			case test.takes != "" && (err == nil || !strings.Contains(err.Error(), test.filter) || !strings.Contains(err.Error(), "can take "+test.takes+";")):
				t.Errorf("error %v, want one about %s", err, test.takes)
			}
		})
	}
	if (Policy{Filter: "tcp prot 80"}).Selective() {
		t.Error("a filter that cannot be compiled is selective")
	}
}

func TestAPolicyIsReadFromItsText(t *testing.T) {
	for _, policy := range []Policy{
		{},
		{All: true},
		{Filter: "udp port 53 and not host 10.0.0.1"},
		{All: true, Rules: rules(t, "arp action=pass", "udp dst_port=53")},
		{Rules: rules(t, "arp action=pass", "udp dst_port=53"), Filter: `ip proto \tcp and tcp[13] & 2 != 0`},
	} {
		got, err := parsePolicy(policy.String())
		if err != nil {
			t.Errorf("%q: %v", policy, err)
		}
		if !reflect.DeepEqual(got, policy) {
			t.Errorf("%+v became %+v", policy, got)
		}
	}
	if got := (Policy{Rules: rules(t, "arp"), Filter: "udp\nport 53"}).Line(); got != "ethertype=arp,action=redirect; filter udp port 53" {
		t.Errorf("as a line it is %q", got)
	}
	if _, err := parsePolicy("filter udp prot 53\n"); err == nil {
		t.Error("a filter that cannot be compiled is read")
	}
}
