package stages

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/xdpipe/xdpipe/internal/acl"
	"github.com/xdpipe/xdpipe/internal/acl/acltest"
	"github.com/xdpipe/xdpipe/pipeline"
	"github.com/xdpipe/xdpipe/pipeline/pipelinetest"
	"github.com/xdpipe/xdpipe/umem"
)

// newACL returns the stage, provisioned, with the rules.
func newACL(t testing.TB, s *ACL, ctx *pipeline.Context, rules ...string) *ACL {
	t.Helper()
	s.Rules = append(s.Rules, rules...)
	if s.Default == "" {
		s.Default = "deny"
	}
	must(t, s.Validate())
	must(t, s.Provision(ctx))
	t.Cleanup(func() { must(t, s.source.Close()) })
	return s
}

// fates runs the packets through the stage and says what becomes of each: "pass",
// the name of the reason, or "denied" for that output.
func fates(t testing.TB, s *ACL, ctx *pipeline.Context, packets ...[]byte) []string {
	t.Helper()
	b := newBatch(t, packets...)
	s.Process(b)
	var all []string
	for i := range b.Len() {
		switch to, dropped, why := b.Verdict(i); {
		case dropped:
			all = append(all, ctx.ReasonName(why))
		case to == pipeline.Next:
			all = append(all, "pass")
		default:
			all = append(all, "denied")
		}
	}
	return all
}

// tagged puts VLAN tags into the packet.
func tagged(p []byte, ids ...uint16) []byte {
	for _, id := range slices.Backward(ids) {
		p = slices.Concat(p[:12], []byte{0x81, 0, byte(id >> 8), byte(id)}, p[12:])
	}
	return p
}

// From 192.0.2.1 to 192.0.2.2, ports 4096 and 53, where there are any.
var (
	aclTCP       = ipv4Packet(6, whole, ports, "\x00\x00\x00\x00\x00\x00\x00\x00\x50\x02\x00\x00\x00\x00\x00\x00")
	aclUDP       = udpPacket()
	aclICMP      = ipv4Packet(1, whole, "\x08\x00\x00\x00\x00\x00\x00\x00")
	aclFirst     = ipv4Packet(17, first, ports, "\x00\x1a\x00\x00")
	aclLater     = ipv4Packet(17, later, "payload")
	aclTiny      = func() []byte { p := ipv4Packet(6, first); p[17] = 22; return p }() // two bytes of TCP
	aclARP       = ethernet("\x08\x06", "\x00\x01\x08\x00\x06\x04\x00\x01")
	aclLLDP      = ethernet("\x88\xcc")
	aclCut       = aclUDP[:30]
	aclTagged    = tagged(aclUDP, 100)
	aclThreeTags = tagged(aclUDP, 1, 2, 3)
)

func TestACLDecidesByTheFirstRuleThatMatches(t *testing.T) {
	for _, tc := range []struct {
		name   string
		rules  []string
		packet []byte
		want   string
	}{
		{"what a rule permits passes", []string{"permit udp dst_port=53"}, aclUDP, "pass"},
		{"what a rule denies is dropped", []string{"deny udp dst_port=53", "permit any"}, aclUDP, "acl_denied"},
		{"a permit before a deny wins", []string{"permit dst=192.0.2.2", "deny any"}, aclUDP, "pass"},
		{"a deny before a permit wins", []string{"deny src=192.0.2.0/24", "permit any"}, aclUDP, "acl_denied"},
		{"what no rule matches is denied", []string{"permit udp dst_port=54"}, aclUDP, "acl_denied"},
		{"a protocol by its number", []string{"permit protocol=17"}, aclUDP, "pass"},
		{"ports of any protocol that has them", []string{"permit dst_port=53"}, aclTCP, "pass"},
		{"a range of ports", []string{"permit src_port=4000-4100 dst_port=1-53"}, aclUDP, "pass"},
		{"either port is the source", []string{"permit port=4096"}, aclUDP, "pass"},
		{"either port is the destination", []string{"permit port=53"}, aclUDP, "pass"},
		{"neither port", []string{"permit port=54-4095"}, aclUDP, "acl_denied"},
		{"ICMP has no ports", []string{"permit dst_port=0-65535"}, aclICMP, "acl_denied"},
		{"a VLAN", []string{"permit vlan=100"}, aclTagged, "pass"},
		{"another VLAN", []string{"permit vlan=101"}, aclTagged, "acl_denied"},
		{"a rule without a VLAN is for tagged packets too", []string{"permit udp"}, aclTagged, "pass"},
		{"an untagged packet is in no VLAN", []string{"permit vlan=0"}, aclUDP, "acl_denied"},
		{"ARP is denied by default", []string{"permit ipv4"}, aclARP, "acl_denied"},
		{"ARP where it is permitted", []string{"permit arp"}, aclARP, "pass"},
		{"an ethertype", []string{"permit ethertype=0x88cc"}, aclLLDP, "pass"},
		{"any is also what is not IP", []string{"permit any"}, aclLLDP, "pass"},
		{"a rule with an address is not for ARP", []string{"permit src=0.0.0.0/0"}, aclARP, "acl_denied"},
		{"the first fragment has ports", []string{"permit udp dst_port=53"}, aclFirst, "pass"},
		{"later fragments are not permitted by ports", []string{"permit udp dst_port=53"}, aclLater, "acl_denied"},
		{"later fragments are denied where the ports might be denied", []string{"deny udp dst_port=53", "permit any"}, aclLater, "acl_denied"},
		{"but not where the protocol is another", []string{"deny tcp dst_port=53", "permit any"}, aclLater, "pass"},
		{"nor where an address is another", []string{"deny udp dst=192.0.2.3 dst_port=53", "permit any"}, aclLater, "pass"},
		{"later fragments where they are permitted", []string{"permit udp later_fragment", "deny udp dst_port=53"}, aclLater, "pass"},
		{"a first fragment is no later one", []string{"permit later_fragment"}, aclFirst, "acl_denied"},
		{"fragment is all of them: a first one", []string{"deny fragment", "permit any"}, aclFirst, "acl_denied"},
		{"fragment is all of them: a later one", []string{"deny fragment", "permit any"}, aclLater, "acl_denied"},
		{"a whole packet is no fragment", []string{"deny fragment", "permit any"}, aclUDP, "pass"},
		{"a first fragment without its ports is unreadable", []string{"permit any"}, aclTiny, "acl_unreadable"},
		{"what is cut short is unreadable", []string{"permit any"}, aclCut, "acl_unreadable"},
		{"below three tags nothing is read", []string{"permit any"}, aclThreeTags, "acl_unreadable"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx := &pipeline.Context{}
			s := newACL(t, &ACL{}, ctx, tc.rules...)
			if got := fates(t, s, ctx, tc.packet); got[0] != tc.want {
				t.Errorf("%s, want %s", got[0], tc.want)
			}
		})
	}
}

func TestACLDefaultIsForWhatNoRuleMatchesAndCanBeRead(t *testing.T) {
	ctx := &pipeline.Context{}
	s := newACL(t, &ACL{Default: "permit", Top: 20}, ctx, "deny tcp", "permit udp")
	got := fates(t, s, ctx, aclTCP, aclUDP, aclICMP, aclARP, aclCut)
	if want := []string{"acl_denied", "pass", "pass", "pass", "acl_unreadable"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	want := map[string]uint64{"permitted": 3, "denied": 2, "unmatched": 2, "unreadable": 1, "rules": 2, "inline_1": 1, "inline_2": 1, "reloads": 0, "reload_errors": 0}
	if values := s.Report(); !maps.Equal(values, want) {
		t.Errorf("values %v, want %v", values, want)
	}
}

func TestACLSendsWhatItDeniesToTheOutputIfThatIsConnected(t *testing.T) {
	ctx := &pipeline.Context{}
	ctx.Connect("denied")
	s := newACL(t, &ACL{}, ctx, "permit udp")
	got := fates(t, s, ctx, aclTCP, aclUDP, aclARP, aclCut)
	if want := []string{"denied", "pass", "denied", "denied"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestACLInAGraph(t *testing.T) {
	in := pipelinetest.Packets(aclTCP, aclUDP, aclARP, aclCut)
	r := pipelinetest.Run(t, "acl rules='permit udp' denied->other", in...)
	r.WantOut(aclUDP)
	if other := r.Port("other"); len(other) != 3 || !bytes.Equal(other[0].Data, aclTCP) {
		t.Errorf("%d packets denied, want 3", len(other))
	}
	r = pipelinetest.Run(t, "acl rules='permit udp'", in...)
	r.WantOut(aclUDP)
	r.WantDrops(map[string]uint64{"acl_denied": 2, "acl_unreadable": 1})
}

func TestACLReadsHeadersThatNoStageParsed(t *testing.T) {
	ctx := &pipeline.Context{}
	s := newACL(t, &ACL{}, ctx, "permit udp")
	b := newBatch(t, aclUDP, aclTCP)
	(&Parse{}).Process(b)
	s.Process(b)
	if b.Dropped(0) || !b.Dropped(1) {
		t.Error("with a parse stage before it, it decides otherwise")
	}
	b = newBatch(t, aclUDP)
	s.Process(b)
	if m := b.Meta(0); m.Flags&pipeline.MetaParsed == 0 || m.DstPort != 53 {
		t.Errorf("meta %+v, want it parsed for the stages after", m)
	}
}

func TestACLDirectionIsThatOfThePortThatFacesOutside(t *testing.T) {
	for _, tc := range []struct {
		from, to string
		want     []string // of TCP and UDP
	}{
		{"wan", "lan", []string{"pass", "acl_denied"}},
		{"lan", "wan", []string{"acl_denied", "pass"}},
		{"dmz", "lan", []string{"acl_denied", "pass"}},
	} {
		ctx := &pipeline.Context{From: tc.from, To: tc.to, Log: slog.New(slog.DiscardHandler)}
		s := newACL(t, &ACL{Outside: "wan"}, ctx, "permit in tcp", "permit out udp")
		if got := fates(t, s, ctx, aclTCP, aclUDP); !slices.Equal(got, tc.want) {
			t.Errorf("from %s to %s: %v, want %v", tc.from, tc.to, got, tc.want)
		}
	}
}

func TestACLWarnsOfAnOutsideThatIsNoEndOfThePipeline(t *testing.T) {
	for outside, want := range map[string]bool{"wan": false, "lan": false, "wam": true} {
		var log bytes.Buffer
		ctx := &pipeline.Context{From: "wan", To: "lan", Log: slog.New(slog.NewTextHandler(&log, nil))}
		newACL(t, &ACL{Outside: outside}, ctx, "permit any")
		if got := strings.Contains(log.String(), "outside="+outside); got != want {
			t.Errorf("outside %s: log %q", outside, &log)
		}
	}
}

func TestACLRefusesOptionsThatAreWrong(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.txt")
	must(t, os.WriteFile(bad, []byte("permit any\n\n  deny tpc\nallow any # what others say\n"), 0o600))
	empty := filepath.Join(t.TempDir(), "empty.txt")
	must(t, os.WriteFile(empty, []byte("permit in any\n"), 0o600))
	for _, tc := range []struct{ stages, want string }{
		{"acl", "stages:1:1: stage acl: neither file nor rules: want the rules in one of them, or both"},
		{"acl rules='permit any' default=drop", `stages:1:32: stage acl: option default: found "drop", want permit or deny`},
		{"acl rules='permit upd'", `stages:1:11: stage acl: option rules: rule 1, column 8: unknown condition "upd": did you mean "udp"?`},
		{"acl rules='deny in any'", `option rules: rule 1, column 6: found "in", but no port faces outside; name it with the option outside`},
		{"acl rules=' '", "option rules: rule 1, column 1: found nothing, want a rule: permit or deny, and conditions"},
		{"acl rules='permit any' top=-1", "top: found -1, want 0 or more"},
		{"acl file=/nonexistent/rules.txt", "stages:1:10: stage acl: option file: stat /nonexistent/rules.txt: no such file or directory"},
		{"acl file=/", "option file: read /: it is no regular file"},
		{"acl file=" + bad, bad + `:3:8: unknown condition "tpc": did you mean "tcp"?` + "\n" + bad + `:4:1: found "allow", want permit or deny: did you mean "permit"?`},
		{"acl file=" + empty, empty + `:1:8: found "in", but no port faces outside`},
	} {
		_, err := tryRig(t, 1, tc.stages)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %s", tc.stages, err, tc.want)
		}
	}
}

func TestACLReportsTheRulesWithTheMostHits(t *testing.T) {
	var rules []string
	for port := range 30 {
		rules = append(rules, fmt.Sprintf("permit udp dst_port=%d", port))
	}
	for _, top := range []int{0, 3, 30, 1000} {
		ctx := &pipeline.Context{}
		s := newACL(t, &ACL{Top: top}, ctx, rules...)
		for port := range 25 {
			p := udpPacket()
			p[37] = byte(port)
			for range port + 1 {
				fates(t, s, ctx, p)
			}
		}
		got := map[string]uint64{}
		for name, n := range s.Report() {
			if strings.HasPrefix(name, "inline_") {
				got[name] = n
			}
		}
		want := map[string]uint64{}
		for port := max(0, 25-top); port < 25; port++ {
			want[fmt.Sprintf("inline_%d", port+1)] = uint64(port + 1)
		}
		if !maps.Equal(got, want) {
			t.Errorf("top %d: %v, want %v", top, got, want)
		}
	}
}

func TestACLRulesThatAreTheSameKeepTheirHitsOnAReload(t *testing.T) {
	ctx := &pipeline.Context{}
	old := newACL(t, &ACL{Top: 20}, ctx, "deny udp dst_port=1", "permit udp dst_port=53", "permit udp dst_port=53", "permit tcp")
	fates(t, old, ctx, aclUDP, aclUDP, aclTCP, aclARP)
	ctx = &pipeline.Context{}
	s := newACL(t, &ACL{Top: 20}, ctx, "permit   tcp", "deny arp", "permit dst_port=53, udp", "permit udp dst_port=53")
	s.Inherit(old)
	s.Inherit(&Drop{}) // is none of its kind
	fates(t, s, ctx, aclTCP, aclARP)
	// The conditions in another order are the same rule; of two that are the same the
	// first keeps the hits of the first.
	want := map[string]uint64{"permitted": 4, "denied": 2, "unmatched": 1, "unreadable": 0, "rules": 4, "inline_1": 2, "inline_2": 1, "inline_3": 2, "reloads": 0, "reload_errors": 0}
	if got := s.Report(); !maps.Equal(got, want) {
		t.Errorf("values %v, want %v", got, want)
	}
}

func TestACLOnEveryWorkerHasTheSameRules(t *testing.T) {
	name := filepath.Join(t.TempDir(), "rules.txt")
	must(t, os.WriteFile(name, []byte("# services\n\npermit udp dst_port=53\n"), 0o600))
	r := newRig(t, 2, "acl file="+name)
	for w := range 2 {
		if left := r.pass(w, aclUDP, aclTCP, aclUDP); len(left) != 2 {
			t.Errorf("worker %d: %d packets left, want 2", w, len(left))
		}
	}
	for _, st := range r.Snapshot().Stages {
		if st.Values["rule_3"] != 2 || st.Drops["acl_denied"] != 1 {
			t.Errorf("worker %d: values %v, drops %v", st.Worker, st.Values, st.Drops)
		}
	}
	must(t, r.stop())
}

func TestACLDoesNotAllocate(t *testing.T) {
	noAllocations(t, newACL(t, &ACL{}, &pipeline.Context{}, "deny tcp", "permit udp dst_port=53"))
	noAllocations(t, newACL(t, &ACL{}, &pipeline.Context{}, "deny any"))
}

// FuzzACL: whatever a packet and the rules are, nothing panics, and what passes is
// what the rules, read one after the other, permit.
func FuzzACL(f *testing.F) {
	for _, p := range [][]byte{aclTCP, aclUDP, aclICMP, aclFirst, aclLater, aclTiny, aclARP, aclCut, aclTagged, aclThreeTags, {}} {
		f.Add(p, "deny udp dst_port=53\npermit fragment\npermit src=192.0.2.0/24 port=1-100\npermit vlan=100", false)
		f.Add(p, "deny tcp src=2001:db8::/32\npermit any", true)
	}
	f.Fuzz(func(t *testing.T, packet []byte, text string, permit bool) {
		if len(packet) == 0 || len(packet) > 2000 || len(text) > 10000 {
			return
		}
		rules, err := acl.Parse("rules", []byte(text), acl.Options{})
		if err != nil || len(rules) == 0 {
			return
		}
		s := &ACL{Default: "deny", Rules: []string{"permit any"}}
		if permit {
			s.Default = "permit"
		}
		ctx := &pipeline.Context{}
		must(t, s.Provision(ctx))
		s.source.replace(rules)
		got := fates(t, s, ctx, packet)[0]
		want := "pass"
		switch v := acl.Reference(rules, acl.NoDirection, packet); {
		case v == acl.Unreadable:
			want = "acl_unreadable"
		case v == acl.NoMatch && !permit, v != acl.NoMatch && v.Action() == acl.Deny:
			want = "acl_denied"
		}
		if got != want {
			t.Errorf("%x: %s, want %s\n%s", packet, got, want, text)
		}
	})
}

// FuzzACLBatches: whatever packets there are, the stage does what all stages must.
func FuzzACLBatches(f *testing.F) {
	rules := []string{"deny udp dst_port=53", "permit fragment", "deny src=192.0.2.0/24 port=1-100", "permit vlan=100", "permit ipv6"}
	fuzzStage(f, func() pipeline.Stage { return &ACL{Default: "deny", Rules: rules} })
}

func BenchmarkACL(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 10000} {
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) { benchmarkACL(b, n, true) })
	}
	b.Run("rules=10000,ipv6", func(b *testing.B) { benchmarkACL(b, 10000, false) })
}

// benchmarkACL runs realistic rules over batches of 64 packets of which nine in ten
// hit a rule, each another one.
func benchmarkACL(b *testing.B, n int, ip4 bool) {
	r := acltest.NewRandom(7)
	rules := r.Realistic(n)
	text := make([]string, n)
	for i := range rules {
		text[i] = rules[i].String()
	}
	s := newACL(b, &ACL{}, &pipeline.Context{}, text...)
	mem, err := umem.New(umem.Options{Frames: 4096}) // as a port's would be, on huge pages
	must(b, err)
	cache := mem.NewCache(0)
	var batches []*pipeline.Batch
	for range 32 {
		batch := pipeline.NewBatch(cache, 64)
		for _, p := range r.Hitting(rules, 64, ip4) {
			copy(batch.Alloc(len(p)), p)
		}
		batch.Parse()
		batches = append(batches, batch)
	}
	b.Cleanup(func() {
		for _, batch := range batches {
			for _, d := range batch.Descs() {
				cache.Put(d.Addr)
			}
		}
		cache.Close()
		must(b, mem.Close())
	})
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		s.Process(batches[i%len(batches)])
		i++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/packet")
	b.ReportMetric(float64(s.current.set.Size()), "bytes")
}
