// Package control is xdpipe's control plane: everything it says to the kernel
// about interfaces, and everything it must take back when it ends.
//
// The few types:
//
//   - [Namespace] is a network namespace; [Namespace.Do] runs a function in it.
//   - [Link] is an interface in a namespace, found by name.
//   - [Attach] puts an XDP program on a link and gives an [Attachment], which
//     knows the mode the kernel granted.
//   - [Journal] records each change to the machine before it is made, so that
//     it can be undone at exit, or by the next start after kill -9.
//   - [Claim] says which instance has which queue; [Holder] asks who has it.
//   - [Watcher] tells when a link goes down, disappears, or loses its program.
//
// What changes the machine takes a *Journal: [DisableOffloads],
// [ReserveHugepages], [RecordPin]. [Promiscuous] needs none, because the kernel
// takes it back when the process ends.
//
// # Caveats
//
// Interface indexes are unique only within a namespace. Every key made here
// carries the namespace's cookie as well.
//
// A Link is a snapshot: its fields are what they were when it was read, until
// [Link.Refresh].
//
// A function run by [Namespace.Do] runs on a thread of its own, in that
// namespace, but goroutines it starts run outside of it. The files of /sys
// are those of the namespace in which /sys was mounted, also inside Do.
//
// An [Attachment] that is not pinned lives as long as the process does, also
// when the program drops its last reference to it: only Detach ends it.
//
// Everything that changes something needs CAP_NET_ADMIN; namespaces need
// CAP_SYS_ADMIN, attaching CAP_BPF. Names and owners of programs are told to
// those who have CAP_SYS_ADMIN.
package control
