package control

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// ForeignProgramError says that an interface has an XDP program already, and
// that it was left alone.
type ForeignProgramError struct {
	Interface string
	AttachedProgram
}

func (e *ForeignProgramError) Error() string {
	name := e.Name
	if name == "" {
		name = "without a name"
	}
	msg := fmt.Sprintf("%s has xdp program %s (id %d, %s mode) already", e.Interface, name, e.ID, e.Mode)
	device, _, _ := strings.Cut(e.Interface, " ")
	if e.LinkID == 0 {
		if e.Ours() {
			return fmt.Sprintf("%s, left by an earlier xdpipe; remove it with: xdpipe detach %s", msg, device)
		}
		return fmt.Sprintf("%s; use --replace to take its place, or remove it with: ip link set dev %s %s off", msg, device, ipKeyword(e.Mode))
	}
	holder := "pinned in a bpf filesystem"
	if len(e.Owners) > 0 {
		var who []string
		for _, pid := range e.Owners {
			who = append(who, strings.TrimSpace(fmt.Sprintf("pid %d %s", pid, commandOf(pid))))
		}
		holder = "held by " + strings.Join(who, ", ")
	}
	msg = fmt.Sprintf("%s, through bpf_link %d, %s", msg, e.LinkID, holder)
	if e.Ours() {
		return fmt.Sprintf("%s; stop that xdpipe, or remove the program with: xdpipe detach %s", msg, device)
	}
	return fmt.Sprintf("%s; --replace cannot take it from there: stop its owner, or: bpftool link detach id %d", msg, e.LinkID)
}

// Unwrap makes errors.Is(err, unix.EBUSY) true.
func (e *ForeignProgramError) Unwrap() error { return unix.EBUSY }

// ipKeyword is what `ip link set … off` wants for a mode: plain xdp does
// nothing to a program of another mode.
func ipKeyword(m Mode) string {
	switch m {
	case ModeGeneric:
		return "xdpgeneric"
	case ModeOffload:
		return "xdpoffload"
	}
	return "xdp"
}

// AttachError says why the kernel refused a program.
type AttachError struct {
	Interface string
	Mode      Mode
	Err       error  // unwraps to a unix.Errno
	Kernel    string // the kernel's own words, if it gave any
	Remedy    string // what to do, if known
}

func (e *AttachError) Error() string {
	msg := fmt.Sprintf("attach xdp program to %s in %s mode: %s", e.Interface, e.Mode, e.cause())
	if e.Remedy != "" {
		msg += "; " + e.Remedy
	}
	return msg
}

func (e *AttachError) Unwrap() error { return e.Err }

func (e *AttachError) cause() string {
	errno := e.Err
	var number unix.Errno
	if errors.As(e.Err, &number) {
		errno = number
	}
	if e.Kernel != "" {
		return fmt.Sprintf("%v (%s)", errno, strings.TrimSuffix(e.Kernel, "."))
	}
	return errno.Error()
}

// otherModeMayWork is false for causes that every mode has.
func (e *AttachError) otherModeMayWork() bool {
	return !errors.Is(e.Err, unix.EPERM) && !errors.Is(e.Err, unix.ENODEV)
}

func newAttachError(l *Link, prog *ebpf.Program, mode Mode, err error) *AttachError {
	e := &AttachError{Interface: l.String(), Mode: mode, Err: err}
	if !errors.Is(err, unix.EPERM) {
		e.Kernel = kernelReason(l, prog, mode)
	}
	e.Remedy = remedy(l, mode, err)
	return e
}

// kernelReason asks for the same through netlink, which explains refusals in
// words where bpf_link gives a number only.
func kernelReason(l *Link, prog *ebpf.Program, mode Mode) string {
	flags := mode.flags() | unix.XDP_FLAGS_UPDATE_IF_NOEXIST
	err := setXDP(l, prog.FD(), flags)
	if err == nil {
		_ = setXDP(l, -1, mode.flags()) // it works by now, which explains nothing: undo
		return ""
	}
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return ""
	}
	_, words, _ := strings.Cut(err.Error(), errno.Error()+": ")
	return words
}

func remedy(l *Link, mode Mode, err error) string {
	var number unix.Errno
	errors.As(err, &number)
	switch number {
	case unix.EPERM, unix.EACCES:
		return "it needs CAP_NET_ADMIN and CAP_BPF (run as root, or: setcap cap_net_admin,cap_net_raw,cap_bpf,cap_perfmon,cap_ipc_lock+ep on the binary)"
	case unix.ERANGE, unix.E2BIG, unix.EMSGSIZE:
		return fmt.Sprintf("the MTU is too large for %s mode with this program: ip link set dev %s mtu 1500 (for veth, on the peer too), or use a program that takes fragments (xdp.frags)", mode, l.Name)
	case unix.ENOSPC:
		return fmt.Sprintf("%s has fewer RX queues than its peer has TX queues: ethtool -L %s rx N, with N of the peer's TX queues, or lower those on the peer", l.Name, l.Name)
	case unix.EOPNOTSUPP:
		if mode == ModeNative {
			return fmt.Sprintf("driver %q may not have it, or an offload is in its way: ethtool -K %s lro off rx-gro-hw off; else use --mode generic", l.Driver, l.Name)
		}
	case unix.EINVAL, unix.EBUSY:
		if mode == ModeNative {
			return fmt.Sprintf("often an offload or the number of queues: ethtool -K %s lro off rx-gro-hw off; ethtool -L %s combined 1; else use --mode generic", l.Name, l.Name)
		}
	case unix.ENOMEM:
		return fmt.Sprintf("the driver needs free queues for native mode: ethtool -L %s combined 1", l.Name)
	case unix.ENOTCONN:
		return fmt.Sprintf("the peer of %s is gone", l.Name)
	case unix.ENODEV:
		return "the interface was removed"
	}
	return ""
}
