package traffic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// neighbourIdle bounds one resolution. It is below the kernel's retransmission
// interval of one second, so that a request or an answer that was lost shows
// and is not hidden by the second try.
const neighbourIdle = 900 * time.Millisecond

// usableStates are those in which an entry has an address to send to.
const usableStates = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE

// ARP has the client's kernel resolve the server's IPv4 address Count times.
// For each, the neighbour entry is deleted, an echo request is sent, its reply
// must arrive, and the entry must be there again with the server's address.
// Options.Idle bounds one resolution and is 900 ms by default: the kernel asks
// again after a second, which would hide a loss.
func ARP(ctx context.Context, client, server Peer, o Options) (Result, error) {
	return resolve(ctx, "arp", client, server, false, o)
}

// ND is ARP's check for IPv6 neighbour discovery.
func ND(ctx context.Context, client, server Peer, o Options) (Result, error) {
	return resolve(ctx, "nd", client, server, true, o)
}

func resolve(ctx context.Context, check string, client, server Peer, v6 bool, o Options) (Result, error) {
	r := Result{Check: check}
	if o.Idle == 0 {
		o.Idle = neighbourIdle
	}
	o, _, err := prepareEcho(check, client, server, v6, true, o)
	if err != nil {
		return r, err
	}
	ctx, cancel := o.bound(ctx, time.Duration(o.Count)*5*time.Millisecond)
	defer cancel()
	e, err := newEchoer(ctx, client, server, v6)
	if err != nil {
		return r, fmt.Errorf("%s: %w", check, err)
	}
	defer e.close()
	n, err := newNeighbours(client, server, v6)
	if err != nil {
		return r, fmt.Errorf("%s: %w", check, err)
	}
	defer n.close()
	var m meter
	defer m.start(o.Progress)()

	var (
		where   = path("client", "server", client, server, v6)
		pat     = pattern{seed: uint64(e.id)}
		t       = newTracker(uint64(o.Count))
		start   = time.Now()
		reasons []string
	)
	t.unordered = true // one at a time; a late reply must not look like another fault
	for seq := uint64(0); seq < t.count && len(reasons) < mostStalls; seq++ {
		payload := pat.cut(seq, 56)
		if err := n.forget(); err != nil {
			return t.finish(r, seq, time.Since(start)), failed(ctx, check, where, "deleting the client's neighbour entry", err)
		}
		if err := e.send(uint16(seq), payload); err != nil {
			return t.finish(r, seq, time.Since(start)), failed(ctx, check, where, fmt.Sprintf("sending request %d", seq), err)
		}
		r.Sent = seq + 1
		got, err := e.await(ctx, uint16(seq), o.Idle)
		if err != nil && (ctx.Err() != nil || !errors.Is(err, os.ErrDeadlineExceeded)) {
			return t.finish(r, r.Sent, time.Since(start)), failed(ctx, check, where, fmt.Sprintf("waiting for reply %d of %d", seq, t.count), err)
		}
		mac, state, lookup := n.lookup()
		if lookup != nil {
			return t.finish(r, r.Sent, time.Since(start)), failed(ctx, check, where, "reading the client's neighbour table", lookup)
		}
		switch {
		case err != nil && state&usableStates == 0:
			reasons = append(reasons, fmt.Sprintf("number %d: the request or its answer was lost, no entry after %v", seq, o.Idle))
			continue
		case err != nil:
			reasons = append(reasons, fmt.Sprintf("number %d: resolved, then the echo was lost", seq))
			continue
		case state&usableStates == 0:
			t.corrupt("number %d: the echo returned, yet there is no usable entry (state %#x)", seq, state)
		case !bytes.Equal(mac, server.MAC):
			t.corrupt("number %d: resolved to %v, the server has %v", seq, mac, server.MAC)
		case !bytes.Equal(got, payload):
			t.corrupt("number %d: the echo's payload differs from byte %d on", seq, firstDifference(got, payload))
		}
		t.arrive(seq, len(got))
		m.add(1, len(got))
	}
	sent := r.Sent
	r = t.finish(r, sent, time.Since(start))
	if causes, text := t.verdict(sent, "resolutions"); causes != nil {
		if len(reasons) > 0 {
			text += ": " + strings.Join(reasons, "; ")
		}
		if sent < t.count {
			text += fmt.Sprintf("; stopped before the other %s", thousands(t.count-sent))
		}
		return r, &Error{Check: check, Path: where, Detail: text, Causes: causes}
	}
	r.Detail = fmt.Sprintf("%s resolutions, each to %v, none lost", thousands(sent), server.MAC)
	return r, nil
}

// await returns the reply with sequence number seq, skipping others.
func (e *echoer) await(ctx context.Context, seq uint16, wait time.Duration) ([]byte, error) {
	for until := time.Now().Add(wait); ; {
		got, payload, err := e.receive(ctx, time.Until(until))
		if err != nil || got == seq {
			return payload, err
		}
	}
}

// neighbours reads and deletes the client's neighbour entry for the server.
type neighbours struct {
	handle *netlink.Handle
	entry  netlink.Neigh
}

func newNeighbours(client, server Peer, v6 bool) (*neighbours, error) {
	family := netlink.FAMILY_V4
	if v6 {
		family = netlink.FAMILY_V6
	}
	n := &neighbours{}
	err := client.NS.Do(func() error {
		ifi, err := net.InterfaceByName(client.Interface)
		if err != nil {
			return fmt.Errorf("looking up the client's interface %s: %w", client.Interface, err)
		}
		n.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("opening a netlink socket: %w", err)
		}
		n.entry = netlink.Neigh{LinkIndex: ifi.Index, Family: family, IP: server.addr(v6).AsSlice()}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return n, nil
}

func (n *neighbours) close() { n.handle.Close() }

// forget deletes the entry and makes sure that it is gone: a probe from the
// server may bring it back in between, and then nothing would be resolved.
func (n *neighbours) forget() error {
	for range 10 {
		err := n.handle.NeighDel(&n.entry)
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("%w (it needs CAP_NET_ADMIN)", err)
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
		_, state, err := n.lookup()
		if err != nil {
			return err
		}
		if state&usableStates == 0 {
			return nil
		}
	}
	return errors.New("it is back after each of 10 deletions: is it permanent, or does the server probe without end?")
}

// lookup returns the entry's address and state, both zero without an entry.
func (n *neighbours) lookup() (net.HardwareAddr, int, error) {
	for {
		list, err := n.handle.NeighList(n.entry.LinkIndex, n.entry.Family)
		if errors.Is(err, netlink.ErrDumpInterrupted) {
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		for _, e := range list {
			if e.IP.Equal(n.entry.IP) {
				return e.HardwareAddr, e.State, nil
			}
		}
		return nil, 0, nil
	}
}
