// Package umem is the memory packets live in: one mapping that is registered
// with the kernel once and shared by every AF_XDP socket bound to it.
//
// The memory is cut into frames (the kernel says chunks) of 2048 or 4096
// bytes. A frame is named by its address: the offset of a byte inside it from
// the start of the memory, as the kernel's descriptors use it. Packets are
// never copied between stages or sockets that share a Memory; what moves is
// the 16-byte descriptor, and with it the right to touch the frame.
//
// Four types matter:
//
//   - Memory is the mapping. It says which pages it got and why.
//   - Cache is one worker's stack of free frames; it takes them from and gives
//     them back to the pool inside Memory in bulk.
//   - Pages describes what backs a Memory and what was tried before.
//   - Violation is what the ledger reports when a frame is used by someone who
//     does not own it.
//
// # Ownership
//
// A frame is in exactly one place: free (pool or a cache), held by the program
// (it came from Cache.Get, or from a receive or completion ring), or with the
// kernel (fill or transmit ring). Frames with several holders carry a
// reference count in a side array; each holder gives back its own reference.
//
// With Options.Verify, or XDPIPE_VERIFY=1 in the environment, the ledger
// checks every transition, keeps the last few per frame for the report and
// poisons free frames. Without it the checks are one nil comparison per call.
//
// # Caveats
//
// A slice from Memory.Bytes aliases memory the kernel or another worker writes
// as soon as its frame is given away; keep none past that moment. After
// Memory.Close every such slice faults when touched.
//
// A Cache belongs to one goroutine. Nothing in it locks.
//
// Frames in kernel hands are only back when the socket that holds them hands
// them back or is closed; closing a Memory with frames out is an error that
// counts them.
package umem
