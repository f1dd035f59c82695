// Package xdpipe runs packet pipelines at AF_XDP speed: an XDP program takes
// chosen packets from an interface into sockets on one shared memory, stages
// written in Go process them by descriptor, and nothing is copied on the way.
//
// This package puts the others together. From a configuration it makes a Plan,
// which looks at the machine and changes nothing, and from the plan an Instance,
// which runs:
//
//	cfg, err := pipeline.LoadConfig("bridge.yaml")
//	inst, err := xdpipe.Open(cfg, xdpipe.Options{})
//	err = inst.Run(ctx)   // until ctx is done
//	err = inst.Close()    // the machine is as it was before Open
//
// The parts can be used by themselves:
//
//   - umem: the memory, its frames and who owns them
//   - xsk: AF_XDP sockets and their rings
//   - bpf: the steering program and its rules
//   - control: interfaces, namespaces, attaching, and the journal of changes
//   - pipeline: batches, stages, workers, configuration
//   - lab: namespaces and veth pairs for tests
//
// # Caveats
//
// Open needs CAP_NET_RAW, CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON, which root has.
//
// What Open changes outside the process is in a journal under /run/xdpipe until
// Close puts it back. After a crash the next Open does, or RestoreStale.
package xdpipe
