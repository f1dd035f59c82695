package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/xdpipe/xdpipe/control"
)

// End is one end of a cable.
type End struct {
	NS    *NS
	Name  string // 1 to 15 bytes
	Addrs []netip.Prefix
	MAC   net.HardwareAddr // nil lets the kernel choose
	// HostEnd says that the kernel's own stack talks here to an AF_XDP port at
	// the far end. Checksum, VLAN and segmentation offloads of transmission are
	// turned off, since what they leave to the device cannot cross AF_XDP.
	HostEnd bool
}

// PairOptions apply to both ends.
type PairOptions struct {
	Queues int // RX and TX queues of each end; 0 is 1
	MTU    int // bytes; 0 is 1500
}

// Pair is a cable between two ends, both up.
type Pair struct {
	A, B *control.Link
}

// Pair lays a cable. An end with neither addresses nor HostEnd is a port: the
// kernel's IPv6 is off on it, so that it sends nothing of its own.
func (l *Lab) Pair(a, b End, opts PairOptions) (*Pair, error) {
	if a.NS == nil || b.NS == nil {
		return nil, errors.New("lay a cable: both ends need a namespace")
	}
	la, lb, err := control.CreateVeth(
		control.VethEnd{Name: a.Name, Namespace: a.NS.Namespace, MAC: a.MAC},
		control.VethEnd{Name: b.Name, Namespace: b.NS.Namespace, MAC: b.MAC},
		control.VethOptions{Queues: opts.Queues, MTU: opts.MTU})
	if err != nil {
		return nil, err
	}
	for _, end := range []struct {
		End
		link *control.Link
	}{{a, la}, {b, lb}} {
		if err := end.setUp(end.link); err != nil {
			return nil, errors.Join(fmt.Errorf("lay a cable: %w", err), la.Delete())
		}
	}
	return &Pair{A: la, B: lb}, errors.Join(la.Refresh(), lb.Refresh())
}

func (e End) setUp(link *control.Link) error {
	if e.HostEnd {
		if _, err := control.DisableHostOffloads(link); err != nil {
			return err
		}
	} else if len(e.Addrs) == 0 {
		if err := e.NS.noIPv6(e.Name); err != nil {
			return err
		}
	}
	if err := link.SetUp(true); err != nil {
		return err
	}
	for _, addr := range e.Addrs {
		if err := link.AddAddress(addr); err != nil {
			return err
		}
	}
	return nil
}
