package lab

import (
	"fmt"
	"os"
	"strings"

	"github.com/xdpipe/xdpipe/control"
)

// NS is a namespace of a lab. Do, and whatever else a [control.Namespace] can,
// is there too.
type NS struct {
	*control.Namespace
	name string
	lab  *Lab
}

// Label is the name given to [Lab.Namespace], without the lab's own.
func (n *NS) Label() string { return n.name }

// Link finds an interface of the namespace.
func (n *NS) Link(name string) (*control.Link, error) { return control.LinkByName(n.Namespace, name) }

// Bridge makes a Linux bridge of the namespace's ports and brings it up.
func (n *NS) Bridge(name string, ports ...*control.Link) (*control.Link, error) {
	return control.CreateBridge(n.Namespace, name, ports...)
}

// Sysctl sets a kernel parameter of the namespace, such as net.ipv4.ip_forward.
// Write it with slashes where an interface's name has a dot in it.
func (n *NS) Sysctl(key, value string) error {
	path := key
	if !strings.Contains(key, "/") {
		path = strings.ReplaceAll(key, ".", "/")
	}
	if !strings.HasPrefix(path, "net/") || strings.Contains(path, "..") {
		return fmt.Errorf("set %s in %v: only parameters under net belong to a namespace", key, n.Namespace)
	}
	err := n.Do(func() error { return os.WriteFile("/proc/sys/"+path, []byte(value), 0) })
	if err != nil {
		return fmt.Errorf("set %s=%s in %v: %w", key, value, n.Namespace, err)
	}
	return nil
}

// quietIPv6 skips what would delay addresses or add packets nobody sent. A
// kernel without IPv6 has nothing to skip.
func (n *NS) quietIPv6(conf string) error {
	return n.Do(func() error {
		base := "/proc/sys/net/ipv6/conf/" + conf
		if _, err := os.Stat(base); err != nil {
			return nil
		}
		for key, value := range map[string]string{"accept_dad": "0", "dad_transmits": "0", "router_solicitations": "0", "accept_ra": "0"} {
			if err := os.WriteFile(base+"/"+key, []byte(value), 0); err != nil {
				return fmt.Errorf("quiet IPv6 in %v: %w", n.Namespace, err)
			}
		}
		return nil
	})
}

// noIPv6 keeps the kernel from talking on an interface that is not its own.
func (n *NS) noIPv6(device string) error {
	return n.Do(func() error {
		path := "/proc/sys/net/ipv6/conf/" + device + "/disable_ipv6"
		if _, err := os.Stat(path); err != nil {
			return nil
		}
		return os.WriteFile(path, []byte("1"), 0)
	})
}
