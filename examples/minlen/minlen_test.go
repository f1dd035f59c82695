package minlen

import (
	"testing"

	"github.com/xdpipe/xdpipe/pipeline/pipelinetest"
)

// XDPIPE_UPDATE=1 go test writes testdata/out.pcap anew: look at it before you commit it.
func TestShortPacketsAreDropped(t *testing.T) {
	r := pipelinetest.Run(t, "minlen min=60", pipelinetest.ReadFile(t, "testdata/in.pcap")...)
	r.WantFile("testdata/out.pcap")
	r.WantDrops(map[string]uint64{"too_short": 3})
}
