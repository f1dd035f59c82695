package lab

import (
	"net/netip"

	"github.com/xdpipe/xdpipe/control"
)

// Topology describes a [Line]. The zero value is the usual one.
type Topology struct {
	// Name of a lab that outlives the process; "" is "lab". Only [Up] uses it.
	Name string
	// Queues of each veth end; 0 is 1.
	Queues int
	// MTU in bytes; 0 is 1500.
	MTU int
	// Addresses of the two hosts, which are on one subnet, since xdpipe between
	// them forwards frames. Nil is 198.51.100.1 and .2, 2001:db8:1::1 and ::2.
	Client, Server []netip.Prefix
	// RunDir as in [Options].
	RunDir string
}

// Names in a Line.
const (
	ClientNS   = "client"  // namespace of the client
	XdpipeNS   = "xdpipe"  // namespace of the two ports
	ServerNS   = "server"  // namespace of the server
	ClientPort = "veth-a"  // port towards the client
	ServerPort = "veth-b"  // port towards the server
	ClientLink = "client0" // the client's interface
	ServerLink = "server0" // the server's interface
)

// Line is client ⇄ xdpipe ⇄ server: two hosts, and between them two ports that
// nothing connects until something forwards from one to the other.
type Line struct {
	Client, Xdpipe, Server *NS
	// Hosts and ports, in the order of the line.
	ClientLink, PortA, PortB, ServerLink *control.Link
}

// Line builds a line in the lab.
func (l *Lab) Line(t Topology) (*Line, error) {
	t.fill()
	line := &Line{}
	for name, ns := range map[string]**NS{ClientNS: &line.Client, XdpipeNS: &line.Xdpipe, ServerNS: &line.Server} {
		var err error
		if *ns, err = l.Namespace(name); err != nil {
			return nil, err
		}
	}
	opts := PairOptions{Queues: t.Queues, MTU: t.MTU}
	left, err := l.Pair(
		End{NS: line.Client, Name: ClientLink, Addrs: t.Client, HostEnd: true},
		End{NS: line.Xdpipe, Name: ClientPort}, opts)
	if err != nil {
		return nil, err
	}
	right, err := l.Pair(
		End{NS: line.Xdpipe, Name: ServerPort},
		End{NS: line.Server, Name: ServerLink, Addrs: t.Server, HostEnd: true}, opts)
	if err != nil {
		return nil, err
	}
	line.ClientLink, line.PortA, line.PortB, line.ServerLink = left.A, left.B, right.A, right.B
	return line, nil
}

// DefaultTopology is the usual one, with its addresses filled in.
func DefaultTopology() Topology {
	var t Topology
	t.fill()
	return t
}

func (t *Topology) fill() {
	if t.Name == "" {
		t.Name = "lab"
	}
	if t.Client == nil {
		t.Client = []netip.Prefix{netip.MustParsePrefix("198.51.100.1/24"), netip.MustParsePrefix("2001:db8:1::1/64")}
	}
	if t.Server == nil {
		t.Server = []netip.Prefix{netip.MustParsePrefix("198.51.100.2/24"), netip.MustParsePrefix("2001:db8:1::2/64")}
	}
}
