package cli

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/xdpipe/xdpipe/control"
	"github.com/xdpipe/xdpipe/lab"
)

func TestALinkThatGoesDownUnderLoadIsWaitedForAndCarriesAgain(t *testing.T) {
	for _, tt := range []struct {
		name string
		port func(*site) *control.Link
		at   int // index of the port in the status
		want string
	}{
		{"the receiving port", func(s *site) *control.Link { return s.PortA }, 0, "link down"},
		{"the transmitting port", func(s *site) *control.Link { return s.PortB }, 1, "link down"},
		{"the receiving port's peer", func(s *site) *control.Link { return s.ClientLink }, 0, "link down"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, lab.Topology{})
			c := s.forward("parse ! count")
			f := s.startFlood()
			f.awaitFlow(t, "traffic before")
			down := tt.port(s)
			for round := range 2 {
				must(t, down.SetUp(false))
				eventually(t, "the state in status", func() bool {
					st := s.status()[0]
					return strings.Contains(st.Ports[tt.at].State, tt.want) && strings.Contains(st.Interfaces[tt.at].State, tt.want)
				})
				if other := s.status()[0].Interfaces[1-tt.at].State; other != "up" {
					t.Errorf("the other port's state is %q", other)
				}
				if round == 0 {
					s.checkIdle(c)
				}
				s.checkPlaces()
				must(t, down.SetUp(true))
				f.awaitFlow(t, "traffic after the link came up")
				eventually(t, "the state up", func() bool { return s.status()[0].Ports[tt.at].State == "up" })
				s.checkPlaces()
			}
			f.stop()
			s.checkUDP(1000)
			c.stop()
			mentions(t, c.err.String(), "link down", "link up")
		})
	}
}

// checkIdle fails if the process burns a core. It bounds gross spinning and
// measures nothing.
func (s *site) checkIdle(c *child) {
	s.t.Helper()
	const window = time.Second
	before := c.cpuTime()
	time.Sleep(window)
	used := c.cpuTime() - before
	s.t.Logf("CPU time while down: %v in %v", used, window)
	if used > window/2 && !slow() {
		s.t.Errorf("used %v of CPU time in %v with the link down", used, window)
	}
}

// cpuTime is what the process has used, in user and kernel mode.
func (c *child) cpuTime() time.Duration {
	c.t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.pid()))
	must(c.t, err)
	// proc_pid_stat(5): after the name in parentheses come the fields from 3;
	// 14 and 15 are utime and stime in ticks of 10 ms.
	_, rest, _ := strings.Cut(string(raw), ") ")
	fields := strings.Fields(rest)
	var ticks int
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		must(c.t, err)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// checkPlaces fails if a frame is in no place, or in two.
func (s *site) checkPlaces() {
	s.t.Helper()
	for _, st := range s.status() {
		if p := st.Memory.Places; p.Sum() != p.Total || p.Total != st.Memory.Frames {
			s.t.Errorf("instance %s: places %+v add up to %d of %d frames", st.Name, p, p.Sum(), st.Memory.Frames)
		}
	}
}

func TestAnInterfaceThatGoesAwayUnderLoadEndsTheRunWithTheReason(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*testing.T, *site)
		want   []string
	}{
		{"the receiving port is deleted", func(t *testing.T, s *site) { must(t, s.PortA.Delete()) },
			[]string{"port veth-a", "the interface was removed"}},
		{"the transmitting port is deleted", func(t *testing.T, s *site) { must(t, s.PortB.Delete()) },
			[]string{"port veth-b", "the interface was removed"}},
		{"the peer is deleted", func(t *testing.T, s *site) { must(t, s.ClientLink.Delete()) },
			[]string{"port veth-a", "the interface was removed"}},
		{"its program is removed", func(t *testing.T, s *site) {
			programs, err := control.Attached(s.PortA)
			must(t, err)
			must(t, control.DetachProgram(s.PortA, programs[0]))
		}, []string{"port veth-a", "XDP program was replaced or removed by someone else"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, lab.Topology{})
			c := s.forward("parse ! count")
			f := s.startFlood()
			f.awaitFlow(t, "traffic before")
			tt.change(t, s)
			if status := c.wait(); status != exitFailed {
				t.Errorf("ended with status %d, want 1", status)
			}
			mentions(t, c.err.String(), tt.want...)
			c.checkAccount()
			s.noTraces("after the end")
		})
	}
}
