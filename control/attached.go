package control

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// SteeringProgram is the kernel's name for xdpipe's own XDP program, by which
// one left behind is told from a foreign one.
const SteeringProgram = "xdpipe_steer"

// Mode is where an XDP program runs.
type Mode string

// The modes. The zero value means ModeAuto.
const (
	ModeAuto    Mode = "auto"    // native, else generic with the reason recorded
	ModeNative  Mode = "native"  // in the driver
	ModeGeneric Mode = "generic" // in the network stack, on socket buffers
	ModeOffload Mode = "offload" // in the NIC; seen, never asked for
)

// flags gives the XDP_FLAGS_* bit of a mode.
func (m Mode) flags() int {
	switch m {
	case ModeNative:
		return unix.XDP_FLAGS_DRV_MODE
	case ModeGeneric:
		return unix.XDP_FLAGS_SKB_MODE
	case ModeOffload:
		return unix.XDP_FLAGS_HW_MODE
	}
	return 0
}

// AttachedProgram is an XDP program found on an interface.
type AttachedProgram struct {
	ID   uint32 `json:"id"`
	Name string `json:"name"` // at most 15 bytes; "" if it has none or it may not be read
	Mode Mode   `json:"mode"`
	// LinkID is the bpf_link that holds the program there; 0 if it was attached
	// through netlink, as ip and most loaders do.
	LinkID uint32 `json:"link_id,omitempty"`
	// Owners are the processes that have the link open. None: it is pinned.
	Owners []int `json:"owners,omitempty"`
}

// Ours tells whether this is xdpipe's steering program, by its name.
func (p AttachedProgram) Ours() bool { return p.Name == SteeringProgram }

// Attached reads from the kernel which XDP programs are on the interface now:
// none, one, or one per mode where the driver can do that.
func Attached(l *Link) ([]AttachedProgram, error) {
	programs, err := attachedIDs(l)
	if err != nil {
		return nil, fmt.Errorf("read xdp programs of %v: %w", l, err)
	}
	for i := range programs {
		p := &programs[i]
		if prog, err := ebpf.NewProgramFromID(ebpf.ProgramID(p.ID)); err == nil {
			if info, err := prog.Info(); err == nil {
				p.Name = info.Name
			}
			prog.Close()
		}
		if p.LinkID = linkOf(p.ID, l.Index); p.LinkID != 0 {
			p.Owners = linkOwners(p.LinkID)
		}
	}
	return programs, nil
}

// attachedIDs parses IFLA_XDP itself: of several programs the netlink library
// reports only that there is more than one.
func attachedIDs(l *Link) ([]AttachedProgram, error) {
	var reply [][]byte
	err := l.Namespace.Do(func() error {
		req := nl.NewNetlinkRequest(unix.RTM_GETLINK, 0)
		msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
		msg.Index = int32(l.Index)
		req.AddData(msg)
		var err error
		reply, err = req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(reply) == 0 {
		return nil, fmt.Errorf("the kernel sent no reply: %w", unix.ENODEV)
	}
	return parseXDP(reply[0])
}

// parseXDP reads the programs from one RTM_NEWLINK message.
func parseXDP(msg []byte) ([]AttachedProgram, error) {
	if len(msg) < unix.SizeofIfInfomsg {
		return nil, fmt.Errorf("link message of %d bytes is too short", len(msg))
	}
	attrs, err := parseAttrs(msg[unix.SizeofIfInfomsg:])
	if err != nil {
		return nil, err
	}
	xdp, ok := attrs[unix.IFLA_XDP]
	if !ok {
		return nil, nil
	}
	inner, err := parseAttrs(xdp)
	if err != nil {
		return nil, err
	}
	var programs []AttachedProgram
	for _, in := range []struct {
		attr uint16
		mode Mode
	}{
		{unix.IFLA_XDP_DRV_PROG_ID, ModeNative},
		{unix.IFLA_XDP_SKB_PROG_ID, ModeGeneric},
		{unix.IFLA_XDP_HW_PROG_ID, ModeOffload},
	} {
		if v := inner[in.attr]; len(v) >= 4 {
			programs = append(programs, AttachedProgram{ID: nl.NativeEndian().Uint32(v), Mode: in.mode})
		}
	}
	return programs, nil
}

// linkOf finds the bpf_link that attaches a program to an interface, or 0.
// Without CAP_SYS_ADMIN links cannot be listed, and it is 0 too.
func linkOf(program uint32, ifindex int) uint32 {
	it := new(link.Iterator)
	defer it.Close()
	for it.Next() {
		info, err := it.Link.Info()
		if err != nil || info.Type != link.XDPType || uint32(info.Program) != program {
			continue
		}
		if xdp := info.XDP(); xdp != nil && int(xdp.Ifindex) == ifindex {
			return uint32(info.ID)
		}
	}
	return 0
}

// linkOwners finds the processes that have a bpf_link open.
func linkOwners(id uint32) []int {
	want := "link_id:\t" + strconv.FormatUint(uint64(id), 10) + "\n"
	return processesWith("fdinfo/*", func(path string) bool {
		info, err := os.ReadFile(path)
		return err == nil && strings.Contains(string(info)+"\n", want)
	})
}

// processesWith lists the processes that have a file of the given pattern
// under /proc/PID for which match is true.
func processesWith(pattern string, match func(path string) bool) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		files, err := filepath.Glob(filepath.Join("/proc", e.Name(), pattern))
		if err != nil {
			continue
		}
		for _, f := range files {
			if match(f) {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}

// commandOf is a process's command line, or "" if it is gone.
func commandOf(pid int) string {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))
}

// DetachProgram removes a program that [Attached] found, whoever put it there:
// one attached through netlink in the mode it was attached with, one held by a
// bpf_link by detaching that link. The owner of a link is not told. One
// already gone is no error.
func DetachProgram(l *Link, p AttachedProgram) error {
	err := detachProgram(l, p)
	if err == nil || errors.Is(err, unix.ENODEV) || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("detach xdp program %d (%s) from %v: %w%s", p.ID, p.Name, l, err, needsCapability(err, "CAP_NET_ADMIN and CAP_BPF"))
}

func detachProgram(l *Link, p AttachedProgram) error {
	if p.LinkID != 0 {
		held, err := link.NewFromID(link.ID(p.LinkID))
		if err != nil {
			return err
		}
		defer held.Close()
		return held.Detach()
	}
	// Without the mode's flag the kernel would look for a native program, find
	// none, and report success.
	return setXDP(l, -1, p.Mode.flags())
}

// setXDP sets the XDP program of a link through netlink; fd -1 removes it. The
// error carries the kernel's explanation where it gave one.
func setXDP(l *Link, fd, flags int) error {
	return l.Namespace.Do(func() error {
		req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
		msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
		msg.Index = int32(l.Index)
		req.AddData(msg)
		attrs := nl.NewRtAttr(unix.IFLA_XDP|unix.NLA_F_NESTED, nil)
		attrs.AddRtAttr(unix.IFLA_XDP_FD, nl.Uint32Attr(uint32(int32(fd))))
		attrs.AddRtAttr(unix.IFLA_XDP_FLAGS, nl.Uint32Attr(uint32(flags)))
		req.AddData(attrs)

		s, err := nl.Subscribe(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open netlink socket: %w", err)
		}
		defer s.Close()
		if err := s.SetExtAck(true); err != nil {
			return err
		}
		req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: s}}
		_, err = req.Execute(unix.NETLINK_ROUTE, 0)
		return err
	})
}
