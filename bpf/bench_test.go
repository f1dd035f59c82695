package bpf

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkSteer is the program's time per packet, measured by the kernel.
func BenchmarkSteer(b *testing.B) {
	dns4 := packet{src: "192.0.2.1", dst: "198.51.100.1", protocol: ProtocolUDP, srcPort: 4000, dstPort: 53}.bytes()
	dns6 := packet{src: "2001:db8::1", dst: "2001:db8:1::1", protocol: ProtocolUDP, srcPort: 4000, dstPort: 53}.bytes()
	// The last of n rules matches; those before it name as many fields.
	prefixed := func(n int) (list []Rule) {
		for i := range n - 1 {
			list = append(list, rules(b, fmt.Sprintf("udp dst_port=%d src=192.0.%d.0/24 dst=198.51.%d.0/24 action=drop", 1000+i, i, i))...)
		}
		return append(list, rules(b, "udp dst_port=53 src=192.0.2.0/24 dst=198.51.100.0/24")...)
	}
	ports := func(n int) (list []Rule) {
		for i := range n - 1 {
			list = append(list, rules(b, fmt.Sprintf("udp dst_port=%d action=drop", 1000+i))...)
		}
		return append(list, rules(b, "udp dst_port=53")...)
	}
	for _, bench := range []struct {
		name   string
		policy Policy
		packet []byte
	}{
		{"all", Policy{All: true}, dns4},
		{"1 rule", Policy{Rules: ports(1)}, dns4},
		{"64 rules", Policy{Rules: ports(64)}, dns4},
		{"1 rule, IPv6", Policy{Rules: ports(1)}, dns6},
		{"1 rule with prefixes", Policy{Rules: prefixed(1)}, dns4},
		{"64 rules with prefixes", Policy{Rules: prefixed(64)}, dns4},
		{"64 rules, none matches", Policy{Rules: ports(65)[:64]}, dns4},
		{"filter", Policy{Filter: "udp port 53 and not host 10.0.0.1"}, dns4},
		{"filter, IPv6", Policy{Filter: "udp port 53 and not host 10.0.0.1"}, dns6},
		{"64 rules, none matches, and filter", Policy{Rules: ports(65)[:64], Filter: "udp port 53 and not host 10.0.0.1"}, dns4},
	} {
		b.Run(bench.name, func(b *testing.B) {
			s := loadWithSocket(b)
			setPolicy(b, s, bench.policy)
			b.ResetTimer()
			// Repeat has 32 bits. The kernel's own figure leaves out the system call.
			var total time.Duration
			for left := b.N; left > 0; {
				repeat := min(left, 1<<24)
				_, each, err := s.Program().Benchmark(bench.packet, repeat, nil)
				if err != nil {
					b.Fatal(err)
				}
				total += each * time.Duration(repeat)
				left -= repeat
			}
			b.ReportMetric(float64(total.Nanoseconds())/float64(b.N), "ns/op")
		})
	}
}

func BenchmarkSetPolicy(b *testing.B) {
	var most Policy
	for i := range MaxRules {
		most.Rules = append(most.Rules, rules(b, fmt.Sprintf("udp dst_port=%d src=192.0.%d.0/24", 1000+i, i))...)
	}
	for _, bench := range []struct {
		name   string
		policy Policy
	}{
		{"64 rules", most},
		{"filter", Policy{Filter: "udp port 53 and not host 10.0.0.1"}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			s := load(b)
			b.ReportAllocs()
			for b.Loop() {
				setPolicy(b, s, bench.policy)
			}
		})
	}
}
