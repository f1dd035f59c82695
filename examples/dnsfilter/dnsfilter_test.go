package dnsfilter_test

import (
	"context"
	"errors"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	_ "github.com/xdpipe/xdpipe/examples/dnsfilter"
	"github.com/xdpipe/xdpipe/lab"
	"github.com/xdpipe/xdpipe/pipeline/pipelinetest"
	_ "github.com/xdpipe/xdpipe/pipeline/stages"
	"github.com/xdpipe/xdpipe/xdpipetest"
)

const blocked = "parse ! dnsfilter block=ads.example reply->back"

// XDPIPE_UPDATE=1 go test writes the files anew: look at them before you commit them.
func TestQueriesForBlockedNamesAreAnswered(t *testing.T) {
	r := pipelinetest.Run(t, blocked, pipelinetest.ReadFile(t, "testdata/in.pcap")...)
	r.WantPortFile("back", "testdata/back.pcap")
	r.WantFile("testdata/out.pcap")
	r.WantValues("dnsfilter", map[string]uint64{"queries": 5, "answered": 3})
	r.WantDrops(nil)
}

func FuzzQueries(f *testing.F) {
	for _, p := range pipelinetest.ReadFile(f, "testdata/in.pcap") {
		f.Add(p.Data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 0 && len(data) < 1500 {
			pipelinetest.Run(t, blocked, pipelinetest.Packets(data)...)
		}
	})
}

// serve answers every query for an A record with 192.0.2.1 until the connection
// is closed.
func serve(conn net.PacketConn) {
	buf := make([]byte, 2000)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
		if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 60},
				Body:   &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}},
			}}
		}
		if answer, err := m.Pack(); err == nil {
			conn.WriteTo(answer, from)
		}
	}
}

func TestResolversMeetTheFilterAndTheServerBehindIt(t *testing.T) {
	line := xdpipetest.Line(t, lab.Topology{})
	inst := xdpipetest.Start(t, line, xdpipetest.Load(t, "dnsfilter.yaml"))
	var server net.PacketConn
	if err := line.Server.Do(func() (err error) { server, err = net.ListenPacket("udp", ":53"); return err }); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { serve(server); close(done) }()
	defer func() { server.Close(); <-done }()

	for _, addr := range []string{"198.51.100.2:53", "[2001:db8:1::2]:53"} {
		resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (conn net.Conn, err error) {
			err = line.Client.Do(func() (err error) { conn, err = (&net.Dialer{}).DialContext(ctx, "udp", addr); return err })
			return conn, err
		}}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if got, err := resolver.LookupHost(ctx, "www.good.example."); err != nil || len(got) != 1 || got[0] != "192.0.2.1" {
			t.Errorf("%s: www.good.example is %v, %v", addr, got, err)
		}
		for _, name := range []string{"ads.example.", "WWW.Ads.Example."} {
			var notFound *net.DNSError
			if got, err := resolver.LookupHost(ctx, name); !errors.As(err, &notFound) || !notFound.IsNotFound {
				t.Errorf("%s: %s is %v, %v; want that there is no such name", addr, name, got, err)
			}
		}
	}
	if n := xdpipetest.Value(inst, "dnsfilter", "answered"); n == 0 {
		t.Error("the filter answered nothing")
	}
	if dig, err := exec.LookPath("dig"); err == nil {
		digs(t, line, dig)
	}
}

// digs asks with a program that no one here wrote.
func digs(t *testing.T, line *lab.Line, dig string) {
	for name, want := range map[string]string{"tracker.example": "status: NXDOMAIN", "good.example": "192.0.2.1"} {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		out, err := line.Client.Command(ctx, dig, "@198.51.100.2", name).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) || strings.Contains(string(out), "WARNING") {
			t.Errorf("dig %s: %v, want %s in\n%s", name, err, want, out)
		}
	}
}
