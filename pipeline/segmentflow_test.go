package pipeline_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
	"github.com/xdpipe/xdpipe/pipeline/pipelinetest"
)

// long returns packets of 60 to 1000 bytes, of which no two are the same.
func long(n int) [][]byte {
	var list [][]byte
	for i := range n {
		list = append(list, slices.Concat(packet(i)[:60], bytes.Repeat([]byte{byte(i)}, i*47%941)))
	}
	return list
}

// macsSwapped are the packets with their MAC addresses swapped.
func macsSwapped(packets [][]byte) [][]byte {
	var list [][]byte
	for _, p := range packets {
		list = append(list, slices.Concat(p[6:12], p[:6], p[12:]))
	}
	return list
}

// sorted orders packets by the number that they carry.
func sorted(list []pipelinetest.Packet) [][]byte {
	var packets [][]byte
	for _, p := range list {
		packets = append(packets, p.Data)
	}
	slices.SortFunc(packets, func(a, b []byte) int { return bytes.Compare(a[14:16], b[14:16]) })
	return packets
}

// segmentedRuns are ways to run stages on packets of several descriptors.
var segmentedRuns = []pipelinetest.Config{
	{Descriptor: 60}, {Descriptor: 100, Batch: 1}, {Descriptor: 256, Batch: 256}, {Descriptor: 500, Frames: 300},
}

func TestPacketsOfSeveralDescriptorsPassWholeAndInOrder(t *testing.T) {
	in := long(300)
	for _, c := range segmentedRuns {
		r := c.Run(t, "parse ! count ! macswap", pipelinetest.Packets(in...)...)
		r.WantOut(macsSwapped(in)...)
		bytes := 0
		for _, p := range in {
			bytes += len(p)
		}
		r.WantValues("count", map[string]uint64{"packets": 300, "bytes": uint64(bytes)})
	}
}

func TestDroppedPacketsOfSeveralDescriptorsGiveTheirFramesBack(t *testing.T) {
	in := long(300)
	for _, c := range segmentedRuns {
		r := c.Run(t, "drop every=2", pipelinetest.Packets(in...)...)
		r.WantDrops(map[string]uint64{"dropped": 150})
		if n := len(r.Out()); n != 150 {
			t.Errorf("%d packets left", n)
		}
	}
}

func TestAStageThatWritesAfterATeeGetsACopyOfAllDescriptors(t *testing.T) {
	in := long(300)
	for _, c := range segmentedRuns[:3] {
		r := c.Run(t, "tee copy->other ! macswap", pipelinetest.Packets(in...)...)
		r.WantDrops(nil)
		r.WantOut(macsSwapped(in)...)
		if got := sorted(r.Port("other")); !slices.EqualFunc(got, in, bytes.Equal) {
			t.Errorf("%d teed packets are not as they arrived", len(got))
		}
	}
}

func TestAPacketThatCannotBeCopiedIsDroppedAndItsTeeUnharmed(t *testing.T) {
	in := long(64)
	for name, c := range map[string]pipelinetest.Config{
		"one descriptor":      {Batch: 64, Frames: 64},
		"several descriptors": {Batch: 16, Frames: 160, Descriptor: 100},
	} {
		r := c.Run(t, "tee copy->other ! macswap", pipelinetest.Packets(in...)...)
		if got := sorted(r.Port("other")); !slices.EqualFunc(got, in, bytes.Equal) {
			t.Errorf("%s: the teed packets were written to", name)
		}
		lost := r.Drops()["no_free_frame"]
		if lost == 0 || int(lost)+len(r.Out()) != len(in) {
			t.Errorf("%s: %d dropped and %d left of %d", name, lost, len(r.Out()), len(in))
		}
		whole := macsSwapped(in)
		for _, p := range r.Out() {
			if !slices.ContainsFunc(whole, func(w []byte) bool { return bytes.Equal(w, p.Data) }) {
				t.Errorf("%s: %x left, which is no packet that came in with its addresses swapped", name, p.Data)
			}
		}
	}
}

func TestPacketsOfSeveralDescriptorsAreHandedToOtherWorkersWhole(t *testing.T) {
	in := long(300)
	for _, c := range segmentedRuns[:3] {
		c.Workers = 3
		r := c.Run(t, "handoff by=round_robin ! macswap", pipelinetest.Packets(in...)...)
		r.WantDrops(nil)
		if got := sorted(r.Out()); !slices.EqualFunc(got, macsSwapped(in), bytes.Equal) {
			t.Errorf("%d packets left, not all of them whole", len(got))
		}
	}
}

func TestAPortThatTakesPacketsOfOneDescriptorDropsOthersWithTheirReason(t *testing.T) {
	for name, owner := range map[string]int{"the worker's own port": 0, "another worker's port": 1} {
		for _, stages := range []string{"", "count"} {
			eng, a, b := scripted(t, stages, owner+1, owner, nil)
			rounds := 0
			a.receive = func(batch *pipeline.Batch) {
				if rounds++; rounds > 2 {
					return
				}
				arrive(batch, "first")
				arrive(batch, "second", "goes on")
				arrive(batch, "third")
				arrive(batch, "fourth", "goes", "on")
			}
			for range 4 {
				eng.RoundOf(0)
				eng.RoundOf(owner)
			}
			var sent []string
			for _, p := range b.sent {
				sent = append(sent, p.data)
			}
			if want := []string{"first", "third", "first", "third"}; !slices.Equal(sent, want) {
				t.Errorf("%s, stages %q: sent %q, want %q", name, stages, sent, want)
			}
			s := eng.Snapshot()
			lost := uint64(0)
			for _, p := range s.Ports {
				lost += p.Drops["multi_buffer"]
			}
			if lost != 4 {
				t.Errorf("%s, stages %q: %d dropped as multi_buffer, want 4", name, stages, lost)
			}
		}
	}
}
