package traffic

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// auxdataSize is that of struct tpacket_auxdata (linux/if_packet.h), whose
	// fields are status at 0, vlan_tci at 16 and vlan_tpid at 18.
	auxdataSize = 20

	vlanTag       = 4  // bytes: TPID and TCI
	vlanTagOffset = 12 // in a frame: after the two addresses
)

// packetSocket sends and receives whole Ethernet frames on one interface. Tags
// are always in the data, also where the kernel had moved them to metadata.
// One goroutine may send while another receives; deadlines may be set by any.
type packetSocket struct {
	file *os.File // for the runtime's poller and its deadlines
	rc   syscall.RawConn
	buf  []byte
	oob  []byte
}

// openPacketSocket binds a socket to the peer's interface. It receives what the
// interface receives, not what it sends.
func openPacketSocket(p Peer) (*packetSocket, error) {
	fd := -1
	err := p.NS.Do(func() error {
		ifi, err := net.InterfaceByName(p.Interface)
		if err != nil {
			return fmt.Errorf("looking up interface %s: %w", p.Interface, err)
		}
		// Protocol 0: nothing arrives before it is bound and set up.
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("opening a packet socket: %w%s", err, remedy(err))
		}
		for _, option := range []int{unix.PACKET_AUXDATA, unix.PACKET_IGNORE_OUTGOING} {
			if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, option, 1); err != nil {
				return fmt.Errorf("setting packet socket option %d (it needs Linux 4.20): %w", option, err)
			}
		}
		if err := growReceiveBuffer(fd); err != nil {
			return err
		}
		protocol := bits.ReverseBytes16(unix.ETH_P_ALL)
		if isBigEndian() {
			protocol = unix.ETH_P_ALL
		}
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: ifi.Index}); err != nil {
			return fmt.Errorf("binding a packet socket to %s: %w", p.Interface, err)
		}
		return nil
	})
	if err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		return nil, err
	}
	s := &packetSocket{
		file: os.NewFile(uintptr(fd), "packet socket on "+p.Interface),
		buf:  make([]byte, ethernetHeader+2*vlanTag+largestMTU),
		oob:  make([]byte, unix.CmsgSpace(auxdataSize)),
	}
	if s.rc, err = s.file.SyscallConn(); err != nil {
		s.file.Close()
		return nil, err
	}
	return s, nil
}

func isBigEndian() bool { return binary.NativeEndian.Uint16([]byte{0, 1}) == 1 }

func (s *packetSocket) Close() error                       { return s.file.Close() }
func (s *packetSocket) SetReadDeadline(t time.Time) error  { return s.file.SetReadDeadline(t) }
func (s *packetSocket) SetWriteDeadline(t time.Time) error { return s.file.SetWriteDeadline(t) }

// send sends one frame.
func (s *packetSocket) send(frame []byte) error {
	var err error
	werr := s.rc.Write(func(fd uintptr) bool {
		for {
			_, err = unix.Write(int(fd), frame)
			switch err {
			case unix.EINTR:
				continue
			case unix.ENOBUFS:
				// The queue in front of the interface is full, which the
				// poller does not see.
				time.Sleep(time.Millisecond)
				continue
			}
			return err != unix.EAGAIN
		}
	})
	if werr != nil {
		return werr
	}
	return err
}

// read hands accept the next frame, valid until accept returns.
func (s *packetSocket) read(accept func(frame []byte)) error {
	var (
		n, oobn int
		err     error
	)
	// The first bytes are left free for a tag to be put back.
	data := s.buf[vlanTag:]
	rerr := s.rc.Read(func(fd uintptr) bool {
		for {
			n, oobn, _, _, err = unix.Recvmsg(int(fd), data, s.oob, 0)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	if rerr != nil {
		return rerr
	}
	if err != nil {
		return os.NewSyscallError("recvmsg", err)
	}
	tpid, tci, tagged, err := strippedTag(s.oob[:oobn])
	if err != nil {
		return err
	}
	if !tagged || n < vlanTagOffset {
		accept(data[:n])
		return nil
	}
	frame := s.buf[:vlanTag+n]
	copy(frame, data[:vlanTagOffset])
	binary.BigEndian.PutUint16(frame[vlanTagOffset:], tpid)
	binary.BigEndian.PutUint16(frame[vlanTagOffset+2:], tci)
	accept(frame)
	return nil
}

// strippedTag returns the VLAN tag that the kernel moved from the frame into
// the control message.
func strippedTag(oob []byte) (tpid, tci uint16, tagged bool, err error) {
	if len(oob) == 0 {
		return 0, 0, false, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0, 0, false, fmt.Errorf("parsing a packet socket's control message: %w", err)
	}
	for _, m := range messages {
		if m.Header.Level != unix.SOL_PACKET || m.Header.Type != unix.PACKET_AUXDATA || len(m.Data) < auxdataSize {
			continue
		}
		status := binary.NativeEndian.Uint32(m.Data)
		if status&unix.TP_STATUS_VLAN_VALID == 0 {
			continue
		}
		tci, tpid = binary.NativeEndian.Uint16(m.Data[16:]), binary.NativeEndian.Uint16(m.Data[18:])
		if status&unix.TP_STATUS_VLAN_TPID_VALID == 0 {
			tpid = unix.ETH_P_8021Q
		}
		return tpid, tci, true, nil
	}
	return 0, 0, false, nil
}

// explain says how many of the lost frames the socket had no room for.
func (s *packetSocket) explain(lost uint64) string {
	var stats *unix.TpacketStats
	err := control(s.rc, func(fd int) (err error) {
		stats, err = unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
		return err
	})
	if err != nil {
		return fmt.Sprintf("the receiving socket's drops are unknown: %v", err)
	}
	return explainDrops(lost, uint64(stats.Drops), "buffer full")
}
