// Package filter compiles the pcap-filter language, the one tcpdump takes
// ("udp port 53 and not host 10.0.0.1"), for Ethernet frames, without cgo.
//
//	f, err := filter.Compile("udp port 53 and not host 10.0.0.1")
//	if err != nil {
//		return err // says what is wrong, and in which column
//	}
//	if f.Match(frame) { … }
//
// There is one compiler, and three forms of what it makes of an expression:
// [Filter.Match] decides on a frame in Go, without allocation; [Filter.Raw] and
// [Filter.Instructions] are a classic BPF program; [Filter.EBPF] is code to put
// inside an XDP program. All three give the same answer on every frame, and the
// one tcpdump's own compiler gives. The tests compare them on some hundred
// expressions and thousands of frames: whole, cut short, changed and noise.
// [Filter.MayMatch] answers for frames that are known in part.
//
// # How it works
//
// The expression becomes tokens (lexer.go), a tree (parser.go, ast.go), tests
// of fields joined by and, or and not (generate.go and the files named for what
// they generate), a graph of tests without those whose outcome is known on the
// way to them (graph.go), and a program (assemble.go). match.go and ebpf.go
// translate that; pattern.go follows it without a frame.
//
// # Caveats
//
// A frame too short for a field that is looked at does not match, even below a
// not, and even if an alternative further right would. Tests are made from left
// to right; put the ones that short frames pass first.
//
// And and or bind equally tightly, to the left: "a or b and c" is "(a or b) and
// c". Write the parentheses.
//
// vlan, mpls and pppoes change where everything to their right is looked for,
// in other branches of an or too: "vlan or ip" looks for IP behind a tag. Write
// "ip or (vlan and ip)".
//
// Ports are looked for behind the IPv4 header with its options, in first
// fragments, and directly behind the fixed IPv6 header. Extension headers are
// not followed, except for a fragment header by a protocol's name. tcp[…] and
// its like look at IPv4 only.
//
// Of the operands of +, - and the other operators only the left one's header is
// tested to be there, as libpcap does it: write "tcp[0] + 1", not "1 + tcp[0]".
//
// "ip broadcast" knows no netmask: it tests for 0.0.0.0 and 255.255.255.255.
//
// Port names come from a fixed table, not from the machine's /etc/services.
//
// Not compiled, with an error that is [ErrUnsupported]: names of hosts and
// networks; gateway; protochain; geneve; inbound, outbound and ifindex; DECnet
// addresses; "byte N & M"; constant offsets below 0 or above 32767; what is for
// link layers other than Ethernet.
package filter
