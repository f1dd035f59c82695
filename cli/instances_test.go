package cli

import (
	"fmt"
	"testing"

	"github.com/cilium/ebpf/link"

	"github.com/xdpipe/xdpipe/control"
	"github.com/xdpipe/xdpipe/lab"
	"github.com/xdpipe/xdpipe/umem"
	"github.com/xdpipe/xdpipe/xsk"
)

func TestASecondInstanceOnAQueueIsToldOfTheFirstWhichIsUnharmed(t *testing.T) {
	s := newSite(t, lab.Topology{})
	first := s.forward("--name", "first", "count")
	before := s.portState(s.PortA)
	programs, err := control.Attached(s.PortA)
	must(t, err)
	pid := fmt.Sprintf("pid %d", first.pid())

	for _, tt := range []struct {
		name  string
		flags []string
		want  []string
	}{
		{"of another name", []string{"--name", "second"}, []string{"queue 0 of veth-a", "instance first", pid, "--queues"}},
		{"of the same name", []string{"--name", "first"}, []string{"instance first is running already", pid, "--name", "xdpipe status"}},
		{"that cannot see the first's claims", []string{"--name", "second", "--run-dir", newRunDir(t)},
			[]string{"veth-a", control.SteeringProgram, fmt.Sprintf("id %d", programs[0].ID), pid}},
		{"that would replace the first's program", []string{"--name", "second", "--replace", "--run-dir", newRunDir(t)},
			[]string{"veth-a", control.SteeringProgram, fmt.Sprintf("id %d", programs[0].ID), pid}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := s.startFlood()
			defer f.stop()
			second := startChild(t, childOptions{}, s.args(append([]string{"--all", "drop"}, tt.flags...)...)...)
			if status := second.wait(); status != exitFailed {
				t.Errorf("ended with status %d, want 1", status)
			}
			mentions(t, second.err.String(), tt.want...)
			f.awaitFlow(t, "traffic through the first instance")
		})
	}
	s.checkUDP(2000)
	if now := s.portState(s.PortA); fmt.Sprint(now) != fmt.Sprint(before) {
		t.Errorf("the port was changed from %v to %v", before, now)
	}
	status := s.status()
	if len(status) != 1 || status[0].Name != "first" || status[0].PID != first.pid() || status[0].Ports[0].State != "up" {
		t.Errorf("status of the first: %+v", status)
	}
	first.stop()
	s.noTraces("after the end")
}

func TestTwoInstancesCannotShareAnInterfaceByQueues(t *testing.T) {
	// An interface has one program, and with it one owner, whatever the queues.
	s := newSite(t, lab.Topology{Queues: 2})
	first := s.forward("--name", "first", "--queues", "0", "count")
	second := startChild(t, childOptions{}, s.args("--all", "--name", "second", "--queues", "1", "count")...)
	if status := second.wait(); status != exitFailed {
		t.Errorf("ended with status %d, want 1", status)
	}
	mentions(t, second.err.String(), "veth-a", control.SteeringProgram, fmt.Sprintf("pid %d", first.pid()), "stop that xdpipe")
	first.stop()
}

func TestAForeignSocketOnTheQueueIsNamedAsLikelyHolder(t *testing.T) {
	s := newSite(t, lab.Topology{})
	mem, err := umem.New(umem.Options{Frames: 8192})
	must(t, err)
	var sock *xsk.Socket
	must(t, s.Xdpipe.Do(func() (err error) {
		sock, err = xsk.Open(mem, s.PortA.Index, 0, xsk.Options{})
		return err
	}))
	unchanged := s.before()
	c := startChild(t, childOptions{}, s.args("--all", "count")...)
	if status := c.wait(); status != exitFailed {
		t.Errorf("ended with status %d, want 1", status)
	}
	mentions(t, c.err.String(), "veth-a queue 0", "bind", "another socket is bound to this queue", fmt.Sprintf("pid %d", self()))
	unchanged("after the refusal")
	must(t, sock.Close())
	must(t, mem.Close())
}

func TestAForeignProgramIsLeftAloneUnlessReplaced(t *testing.T) {
	s := newSite(t, lab.Topology{})
	prog := foreignProgram(t, "not_ours")
	attached := func() []control.AttachedProgram {
		t.Helper()
		programs, err := control.Attached(s.PortA)
		must(t, err)
		return programs
	}
	t.Run("attached through netlink", func(t *testing.T) {
		attachNetlink(t, s.PortA, prog.FD())
		theirs := attached()
		unchanged := s.before()
		c := startChild(t, childOptions{}, s.args("--all", "count")...)
		if status := c.wait(); status != exitFailed {
			t.Errorf("ended with status %d, want 1", status)
		}
		mentions(t, c.err.String(), "veth-a", "not_ours", fmt.Sprintf("id %d", theirs[0].ID), "--replace", "ip link set dev veth-a xdp off")
		if now := attached(); fmt.Sprint(now) != fmt.Sprint(theirs) {
			t.Errorf("programs were %v and are %v", theirs, now)
		}
		unchanged("after the refusal")
		s.cannotDetach(theirs)

		c = s.forward("--replace", "count")
		if now := attached(); len(now) != 1 || !now[0].Ours() {
			t.Errorf("programs after --replace: %v", now)
		}
		s.checkUDP(500)
		c.stop()
		attachNetlink(t, s.PortA, -1)
	})
	t.Run("held by a bpf_link", func(t *testing.T) {
		var held link.Link
		must(t, s.Xdpipe.Do(func() (err error) {
			held, err = link.AttachXDP(link.XDPOptions{Program: prog, Interface: s.PortA.Index})
			return err
		}))
		defer held.Close()
		theirs := attached()
		for _, flag := range []string{"--replace=false", "--replace"} {
			c := startChild(t, childOptions{}, s.args("--all", flag, "count")...)
			if status := c.wait(); status != exitFailed {
				t.Errorf("%s: ended with status %d, want 1", flag, status)
			}
			mentions(t, c.err.String(), "veth-a", "not_ours", fmt.Sprintf("id %d", theirs[0].ID), fmt.Sprintf("pid %d", self()), "bpftool link detach")
			if now := attached(); fmt.Sprint(now) != fmt.Sprint(theirs) {
				t.Errorf("%s: programs were %v and are %v", flag, theirs, now)
			}
		}
	})
}

// cannotDetach checks that detach leaves foreign programs alone.
func (s *site) cannotDetach(theirs []control.AttachedProgram) {
	s.t.Helper()
	cliOK(s.t, append(s.flags(), "detach", "--netns", s.Xdpipe.Name(), s.PortA.Name)...)
	if now, err := control.Attached(s.PortA); err != nil || fmt.Sprint(now) != fmt.Sprint(theirs) {
		s.t.Errorf("after detach: programs were %v and are %v, %v", theirs, now, err)
	}
}
