// Package bpf steers packets: it loads the XDP program that decides which
// packets go to AF_XDP sockets, keeps the rules it decides by, and reads what
// it counted.
//
//	steering, err := bpf.Load(bpf.Options{Queues: 4})
//	...
//	defer steering.Close()
//	rule, err := bpf.ParseRule("udp dst_port=53 dst=192.0.2.0/24")
//	...
//	err = steering.SetPolicy(bpf.Policy{Rules: []bpf.Rule{rule}, Filter: "tcp port 80 and not host 192.0.2.1"})
//	...
//	err = steering.Register(0, socketFD)
//
// A [Rule] is a conjunction of packet fields and an [Action]; a [Policy] is up
// to [MaxRules] of them in order, of which the first that matches decides. Of what
// no rule matches, the policy's filter, an expression of the pcap-filter language
// (package filter), chooses what is redirected; the rest goes to the kernel,
// unless Policy.All asks for everything. Both are plain data, checked by Validate before the kernel hears of them. A
// [Steering] is what the kernel holds: the program, its maps, the sockets
// registered by queue. Attaching the program to an interface is left to
// package control.
//
// Rules are not walked: the cost of a packet does not grow with their number,
// except that prefixes are looked up in tries, which get deeper. Fields that no
// rule names are not read. A filter is compiled to code that runs behind the
// rules; its cost grows with the expression. [Steering.SetPolicy] works while
// packets flow: each packet is decided by all of the old policy or all of the new.
//
// A packet redirected to a queue without a socket goes to the kernel instead.
// Every packet is counted under exactly one verdict; see [Counters].
//
// # Caveats
//
// Ports exist in TCP, UDP and SCTP packets only, and in the first fragment of a
// fragmented packet: a rule that names ports takes the first fragment and leaves
// the others. Where that matters, match by protocol and address.
//
// Headers are matched as they are. Tunnels are not looked into, lengths inside
// IP headers are not compared with the packet's, checksums are not verified. In
// IPv6, up to eight extension headers (hop-by-hop, routing, destination options,
// fragment, authentication) are walked over; where there are more, the protocol
// and ports count as unreadable.
//
// A field that cannot be read, because the packet ends before it or the header
// contradicts itself, takes away the rules that name it and no others.
//
// A filter has caveats of its own: see package filter. Of a packet in several
// buffers it sees the first, where drivers put the headers, and takes its length
// for the packet's; rules see all of it.
//
// The kernel unloads the programs of filters when the last process that has their
// map open ends, unless the maps are pinned. What is attached by then passes the
// packets they would have decided on, counted as pass_no_filter.
//
// A VLAN tag that the NIC removed is invisible to the program. Turn the offload
// off (rxvlan) where rules name VLANs.
//
// The kernel drops packets redirected to a socket that is bound to another
// device or queue than the packet came from; Register each socket for the queue
// it is bound to.
//
// # Regenerating
//
// The program is steer.c. Its compiled form is committed, so that building needs
// Go alone. After a change, run
//
//	make generate
//
// (go generate ./...), which needs clang and nothing else.
package bpf
