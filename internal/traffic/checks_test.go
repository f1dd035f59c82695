package traffic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

type check func(context.Context, Peer, Peer, Options) (Result, error)

// allChecks are small enough for tests; Large runs on paths made for it.
var allChecks = []struct {
	name  string
	check check
	opt   Options
	sent  uint64 // what Result.Sent must be
	bytes uint64 // what Result.Bytes must be, if not zero
}{
	{"arp", ARP, Options{Count: 50}, 50, 0},
	{"nd", ND, Options{Count: 50}, 50, 0},
	{"icmp", ICMP, Options{Count: 200}, 200, 0},
	{"icmpv6", ICMPv6, Options{Count: 200}, 200, 0},
	{"tcp", TCP, Options{Bytes: 8<<20 + 12345}, 0, 2 * (8<<20 + 12345)},
	{"tcp", TCP, Options{Bytes: 8<<20 + 12345, IPv6: true}, 0, 2 * (8<<20 + 12345)},
	{"tcp", TCP, Options{Bytes: 1}, 0, 2},
	{"udp", UDP, Options{Count: 5000, Rate: 40_000}, 5000, 0},
	{"udp", UDP, Options{Count: 5000, Rate: 40_000, IPv6: true}, 5000, 0},
	{"vlan", VLAN, Options{Count: 300}, 600, 0},
	{"large", Large, Options{Count: 200}, 400, 400 * 2958},
	{"large", Large, Options{Count: 200, IPv6: true}, 400, 400 * 2938},
}

func TestEveryCheckPassesOnASoundPath(t *testing.T) {
	checkLeaks(t)
	paths := []struct {
		name string
		make func(t *testing.T, mtu int) *testNet
	}{
		{"direct", func(t *testing.T, mtu int) *testNet { return newTestNet(t, true, mtu) }},
		{"bridge", func(t *testing.T, mtu int) *testNet {
			n := newTestNet(t, false, mtu)
			n.bridge(t)
			return n
		}},
		{"sockets", func(t *testing.T, mtu int) *testNet {
			n := newTestNet(t, false, mtu)
			n.misbehave(t, func(_ bool, frame []byte) [][]byte { return [][]byte{frame} })
			return n
		}},
	}
	for _, p := range paths {
		t.Run(p.name, func(t *testing.T) {
			standard, raised := p.make(t, 1500), p.make(t, defaultFrameSize-ethernetHeader)
			for _, c := range allChecks {
				t.Run(fmt.Sprintf("%s ipv6=%t", c.name, c.opt.IPv6), func(t *testing.T) {
					n := standard
					if c.name == "large" {
						n = raised
					}
					r, err := c.check(t.Context(), n.client, n.server, c.opt)
					if err != nil {
						t.Fatal(err)
					}
					if r.Check != c.name || r.Sent != c.sent || r.Received != c.sent {
						t.Errorf("check %q sent %d and received %d, want %q and %d", r.Check, r.Sent, r.Received, c.name, c.sent)
					}
					if r.Lost+r.Duplicated+r.Reordered+r.Corrupted > 0 {
						t.Errorf("passed with faults: %+v", r)
					}
					if c.bytes != 0 && r.Bytes != c.bytes {
						t.Errorf("%d bytes, want %d", r.Bytes, c.bytes)
					}
					if r.Detail == "" || r.Elapsed <= 0 {
						t.Errorf("no detail or no time: %+v", r)
					}
					t.Log(r.Detail)
				})
			}
		})
	}
}

func TestAFaultyPathFailsTheCheckAndIsDescribed(t *testing.T) {
	checkLeaks(t)
	idle := 300 * time.Millisecond
	udp := Options{Count: 2000, Rate: 20_000, Idle: idle}
	echo := Options{Count: 100, Idle: idle}
	vlan := Options{Count: 100, Idle: idle}
	large := Options{Count: 100, Idle: idle}
	clearPriority := func(frame []byte) [][]byte {
		frame[14] &= 0x1f
		return [][]byte{frame}
	}
	stripTag := func(frame []byte) [][]byte {
		return [][]byte{append(frame[:12:12], frame[16:]...)}
	}
	cutTail := func(frame []byte) [][]byte { return [][]byte{frame[:len(frame)-1]} }
	for _, c := range []struct {
		name   string
		fault  fault
		check  check
		opt    Options
		causes []error
		counts func(Result) bool
		text   []string
	}{
		{"arp requests lost", every(10, "arp", true, true, drop), ARP, Options{Count: 15, Idle: idle},
			[]error{ErrLost}, func(r Result) bool { return r.Lost == 1 && r.Received == 14 },
			[]string{"1 of 15 resolutions lost (number 9)", "the request or its answer was lost"}},
		{"arp answered but echo lost", every(10, "icmp", false, true, drop), ARP, Options{Count: 15, Idle: idle},
			[]error{ErrLost}, func(r Result) bool { return r.Lost == 1 }, []string{"number 9: resolved, then the echo was lost"}},
		{"all arp lost", every(1, "arp", true, true, drop), ARP, Options{Idle: idle},
			[]error{ErrLost}, func(r Result) bool { return r.Lost == 3 && r.Sent == 3 }, []string{"stopped before the other 997"}},
		{"nd answers lost", every(10, "nd", false, true, drop), ND, Options{Count: 15, Idle: idle},
			[]error{ErrLost}, func(r Result) bool { return r.Lost >= 1 }, []string{"the request or its answer was lost"}},
		{"echo lost", every(30, "icmp", true, true, drop), ICMP, echo,
			[]error{ErrLost}, func(r Result) bool { return r.Lost == 3 && r.Received == 97 }, []string{"3 of 100 echoes lost (number 29, 59, 89)", "192.0.2.1"}},
		{"echo doubled", every(30, "icmp", false, true, double), ICMP, echo,
			[]error{ErrDuplicated}, func(r Result) bool { return r.Duplicated == 3 && r.Lost == 0 }, []string{"3 echoes arrived more than once (first: number 29)"}},
		{"last echo doubled", every(100, "icmp", false, true, double), ICMP, echo,
			[]error{ErrDuplicated}, func(r Result) bool { return r.Duplicated == 1 }, []string{"number 99"}},
		{"echo changed", every(20, "icmp", false, false, flipBit), ICMP, echo,
			[]error{ErrCorrupted}, func(r Result) bool { return r.Corrupted > 0 && r.Lost == 0 }, []string{"different from byte 58 on"}},
		{"echo over IPv6 lost on the way back", every(50, "icmpv6", false, true, drop), ICMPv6, echo,
			[]error{ErrLost}, func(r Result) bool { return r.Lost == 2 }, []string{"2001:db8::1", "2 of 100 echoes lost"}},
		{"echo over IPv6 changed unseen by checksums", every(20, "icmpv6", true, false, swapWords), ICMPv6, echo,
			[]error{ErrCorrupted}, func(r Result) bool { return r.Corrupted > 0 && r.Lost == 0 }, []string{"changed on the way"}},
		{"tcp changed unseen by checksums", every(1000, "tcp", false, false, swapWords), TCP, Options{Bytes: 4 << 20},
			[]error{ErrCorrupted}, func(r Result) bool { return r.Corrupted == 1 }, []string{"server 192.0.2.2 to client 192.0.2.1: changed on the way, from byte"}},
		{"tcp dead after a while", blackhole(500, "tcp"), TCP, Options{Bytes: 64 << 20, Idle: idle},
			[]error{ErrLost}, func(r Result) bool { return r.Bytes > 0 && r.Bytes < 128<<20 }, []string{"nothing arrived for 300ms, after", "sent again"}},
		{"tcp without an answer", every(1, "tcp", true, true, drop), TCP, Options{Idle: idle},
			[]error{ErrLost}, func(r Result) bool { return r.Bytes == 0 }, []string{"connecting: lost: no answer within 300ms"}},
		{"udp dead from the start", every(1, "udp", true, true, drop), UDP, udp,
			[]error{ErrLost}, func(r Result) bool { return r.Lost == 1 && r.Sent == 1 }, []string{"sending one packet ahead: lost: it did not arrive within 300ms"}},
		{"udp datagram sent ahead doubled", shorterThan(51, once(double)), UDP, udp,
			[]error{ErrDuplicated}, func(r Result) bool { return r.Duplicated == 1 && r.Lost == 0 }, []string{"first: the one sent ahead"}},
		{"udp lost", every(500, "udp", true, false, drop), UDP, udp,
			[]error{ErrLost}, func(r Result) bool { return r.Lost == 3 && r.Received == 1997 }, []string{"3 of 2,000 datagrams lost", "the receiving socket dropped none: lost on the way"}},
		{"udp too short for a number lost", shorterThan(50, drop), UDP, udp,
			[]error{ErrLost}, func(r Result) bool { return r.Lost >= 8 && r.Received+r.Lost == 2000 }, nil},
		{"udp too short for a number doubled", shorterThan(50, double), UDP, udp,
			[]error{ErrDuplicated}, func(r Result) bool { return r.Duplicated >= 8 && r.Lost == 0 && r.Reordered == 0 }, nil},
		{"udp doubled", every(500, "udp", true, true, double), UDP, udp,
			[]error{ErrDuplicated}, func(r Result) bool { return r.Duplicated == 4 && r.Lost == 0 }, []string{"4 datagrams arrived more than once (first: number 498)"}},
		{"udp out of order", swapOrder(500, "udp"), UDP, udp,
			[]error{ErrReordered}, func(r Result) bool { return r.Reordered == 3 && r.Lost == 0 }, []string{"3 datagrams out of order (first: number 498)"}},
		{"udp changed, caught by the checksum", every(500, "udp", true, false, flipBit), UDP, udp,
			[]error{ErrLost}, func(r Result) bool { return r.Lost == 3 }, []string{"3 of 2,000 datagrams lost", "bad checksum: 3"}},
		{"udp changed unseen by checksums", every(500, "udp", true, false, swapWords), UDP, udp,
			[]error{ErrCorrupted}, func(r Result) bool { return r.Corrupted == 3 && r.Lost == 0 }, []string{"3 datagrams changed on the way", "differs at byte 5"}},
		{"udp over IPv6 lost and doubled", both(every(500, "udp", true, false, drop), every(500, "udp", true, false, double)), UDP, Options{Count: 2000, Rate: 20_000, Idle: idle, IPv6: true},
			[]error{ErrLost, ErrDuplicated}, func(r Result) bool { return r.Lost == 3 && r.Duplicated == 3 }, nil},
		{"vlan frames lost", every(30, "vlan", true, true, drop), VLAN, vlan,
			[]error{ErrLost}, func(r Result) bool { return r.Lost == 3 && r.Sent == 200 }, []string{"client 192.0.2.1 to server 192.0.2.2: 3 of 100 frames lost (number 29, 59, 89)", "lost on the way"}},
		{"vlan frames doubled", every(30, "vlan", false, true, double), VLAN, vlan,
			[]error{ErrDuplicated}, func(r Result) bool { return r.Duplicated == 3 }, []string{"server 192.0.2.2 to client 192.0.2.1: 3 frames arrived more than once"}},
		{"vlan priority cleared", every(30, "vlan", true, true, clearPriority), VLAN, vlan,
			[]error{ErrCorrupted}, func(r Result) bool { return r.Corrupted == 3 && r.Lost == 0 }, []string{"sent with tag 0x8100 id 204 priority 5 drop-eligible 1, arrived with tag 0x8100 id 204 priority 0 drop-eligible 1"}},
		{"vlan tag stripped", every(30, "vlan", true, true, stripTag), VLAN, vlan,
			[]error{ErrCorrupted}, func(r Result) bool { return r.Corrupted == 3 && r.Lost == 0 }, []string{"arrived with no tag"}},
		{"vlan payload changed", every(30, "vlan", true, false, flipBit), VLAN, vlan,
			[]error{ErrCorrupted}, func(r Result) bool { return r.Corrupted > 0 && r.Lost == 0 }, []string{"different from byte 100 on"}},
		{"vlan frame cut", every(30, "vlan", true, true, cutTail), VLAN, vlan,
			[]error{ErrCorrupted}, func(r Result) bool { return r.Corrupted == 3 }, []string{"bytes sent"}},
		{"vlan lost both ways", both(every(50, "vlan", true, true, drop), every(50, "vlan", false, true, drop)), VLAN, vlan,
			[]error{ErrLost}, func(r Result) bool { return r.Lost == 4 }, []string{"client 192.0.2.1 to server", "server 192.0.2.2 to client"}},
		{"large frames lost", every(30, "udp", false, false, drop), Large, large,
			[]error{ErrLost}, func(r Result) bool { return r.Lost == 3 && r.Received == 197 }, []string{"server 192.0.2.2 to client 192.0.2.1: 3 of 100 datagrams lost"}},
		{"large frames changed", every(30, "udp", true, false, swapWords), Large, large,
			[]error{ErrCorrupted}, func(r Result) bool { return r.Corrupted == 3 }, []string{"number 29 of 2958 bytes differs at byte 5"}},
		{"large path smaller than its ends", every(1, "udp", true, false, func(f []byte) [][]byte {
			if len(f) > 1514 {
				return nil
			}
			return [][]byte{f}
		}), Large, large, []error{ErrLost}, func(r Result) bool { return r.Lost == 100 }, []string{"100 of 100 datagrams lost (number 0-99)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // most of the time is spent waiting for what does not come
			n := newTestNet(t, false, defaultFrameSize-ethernetHeader)
			n.misbehave(t, c.fault)
			if c.opt.MTU == 0 {
				c.opt.MTU = 1500
			}
			c.opt.FrameSize = 0
			if strings.HasPrefix(c.name, "large") {
				c.opt.MTU = 0
			}
			r, err := c.check(t.Context(), n.client, n.server, c.opt)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("error %v of type %T, want an *Error; result %+v", err, err, r)
			}
			t.Log(err)
			for _, sentinel := range []error{ErrLost, ErrDuplicated, ErrReordered, ErrCorrupted, ErrDeadline} {
				wanted := false
				for _, w := range c.causes {
					wanted = wanted || w == sentinel
				}
				if got := errors.Is(err, sentinel); got != wanted {
					t.Errorf("errors.Is(%q) = %t, want %t", sentinel, got, wanted)
				}
			}
			if !c.counts(r) {
				t.Errorf("counts are wrong: %+v", r)
			}
			if !strings.HasPrefix(err.Error(), r.Check+": ") {
				t.Errorf("the message does not begin with the check's name %q", r.Check)
			}
			for _, text := range c.text {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("the message lacks %q", text)
				}
			}
		})
	}
}

// blackhole passes the first frames of a kind to the server and no more.
func blackhole(after int, what string) fault {
	count := 0
	return func(toServer bool, frame []byte) [][]byte {
		if toServer && kind(frame) == what {
			if count++; count > after {
				return nil
			}
		}
		return [][]byte{frame}
	}
}

// shorterThan applies f to UDP frames over IPv4 to the server below a size.
func shorterThan(size int, f func([]byte) [][]byte) fault {
	return func(toServer bool, frame []byte) [][]byte {
		if toServer && kind(frame) == "udp" && len(frame) < size {
			return f(frame)
		}
		return [][]byte{frame}
	}
}

// once applies f to the first frame alone.
func once(f func([]byte) [][]byte) func([]byte) [][]byte {
	done := false
	return func(frame []byte) [][]byte {
		if done {
			return [][]byte{frame}
		}
		done = true
		return f(frame)
	}
}

// both applies two faults, the second to what the first lets out.
func both(a, b fault) fault {
	return func(toServer bool, frame []byte) (out [][]byte) {
		for _, f := range a(toServer, frame) {
			out = append(out, b(toServer, f)...)
		}
		return out
	}
}

func TestAWrongHardwareAddressFailsResolution(t *testing.T) {
	checkLeaks(t)
	n := newTestNet(t, true, 1500)
	n.server.MAC = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	for _, check := range []check{ARP, ND} {
		_, err := check(t.Context(), n.client, n.server, Options{Count: 3})
		if !errors.Is(err, ErrCorrupted) || !strings.Contains(err.Error(), "the server has 02:00:00:00:00:01") {
			t.Errorf("got %v", err)
		}
	}
}

func TestEveryCheckEndsWithItsContextAndItsDeadline(t *testing.T) {
	checkLeaks(t)
	n := newTestNet(t, false, 1500)
	n.misbehave(t, func(bool, []byte) [][]byte { return nil })
	for _, c := range []struct {
		name  string
		check check
		opt   Options
	}{
		{"arp", ARP, Options{}},
		{"nd", ND, Options{}},
		{"icmp", ICMP, Options{}},
		{"icmpv6", ICMPv6, Options{}},
		{"tcp", TCP, Options{Bytes: 1000}},
		{"udp", UDP, Options{}},
		{"udp at one per second", UDP, Options{Rate: 1}},
		{"vlan", VLAN, Options{}},
		{"large", Large, Options{FrameSize: 1400}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.opt.Idle = time.Minute
			ctx, cancel := context.WithCancel(t.Context())
			timer := time.AfterFunc(50*time.Millisecond, cancel)
			defer timer.Stop()
			_, err := c.check(ctx, n.client, n.server, c.opt)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: got %v", err)
			}
			c.opt.Deadline = 50 * time.Millisecond
			_, err = c.check(t.Context(), n.client, n.server, c.opt)
			if !errors.Is(err, ErrDeadline) {
				t.Errorf("past the deadline: got %v", err)
			}
			t.Log(err)
		})
	}
}

func TestProgressEndsAtTheResultAndIsNotCalledLater(t *testing.T) {
	checkLeaks(t)
	n := newTestNet(t, true, 1500)
	for _, c := range allChecks {
		if c.name == "large" {
			c.opt.FrameSize = 1500
		}
		t.Run(c.name, func(t *testing.T) {
			var (
				packets, bytes uint64
				calls          int
				returned       bool
			)
			c.opt.Progress = func(p, b uint64) {
				if returned {
					t.Error("called after the check returned")
				}
				if p < packets || b < bytes {
					t.Errorf("went back from %d packets and %d bytes to %d and %d", packets, bytes, p, b)
				}
				packets, bytes = p, b
				calls++
			}
			r, err := c.check(t.Context(), n.client, n.server, c.opt)
			returned = true
			must(t, err)
			if calls == 0 || packets != r.Received || bytes != r.Bytes {
				t.Errorf("after %d calls: %d packets and %d bytes, the result has %d and %d", calls, packets, bytes, r.Received, r.Bytes)
			}
		})
	}
}

func TestWhatACheckCannotRunWithIsRefused(t *testing.T) {
	checkLeaks(t)
	n := newTestNet(t, true, 1500)
	edit := func(p Peer, f func(*Peer)) Peer {
		f(&p)
		return p
	}
	for _, c := range []struct {
		name           string
		check          check
		client, server Peer
		opt            Options
		text           string
	}{
		{"negative count", UDP, n.client, n.server, Options{Count: -1}, "udp: options: count -1 is negative"},
		{"negative rate", UDP, n.client, n.server, Options{Rate: -1}, "rate -1 is negative"},
		{"negative bytes", TCP, n.client, n.server, Options{Bytes: -1}, "bytes -1 is negative"},
		{"negative idle", TCP, n.client, n.server, Options{Idle: -1}, "is negative"},
		{"tiny mtu", ICMP, n.client, n.server, Options{MTU: 40}, "mtu 40 is not between 68 and 65535"},
		{"more echoes than numbers", ICMP, n.client, n.server, Options{Count: 65537}, "count 65537 is above 65536"},
		{"no namespace", TCP, Peer{}, n.server, Options{}, "client: no namespace given"},
		{"no interface", UDP, n.client, edit(n.server, func(p *Peer) { p.Interface = "" }), Options{}, "server: no interface given"},
		{"interface not there", UDP, edit(n.client, func(p *Peer) { p.Interface = "absent0" }), n.server, Options{}, "looking up interface absent0"},
		{"no IPv4", ARP, n.client, edit(n.server, func(p *Peer) { p.IPv4 = p.IPv6 }), Options{}, "is not an IPv4 address"},
		{"no IPv6", ND, edit(n.client, func(p *Peer) { p.IPv6 = p.IPv4 }), n.server, Options{}, "is not an IPv6 address"},
		{"no MAC", VLAN, n.client, edit(n.server, func(p *Peer) { p.MAC = nil }), Options{}, "is not an Ethernet address"},
		{"address of another host", ICMP, edit(n.client, func(p *Peer) { p.IPv4 = n.server.IPv4.Next() }), n.server, Options{}, "is the address assigned there"},
		{"mtu too small for large frames", Large, n.client, n.server, Options{}, "a frame of 3000 bytes needs an MTU of 2986 and the path's is 1500"},
		{"mtu said to be larger than it is", Large, n.client, n.server, Options{MTU: 9000, Count: 10, Idle: time.Millisecond}, "2958 bytes do not fit the path's MTU"},
		{"frame too small for a number", Large, n.client, n.server, Options{FrameSize: 45}, "ask for at least 50"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := c.check(t.Context(), c.client, c.server, c.opt)
			if err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want it to contain %q", err, c.text)
			}
		})
	}
}
