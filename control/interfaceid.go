package control

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// InterfaceID tells an interface from every other one of this boot, also after
// it was renamed, and also to another process.
type InterfaceID struct {
	Cookie uint64 `json:"netns_cookie"`
	Inode  uint64 `json:"netns_inode"`
	Path   string `json:"netns_path"`
	Index  int    `json:"ifindex"`
	Name   string `json:"name"`
	MAC    string `json:"mac,omitempty"`
}

// ID is the link's identity.
func (l *Link) ID() InterfaceID {
	id := InterfaceID{Cookie: l.Namespace.Cookie(), Inode: l.Namespace.inode, Path: l.Namespace.Path(), Index: l.Index, Name: l.Name}
	if len(l.MAC) > 0 {
		id.MAC = l.MAC.String()
	}
	return id
}

// same tells whether two identities are of one interface.
func (id InterfaceID) same(other *InterfaceID) bool {
	return other != nil && id.Cookie == other.Cookie && id.Index == other.Index
}

// errInterfaceGone says that there is nothing left to undo a change on.
var errInterfaceGone = errors.New("gone, and the change with it")

// find opens the interface in whatever namespace it was. release closes that.
func (id InterfaceID) find() (l *Link, release func(), err error) {
	ns := id.findNamespace()
	if ns == nil {
		return nil, nil, fmt.Errorf("the network namespace of %s is %w", id.Name, errInterfaceGone)
	}
	l, err = LinkByIndex(ns, id.Index)
	if errors.Is(err, unix.ENODEV) {
		ns.Close()
		return nil, nil, fmt.Errorf("interface %s is %w", id.Name, errInterfaceGone)
	}
	if err != nil {
		ns.Close()
		return nil, nil, err
	}
	// An index can be asked for by whoever makes an interface. A rename changes
	// the name, a new address the MAC; both at once is another interface.
	if mac, _ := net.ParseMAC(id.MAC); l.Name != id.Name && l.MAC.String() != mac.String() {
		ns.Close()
		return nil, nil, fmt.Errorf("interface %s is %w (its index is now that of %s)", id.Name, errInterfaceGone, l.Name)
	}
	return l, func() { ns.Close() }, nil
}

// findNamespace looks where the namespace was, then in every named one and in
// that of every process. The inode picks candidates, the cookie decides.
func (id InterfaceID) findNamespace() *Namespace {
	candidates := []string{id.Path, "/proc/self/ns/net"}
	for _, name := range namespaceNames() {
		candidates = append(candidates, filepath.Join(NamespaceDir, name))
	}
	processes := processesWith("ns/net", func(path string) bool {
		var st unix.Stat_t
		return unix.Stat(path, &st) == nil && st.Ino == id.Inode
	})
	for _, pid := range processes {
		candidates = append(candidates, "/proc/"+strconv.Itoa(pid)+"/ns/net")
	}
	for _, path := range candidates {
		var st unix.Stat_t
		if unix.Stat(path, &st) != nil || st.Ino != id.Inode {
			continue
		}
		ns, err := OpenNamespacePath(path)
		if err != nil {
			continue
		}
		if ns.Cookie() == id.Cookie {
			return ns
		}
		ns.Close()
	}
	return nil
}
