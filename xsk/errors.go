package xsk

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// A BindError says at which step a socket could not be opened, the likely cause
// and the cure. It unwraps to the errno.
type BindError struct {
	Op        string // the system call or option that failed
	Interface string // its name, or "ifindex N"
	Queue     int
	Flags     uint16 // bind flags (XDP_COPY, XDP_ZEROCOPY, …)
	Errno     unix.Errno
	Cause     string
	Remedy    string
}

func (e *BindError) Error() string {
	s := fmt.Sprintf("xsk: open socket on %s queue %d: %s: %v", e.Interface, e.Queue, e.Op, e.Errno)
	if e.Cause != "" {
		s += ": " + e.Cause
	}
	if e.Remedy != "" {
		s += "; " + e.Remedy
	}
	return s
}

func (e *BindError) Unwrap() error { return e.Errno }

// explain fills in the likely cause of an errno and its remedy.
func (e *BindError) explain() *BindError {
	zc := e.Flags&unix.XDP_ZEROCOPY != 0
	switch e.Errno {
	case unix.EPERM, unix.EACCES:
		e.Cause = "no permission"
		e.Remedy = "run as root, or give the process CAP_NET_RAW (and CAP_NET_ADMIN and CAP_BPF to attach the program)"
	case unix.EAFNOSUPPORT:
		e.Cause = "this kernel has no AF_XDP"
		e.Remedy = "use a kernel of 5.11 or later built with CONFIG_XDP_SOCKETS"
	case unix.ENOBUFS:
		e.Cause = "the memory would exceed the locked-memory limit"
		e.Remedy = "raise it with: ulimit -l unlimited, or give the process CAP_IPC_LOCK"
	case unix.ENOMEM:
		e.Cause = "the kernel has no memory for it"
		e.Remedy = "use smaller rings or fewer frames"
	case unix.EBUSY:
		e.Cause = "another socket is bound to this queue"
		e.Remedy = "stop its owner or choose another queue"
	case unix.ENODEV:
		e.Cause = "no such interface in this network namespace"
		e.Remedy = "check the name, and that the socket is opened inside the interface's namespace"
	case unix.ENETDOWN:
		e.Cause = "the interface is down"
		e.Remedy = fmt.Sprintf("set it up with: ip link set dev %s up", e.Interface)
	case unix.EOPNOTSUPP, unix.EPROTONOSUPPORT:
		if zc {
			e.Cause = "the driver has no zero-copy mode"
			e.Remedy = "use zero-copy prefer or never"
		} else if e.Flags&unix.XDP_SHARED_UMEM != 0 {
			e.Cause = "the memory is in zero-copy use and this driver has only copy mode"
			e.Remedy = "use zero-copy never on all ports of this memory"
		}
	case unix.EINVAL:
		switch {
		case e.Op == "bind" && e.Flags&unix.XDP_SHARED_UMEM != 0:
			// The driver's mode is that of the first socket, which it has.
			e.Cause = "no such queue, or this memory has a socket on it already"
			e.Remedy = fmt.Sprintf("open each queue once; list the queues with: ethtool -l %s", e.Interface)
		case e.Op == "bind":
			e.Cause = "no such queue, or the driver refuses the mode"
			e.Remedy = fmt.Sprintf("list the queues with: ethtool -l %s; or use zero-copy never", e.Interface)
		default:
			e.Cause = "the kernel refuses the size"
			e.Remedy = "check frame size, headroom and ring sizes"
		}
	case unix.EBADF:
		e.Cause = "the socket that lends the memory is not bound any more: its interface was removed"
		e.Remedy = "close that socket first"
	}
	return e
}

// A SendError is an errno from waking the kernel that means the port cannot
// transmit now, or ever again. It unwraps to the errno.
type SendError struct {
	Interface string
	Queue     int
	Errno     unix.Errno
}

func (e *SendError) Error() string {
	why := ""
	switch e.Errno {
	case unix.ENETDOWN:
		why = ": the link is down"
	case unix.ENXIO:
		why = ": the interface is gone or was unbound"
	case unix.EINVAL, unix.EOPNOTSUPP:
		why = ": the driver accepted the bind but not the transmission; use another mode"
	}
	return fmt.Sprintf("xsk: transmit on %s queue %d: %v%s", e.Interface, e.Queue, e.Errno, why)
}

func (e *SendError) Unwrap() error { return e.Errno }

// IsLinkDown reports whether err means that the link is down and may come back.
func IsLinkDown(err error) bool { return errors.Is(err, unix.ENETDOWN) }
