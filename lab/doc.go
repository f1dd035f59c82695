// Package lab builds small networks out of network namespaces and veth pairs,
// for tests and demonstrations that need real traffic and no NIC. It needs root.
//
// The few types:
//
//   - [Lab] owns everything it made; [Lab.Close] removes all of it.
//   - [NS] is a namespace: run a function or a program in it.
//   - [Pair] is a cable between two namespaces.
//   - [Line] is the usual topology: client, xdpipe in the middle, server.
//
// A test begins with [ForTest], which also fails it if anything is left:
//
//	l := lab.ForTest(t)
//	a, b := l.MustNamespace("a"), l.MustNamespace("b")
//	pair, err := l.Pair(lab.End{NS: a, Name: "veth0"}, lab.End{NS: b, Name: "veth0"}, lab.PairOptions{})
//
// [Up], [Load] and [Down] are the form that outlives the process, behind
// `xdpipe lab up|exec|down`.
//
// # Caveats
//
// A lab of a process that was killed is removed by the next [New] with the same
// prefix, not before.
//
// An end on which the kernel's own stack talks to an AF_XDP port must be marked
// [End].HostEnd, or its partial checksums and oversized segments reach the port
// and are lost there.
//
// Deleting a namespace does not end foreign processes in it: those that were
// not started with [NS.Command] keep it, without its links.
package lab
