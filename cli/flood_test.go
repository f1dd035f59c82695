package cli

import (
	"context"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xdpipe/xdpipe/internal/traffic"
)

// verifying is whether the ownership ledger is on, here and in the children.
var verifying = os.Getenv("XDPIPE_VERIFY") == "1"

// slow is whether something makes each packet cost much more than usual.
func slow() bool { return underRace || verifying }

// checkUDP sends datagrams through the forwarder and fails for each that is not
// there at the other end.
func (s *site) checkUDP(count int) {
	s.t.Helper()
	s.check(traffic.UDP, traffic.Options{Count: count})
}

// check runs a check at a rate that fits what is tested.
func (s *site) check(f func(context.Context, traffic.Peer, traffic.Peer, traffic.Options) (traffic.Result, error), o traffic.Options) {
	s.t.Helper()
	if o.Rate = 20_000; slow() {
		o.Rate = 4_000
	}
	if _, err := f(context.Background(), s.client, s.server, o); err != nil {
		s.t.Error(err)
	}
}

// A flood is datagrams from the client to the server, without end.
type flood struct {
	sent     atomic.Uint64
	received atomic.Uint64
	stop     func()
}

// startFlood sends about 10,000 datagrams a second until stop, or the test's
// end. Whether they arrive, and whether the link is there at all, is not its
// concern.
func (s *site) startFlood() *flood {
	s.t.Helper()
	const port = 9999
	var in *net.UDPConn
	var out net.Conn
	must(s.t, s.Server.Do(func() (err error) {
		in, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.server.IPv4, port)))
		return err
	}))
	must(s.t, s.Client.Do(func() (err error) {
		out, err = net.Dial("udp4", netip.AddrPortFrom(s.server.IPv4, port).String())
		return err
	}))
	f := &flood{}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for buf := make([]byte, 2048); ; {
			if _, err := in.Read(buf); err != nil {
				if ctx.Err() != nil {
					return
				}
				continue
			}
			f.received.Add(1)
		}
	})
	running.Go(func() {
		burst, packet := 10, make([]byte, 400)
		if slow() {
			burst = 2
		}
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			for range burst {
				if _, err := out.Write(packet); err == nil {
					f.sent.Add(1)
				}
			}
		}
	})
	var once sync.Once
	f.stop = func() {
		once.Do(func() {
			cancel()
			in.Close()
			out.Close()
			running.Wait()
		})
	}
	s.t.Cleanup(f.stop)
	return f
}

// awaitFlow waits until more datagrams arrive than there are now.
func (f *flood) awaitFlow(t testing.TB, what string) {
	t.Helper()
	from := f.received.Load()
	eventually(t, what, func() bool { return f.received.Load() > from+100 })
}

// addressPort gives the client's port an address of its own, which the kernel
// answers on when nobody takes its packets, and the client a way to it that
// needs no ARP.
func (s *site) addressPort() netip.Addr {
	s.t.Helper()
	prefix := netip.MustParsePrefix("198.51.100.9/24")
	must(s.t, s.PortA.AddAddress(prefix))
	must(s.t, s.ClientLink.AddNeighbour(prefix.Addr(), s.PortA.MAC))
	must(s.t, s.PortA.AddNeighbour(s.client.IPv4, s.ClientLink.MAC))
	return prefix.Addr()
}
