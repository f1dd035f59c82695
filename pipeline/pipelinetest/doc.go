// Package pipelinetest runs stages on packets in memory: without root, without an
// interface, on an engine like any other, with the ledger of frames on.
//
//	func TestMinLen(t *testing.T) {
//		r := pipelinetest.Run(t, "minlen min=64", pipelinetest.ReadFile(t, "testdata/in.pcap")...)
//		r.WantFile("testdata/out.pcap")
//		r.WantDrops(map[string]uint64{"too_short": 2})
//	}
//
// The stages are in the quick form of package pipeline. Packets come from the port
// in and leave by the port out; other names that outputs lead to, and that are no
// labels, are further ports. Time is that of the packets: the clock of the engine
// stands at the arrival of the packet that was last taken in.
//
// Every run checks what is true of all: no frame is missing, every packet that came
// in or was made has left, ended in a sink or was dropped for a reason, no stage wrote to packets
// that does not say so, and none panicked.
//
// Expected files are written by XDPIPE_UPDATE=1 go test, or by go test -update where
// the package under test defines such a flag.
package pipelinetest
