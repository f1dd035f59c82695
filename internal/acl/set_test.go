package acl_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/xdpipe/xdpipe/internal/acl"
	"github.com/xdpipe/xdpipe/internal/acl/acltest"
	"github.com/xdpipe/xdpipe/pipeline"
	"github.com/xdpipe/xdpipe/umem"
)

// check compares a set with the reference on the packets.
func check(t *testing.T, cache *umem.Cache, rules []acl.Rule, d acl.Direction, packets ...[]byte) {
	t.Helper()
	b := pipeline.NewBatch(cache, pipeline.MaxBatch)
	defer func() {
		for _, d := range b.Descs() {
			cache.Put(d.Addr)
		}
	}()
	fill(t, b, packets...)
	set := acl.Compile(rules, d)
	var sc acl.Scratch
	for first := 0; first < b.Len(); {
		n := set.Match(b, first, &sc)
		for i := range n {
			p := packets[first+i]
			if got, want := sc.Verdicts[i], acl.Reference(rules, d, p); got != want {
				t.Fatalf("packet %x %s: %s, want %s, of %d rules\n%s", p, d, describe(rules, got), describe(rules, want), len(rules), textOf(rules[:min(len(rules), 50)]))
			}
		}
		first += n
	}
}

func describe(rules []acl.Rule, v acl.Verdict) string {
	switch v {
	case acl.NoMatch:
		return "no match"
	case acl.Unreadable:
		return "unreadable"
	}
	return fmt.Sprintf("rule %d (%s)", v.Rule(), &rules[v.Rule()])
}

func TestASetSaysWhatItsRulesSayOneAfterTheOther(t *testing.T) {
	cache := newCache(t, 512)
	hits, misses, unreadable := 0, 0, 0
	for seed := range uint64(240) {
		r := acltest.NewRandom(seed)
		many := seed%2 == 1
		rules := r.Rules(acltest.Pick(r, []int{0, 1, 2, 5, 20, 100, 500}), many)
		d := acl.Direction(seed % 3)
		packets := make([][]byte, pipeline.MaxBatch)
		for i := range packets {
			packets[i] = r.Packet(rules, many)
			switch acl.Reference(rules, d, packets[i]) {
			case acl.NoMatch:
				misses++
			case acl.Unreadable:
				unreadable++
			default:
				hits++
			}
		}
		check(t, cache, rules, d, packets...)
	}
	// A comparison in which nothing happens compares nothing.
	if hits < 12000 || misses < 3000 || unreadable < 1200 {
		t.Errorf("%d hits, %d misses, %d unreadable: the random packets do not meet the rules", hits, misses, unreadable)
	}
}

// pathological returns sets that trees cannot take apart well.
func pathological(n int) map[string][]acl.Rule {
	ports := func(from, more int) *acl.Ports {
		return &acl.Ports{From: uint16(from % 65536), To: uint16(min(65535, from%65536+more))}
	}
	sets := map[string][]acl.Rule{}
	add := func(name string, rule func(r acltest.Random, i int) acl.Rule) {
		r := acltest.NewRandom(uint64(n))
		for i := range n {
			rule := rule(r, i)
			rule.Action, rule.Line = acl.Action(i%2), i+1
			sets[name] = append(sets[name], rule)
		}
	}
	add("overlapping ranges of both ports", func(r acltest.Random, i int) acl.Rule {
		return acl.Rule{SrcPort: ports(r.IntN(65536), r.IntN(65536)), DstPort: ports(r.IntN(65536), r.IntN(65536))}
	})
	add("the same rule again and again", func(acltest.Random, int) acl.Rule { return acl.Rule{DstPort: ports(443, 0)} })
	add("one end or the other", func(r acltest.Random, i int) acl.Rule {
		p := netip.PrefixFrom(r.Addr(true, true), 32)
		if i%2 == 0 {
			return acl.Rule{Src: p}
		}
		return acl.Rule{Dst: p}
	})
	add("one of four fields", func(r acltest.Random, i int) acl.Rule {
		p := netip.PrefixFrom(r.Addr(true, true), 8+r.IntN(25)).Masked()
		return []acl.Rule{{Src: p}, {Dst: p}, {SrcPort: ports(r.IntN(65536), 0)}, {Port: ports(r.IntN(65536), 9)}}[i%4]
	})
	add("nested ranges", func(r acltest.Random, i int) acl.Rule { return acl.Rule{DstPort: ports(i*3, max(0, 65535-6*i))} })
	add("all prefixes of some addresses", func(r acltest.Random, i int) acl.Rule {
		a, b := netip.AddrFrom4([4]byte{10, byte(i % 3), byte(i % 5), byte(i % 7)}), netip.AddrFrom4([4]byte{10, byte(i % 11), 0, byte(i % 13)})
		return acl.Rule{Src: netip.PrefixFrom(a, r.IntN(33)).Masked(), Dst: netip.PrefixFrom(b, r.IntN(33)).Masked()}
	})
	add("IPv6 everywhere", func(r acltest.Random, i int) acl.Rule {
		return acl.Rule{Src: netip.PrefixFrom(r.Addr(false, true), r.IntN(129)).Masked(), Dst: netip.PrefixFrom(r.Addr(false, true), r.IntN(129)).Masked(), Port: ports(r.IntN(65536), r.IntN(65536))}
	})
	return sets
}

func TestASetOfRulesThatAreHardToTakeApartIsBoundedAndRight(t *testing.T) {
	cache := newCache(t, 512)
	for name, rules := range pathological(2000) {
		t.Run(name, func(t *testing.T) {
			r := acltest.NewRandom(1)
			packets := make([][]byte, pipeline.MaxBatch)
			for i := range packets {
				packets[i] = r.Packet(rules, true)
			}
			check(t, cache, rules, acl.NoDirection, packets...)
		})
	}
	if testing.Short() {
		return
	}
	for name, rules := range pathological(10000) {
		t.Run(name+", ten thousand", func(t *testing.T) {
			start := time.Now()
			size := acl.Compile(rules, acl.NoDirection).Size()
			t.Logf("%d KiB in %v", size>>10, time.Since(start))
			if size > 64<<20 {
				t.Errorf("the set takes %d MiB, of which at most 64 are promised", size>>20)
			}
		})
	}
}

func textOf(rules []acl.Rule) string {
	var b strings.Builder
	for i := range rules {
		b.WriteString(rules[i].String() + "\n")
	}
	return b.String()
}

func BenchmarkCompile(b *testing.B) {
	rules := acltest.NewRandom(7).Realistic(10000)
	for b.Loop() {
		acl.Compile(rules, acl.NoDirection)
	}
	b.ReportMetric(float64(acl.Compile(rules, acl.NoDirection).Size()), "bytes")
}
