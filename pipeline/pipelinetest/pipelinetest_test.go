package pipelinetest_test

import (
	"testing"

	"github.com/xdpipe/xdpipe/pipeline/pipelinetest"
	_ "github.com/xdpipe/xdpipe/pipeline/stages"
)

func frame(n byte) []byte {
	p := make([]byte, 60)
	p[59] = n
	return p
}

func TestPacketsComeOutInOrderAndDropsAreCounted(t *testing.T) {
	r := pipelinetest.Run(t, "parse ! drop every=2", pipelinetest.Packets(frame(1), frame(2), frame(3), frame(4))...)
	r.WantOut(frame(1), frame(3))
	r.WantDrops(map[string]uint64{"dropped": 2})
}

func TestFilesKeepPacketsAndTimes(t *testing.T) {
	file := t.TempDir() + "/x.pcap"
	want := pipelinetest.Packets(frame(1), frame(2))
	pipelinetest.WriteFile(t, file, want)
	got := pipelinetest.ReadFile(t, file)
	if len(got) != 2 || got[1].At != want[1].At {
		t.Fatalf("read %v, want %v", got, want)
	}
	r := pipelinetest.Run(t, "count", got...)
	r.WantFile(file)
	r.WantValues("count", map[string]uint64{"packets": 2, "bytes": 120})
	if at := r.Out()[1].At; at != want[1].At {
		t.Errorf("the second arrived at %v, want %v", at, want[1].At)
	}
}
