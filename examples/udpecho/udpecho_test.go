package udpecho_test

import (
	"bytes"
	"fmt"
	"net"
	"testing"
	"time"

	_ "github.com/xdpipe/xdpipe/examples/udpecho"
	"github.com/xdpipe/xdpipe/lab"
	"github.com/xdpipe/xdpipe/pipeline/pipelinetest"
	_ "github.com/xdpipe/xdpipe/pipeline/stages"
	"github.com/xdpipe/xdpipe/xdpipetest"
)

// XDPIPE_UPDATE=1 go test writes testdata/out.pcap anew: look at it before you commit it.
func TestDatagramsToThePortComeBack(t *testing.T) {
	r := pipelinetest.Run(t, "parse ! udpecho port=7 reply->back", pipelinetest.ReadFile(t, "testdata/in.pcap")...)
	r.WantPortFile("back", "testdata/back.pcap")
	r.WantFile("testdata/out.pcap")
	r.WantValues("udpecho", map[string]uint64{"echoed": 2})
	r.WantDrops(nil)
}

func TestKernelsSocketsGetTheirAnswers(t *testing.T) {
	line := xdpipetest.Line(t, lab.Topology{})
	inst := xdpipetest.Start(t, line, xdpipetest.Load(t, "echo.yaml"))
	const datagrams = 200
	for _, addr := range []string{"198.51.100.9:7", "[2001:db8:1::9]:7"} {
		var conn net.Conn
		if err := line.Client.Do(func() (err error) { conn, err = net.Dial("udp", addr); return err }); err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		buf := make([]byte, 2000)
		for i := range datagrams {
			want := bytes.Repeat([]byte(fmt.Sprint(i)), 1+i%100)
			if _, err := conn.Write(want); err != nil {
				t.Fatal(err)
			}
			conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			n, err := conn.Read(buf)
			if err != nil {
				t.Fatalf("%s, datagram %d: %v; %+v", addr, i, err, inst.Status())
			}
			if !bytes.Equal(buf[:n], want) { // the kernel has checked the checksum
				t.Fatalf("%s, datagram %d: got %q, want %q", addr, i, buf[:n], want)
			}
		}
	}
	if n := xdpipetest.Value(inst, "udpecho", "echoed"); n != 2*datagrams {
		t.Errorf("%d datagrams echoed, want %d", n, 2*datagrams)
	}
}
