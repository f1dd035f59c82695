// Command veth measures AF_XDP forwarders against each other on a veth pair, in
// one run and in turns, so that what the machine does besides hits all of them
// alike. It needs root, two CPUs and Linux 5.18; no NIC.
//
//	go run ./veth            # every load, five rounds
//	go run ./veth -help
//
// The near end of the pair is in a namespace with the generator, the far end in
// another with the forwarder, which sends every frame back with its MAC
// addresses swapped. What comes back is counted by an XDP program on the near
// end, frame by frame; no forwarder's own count is used.
//
// A few types matter:
//
//   - contender is a forwarder: a function that runs in a process of its own.
//   - load is a way to send: as fast as the generator can, or at a rate.
//   - measurement is one run of one contender under one load.
//
// # Caveats
//
// A veth pair has no wire: the generator's core also runs the receive side of
// the forwarder's interface, and the forwarder's core the near end's counting.
// Ratios between contenders mean something, absolute rates little.
package main
