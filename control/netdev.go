package control

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The netdev generic-netlink family, Linux 6.3 (queues: 6.8); numbers from
// include/uapi/linux/netdev.h.
const (
	netdevFamily  = "netdev"
	netdevVersion = 1

	netdevCmdDevGet   = 1
	netdevCmdQueueGet = 10

	netdevDevIfindex     = 1
	netdevDevXDPFeatures = 3
	netdevDevZCMaxSegs   = 4
	netdevDevRXMetadata  = 5
	netdevDevXSKFeatures = 6

	netdevQueueID      = 1
	netdevQueueIfindex = 2
	netdevQueueType    = 3
	netdevQueueNAPI    = 4
	netdevQueueXSK     = 7

	netdevQueueTypeRX = 0
)

// Bits of NETDEV_A_DEV_XDP_FEATURES.
const (
	xdpBasic    = 1 << 0
	xdpRedirect = 1 << 1
	xdpXmit     = 1 << 2
	xdpZeroCopy = 1 << 3
	xdpOffload  = 1 << 4
	xdpRXSG     = 1 << 5
	xdpXmitSG   = 1 << 6
)

// Names of the bits of NETDEV_A_DEV_XDP_RX_METADATA_FEATURES and
// NETDEV_A_DEV_XSK_FEATURES, lowest first.
var (
	rxMetadataNames = []string{"timestamp", "hash", "vlan_tag"}
	txMetadataNames = []string{"timestamp", "checksum", "launch_time"}
)

// errNoNetdevFamily says that the kernel is older than the family.
var errNoNetdevFamily = errors.New("this kernel has no netdev netlink family (Linux 6.3)")

// netdevDevice is the reply to DEV_GET.
type netdevDevice struct {
	features    uint64
	zcMaxSegs   uint32
	rxMetadata  uint64
	xskFeatures uint64
}

// netdevQueue is one RX queue of the reply to QUEUE_GET.
type netdevQueue struct {
	id   uint32
	napi uint32 // 0: none, which makes busy polling inert
	xsk  bool   // a zero-copy AF_XDP socket is bound to it
}

// netdevDo sends a request of the family in the namespace.
func netdevDo(ns *Namespace, cmd uint8, flags int, attrs ...*nl.RtAttr) ([][]byte, error) {
	var reply [][]byte
	err := ns.Do(func() error {
		h, err := netlink.NewHandle(unix.NETLINK_GENERIC)
		if err != nil {
			return err
		}
		defer h.Close()
		family, err := h.GenlFamilyGet(netdevFamily)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, os.ErrNotExist) {
			return errNoNetdevFamily
		}
		if err != nil {
			return fmt.Errorf("find netdev netlink family: %w", err)
		}
		req := nl.NewNetlinkRequest(int(family.ID), flags)
		req.AddData(genlHeader{cmd, netdevVersion})
		for _, a := range attrs {
			req.AddData(a)
		}
		reply, err = req.Execute(unix.NETLINK_GENERIC, 0)
		return err
	})
	return reply, err
}

func netdevGet(l *Link) (netdevDevice, error) {
	var d netdevDevice
	reply, err := netdevDo(l.Namespace, netdevCmdDevGet, 0, nl.NewRtAttr(netdevDevIfindex, nl.Uint32Attr(uint32(l.Index))))
	if err != nil {
		return d, err
	}
	if len(reply) == 0 || len(reply[0]) < nl.SizeofGenlmsg {
		return d, errors.New("netdev family: empty reply")
	}
	attrs, err := parseAttrs(reply[0][nl.SizeofGenlmsg:])
	if err != nil {
		return d, err
	}
	d.features = attrUint(attrs[netdevDevXDPFeatures])
	d.zcMaxSegs = uint32(attrUint(attrs[netdevDevZCMaxSegs]))
	d.rxMetadata = attrUint(attrs[netdevDevRXMetadata])
	d.xskFeatures = attrUint(attrs[netdevDevXSKFeatures])
	return d, nil
}

// netdevQueues lists the RX queues in use.
func netdevQueues(l *Link) ([]netdevQueue, error) {
	reply, err := netdevDo(l.Namespace, netdevCmdQueueGet, unix.NLM_F_DUMP, nl.NewRtAttr(netdevQueueIfindex, nl.Uint32Attr(uint32(l.Index))))
	if err != nil {
		return nil, err
	}
	var queues []netdevQueue
	for _, msg := range reply {
		if len(msg) < nl.SizeofGenlmsg {
			continue
		}
		attrs, err := parseAttrs(msg[nl.SizeofGenlmsg:])
		if err != nil {
			return nil, err
		}
		if attrUint(attrs[netdevQueueType]) != netdevQueueTypeRX {
			continue
		}
		_, xsk := attrs[netdevQueueXSK]
		queues = append(queues, netdevQueue{
			id:   uint32(attrUint(attrs[netdevQueueID])),
			napi: uint32(attrUint(attrs[netdevQueueNAPI])),
			xsk:  xsk,
		})
	}
	return queues, nil
}

// genlHeader is the header of a generic netlink message. The netlink library's
// leaves the two reserved bytes to chance, which this family refuses.
type genlHeader struct{ cmd, version uint8 }

func (genlHeader) Len() int            { return nl.SizeofGenlmsg }
func (h genlHeader) Serialize() []byte { return []byte{h.cmd, h.version, 0, 0} }

// parseAttrs reads netlink attributes by type, without the flags in the type's
// upper bits. Of several of one type it keeps the last.
func parseAttrs(b []byte) (map[uint16][]byte, error) {
	order := nl.NativeEndian()
	attrs := map[uint16][]byte{}
	for len(b) >= unix.SizeofNlAttr {
		size, kind := int(order.Uint16(b)), order.Uint16(b[2:])
		if size < unix.SizeofNlAttr || size > len(b) {
			return nil, fmt.Errorf("netlink attribute of %d bytes where %d are left", size, len(b))
		}
		attrs[kind&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER)] = b[unix.SizeofNlAttr:size]
		b = b[min((size+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1), len(b)):]
	}
	return attrs, nil
}

// attrUint reads an unsigned attribute of 4 or 8 bytes; 0 if it is missing.
func attrUint(v []byte) uint64 {
	switch {
	case len(v) >= 8:
		return nl.NativeEndian().Uint64(v)
	case len(v) >= 4:
		return uint64(nl.NativeEndian().Uint32(v))
	}
	return 0
}

// bitNames lists the names of the bits set; those without a name by number.
func bitNames(bits uint64, names []string) []string {
	set := []string{}
	for i := range 64 {
		if bits&(1<<i) == 0 {
			continue
		}
		if i < len(names) {
			set = append(set, names[i])
		} else {
			set = append(set, fmt.Sprintf("bit_%d", i))
		}
	}
	return set
}
