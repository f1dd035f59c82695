package stages

import (
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
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

func TestParseDoesNotAllocate(t *testing.T) { noAllocations(t, &Parse{DropMalformed: true}) }

func BenchmarkParse(b *testing.B) { benchmark(b, &Parse{}) }
