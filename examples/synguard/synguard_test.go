package synguard_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"os/exec"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xdpipe/xdpipe"
	_ "github.com/xdpipe/xdpipe/examples/synguard"
	"github.com/xdpipe/xdpipe/lab"
	"github.com/xdpipe/xdpipe/pipeline"
	"github.com/xdpipe/xdpipe/pipeline/pipelinetest"
	_ "github.com/xdpipe/xdpipe/pipeline/stages"
	"github.com/xdpipe/xdpipe/xdpipetest"
)

// segment is a TCP segment without data.
func segment(from byte, port uint16, flags byte, seq, ack uint32) []byte {
	p := make([]byte, 60)
	copy(p, "\x02\x00\x00\x00\x00\x0b\x02\x00\x00\x00\x00\x0a\x08\x00\x45\x00\x00\x28\x00\x00\x40\x00\x40\x06\x00\x00\xc6\x33\x64\x00\xc6\x33\x64\x02")
	p[29] = from
	binary.BigEndian.PutUint16(p[24:], pipeline.FoldSum(pipeline.SumBytes(0, p[14:34])))
	binary.BigEndian.PutUint16(p[34:], 40000)
	binary.BigEndian.PutUint16(p[36:], port)
	binary.BigEndian.PutUint32(p[38:], seq)
	binary.BigEndian.PutUint32(p[42:], ack)
	p[46], p[47] = 5<<4, flags
	return p
}

const guard = "parse ! synguard ports=80 reply->back"

func TestTheFirstSYNIsChallengedWithTheRightForm(t *testing.T) {
	r := pipelinetest.Run(t, guard, pipelinetest.Packets(segment(1, 80, 2, 1000, 0))...)
	r.WantOut()
	back := r.Port("back")
	if len(back) != 1 {
		t.Fatalf("%d answers, want 1", len(back))
	}
	p := back[0].Data
	b := pipelinetest.Run(t, "parse checksums=true ! count", back...)
	if got := b.Out()[0].Meta; got.Checksum != pipeline.ChecksumGood || got.SrcPort != 80 || got.DstPort != 40000 {
		t.Errorf("the answer is %+v", got)
	}
	if len(p) != 54 || p[47] != 0x12 || binary.BigEndian.Uint32(p[42:]) == 1001 {
		t.Errorf("%x is no SYN-ACK of something that was never sent", p)
	}
}

func TestWhatIsNotGuardedPasses(t *testing.T) {
	packets := [][]byte{segment(1, 22, 2, 1, 0), segment(1, 80, 16, 1, 1), segment(1, 80, 4, 1, 0), segment(1, 80, 0x12, 1, 1)}
	r := pipelinetest.Run(t, guard, pipelinetest.Packets(packets...)...)
	r.WantOut(packets...)
}

func FuzzSegments(f *testing.F) {
	f.Add(segment(1, 80, 2, 1000, 0))
	f.Add(segment(1, 80, 4, 1000, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 0 && len(data) < 1500 {
			pipelinetest.Run(t, guard, pipelinetest.Packets(data)...)
		}
	})
}

// flood sends SYNs of forged senders from the client's interface until ctx ends,
// and returns how many.
func flood(ctx context.Context, line *lab.Line, server net.HardwareAddr) (n int, err error) {
	err = line.Client.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		to := &unix.SockaddrLinklayer{Ifindex: line.ClientLink.Index}
		for ctx.Err() == nil && n < 200000 {
			p := segment(byte(10+n%200), 80, 2, uint32(n), 0)
			copy(p, server)
			binary.BigEndian.PutUint16(p[34:], uint16(n))
			if err := unix.Sendto(fd, p, 0, to); err != nil && err != unix.ENOBUFS {
				return err
			}
			n++
			if n%20 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		return nil
	})
	return n, err
}

func TestClientsConnectDuringAFloodThatNeverReachesTheServer(t *testing.T) {
	line := xdpipetest.Line(t, lab.Topology{})
	inst := xdpipetest.Start(t, line, xdpipetest.Load(t, "synguard.yaml"))
	stop := serveHTTP(t, line)
	defer stop()

	ctx, cancel := context.WithCancel(context.Background())
	var flooding sync.WaitGroup
	sent := 0
	flooding.Go(func() {
		var err error
		if sent, err = flood(ctx, line, line.ServerLink.MAC); err != nil {
			t.Error(err)
		}
	})
	for _, host := range []string{"198.51.100.2", "[2001:db8:1::2]"} {
		get(t, line, "http://"+host+"/")
	}
	if curl, err := exec.LookPath("curl"); err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if out, err := line.Client.Command(ctx, curl, "-sS", "http://198.51.100.2/").CombinedOutput(); err != nil || string(out) != page {
			t.Errorf("curl: %v, %q", err, out)
		}
	}
	cancel()
	flooding.Wait()
	challenged, admitted := xdpipetest.Value(inst, "synguard", "challenged"), xdpipetest.Value(inst, "synguard", "admitted")
	if sent < 100 || challenged < uint64(sent)*9/10 || admitted < 2 {
		t.Errorf("%d forged SYNs sent, %d challenged, %d clients admitted", sent, challenged, admitted)
	}
	if passed := transmitted(inst, "servers"); passed > uint64(sent)/2 {
		t.Errorf("%d packets reached the server's side, of %d forged ones and a few of real clients", passed, sent)
	}
}

const page = "here I am\n"

func serveHTTP(t *testing.T, line *lab.Line) (stop func()) {
	t.Helper()
	var l net.Listener
	if err := line.Server.Do(func() (err error) { l, err = net.Listen("tcp", ":80"); return err }); err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, page) })}
	done := make(chan struct{})
	go func() { srv.Serve(l); close(done) }()
	return func() { srv.Close(); <-done }
}

// get fetches the page with the kernel's TCP.
func get(t *testing.T, line *lab.Line, url string) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
		err = line.Client.Do(func() (err error) { conn, err = (&net.Dialer{}).DialContext(ctx, network, addr); return err })
		return conn, err
	}}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport, Timeout: 30 * time.Second}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != page {
		t.Errorf("%s: %q, %v", url, body, err)
	}
}

func transmitted(inst *xdpipe.Instance, port string) (n uint64) {
	for _, p := range inst.Status().Ports {
		if p.Name == port {
			n += p.TxPackets
		}
	}
	return n
}
