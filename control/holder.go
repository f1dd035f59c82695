package control

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
)

// QueueHolder is a process that has, or may have, a queue.
type QueueHolder struct {
	Instance string // of xdpipe; "" for a foreign program
	PID      int    // 0 if the socket's owner could not be found
	Command  string
	// Certain is false where the kernel cannot say whose sockets are on the
	// queue: the process then has an AF_XDP socket on some queue.
	Certain bool
}

// String names the holder for an error message.
func (h QueueHolder) String() string {
	who := "a process that cannot be seen from here"
	if h.PID != 0 {
		who = strings.TrimSpace(fmt.Sprintf("pid %d %s", h.PID, h.Command))
	}
	if h.Instance != "" {
		who = fmt.Sprintf("xdpipe instance %s (%s)", h.Instance, who)
	}
	if !h.Certain {
		who = "possibly " + who
	}
	return who
}

// Holder tells who has a queue, to explain a bind that ended in EBUSY: the
// claim of an xdpipe instance in dir ("" is [DefaultRunDir]), else what the
// kernel's socket diagnosis says. Kernels without that (XDP_SOCKETS_DIAG) leave
// only the processes that have AF_XDP rings mapped, which are not certain. This
// process is not reported as uncertain. It is nil if nobody was found.
func Holder(dir string, l *Link, queue int) ([]QueueHolder, error) {
	if dir == "" {
		dir = DefaultRunDir
	}
	path := claimPath(dir, l, queue)
	if file, err := lockFile(path, false); err == nil {
		file.Close() // the owner is dead
	} else if err == errLocked {
		if owner, ok := readClaim(path); ok {
			return []QueueHolder{{Instance: owner.Instance, PID: owner.PID, Command: owner.Command, Certain: true}}, nil
		}
	}
	if holders, err := diagHolders(l, queue); err == nil {
		return holders, nil
	}
	return mappedHolders(), nil
}

// diagHolders asks the kernel for the AF_XDP sockets of the namespace.
func diagHolders(l *Link, queue int) ([]QueueHolder, error) {
	var sockets []*netlink.XDPDiagInfoResp
	err := l.Namespace.Do(func() error {
		var err error
		sockets, err = netlink.SocketDiagXDP()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list AF_XDP sockets of %v: %w", l.Namespace, err)
	}
	var holders []QueueHolder
	for _, s := range sockets {
		if s.XDPInfo == nil || int(s.XDPInfo.Ifindex) != l.Index || int(s.XDPInfo.QueueID) != queue {
			continue
		}
		pids := socketOwners(s.XDPDiagMsg.Ino)
		if len(pids) == 0 {
			pids = []int{0}
		}
		for _, pid := range pids {
			holders = append(holders, QueueHolder{PID: pid, Command: commandOf(pid), Certain: true})
		}
	}
	return holders, nil
}

// socketOwners lists the processes that have a socket open.
func socketOwners(inode uint32) []int {
	want := "socket:[" + strconv.FormatUint(uint64(inode), 10) + "]"
	return processesWith("fd/*", func(path string) bool {
		target, err := os.Readlink(path)
		return err == nil && target == want
	})
}

// ringMapping matches a line of /proc/PID/maps for a fill or completion ring:
// no other kind of socket is mapped at these offsets.
var ringMapping = regexp.MustCompile(`(?m)^\S+ \S+ 1[08]0000000 .* socket:\[\d+\]`)

// mappedHolders lists the other processes that have AF_XDP rings mapped.
func mappedHolders() []QueueHolder {
	pids := processesWith("maps", func(path string) bool {
		if filepath.Dir(path) == "/proc/"+strconv.Itoa(os.Getpid()) {
			return false
		}
		maps, err := os.ReadFile(path)
		return err == nil && ringMapping.Match(maps)
	})
	var holders []QueueHolder
	for _, pid := range pids {
		holders = append(holders, QueueHolder{PID: pid, Command: commandOf(pid)})
	}
	return holders
}
