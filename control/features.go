package control

import (
	"errors"
	"fmt"

	"github.com/safchain/ethtool"
	"golang.org/x/sys/unix"
)

// LinkFeatures is what an interface and its driver can do for XDP. Its JSON
// form is that of `xdpipe features -j`.
type LinkFeatures struct {
	Interface string      `json:"interface"`
	Driver    string      `json:"driver"`
	MTU       int         `json:"mtu"` // bytes
	Queues    QueueCounts `json:"queues"`
	Rings     RingSizes   `json:"rings"`
	XDP       XDPFeatures `json:"xdp"`
	// RXMetadata are hints the driver can give with a packet.
	RXMetadata []string `json:"rx_metadata"`
	// TXMetadata are requests the driver takes with a packet in zero-copy mode.
	TXMetadata []string `json:"tx_metadata"`
	// NAPI has one entry per RX queue; 0 where the queue has none, so that busy
	// polling it does nothing. Empty if the kernel does not say.
	NAPI []uint32 `json:"napi,omitempty"`
	// Programs are the XDP programs attached now.
	Programs []AttachedProgram `json:"programs"`
	// Notes say what could not be found out, and why.
	Notes []string `json:"notes,omitempty"`
}

// QueueCounts are numbers of hardware queues.
type QueueCounts struct {
	RX       int `json:"rx"`       // queues packets arrive on now, combined ones included
	TX       int `json:"tx"`       // queues packets leave by now, combined ones included
	Combined int `json:"combined"` // queues that are both
	Max      int `json:"max"`      // most RX queues the driver can be set to
}

// RingSizes are those of the driver's own rings, in descriptors; 0 if unknown.
type RingSizes struct {
	RX    int `json:"rx"`
	RXMax int `json:"rx_max"`
	TX    int `json:"tx"`
	TXMax int `json:"tx_max"`
}

// XDPFeatures are the driver's XDP capabilities.
type XDPFeatures struct {
	Native      bool   `json:"native"`
	Generic     bool   `json:"generic"`
	Redirect    bool   `json:"redirect"`
	ZeroCopy    bool   `json:"zero_copy"`
	MultiBuffer bool   `json:"multi_buffer"` // native mode takes packets of several buffers
	ZCMaxSegs   uint32 `json:"zc_max_segs"`  // most buffers of a packet in zero-copy mode
	// Transmit: the interface can be the target of a redirect from another one.
	Transmit            bool `json:"transmit"`
	TransmitMultiBuffer bool `json:"transmit_multi_buffer"`
	Offload             bool `json:"offload"`
}

// Features reads what an interface can do. Only a missing interface is an
// error; what an older kernel or a simple driver does not tell is left zero and
// named in Notes.
func Features(l *Link) (*LinkFeatures, error) {
	now, err := LinkByIndex(l.Namespace, l.Index)
	if err != nil {
		return nil, fmt.Errorf("features of %v: %w", l, err)
	}
	f := &LinkFeatures{
		Interface: now.Name, Driver: now.Driver, MTU: now.MTU,
		RXMetadata: []string{}, TXMetadata: []string{}, Programs: []AttachedProgram{},
	}
	f.readNetdev(now)
	f.readEthtool(now)
	if programs, err := Attached(now); err != nil {
		f.note("xdp programs: %v", err)
	} else if len(programs) > 0 {
		f.Programs = programs
	}
	return f, nil
}

func (f *LinkFeatures) note(format string, args ...any) {
	f.Notes = append(f.Notes, fmt.Sprintf(format, args...))
}

func (f *LinkFeatures) readNetdev(l *Link) {
	// Generic XDP needs nothing of the driver.
	f.XDP.Generic = true
	d, err := netdevGet(l)
	if err != nil {
		f.note("xdp features unknown: %v", err)
		return
	}
	f.XDP.Native = d.features&xdpBasic != 0
	f.XDP.Redirect = d.features&xdpRedirect != 0
	f.XDP.ZeroCopy = d.features&xdpZeroCopy != 0
	f.XDP.MultiBuffer = d.features&xdpRXSG != 0
	f.XDP.ZCMaxSegs = d.zcMaxSegs
	f.XDP.Transmit = d.features&xdpXmit != 0
	f.XDP.TransmitMultiBuffer = d.features&xdpXmitSG != 0
	f.XDP.Offload = d.features&xdpOffload != 0
	f.RXMetadata = bitNames(d.rxMetadata, rxMetadataNames)
	f.TXMetadata = bitNames(d.xskFeatures, txMetadataNames)

	queues, err := netdevQueues(l)
	if err != nil {
		f.note("NAPI ids unknown (Linux 6.8 tells them): %v", err)
		return
	}
	for _, q := range queues {
		f.NAPI = append(f.NAPI, q.napi)
		if q.xsk {
			f.note("RX queue %d has a zero-copy AF_XDP socket", q.id)
		}
	}
}

func (f *LinkFeatures) readEthtool(l *Link) {
	err := l.Namespace.ethtool(func(e *ethtool.Ethtool) error {
		c, err := e.GetChannels(l.Name)
		switch {
		case err == nil:
			f.Queues = queueCounts(c)
		case errors.Is(err, unix.EOPNOTSUPP):
			f.Queues = QueueCounts{RX: l.RXQueues, TX: l.TXQueues, Max: l.RXQueues}
			f.note("the driver does not report channels; queues are those allocated")
		default:
			return err
		}
		r, err := e.GetRing(l.Name)
		switch {
		case err == nil:
			f.Rings = RingSizes{RX: int(r.RxPending), RXMax: int(r.RxMaxPending), TX: int(r.TxPending), TXMax: int(r.TxMaxPending)}
		case errors.Is(err, unix.EOPNOTSUPP):
			f.note("the driver does not report ring sizes")
		default:
			return err
		}
		return nil
	})
	if err != nil {
		f.note("ethtool: %v", err)
	}
}

func queueCounts(c ethtool.Channels) QueueCounts {
	return QueueCounts{
		RX:       int(c.RxCount + c.CombinedCount),
		TX:       int(c.TxCount + c.CombinedCount),
		Combined: int(c.CombinedCount),
		Max:      int(max(c.MaxRx, c.MaxCombined)),
	}
}

// RXQueueCount reads how many queues packets arrive on now: those an AF_XDP
// socket must be bound to if none are to go to the kernel.
func RXQueueCount(l *Link) (int, error) {
	var f LinkFeatures
	f.readEthtool(l)
	if f.Queues.RX > 0 {
		return f.Queues.RX, nil
	}
	return 0, fmt.Errorf("count RX queues of %v: %s", l, listOr(f.Notes, "the driver reports none"))
}
