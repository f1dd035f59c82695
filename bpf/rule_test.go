package bpf

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestParseRuleReads(t *testing.T) {
	tests := []struct {
		text string
		want Rule
	}{
		{"udp dst_port=53 src=192.0.2.0/24 action=redirect", Rule{Protocol: 17, DstPort: Port(53), Src: netip.MustParsePrefix("192.0.2.0/24")}},
		{"protocol=udp,dst_port=53", Rule{Protocol: 17, DstPort: Port(53)}},
		{" protocol=47 ,, action=drop ", Rule{Protocol: 47, Action: Drop}},
		{"src=192.0.2.7,dst=198.51.100.0/24", Rule{Src: netip.MustParsePrefix("192.0.2.7/32"), Dst: netip.MustParsePrefix("198.51.100.0/24")}},
		{"dst=2001:db8::1", Rule{Dst: netip.MustParsePrefix("2001:db8::1/128")}},
		{"ipv6 icmp6 pass", Rule{EtherType: EtherTypeIPv6, Protocol: 58, Action: Pass}},
		{"arp", Rule{EtherType: EtherTypeARP}},
		{"ethertype=0x88cc", Rule{EtherType: 0x88cc}},
		{"ethertype=35020", Rule{EtherType: 0x88cc}},
		{"port=8000-8999 vlan=12", Rule{Port: PortRange{8000, 8999}, VLAN: 12}},
		{"src_port=0-1023", Rule{SrcPort: PortRange{0, 1023}}},
	}
	for _, test := range tests {
		t.Run(test.text, func(t *testing.T) {
			got, err := ParseRule(test.text)
			if err != nil {
				t.Fatal(err)
			}
			if got != test.want {
				t.Fatalf("%+v, want %+v", got, test.want)
			}
			again, err := ParseRule(got.String())
			if err != nil || again != got {
				t.Errorf("%q reads as %+v, %v", got, again, err)
			}
		})
	}
}

func TestParseRuleSaysWhatIsWrong(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", "rule: the text is empty; write key=value, with the keys ethertype, protocol, src, dst, src_port, dst_port, port, vlan, action"},
		{"frobnicate", `rule: "frobnicate" is neither key=value nor a known name; keys are`},
		{"udp port 53", `rule: "udp port 53" is a filter expression, not a rule; give it as the filter (--filter, or filter: in a configuration)`},
		{"proto=udp", `rule: key "proto" is unknown; keys are`},
		{"udp protocol=tcp", "rule: protocol: it is given twice; give it once, or write two rules"},
		{"action=drop", "rule: it names no field, so every packet would match; name one, or ask for all packets"},
		{"udp action=reject", `rule: action: "reject" is unknown; use redirect, pass or drop`},
		{"protocol=256", `rule: protocol: "256" is unknown; use tcp, udp, icmp, icmp6, sctp or a number from 1 to 255`},
		{"protocol=0", "a number from 1 to 255"},
		{"ethertype=lldp", `rule: ethertype: "lldp" is unknown; use arp, ipv4, ipv6 or a number such as 0x88cc`},
		{"ethertype=0x05dc", "rule: ethertype: 0x05dc is an 802.3 length; ethertypes begin at 0x0600"},
		{"ethertype=0x8100", "rule: ethertype: 0x8100 is a VLAN tag, which is stepped over; use vlan for its id"},
		{"vlan=0", `rule: vlan: "0" is no VLAN id; ids are 1 to 4094`},
		{"vlan=4095", "ids are 1 to 4094"},
		{"dst_port=http", `rule: dst_port: "http" is no port or range; write N or N-M with numbers from 0 to 65535`},
		{"dst_port=65536", "numbers from 0 to 65535"},
		{"port=90-80", `rule: port: "90-80" ends before it begins; write the lower port first`},
		{"port=0", "rule: port: port 0 cannot be matched alone; give a range such as 0-1"},
		{"src=192.0.2.0/33", `rule: src: "192.0.2.0/33" is no address or prefix; write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32`},
		{"src=192.0.2.7/24", "rule: src: 192.0.2.7/24 has bits set beyond its length; write 192.0.2.0/24, or a longer prefix"},
		{"src=fe80::1%eth9", "is no address or prefix"},
		{"src=::ffff:192.0.2.1", "is an IPv4 address written as IPv6; write the IPv4 prefix"},
		{"src=192.0.2.1 dst=2001:db8::1", "rule: dst: 2001:db8::1/128 and src 192.0.2.1/32 are of different IP versions; no packet has both"},
		{"ipv6 src=192.0.2.1", "rule: ethertype: ipv6 contradicts the address, which is of ipv4"},
		{"arp dst=192.0.2.1", "rule: ethertype: arp contradicts the address"},
		{"arp udp", "rule: ethertype: arp packets have no IP protocol or ports; use ipv4 or ipv6, or leave it out"},
		{"ethertype=0x88cc port=5", "0x88cc packets have no IP protocol or ports"},
		{"icmp port=5", "rule: protocol: icmp has no ports; use tcp, udp or sctp, or leave it out for all three"},
		{"icmp6 src=192.0.2.1", "rule: protocol: icmp6 does not occur in ipv4; use icmp"},
		{"ipv6 icmp", "rule: protocol: icmp does not occur in ipv6; use icmp6"},
		{strings.Repeat("x", 2000), "rule: the text has 2000 bytes; at most 1024 are read"},
		{strings.Repeat("x", 1000), `rule: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"... is neither`},
	}
	for _, test := range tests {
		t.Run(test.want, func(t *testing.T) {
			rule, err := ParseRule(test.text)
			var wrong *RuleError
			if !errors.As(err, &wrong) {
				t.Fatalf("rule %+v, error %v; want a *RuleError", rule, err)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %q, want %q", err, test.want)
			}
		})
	}
}

// What cannot be written as text can be written in Go.
func TestValidateRefusesWhatOnlyCodeCanWrite(t *testing.T) {
	tests := map[string]Rule{
		"the zero rule": {},
		"action":        {Action: 3, VLAN: 1},
		"src_port":      {SrcPort: PortRange{From: 5}},
		"src: the prefix is invalid: its length does not fit its address": {Src: netip.PrefixFrom(netip.MustParseAddr("192.0.2.0"), 33)},
	}
	for name, rule := range tests {
		err := rule.Validate()
		if err == nil || name != "the zero rule" && !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestRulesAreStringsInJSON(t *testing.T) {
	policy := Policy{All: true, Rules: rules(t, "udp port=53", "arp action=pass")}
	text, err := json.Marshal(policy)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"all":true,"rules":["protocol=udp,port=53,action=redirect","ethertype=arp,action=pass"]}`
	if string(text) != want {
		t.Errorf("%s, want %s", text, want)
	}
	var again Policy
	if err := json.Unmarshal(text, &again); err != nil || again.String() != policy.String() {
		t.Errorf("read back as %q, %v", again, err)
	}
	if err := json.Unmarshal([]byte(`{"rules":["udp port=x"]}`), &again); err == nil {
		t.Error("a rule that cannot be read was read from JSON")
	}
}

func FuzzParseRule(f *testing.F) {
	for _, seed := range []string{
		"udp dst_port=53 src=192.0.2.0/24 action=redirect",
		"vlan=4094,ethertype=ipv6,protocol=tcp,src=2001:db8::/32,dst=::/0,src_port=0-65535,dst_port=1,port=5-6,action=drop",
		"arp pass", "protocol=255", "ethertype=0xffff", "src=fe80::1%1", "=,=", "port=-",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rule, err := ParseRule(text)
		if err != nil {
			var wrong *RuleError
			if !errors.As(err, &wrong) || rule != (Rule{}) {
				t.Fatalf("error %v with rule %+v", err, rule)
			}
			if len(err.Error()) > 400 {
				t.Fatalf("an error of %d bytes: %v", len(err.Error()), err)
			}
			return
		}
		if err := rule.Validate(); err != nil {
			t.Fatalf("%q was read as an invalid rule: %v", text, err)
		}
		again, err := ParseRule(rule.String())
		if err != nil || again != rule {
			t.Fatalf("%q was read as %+v, whose text %q reads as %+v, %v", text, rule, rule, again, err)
		}
		if text := (Policy{Rules: []Rule{rule}}).String(); MaxRules*len(text)+len("all\n") > len(steerRecord{}.Text) {
			t.Fatalf("%d rules such as %q do not fit a policy record", MaxRules, text)
		}
	})
}
