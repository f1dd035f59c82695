package stages

import (
	"slices"
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
)

func TestTeeTakesOneReferenceToEachPacketAndSendsItOn(t *testing.T) {
	s := &Tee{}
	ctx := provision(t, s, "copy")
	b := newBatch(t, udpPacket(), ethernet("\x08\x06"), []byte("s"))
	s.Process(b)
	if got := teed(b); !slices.Equal(got, []int{0, 1, 2}) {
		t.Errorf("further references to packets %v, want one to each of 3", got)
	}
	if got := verdicts(ctx, b); got != ". . ." {
		t.Errorf("packets go %s, want all to the next stage", got)
	}
}

func TestTeeDoesNotAllocate(t *testing.T) {
	s := &Tee{}
	provision(t, s, "copy")
	noAllocationsTeeing(t, s)
}

func FuzzTee(f *testing.F) { fuzzStage(f, func() pipeline.Stage { return &Tee{} }) }

func BenchmarkTee(b *testing.B) {
	s := &Tee{}
	provision(b, s, "copy")
	benchmarkTeeing(b, s)
}
