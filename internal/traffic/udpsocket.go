package traffic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

const (
	// receiveBuffer is asked for in bytes, so that the receiver may be off its
	// core for a tenth of a second at the default rate: a datagram of 1,500
	// bytes takes up to 2,304 of it, and the kernel doubles what is asked.
	receiveBuffer = 32 << 20

	// readBatch is how many datagrams one system call takes at most.
	readBatch = 64
)

// batchConn is what ipv4.PacketConn and ipv6.PacketConn have in common.
type batchConn interface {
	ReadBatch(ms []ipv4.Message, flags int) (int, error)
	WriteBatch(ms []ipv4.Message, flags int) (int, error)
}

func newBatchConn(c net.PacketConn, v6 bool) batchConn {
	if v6 {
		return ipv6.NewPacketConn(c)
	}
	return ipv4.NewPacketConn(c)
}

// udpReceiver receives a flow's datagrams.
type udpReceiver struct {
	*net.UDPConn
	batch    batchConn
	messages []ipv4.Message
	port     uint16
	watch    dropWatch
}

func listenUDP(p Peer, v6 bool, largest int) (*udpReceiver, error) {
	var c net.PacketConn
	lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		return control(rc, func(fd int) error { return growReceiveBuffer(fd) })
	}}
	err := p.NS.Do(func() (err error) {
		c, err = lc.ListenPacket(context.Background(), udpNetwork(v6), netip.AddrPortFrom(p.addr(v6), 0).String())
		return err
	})
	if err != nil {
		return nil, err
	}
	u := &udpReceiver{UDPConn: c.(*net.UDPConn), batch: newBatchConn(c, v6), messages: make([]ipv4.Message, readBatch)}
	u.port = u.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	for i := range u.messages {
		// One byte more than any datagram has, to notice one that is longer.
		u.messages[i].Buffers = [][]byte{make([]byte, largest+1)}
	}
	if u.watch, err = newDropWatch(p.NS, u.UDPConn, v6); err != nil {
		u.Close()
		return nil, err
	}
	return u, nil
}

func (u *udpReceiver) read(accept func([]byte)) error {
	n, err := u.batch.ReadBatch(u.messages, 0)
	if err != nil {
		return err
	}
	for i := range n {
		accept(u.messages[i].Buffers[0][:u.messages[i].N])
	}
	return nil
}

func (u *udpReceiver) explain(lost uint64) string { return u.watch.explain(lost) }

// udpSender sends a flow's datagrams from a connected socket.
type udpSender struct {
	*net.UDPConn
	batch    batchConn
	messages []ipv4.Message
	numbers  [][sequenceSize]byte
	plan     sizePlan
	pat      pattern
}

func dialUDP(src, dst Peer, port uint16, v6 bool, plan sizePlan, pat pattern) (*udpSender, error) {
	var c net.Conn
	d := net.Dialer{
		LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(src.addr(v6), 0)),
		Control: func(_, _ string, rc syscall.RawConn) error {
			return control(rc, func(fd int) error { return forbidFragments(fd, v6) })
		},
	}
	err := src.NS.Do(func() (err error) {
		c, err = d.Dial(udpNetwork(v6), netip.AddrPortFrom(dst.addr(v6), port).String())
		return err
	})
	if err != nil {
		return nil, err
	}
	u := &udpSender{UDPConn: c.(*net.UDPConn), plan: plan, pat: pat}
	u.batch = newBatchConn(u.UDPConn, v6)
	u.messages = make([]ipv4.Message, mostBurst)
	u.numbers = make([][sequenceSize]byte, mostBurst)
	for i := range u.messages {
		u.messages[i].Buffers = make([][]byte, 2)
	}
	return u, nil
}

func (u *udpSender) write(seq uint64, n int) (int, error) {
	n = min(n, len(u.messages))
	for i := range n {
		s := seq + uint64(i)
		size, number := u.plan.size(s), u.numbers[i][:]
		binary.BigEndian.PutUint64(number, s)
		if size < sequenceSize {
			number = nil
		}
		u.messages[i].Buffers[0] = number
		u.messages[i].Buffers[1] = u.pat.cut(s, size-len(number))
	}
	sent, err := u.batch.WriteBatch(u.messages[:n], 0)
	if errors.Is(err, unix.ENOBUFS) {
		// The queue in front of the interface is full: the datagram has not
		// left, so nothing is lost by waiting.
		time.Sleep(time.Millisecond)
		return max(sent, 0), nil
	}
	if errors.Is(err, unix.EMSGSIZE) {
		return max(sent, 0), fmt.Errorf("%d bytes do not fit the path's MTU: %w", u.plan.size(seq), err)
	}
	return max(sent, 0), err
}

func udpNetwork(v6 bool) string {
	if v6 {
		return "udp6"
	}
	return "udp4"
}

// growReceiveBuffer asks for receiveBuffer bytes, beyond the system's limit if
// it may.
func growReceiveBuffer(fd int) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer)
	if errors.Is(err, unix.EPERM) {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	return os.NewSyscallError("setting the receive buffer", err)
}

// forbidFragments makes a datagram that does not fit an error instead of
// fragments.
func forbidFragments(fd int, v6 bool) error {
	if v6 {
		return os.NewSyscallError("forbidding fragments", unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO))
	}
	return os.NewSyscallError("forbidding fragments", unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO))
}

// control runs f with a connection's descriptor and returns f's error.
func control(rc syscall.RawConn, f func(fd int) error) error {
	var err error
	if cerr := rc.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}
