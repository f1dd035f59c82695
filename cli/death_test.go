package cli

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/xdpipe/xdpipe/control"
	"github.com/xdpipe/xdpipe/lab"
)

func TestWithinASecondOfKill9UnderLoadTheKernelAnswersAgain(t *testing.T) {
	s := newSite(t, lab.Topology{})
	address := s.addressPort()
	ping := newPinger(t, s.Client, address)
	if !ping.ping(5 * time.Second) {
		t.Fatal("the kernel does not answer on the port before there is an instance")
	}
	unchanged := s.before()
	c := s.forward("parse ! count")
	f := s.startFlood()
	f.awaitFlow(t, "traffic through the forwarder")
	if ping.ping(200 * time.Millisecond) {
		t.Fatal("the kernel answers, though all packets are taken")
	}

	killed := time.Now()
	c.kill9()
	eventually(t, "an answer of the kernel", func() bool { return ping.ping(20 * time.Millisecond) })
	took := time.Since(killed)
	t.Logf("the kernel answered %v after kill -9", took.Round(time.Millisecond))
	if took > time.Second && !slow() {
		t.Errorf("the kernel answered only after %v, want a second at most", took)
	}
	f.stop()
	eventually(t, "the end of program and promiscuous mode", func() bool {
		for _, l := range s.ports() {
			if p := s.portState(l); p.programs != 0 || p.promiscuity != 0 {
				return false
			}
		}
		return true
	})
	if left, _ := filepath.Glob(filepath.Join(s.runDir, "*.journal")); len(left) != 1 {
		t.Errorf("journals after the kill: %v, want the dead one's", left)
	}

	out := cliOK(t, append(s.flags(), "detach", "--netns", s.Xdpipe.Name(), lab.ClientPort)...)
	mentions(t, out, "xdpipe: offload of "+lab.ClientPort, "no steering program of ours")
	unchanged("after detach")
}

func TestTheNextStartUndoesWhatKill9Left(t *testing.T) {
	s := newSite(t, lab.Topology{})
	unchanged := s.before()
	for range 2 {
		c := s.forward("--name", "victim", "count")
		s.checkUDP(200)
		c.kill9()
	}
	c := s.forward("--name", "heir", "count")
	mentions(t, c.err.String(), "undid a change of an instance that died", "victim")
	s.checkUDP(500)
	c.stop()
	unchanged("after the heir's end")
}

func TestReservedHugepagesAreUsedAndPutBack(t *testing.T) {
	s := newSite(t, lab.Topology{})
	if free, err := control.FreeHugepages(2 << 20); err != nil || free > 0 {
		t.Skipf("needs a machine that can have hugepages of 2 MiB and has none free: %d, %v", free, err)
	}
	unchanged := s.before()
	was := hugepages(t)
	reserved := func(c *child) {
		t.Helper()
		m := s.status()[0].Memory
		if m.Pages != "2m" {
			t.Errorf("the memory is on %s pages, want 2m", m.Pages)
		}
		const size = 2 << 20
		if n, want := hugepages(t)-was, (m.Frames*m.FrameSize+size-1)/size; n != want {
			t.Errorf("%d hugepages reserved while running, want %d", n, want)
		}
	}
	c := s.forward("--reserve-hugepages", "count")
	reserved(c)
	c.stop()
	unchanged("after a clean end")

	c = s.forward("--reserve-hugepages", "count")
	reserved(c)
	c.kill9()
	cliOK(t, append(s.flags(), "detach", "--netns", s.Xdpipe.Name(), lab.ClientPort)...)
	unchanged("after kill -9 and detach")
}
