// Package pipeline is the engine: it takes batches of packets from ports, runs
// them through stages, and hands them to ports, by descriptor and never by
// copy.
//
// The types, from the outside in:
//
//   - Engine runs pipelines on workers. New builds one from Options; Run runs it.
//   - Port is where batches come from and go to; each of its Queues belongs to
//     one worker. NewXSK makes a Queue of an AF_XDP socket.
//   - Pipeline is a line of stages from one port to another.
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
// Process is called by one goroutine, always the same. Slices from Batch.Data
// are valid until Process returns, and the stage owns the packet until then: it
// may write to it. It must not block, keep a packet, or pass it to another
// goroutine; what it wants to keep it copies. A packet leaves a pipeline by
// being dropped with a Reason, or by reaching the end.
//
// # Caveats
//
// A stage that panics loses the batch it had (counted as drops with the reason
// "panic") and not the process; its own state is whatever it left.
//
// Counters are plain memory of their worker. Engine.Snapshot reads them between
// two batches of every worker, so that they are consistent; it costs the workers
// a few microseconds.
package pipeline
