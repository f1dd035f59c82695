// Package traffic checks a network path with real traffic.
//
// Two kernels' TCP/IP stacks, or rather one kernel's in two network
// namespaces, talk to each other and every packet is accounted for. What lies
// between the two is not this package's business: a cable, a bridge and a
// packet processor are checked alike, so their figures can stand side by side.
//
// A [Peer] is one end: a [Namespace] to open sockets in, an interface and its
// addresses. A check is a function of two peers and [Options]; it returns a
// [Result], whose counts are valid also when the check failed, and an error:
//
//	[ARP], [ND]       resolve the server's address again and again
//	[ICMP], [ICMPv6]  echo of many sizes, payload compared
//	[TCP]             a stream each way at once, SHA-256 compared
//	[UDP]             paced datagrams of all sizes, sequence-checked
//	[VLAN]            802.1Q and 802.1ad frames each way, compared whole
//	[Large]           datagrams that fill frames of 3,000 bytes, each way
//
// A check that ran and found the path wanting returns an [*Error], which says
// what was lost, doubled, reordered or changed, in which direction and, where
// the kernel knows, who dropped it. It unwraps to [ErrLost], [ErrDuplicated],
// [ErrReordered], [ErrCorrupted], [ErrDeadline] or the context's error.
//
// # Caveats
//
// Raw and packet sockets need CAP_NET_RAW, deleting a neighbour CAP_NET_ADMIN,
// each in its namespace.
//
// [ARP] and [ND] delete the client's neighbour entry for the server. While they
// run, other traffic from the client to the server waits for each resolution.
//
// Links must be up and addresses assigned. A check waits for the kernel to
// finish with a new IPv6 address, which takes it up to two seconds where
// duplicate address detection is on, but for nothing else.
//
// One process plays both ends, so throughput includes the cost of both.
package traffic
