package control

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Promiscuous keeps an interface taking frames for any MAC address until Close.
//
// It is a membership of a packet socket, not IFF_PROMISC: the kernel counts
// memberships, so that several instances and tcpdump do not take it from each
// other, and drops ours with the socket, also at kill -9. A flag would need a
// journal entry and could be cleared by the first of two to leave. The socket
// is bound to no protocol, so no packet is ever copied to it.
type Promiscuous struct {
	once sync.Once
	fd   int
	err  error
}

// NewPromiscuous makes an interface promiscuous.
func NewPromiscuous(l *Link) (*Promiscuous, error) {
	p := &Promiscuous{fd: -1}
	err := l.Namespace.Do(func() error {
		var err error
		if p.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return os.NewSyscallError("socket", err)
		}
		member := unix.PacketMreq{Ifindex: int32(l.Index), Type: unix.PACKET_MR_PROMISC}
		if err := unix.SetsockoptPacketMreq(p.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &member); err != nil {
			unix.Close(p.fd)
			return os.NewSyscallError("setsockopt PACKET_ADD_MEMBERSHIP", err)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("make %v promiscuous: %w%s", l, err, needsCapability(err, "CAP_NET_RAW"))
	}
	return p, nil
}

// Close gives up the membership. The interface stays promiscuous if others want
// it so. It may be called again.
func (p *Promiscuous) Close() error {
	p.once.Do(func() { p.err = unix.Close(p.fd) })
	return p.err
}
