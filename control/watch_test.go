package control

import (
	"slices"
	"testing"
	"time"

	"github.com/safchain/ethtool"
	"golang.org/x/sys/unix"
)

// expect receives until an event of that kind for the link; others may come between.
func expect(t *testing.T, w *Watcher, l *Link, kind EventKind) LinkEvent {
	t.Helper()
	var seen []EventKind
	for timeout := time.After(20 * time.Second); ; {
		select {
		case e := <-w.Events():
			if e.Link == l && e.Kind == kind {
				return e
			}
			seen = append(seen, e.Kind)
		case <-timeout:
			t.Fatalf("no %s event of %v; seen: %v", kind, l, seen)
		}
	}
}

func TestTheWatcherTellsWhatHappensToALink(t *testing.T) {
	a, b := newPair(t, VethOptions{Queues: 2})
	w, err := Watch(a, b)
	must(t, err)
	defer w.Close()

	must(t, b.SetUp(false))
	expect(t, w, a, LinkDown)
	must(t, b.SetUp(true))
	expect(t, w, a, LinkUp)
	must(t, a.SetMTU(1400))
	if e := expect(t, w, a, MTUChanged); e.MTU != 1400 {
		t.Errorf("%+v", e)
	}

	foreign := newProgram(t, "foreign", false)
	must(t, setXDP(a, foreign.FD(), unix.XDP_FLAGS_DRV_MODE))
	info, err := foreign.Info()
	must(t, err)
	id, _ := info.ID()
	if e := expect(t, w, a, XDPChanged); !slices.Equal(e.Programs, []uint32{uint32(id)}) {
		t.Errorf("%+v, want program %d", e, id)
	}
	must(t, setXDP(a, -1, unix.XDP_FLAGS_DRV_MODE))
	expect(t, w, a, XDPChanged)

	// The kernel announces neither of these.
	att, err := Attach(a, foreign, AttachOptions{})
	must(t, err)
	expect(t, w, a, XDPChanged)
	must(t, att.Detach())
	if e := expect(t, w, a, XDPChanged); len(e.Programs) != 0 {
		t.Errorf("%+v", e)
	}
	must(t, b.Namespace.ethtool(func(e *ethtool.Ethtool) error {
		c, err := e.GetChannels(b.Name)
		if err != nil {
			return err
		}
		c.RxCount = 1
		_, err = e.SetChannels(b.Name, c)
		return err
	}))
	if e := expect(t, w, b, QueuesChanged); e.Queues != 1 {
		t.Errorf("%+v", e)
	}

	must(t, a.SetUp(false))
	must(t, rename(a, "other"))
	if e := expect(t, w, a, LinkRenamed); e.Name != "other" {
		t.Errorf("%+v", e)
	}
	must(t, a.Delete())
	removed := map[*Link]bool{}
	for e := range w.Events() { // in either order
		if e.Kind == LinkRemoved {
			removed[e.Link] = true
		}
		if len(removed) == 2 {
			break
		}
	}
	must(t, w.Close())
	must(t, w.Close())
	if _, open := <-w.Events(); open {
		t.Error("events after Close")
	}
}

func TestAWatcherNobodyReceivesFromIsClosedAndCatchesUpAfterAnOverflow(t *testing.T) {
	a, _ := newPair(t, VethOptions{})
	w, err := Watch(a)
	must(t, err)
	defer w.Close()
	must(t, w.watch[0].socket.SetReceiveBufferSize(1, false)) // the kernel's least
	for i := range 200 {
		must(t, a.SetMTU(1400+i))
	}
	for last := 0; last != 1599; {
		last = expect(t, w, a, MTUChanged).MTU
	}
	for i := range 100 {
		must(t, a.SetMTU(1300+i))
	}
	must(t, w.Close()) // with events nobody took
}

func TestAWatchOfAMissingLinkLeavesNothingOpen(t *testing.T) {
	a, b := newPair(t, VethOptions{})
	must(t, a.Delete())
	before := countResources()
	if _, err := Watch(b, a); err == nil {
		t.Fatal("watched a deleted link")
	}
	eventually(t, "closing of what was opened", func() bool {
		now := countResources()
		return now.fds <= before.fds && now.goroutines <= before.goroutines
	})
}
