// Package xsk is AF_XDP sockets on a shared umem.Memory: options, bind, the
// four rings, wakeups and statistics.
//
// A Socket belongs to one queue of one interface. The first socket on a Memory
// registers it with the kernel; every other, on any queue of any interface in
// any namespace, shares that registration (XDP_SHARED_UMEM) and has its own
// four rings. So a frame received on one socket is transmitted on another by
// its descriptor alone.
//
// A few types matter:
//
//   - Socket, from Open, hands descriptors in and out in batches.
//   - Options say what to ask of the kernel; what was granted is read back.
//   - Desc is the kernel's 16-byte descriptor.
//   - Producer and Consumer are the two ends of a descriptor ring; ring.go
//     states their ordering contract.
//   - BindError and SendError say what failed, the likely cause, and the cure.
//
// # Life of a frame
//
//	cache ── Fill ──▶ fill ring ──▶ kernel ──▶ RX ring ── Receive ──▶ program
//	  ▲                                                                  │
//	  └── Complete ── completion ring ◀── kernel ◀── TX ring ◀─ Transmit ┘
//
// # Caveats
//
// A Socket has one owner goroutine; nothing in it locks. Owners should be
// locked to their thread, so that the work stays on one core.
//
// Open must run on a thread that is inside the interface's network namespace.
// The socket may be used from anywhere afterwards.
//
// Detach the XDP program, or take the socket out of its XSKMAP, before Close.
// Close drains what is being transmitted, with a deadline, and gives every
// frame the kernel still had back to the pool. In zero-copy mode the kernel stops
// the NIC's queue in the background shortly after (xp_release_deferred,
// net/xdp/xsk_buff_pool.c), and until then packets may be written into those
// frames: close all sockets of a Memory together, or take the link down before.
//
// An empty fill ring stops reception, and a full completion ring stops
// transmission: call Fill and Complete in every round.
package xsk
