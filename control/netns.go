package control

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// NamespaceDir is where named namespaces are bind-mounted, by iproute2's
// convention.
const NamespaceDir = "/run/netns"

// Namespace is an open network namespace. It stays alive while it is open,
// even if its name is deleted. It may be used by several goroutines at once.
type Namespace struct {
	file    *os.File
	name    string
	path    string
	inode   uint64
	cookie  uint64
	process bool // the one that ProcessNamespace keeps
	own     bool // the namespace the process is in
}

// OpenNamespace opens the namespace that has the given name under
// [NamespaceDir]. The empty name is the process's own namespace.
func OpenNamespace(name string) (*Namespace, error) {
	if name == "" {
		return ProcessNamespace()
	}
	if err := checkNamespaceName(name); err != nil {
		return nil, err
	}
	ns, err := OpenNamespacePath(filepath.Join(NamespaceDir, name))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open network namespace %s: %w; existing ones: %s", name, os.ErrNotExist, listOr(namespaceNames(), "none"))
	}
	return ns, err
}

// OpenNamespacePath opens the namespace a path refers to, such as
// /proc/PID/ns/net or a bind mount.
func OpenNamespacePath(path string) (*Namespace, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	ns := &Namespace{file: file, path: path}
	if err := ns.identify(); err != nil {
		file.Close()
		return nil, fmt.Errorf("open network namespace %s: %w", path, err)
	}
	return ns, nil
}

// CurrentNamespace opens the namespace of the calling thread. Inside
// [Namespace.Do] that is the namespace of the Do; elsewhere it is the process's.
func CurrentNamespace() (*Namespace, error) {
	// thread-self would name another thread by the time the path is used again.
	ns, err := OpenNamespacePath("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	ns.path = fmt.Sprintf("/proc/%d/ns/net", os.Getpid())
	if ns.name != "" {
		ns.path = filepath.Join(NamespaceDir, ns.name)
	}
	return ns, nil
}

var processNamespace struct {
	once sync.Once
	ns   *Namespace
	err  error
}

// ProcessNamespace is the namespace the process was started in. It is opened
// once, and Close does nothing to it. A nil *Namespace means the same wherever
// this package takes one.
func ProcessNamespace() (*Namespace, error) {
	own := &processNamespace
	own.once.Do(func() {
		own.ns, own.err = OpenNamespacePath("/proc/self/ns/net")
		if own.err != nil {
			return
		}
		own.ns.process = true
		own.ns.path = fmt.Sprintf("/proc/%d/ns/net", os.Getpid())
		if own.ns.name != "" {
			own.ns.path = filepath.Join(NamespaceDir, own.ns.name)
		}
	})
	return own.ns, own.err
}

// identify reads what tells this namespace from every other one.
func (n *Namespace) identify() error {
	var st unix.Stat_t
	if err := unix.Fstat(int(n.file.Fd()), &st); err != nil {
		return err
	}
	n.inode = st.Ino
	var own unix.Stat_t
	if unix.Stat("/proc/self/ns/net", &own) == nil {
		n.own = own.Ino == st.Ino && own.Dev == st.Dev
	}
	for _, name := range namespaceNames() {
		var named unix.Stat_t
		if unix.Stat(filepath.Join(NamespaceDir, name), &named) == nil && named.Ino == st.Ino && named.Dev == st.Dev {
			n.name = name
			break
		}
	}
	return n.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		n.cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		if errors.Is(err, unix.ENOPROTOOPT) {
			// Before Linux 5.14. The inode can be used again after the namespace is
			// gone, which a cookie cannot; it is the best there is.
			n.cookie, err = 1<<63|n.inode, nil
		}
		return err
	})
}

// Name is the namespace's name under [NamespaceDir], or "" if it has none.
func (n *Namespace) Name() string { return n.name }

// Path is a path at which the namespace can be opened, as long as its name or
// the process that opened it exists.
func (n *Namespace) Path() string { return n.path }

// Cookie is the kernel's number for this namespace, never used again before
// the next boot (SO_NETNS_COOKIE).
func (n *Namespace) Cookie() uint64 { return n.cookie }

// FD is the open file descriptor, for passing to the kernel. It is closed by
// Close.
func (n *Namespace) FD() int { return int(n.file.Fd()) }

// String names the namespace the way error messages do.
func (n *Namespace) String() string {
	switch {
	case n == nil || n.process && n.name == "":
		return "this network namespace"
	case n.name != "":
		return "network namespace " + n.name
	default:
		return "network namespace " + n.path
	}
}

// Close closes the namespace. Links read from it can no longer be used.
func (n *Namespace) Close() error {
	if n.process {
		return nil
	}
	return n.file.Close()
}

// Do runs fn in the namespace and returns its error. fn has an operating-system
// thread to itself, which ends with it: a thread that has been in a foreign
// namespace never runs other goroutines. A panic in fn is raised again in the
// caller; a runtime.Goexit (t.FailNow) ends the caller's goroutine too.
// Sockets that fn opens stay in the namespace and may be used anywhere after.
func (n *Namespace) Do(fn func() error) error {
	if n == nil {
		own, err := ProcessNamespace()
		if err != nil {
			return err
		}
		n = own
	}
	out := onDiscardedThread(func() error {
		// A new thread is in the process's namespace, and to enter that once more
		// takes a capability that reading it does not.
		if n.own {
			return fn()
		}
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter %v: %w%s", n, err, needsCapability(err, "CAP_SYS_ADMIN"))
		}
		return fn()
	})
	switch {
	case out.panicked:
		panic(fmt.Sprintf("%v\n\nin %v:\n%s", out.value, n, out.stack))
	case out.exited:
		runtime.Goexit()
	}
	return out.err
}

type threadOutcome struct {
	err      error
	panicked bool
	exited   bool
	value    any
	stack    []byte
}

// onDiscardedThread runs fn on a locked thread that is never unlocked, so that
// the runtime ends it when the goroutine does. The process's first thread is
// the exception (the runtime parks it for good, and /proc/PID/ns/net would show
// its namespace as the process's), so it is not used.
func onDiscardedThread(fn func() error) threadOutcome {
	done := make(chan threadOutcome, 1)
	var run func(started chan<- struct{})
	run = func(started chan<- struct{}) {
		runtime.LockOSThread()
		if started != nil {
			close(started)
		}
		if unix.Gettid() == unix.Getpid() {
			other := make(chan struct{})
			go run(other)
			<-other // holding the first thread until then keeps the other one off it
			runtime.UnlockOSThread()
			return
		}
		out := threadOutcome{exited: true}
		defer func() {
			if out.exited {
				if v := recover(); v != nil {
					out = threadOutcome{panicked: true, value: v, stack: debug.Stack()}
				}
			}
			done <- out
		}()
		out.err = fn()
		out.exited = false
	}
	go run(nil)
	return <-done
}

// rtnl runs fn in the namespace with a route-netlink handle that is closed after it.
func (n *Namespace) rtnl(fn func(h *netlink.Handle) error) error {
	return n.Do(func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open netlink socket: %w", err)
		}
		defer h.Close()
		return fn(h)
	})
}

// ethtool runs fn in the namespace with an ethtool socket that is closed after it.
func (n *Namespace) ethtool(fn func(e *ethtool.Ethtool) error) error {
	return n.Do(func() error {
		e, err := ethtool.NewEthtool()
		if err != nil {
			return fmt.Errorf("open ethtool socket: %w", err)
		}
		defer e.Close()
		return fn(e)
	})
}
