// Package pipeline is the engine: it takes batches of packets from ports, runs
// them through stages, and hands them to ports, by descriptor and never by
// copy.
//
// The types, from the outside in:
//
//   - Engine runs pipelines on workers. New builds one from Options; Run runs it.
//   - Port is where batches come from and go to; each of its Queues belongs to
//     one worker. NewXSK makes a Queue of an AF_XDP socket.
//   - Pipeline is a graph of stages that packets of one port enter. Its stages have
//     named outputs; ParseQuick and Config read it, Graph shows it.
//   - Stage is what users write: Process works on a Batch.
//   - Module registers a kind of stage under a name; its options are the tagged
//     fields of the stage, decoded and checked by this package.
//   - Config is a whole configuration, read from YAML with positions in errors.
//
// # Vectors, run to completion
//
// A worker is one goroutine locked to one pinned thread. It owns its queues, its
// frame cache and its own instance of every stage, so that nothing on the way
// of a packet locks, allocates or waits. There is one dynamic call per stage and
// batch, none per packet.
//
// # What a stage may rely on
//
// Process is called on one thread, that of the instance's worker, and never twice at
// once; only what workers have handed to each other when the engine reloads or
// stops is worked off by another, while they stand. Slices from Batch.Data are valid
// until Process returns. A stage whose module Writes may write to them: a packet that
// others hold too, after a tee, is copied for it first. A stage must not block, keep a
// packet, or pass it to another goroutine; what it wants to keep it copies. A packet
// leaves a stage to the next one, by an output (To), for another worker (ToWorker),
// or dropped with a Reason (Drop); Tee adds a reference.
//
// # From packet to port
//
// A pipeline is resolved once, for checks, printing and building (graph.go), and
// provisioned for every worker that runs it (assembly.go). A lane is a pipeline on one worker:
// packets that stay on the straight line stay in one batch, others wait in the
// batches of entries, which are worked off in topological order (lane.go, node.go).
// Rings carry packets from worker to worker (ring.go, outlet.go). Engine.Swap puts
// another assembly in the place of one that runs (swap.go).
//
// # Caveats
//
// A stage that panics loses the batch it had (counted as drops with the reason
// "panic") and not the process; its own state is whatever it left. A pipeline whose
// stages do so again and again is put into the state that its OnPanic names.
//
// Counters are plain memory of their worker. Engine.Snapshot reads them between
// two batches of every worker, so that they are consistent; it costs the workers
// a few microseconds.
package pipeline
