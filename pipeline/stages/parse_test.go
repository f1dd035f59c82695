package stages

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
	"github.com/xdpipe/xdpipe/pipeline/pipelinetest"
)

func TestParseFillsInTheMetadataOfEveryPacket(t *testing.T) {
	b := newBatch(t, udpPacket(), ethernet("\x08\x06"), ipv4Packet(6, whole, ports), []byte("short"))
	(&Parse{}).Process(b)
	for i, want := range []struct {
		flags    pipeline.MetaFlags
		protocol uint8
		dst      uint16
	}{
		{pipeline.MetaParsed | pipeline.MetaIPv4 | pipeline.MetaL4 | pipeline.MetaPorts, 17, 53},
		{pipeline.MetaParsed | pipeline.MetaARP, 0, 0},
		{pipeline.MetaParsed | pipeline.MetaIPv4 | pipeline.MetaL4 | pipeline.MetaPorts, 6, 53},
		{pipeline.MetaParsed | pipeline.MetaMalformed, 0, 0},
	} {
		if m := b.Meta(i); m.Flags != want.flags || m.Protocol != want.protocol || m.DstPort != want.dst {
			t.Errorf("packet %d is %+v, want %+v", i, m, want)
		}
		if b.Dropped(i) {
			t.Errorf("packet %d is dropped though nobody asked for it", i)
		}
	}
}

func TestParseDropsMalformedPacketsIfAsked(t *testing.T) {
	r := newRig(t, 1, "parse drop_malformed=true")
	bad := ethernet("\x08\x00", "\x4f") // its header would be 60 bytes of a total of 0
	left := r.pass(0, udpPacket(), bad, ethernet("\x86\xdd", "\x45"), udpPacket())
	if len(left) != 2 {
		t.Errorf("%d packets left, want the 2 whole ones", len(left))
	}
	if d := r.Snapshot().Stages[0].Drops; d["malformed"] != 2 || len(d) != 1 {
		t.Errorf("drops %v, want 2 malformed", d)
	}
	must(t, r.stop())
}

// summed returns copies of packets with right checksums: UDP over IPv4.
func summed(t *testing.T, packets ...[]byte) [][]byte {
	b := newBatch(t, packets...)
	b.Parse()
	for i := range packets {
		if !b.CompleteChecksum(i) {
			t.Fatalf("no checksum for %x", packets[i])
		}
		packets[i] = bytes.Clone(b.Data(i))
	}
	return packets
}

func TestParseChecksChecksumsIfAskedAndNotesThem(t *testing.T) {
	good := summed(t, udpPacket())[0]
	header, payload, none := bytes.Clone(good), bytes.Clone(good), bytes.Clone(good)
	header[22]--
	payload[50]++
	none[40], none[41] = 0, 0
	in := pipelinetest.Packets(good, header, payload, none, ethernet("\x08\x06"))
	for stage, want := range map[string]struct {
		states []pipeline.Checksum
		drops  map[string]uint64
		values map[string]uint64
	}{
		"parse": {states: make([]pipeline.Checksum, 5)},
		"parse checksums=true": {
			states: []pipeline.Checksum{pipeline.ChecksumGood, pipeline.ChecksumBad, pipeline.ChecksumBad, pipeline.ChecksumUnknown, pipeline.ChecksumUnknown},
			values: map[string]uint64{"checksum_good": 1, "checksum_bad": 2, "unchecked": 2},
		},
		"parse drop_bad_checksum=true": {
			states: []pipeline.Checksum{pipeline.ChecksumGood, pipeline.ChecksumUnknown, pipeline.ChecksumUnknown},
			drops:  map[string]uint64{"bad_checksum": 2},
			values: map[string]uint64{"checksum_good": 1, "checksum_bad": 2, "unchecked": 2},
		},
	} {
		r := pipelinetest.Run(t, stage, in...)
		r.WantDrops(want.drops)
		if got := r.Values("parse"); !maps.Equal(got, want.values) {
			t.Errorf("%s: values %v, want %v", stage, got, want.values)
		}
		var states []pipeline.Checksum
		for _, p := range r.Out() {
			states = append(states, p.Meta.Checksum)
		}
		if !slices.Equal(states, want.states) {
			t.Errorf("%s: the checksums are %v, want %v", stage, states, want.states)
		}
	}
}

func TestParseDropsAMalformedPacketOnceAlsoIfItChecksChecksums(t *testing.T) {
	r := pipelinetest.Run(t, "parse drop_malformed=true drop_bad_checksum=true",
		pipelinetest.Packets(ethernet("\x08\x00", "\x4f"), summed(t, udpPacket())[0])...)
	r.WantDrops(map[string]uint64{"malformed": 1})
}

func TestParseDoesNotAllocate(t *testing.T) {
	noAllocations(t, &Parse{DropMalformed: true})
	noAllocations(t, &Parse{DropBad: true})
}

func BenchmarkParse(b *testing.B) { benchmark(b, &Parse{}) }

func BenchmarkParseWithChecksums(b *testing.B) { benchmark(b, &Parse{Checksums: true}) }
