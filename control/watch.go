package control

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// EventKind says what happened to a link.
type EventKind string

// The events of a [Watcher].
const (
	LinkUp        EventKind = "up"      // administratively up and with a carrier
	LinkDown      EventKind = "down"    // either is missing
	LinkRemoved   EventKind = "removed" // deleted, or moved to another namespace; nothing follows
	LinkRenamed   EventKind = "renamed"
	MTUChanged    EventKind = "mtu"
	XDPChanged    EventKind = "xdp"    // other programs than before, or none
	QueuesChanged EventKind = "queues" // another number of RX queues in use
	WatchFailed   EventKind = "failed" // the watch itself ended; see Err
)

// LinkEvent is a change of one watched link.
type LinkEvent struct {
	Kind EventKind
	// Link is the one given to Watch, as it was then.
	Link *Link
	// Name and MTU are what they are now.
	Name string
	MTU  int
	// Programs are the ids of the XDP programs now attached.
	Programs []uint32
	// Queues is the number of RX queues in use; 0 if unknown.
	Queues int
	Err    error
}

// Watcher tells what happens to links. Events must be received: the watcher
// waits for it, and the kernel's queue grows meanwhile; if that overflows, the
// state is read anew and changes that cancelled out are not seen.
type Watcher struct {
	events chan LinkEvent
	done   chan struct{}
	once   sync.Once
	wg     sync.WaitGroup
	watch  []*namespaceWatch
}

// watchInterval is how often state is read of which the kernel tells no
// change: programs attached by bpf_link, and queue counts.
const watchInterval = 500 * time.Millisecond

// Watch watches links, which may be in different namespaces.
func Watch(links ...*Link) (*Watcher, error) {
	w := &Watcher{events: make(chan LinkEvent, 64), done: make(chan struct{})}
	by := map[uint64]*namespaceWatch{}
	for _, l := range links {
		n := by[l.Namespace.Cookie()]
		if n == nil {
			var err error
			if n, err = newNamespaceWatch(w, l.Namespace); err != nil {
				return nil, errors.Join(fmt.Errorf("watch %v: %w", l, err), w.Close())
			}
			by[l.Namespace.Cookie()] = n
			w.watch = append(w.watch, n)
		}
		state := &linkState{link: l, name: l.Name, mtu: l.MTU, running: l.Running}
		programs, err := attachedIDs(l)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("watch %v: %w", l, err), w.Close())
		}
		state.programs, state.queues = idsOf(programs), n.queues(l.Name)
		n.links[l.Index] = state
	}
	for _, n := range w.watch {
		w.wg.Add(1)
		go n.run()
	}
	return w, nil
}

// Events is closed by Close.
func (w *Watcher) Events() <-chan LinkEvent { return w.events }

// Close ends the watch and closes the channel. It may be called again.
func (w *Watcher) Close() error {
	w.once.Do(func() {
		close(w.done)
		w.wg.Wait()
		for _, n := range w.watch {
			n.close()
		}
		close(w.events)
	})
	return nil
}

// send delivers an event unless the watcher is being closed.
func (w *Watcher) send(e LinkEvent) {
	select {
	case w.events <- e:
	case <-w.done:
	}
}

// namespaceWatch is the subscription in one namespace.
type namespaceWatch struct {
	w      *Watcher
	socket *nl.NetlinkSocket
	handle *netlink.Handle
	tool   *ethtool.Ethtool
	links  map[int]*linkState
}

// linkState is what was last told about a link.
type linkState struct {
	link     *Link
	name     string
	mtu      int
	running  bool
	programs []uint32
	queues   int
}

func newNamespaceWatch(w *Watcher, ns *Namespace) (*namespaceWatch, error) {
	n := &namespaceWatch{w: w, links: map[int]*linkState{}}
	// Sockets stay in the namespace they are made in, on whatever thread they
	// are used.
	err := ns.Do(func() error {
		var err error
		if n.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
			return err
		}
		if n.tool, err = ethtool.NewEthtool(); err != nil {
			return err
		}
		if n.socket, err = nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK); err != nil {
			return err
		}
		// The wait for a message doubles as the poll interval, and bounds how long
		// Close takes.
		timeout := unix.NsecToTimeval(int64(watchInterval / 5))
		return n.socket.SetReceiveTimeout(&timeout)
	})
	if err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

func (n *namespaceWatch) close() {
	if n.handle != nil {
		n.handle.Close()
	}
	if n.tool != nil {
		n.tool.Close()
	}
	if n.socket != nil {
		n.socket.Close()
	}
}

func (n *namespaceWatch) run() {
	defer n.w.wg.Done()
	n.resync() // what happened between reading the links and subscribing
	polled := time.Now()
	for {
		select {
		case <-n.w.done:
			return
		default:
		}
		msgs, _, err := n.socket.Receive()
		switch {
		case errors.Is(err, unix.ENOBUFS):
			n.drain()
			n.resync()
		case errors.Is(err, unix.EAGAIN), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, unix.EINTR):
		case err != nil:
			n.fail(err)
			return
		}
		for _, m := range msgs {
			ifinfo := nl.DeserializeIfInfomsg(m.Data)
			state := n.links[int(ifinfo.Index)]
			if state == nil {
				continue
			}
			switch m.Header.Type {
			case unix.RTM_DELLINK:
				// A bridge reports a port that leaves it in the same way.
				if ifinfo.Family == unix.AF_UNSPEC {
					n.remove(state)
				}
			case unix.RTM_NEWLINK:
				header := unix.NlMsghdr(m.Header)
				if l, err := netlink.LinkDeserialize(&header, m.Data); err == nil && ifinfo.Family == unix.AF_UNSPEC {
					n.update(state, linkFrom(state.link.Namespace, l))
				}
				if programs, err := parseXDP(m.Data); err == nil && ifinfo.Family == unix.AF_UNSPEC {
					n.updatePrograms(state, programs)
				}
			}
		}
		if time.Since(polled) >= watchInterval {
			n.poll()
			polled = time.Now()
		}
	}
}

// fail reports on each link that nothing more will be.
func (n *namespaceWatch) fail(err error) {
	for _, state := range n.links {
		n.tell(state, WatchFailed, fmt.Errorf("watch links of %v: %w", state.link.Namespace, err))
	}
}

// drain discards what is queued. After an overflow that is older than what was
// lost, and the kernel queues nothing new until all of it is read.
func (n *namespaceWatch) drain() {
	buf := make([]byte, 1<<16)
	for {
		_, _, err := unix.Recvfrom(n.socket.GetFd(), buf, unix.MSG_DONTWAIT)
		if err != nil && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ENOBUFS) {
			return
		}
	}
}

// resync reads the state of every link anew.
func (n *namespaceWatch) resync() {
	for index, state := range n.links {
		l, err := n.handle.LinkByIndex(index)
		var missing netlink.LinkNotFoundError
		switch {
		case err == nil:
			n.update(state, linkFrom(state.link.Namespace, l))
		case errors.As(err, &missing), errors.Is(err, unix.ENODEV):
			n.remove(state)
		}
	}
	n.poll()
}

// poll reads what the kernel does not announce.
func (n *namespaceWatch) poll() {
	for _, state := range n.links {
		if programs, err := attachedIDs(state.link); err == nil {
			n.updatePrograms(state, programs)
		}
		if queues := n.queues(state.name); queues != 0 && queues != state.queues {
			state.queues = queues
			n.tell(state, QueuesChanged, nil)
		}
	}
}

func (n *namespaceWatch) update(state *linkState, now *Link) {
	if now.Name != state.name {
		state.name = now.Name
		n.tell(state, LinkRenamed, nil)
	}
	if now.MTU != state.mtu {
		state.mtu = now.MTU
		n.tell(state, MTUChanged, nil)
	}
	if now.Running != state.running {
		state.running = now.Running
		kind := LinkDown
		if now.Running {
			kind = LinkUp
		}
		n.tell(state, kind, nil)
	}
}

func (n *namespaceWatch) updatePrograms(state *linkState, programs []AttachedProgram) {
	ids := idsOf(programs)
	if slices.Equal(ids, state.programs) {
		return
	}
	state.programs = ids
	n.tell(state, XDPChanged, nil)
}

// queues is the number of RX queues in use, or 0 where the driver does not say.
func (n *namespaceWatch) queues(name string) int {
	c, err := n.tool.GetChannels(name)
	if err != nil {
		return 0
	}
	return queueCounts(c).RX
}

func (n *namespaceWatch) remove(state *linkState) {
	delete(n.links, state.link.Index)
	n.tell(state, LinkRemoved, nil)
}

func (n *namespaceWatch) tell(state *linkState, kind EventKind, err error) {
	n.w.send(LinkEvent{Kind: kind, Link: state.link, Name: state.name, MTU: state.mtu, Programs: state.programs, Queues: state.queues, Err: err})
}

func idsOf(programs []AttachedProgram) []uint32 {
	var ids []uint32
	for _, p := range programs {
		ids = append(ids, p.ID)
	}
	return ids
}
