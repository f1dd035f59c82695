// Package asavie runs pipelines on sockets of github.com/asavie/xdp, for
// programs that have one already.
//
// New makes a pipeline.Queue of a *xdp.Socket; everything else of an engine is
// as with any other port. Such a socket has a memory of its own, so that each
// packet is copied from its frames into the engine's when it arrives, and back
// when it leaves. Both are counted as copied packets. A port from
// pipeline.NewXSK copies nothing: prefer it where the program can change.
//
// # What the Queue sees to
//
// The library leaves much to its caller. The Queue fills and completes in every
// round, keeps some of the socket's frames for transmission so that reception
// cannot take all of them, goes on kicking while the kernel has not taken
// everything, and turns the panic of Socket.Transmit on an unexpected errno into
// the state of the port (link down) or its end.
//
// Socket.Close of the library leaves the four rings mapped, and with them the
// kernel keeps the socket: its queue stays bound until the process ends. Close
// of the Queue unmaps them, so that the queue is free again at once.
//
// # Caveats
//
// The socket is the Queue's from New on; do not call its methods, also not after
// Close, when its rings are no longer there.
//
// The library accesses its rings without memory barriers. That is sound on amd64
// and not on arm64.
//
// A packet that the driver drops counts as transmitted: the library does not tell.
//
// It opens sockets without the need_wakeup flag: every batch that is transmitted
// costs a system call.
//
// The XDP program that gives packets to the socket is the caller's, to attach
// and to detach: one of the library's or one from package bpf.
package asavie
