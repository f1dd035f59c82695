// Package examples_test runs the configurations beside it on a lab, with the
// kernel's sockets, and what programs there are, as clients.
package examples_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"testing"
	"time"

	"github.com/xdpipe/xdpipe"
	"github.com/xdpipe/xdpipe/lab"
	_ "github.com/xdpipe/xdpipe/pipeline/stages"
	"github.com/xdpipe/xdpipe/xdpipetest"
)

const server = "198.51.100.2"

// fetch gets the page from the server with the kernel's TCP.
func fetch(line *lab.Line, port int) (string, error) {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
		err = line.Client.Do(func() (err error) {
			conn, err = (&net.Dialer{Timeout: 3 * time.Second}).DialContext(ctx, network, addr)
			return err
		})
		return conn, err
	}}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport, Timeout: 20 * time.Second}).Get(fmt.Sprintf("http://%s:%d/", server, port))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// page is long enough for many segments.
var page = string(bytes.Repeat([]byte("here I am\n"), 100000))

func serveHTTP(t *testing.T, line *lab.Line, port int) {
	t.Helper()
	var l net.Listener
	if err := line.Server.Do(func() (err error) { l, err = net.Listen("tcp", fmt.Sprintf(":%d", port)); return err }); err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, page) })}
	done := make(chan struct{})
	go func() { srv.Serve(l); close(done) }()
	t.Cleanup(func() { srv.Close(); <-done })
}

// udp opens a socket in a namespace of the line.
func udp(t *testing.T, ns *lab.NS, local, remote string) net.Conn {
	t.Helper()
	var conn net.Conn
	err := ns.Do(func() (err error) {
		from, err := net.ResolveUDPAddr("udp", local)
		if err != nil {
			return err
		}
		if remote == "" {
			conn, err = net.ListenUDP("udp", from)
			return err
		}
		to, err := net.ResolveUDPAddr("udp", remote)
		if err != nil {
			return err
		}
		conn, err = net.DialUDP("udp", from, to)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// arrived counts datagrams until none comes for a while.
func arrived(conn net.Conn) (n int) {
	buf := make([]byte, 2000)
	for {
		conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		if _, err := conn.Read(buf); err != nil {
			return n
		}
		n++
	}
}

func drops(inst *xdpipe.Instance, reason string) (n uint64) {
	for _, s := range inst.Status().Stages {
		n += s.Drops[reason]
	}
	return n
}

func TestTheFilteringBridgePassesWhatItsRulesPermit(t *testing.T) {
	line := xdpipetest.Line(t, lab.Topology{})
	inst := xdpipetest.Start(t, line, xdpipetest.Load(t, "filter-bridge.yaml"))
	serveHTTP(t, line, 80)
	serveHTTP(t, line, 8080)
	if body, err := fetch(line, 80); err != nil || body != page {
		t.Errorf("%d bytes of the page that is permitted, %v", len(body), err)
	}
	if body, err := fetch(line, 8080); err == nil {
		t.Errorf("%d bytes of the page that is not", len(body))
	}
	if curl, err := exec.LookPath("curl"); err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if out, err := line.Client.Command(ctx, curl, "-sS", "http://"+server+"/").Output(); err != nil || string(out) != page {
			t.Errorf("curl: %v, %d bytes", err, len(out))
		}
	}
	if n := drops(inst, "dropped"); n == 0 { // the branch of those denied
		t.Errorf("nothing was denied: %+v", inst.Status().Stages)
	}
	if p := inst.Status().Memory.Places; p.Sum() != p.Total {
		t.Errorf("places %+v do not add up", p)
	}
}

func TestTheGuardStopsAFloodAndLetsClientsPass(t *testing.T) {
	line := xdpipetest.Line(t, lab.Topology{})
	inst := xdpipetest.Start(t, line, xdpipetest.Load(t, "ddos-guard.yaml"))
	serveHTTP(t, line, 80)
	sink := udp(t, line.Server, ":9000", "")

	got := make(chan int)
	go func() { got <- arrived(sink) }()
	from := udp(t, line.Client, ":0", server+":9000")
	// In bursts, so that it is a flood on a slow machine too.
	sent, over := 0, uint64(0)
	for deadline := time.Now().Add(30 * time.Second); over < 2000 && time.Now().Before(deadline); over = drops(inst, "rate_exceeded") {
		for range 4000 {
			from.Write([]byte("flood"))
			sent++
		}
	}
	n := <-got
	if n == 0 || over < 2000 || n > sent-int(over) {
		t.Errorf("of a flood of %d datagrams %d arrived, and %d packets were dropped for their rate", sent, n, over)
	}
	// The same sender's TCP is another rule's.
	if body, err := fetch(line, 80); err != nil || body != page {
		t.Errorf("%d bytes of the page, %v", len(body), err)
	}
	if ping, err := exec.LookPath("ping"); err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if out, err := line.Client.Command(ctx, ping, "-c", "3", "-i", "0.2", server).CombinedOutput(); err != nil {
			t.Errorf("ping: %v\n%s", err, out)
		}
	}
}

func TestTheSinkCountsAndTimesWhatTheGeneratorMakes(t *testing.T) {
	l := lab.ForTest(t)
	ns := l.MustNamespace("cable")
	if _, err := l.Pair(lab.End{NS: ns, Name: lab.ClientPort}, lab.End{NS: ns, Name: lab.ServerPort}, lab.PairOptions{}); err != nil {
		t.Fatal(err)
	}
	inst := xdpipetest.Start(t, &lab.Line{Xdpipe: ns}, xdpipetest.Load(t, "generate-sink.yaml"))
	deadline := time.Now().Add(60 * time.Second)
	for xdpipetest.Value(inst, "generate", "sent") < 50000 || xdpipetest.Value(inst, "sink", "packets") < 50000 {
		if time.Now().After(deadline) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	for name, want := range map[string]uint64{"packets": 50000, "lost": 0, "duplicates": 0, "reordered": 0, "corrupted": 0} {
		if n := xdpipetest.Value(inst, "sink", name); n != want {
			t.Errorf("%s %d, want %d; %+v", name, n, want, inst.Status().Stages)
		}
	}
	if p50, p99 := xdpipetest.Value(inst, "sink", "latency_p50_ns"), xdpipetest.Value(inst, "sink", "latency_p99_ns"); p50 == 0 || p99 < p50 {
		t.Errorf("latency: half within %d ns, 99 of 100 within %d ns", p50, p99)
	}
}
