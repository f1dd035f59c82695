package acl_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/xdpipe/xdpipe/internal/acl"
	"github.com/xdpipe/xdpipe/internal/acl/acltest"
)

var update = flag.Bool("update", false, "write the golden files")

// Each file of rules has beside it what becomes of it: the rules as String writes
// them, with their lines, or the mistakes.
func TestParseOfFilesIsAsInTheirGoldenFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/*.rules")
	must(t, err)
	if len(files) < 2 {
		t.Fatalf("%d files of rules", len(files))
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			must(t, err)
			var got strings.Builder
			rules, err := acl.Parse(filepath.Base(file), text, acl.Options{Directions: true})
			for i := range rules {
				fmt.Fprintf(&got, "%d: %s\n", rules[i].Line, &rules[i])
			}
			if err != nil {
				fmt.Fprintln(&got, err)
			}
			golden := strings.TrimSuffix(file, ".rules") + ".golden"
			if *update {
				must(t, os.WriteFile(golden, []byte(got.String()), 0o644))
			}
			want, err := os.ReadFile(golden)
			must(t, err)
			if got.String() != string(want) {
				t.Errorf("got\n%s\nwant\n%s", &got, want)
			}
		})
	}
}

func TestParseNamesWhatIsWrongAndWhere(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"permit tcp dst_port=80", ""},
		{"allow any", `1:1: found "allow", want permit or deny: did you mean "permit"?`},
		{"drop any", `1:1: found "drop", want permit or deny: did you mean "deny"?`},
		{"tcp", `1:1: found "tcp", want permit or deny: want one of permit, deny`},
		{"permit", "1:7: found no condition, want one; write any for every packet"},
		{"permit dst_port=80,443", `1:20: found "443" without a condition before it; each has one value: of several ports write a rule each`},
		{"permit any tcp", "1:8: any is every packet; leave it out where there are other conditions"},
		{"permit from 10.0.0.0/8", `1:8: unknown condition "from": did you mean "src"?`},
		{"permit dport=53", `1:8: unknown condition "dport": did you mean "dst_port"?`},
		{"permit tcp=6", `1:8: unknown condition "tcp": `},
		{"permit any=1", `1:8: found "any=1"; any has no value`},
		{"permit tcp udp", "1:12: protocol is there twice, before in column 8; a rule has each condition once: write two rules"},
		{"permit src 10.0.0.1/8", "1:12: src: 10.0.0.1/8 has bits set beyond its length; write 10.0.0.0/8, or a longer prefix"},
		{"permit src=any", `1:12: src: found "any"; leave the condition out for any address`},
		{"permit src=::ffff:1.2.3.4", `1:12: src: "::ffff:1.2.3.4" is an IPv4 address written as IPv6; write the IPv4 prefix`},
		{"permit src=fe80::1%eth0", `1:12: src: found "fe80::1%eth0", want an address or prefix such as`},
		{"permit dst", "1:11: found nothing after dst, want an address or prefix such as"},
		{"permit dst_port=", `1:17: dst_port: found "", want a port or a range of ports`},
		{"permit dst_port=80-79", "1:17: dst_port: 80-79 ends before it begins; write the lower port first"},
		{"permit dst_port=65536", `1:17: dst_port: found "65536", want a port or a range of ports such as 8000-8999, from 0 to 65535`},
		{"permit protocol=tpc", `1:17: protocol: found "tpc", want a number from 0 to 255 or a name: did you mean "tcp"?`},
		{"permit protocol=256", `1:17: protocol: found "256", want a number from 0 to 255 or one of tcp`},
		{"permit vlan=4095", `1:13: vlan: found "4095", want an id from 0 to 4094`},
		{"permit ethertype=0x8100", "1:18: ethertype: 0x8100 is a VLAN tag, which is stepped over; use vlan for its id"},
		{"permit ethertype=46", "1:18: ethertype: 0x002e is an 802.3 length; ethertypes begin at 0x0600"},
		{"permit ethertype=lldp", `1:18: ethertype: found "lldp", want a number such as 0x88cc or one of arp, ipv4, ipv6`},
		{"permit src=10.0.0.0/8 dst=::1", "1:23: dst ::1/128 and src 10.0.0.0/8 are of different IP versions; no packet has both"},
		{"permit ipv6 src=10.0.0.0/8", "1:8: ethertype contradicts the address, which is of ipv4"},
		{"permit arp dst_port=1", "1:8: packets of arp have no IP protocol, ports or fragments; use ipv4 or ipv6, or leave it out"},
		{"permit icmp port=1", "1:8: icmp has no ports that are looked at; use tcp, udp or sctp, or leave it out for all three"},
		{"permit icmp src=::1", "1:8: icmp does not occur in ipv6; use icmp6"},
		{"permit icmp6 ipv4", "1:8: icmp6 does not occur in ipv4; use icmp"},
		{"permit later_fragment dst_port=1", "1:8: later fragments have no ports; leave one of the two out"},
		{"permit port=1 src_port=2 dst_port=3", "1:8: port is neither in src_port nor in dst_port; no packet has both"},
		{"permit out any", `1:8: found "out", but no port faces outside; name it with the option outside`},
		{"permit \x00\x1b[31m", `1:8: unknown condition "\x00\x1b[31m"`},
		{"permit " + strings.Repeat("x", 100000), "want one of"},
	} {
		_, err := acl.Parse("f", []byte(tc.text), acl.Options{})
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%q: %v", tc.text, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%.50q: %v, want %s", tc.text, err, tc.want)
		case err != nil && (len(err.Error()) > 400 || strings.ContainsAny(err.Error(), "\x00\x1b")):
			t.Errorf("%.50q: the message is %q", tc.text, err)
		}
	}
}

func TestParseTellsOfAllMistakesUpToALimit(t *testing.T) {
	_, err := acl.Parse("f", []byte(strings.Repeat("permit any\nnonsense\n", 100)), acl.Options{})
	errs, ok := err.(acl.Errors)
	if !ok || len(errs) != 20 || errs[19].Line != 40 {
		t.Errorf("%T of %d", err, len(errs))
	}
}

func TestParseListCountsItsItems(t *testing.T) {
	rules, err := acl.ParseList([]string{"permit any", "deny tcp"}, acl.Options{})
	if err != nil || len(rules) != 2 || rules[1].Line != 2 {
		t.Errorf("%v, %v", rules, err)
	}
	_, err = acl.ParseList([]string{"permit any", "deny"}, acl.Options{})
	if err == nil || err.Error() != "rule 2, column 5: found no condition, want one; write any for every packet" {
		t.Error(err)
	}
}

func TestParseRefusesMoreRulesThanItCanTake(t *testing.T) {
	text := []byte(strings.Repeat("permit any\n", acl.MaxRules))
	if rules, err := acl.Parse("f", text, acl.Options{}); err != nil || len(rules) != acl.MaxRules {
		t.Errorf("%d rules, %v", len(rules), err)
	}
	if _, err := acl.Parse("f", append(text, "permit any"...), acl.Options{}); err == nil {
		t.Error("one more is no error")
	}
}

func TestARuleIsReadBackFromItsText(t *testing.T) {
	r := acltest.NewRandom(1)
	for _, rule := range r.Rules(2000, true) {
		back, err := acl.Parse("f", []byte(rule.String()), acl.Options{Directions: true})
		if err != nil || len(back) != 1 {
			t.Fatalf("%s: %v", &rule, err)
		}
		back[0].Line = rule.Line
		if !reflect.DeepEqual(back[0], rule) {
			t.Errorf("%s is read as %s", &rule, &back[0])
		}
	}
}

// FuzzParse: whatever a file has, its rules or its mistakes come out, and rules are
// read back from their text.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.rules")
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(f, err)
		f.Add(text, true)
	}
	f.Add([]byte("permit src=10.0.0.0/8, udp\r\n# only a comment"), false)
	f.Fuzz(func(t *testing.T, text []byte, directions bool) {
		rules, err := acl.Parse("f", text, acl.Options{Directions: directions})
		if err != nil {
			errs, ok := err.(acl.Errors)
			if !ok || len(errs) == 0 || rules != nil {
				t.Fatalf("%T, %v, with %d rules", err, err, len(rules))
			}
			for _, e := range errs {
				if e.Line < 1 || e.Column < 1 || e.Message == "" || strings.ContainsAny(e.Error(), "\n\x00\x1b") {
					t.Fatalf("%q", e.Error())
				}
			}
			return
		}
		for i := range rules {
			back, err := acl.Parse("f", []byte(rules[i].String()), acl.Options{Directions: directions})
			if err != nil || len(back) != 1 || back[0].String() != rules[i].String() {
				t.Fatalf("%s is read back as %v, %v", &rules[i], back, err)
			}
		}
	})
}
