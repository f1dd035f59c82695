package control

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// CreateNamespace makes a network namespace with a name, as `ip netns add`
// does, and brings up its loopback interface. It lives until
// [DeleteNamespace]. The error wraps os.ErrExist if the name is taken.
func CreateNamespace(name string) (*Namespace, error) {
	if err := checkNamespaceName(name); err != nil {
		return nil, err
	}
	if err := createNamespace(name); err != nil {
		return nil, fmt.Errorf("create network namespace %s: %w%s", name, err, needsCapability(err, "CAP_SYS_ADMIN"))
	}
	ns, err := OpenNamespace(name)
	if err == nil {
		err = ns.rtnl(func(h *netlink.Handle) error {
			lo, err := h.LinkByName("lo")
			if err != nil {
				return err
			}
			return h.LinkSetUp(lo)
		})
		if err == nil {
			return ns, nil
		}
		ns.Close()
	}
	return nil, errors.Join(fmt.Errorf("create network namespace %s: bring up lo: %w", name, err), DeleteNamespace(name))
}

func createNamespace(name string) error {
	if err := os.MkdirAll(NamespaceDir, 0o755); err != nil {
		return err
	}
	// iproute2 takes the same lock: of two that prepare the directory at once, the
	// later bind mount would hide the names of the earlier.
	dir, err := os.Open(NamespaceDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	if err := shareNamespaceDir(); err != nil {
		return fmt.Errorf("make %s a shared mount: %w", NamespaceDir, err)
	}
	path := filepath.Join(NamespaceDir, name)
	file, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0)
	if err != nil {
		return err
	}
	file.Close()
	out := onDiscardedThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if err := unix.Mount("/proc/thread-self/ns/net", path, "none", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind mount: %w", err)
		}
		return nil
	})
	if out.err != nil {
		return errors.Join(out.err, os.Remove(path))
	}
	return nil
}

// shareNamespaceDir makes the directory a shared mount point, so that names
// made or deleted in one mount namespace are so in the others too.
func shareNamespaceDir() error {
	err := unix.Mount("", NamespaceDir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	// Not a mount point yet.
	if err := unix.Mount(NamespaceDir, NamespaceDir, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	return unix.Mount("", NamespaceDir, "none", unix.MS_SHARED|unix.MS_REC, "")
}

// DeleteNamespace removes a namespace's name. The namespace itself, with the
// interfaces in it, ends when the last process in it and the last open
// descriptor of it do. A name that does not exist is os.ErrNotExist.
func DeleteNamespace(name string) error {
	if err := checkNamespaceName(name); err != nil {
		return err
	}
	path := filepath.Join(NamespaceDir, name)
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("delete network namespace %s: %w%s", name, err, needsCapability(err, "CAP_SYS_ADMIN"))
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("delete network namespace %s: %w", name, err)
	}
	return nil
}

// checkNamespaceName refuses what would be another file than one directly in
// the directory.
func checkNamespaceName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("network namespace name %q: must be a file name of 1 to 255 bytes without a slash", name)
	}
	return nil
}

func namespaceNames() []string {
	entries, err := os.ReadDir(NamespaceDir)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// listOr joins at most ten names, or gives the word for none.
func listOr(names []string, none string) string {
	const most = 10
	switch {
	case len(names) == 0:
		return none
	case len(names) > most:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// needsCapability is the end of a message about a refused system call.
func needsCapability(err error, capability string) string {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return "; it needs " + capability + " (run as root, or grant it with setcap)"
	}
	return ""
}
