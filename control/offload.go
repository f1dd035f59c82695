package control

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/safchain/ethtool"
)

const offloadKind = "offload"

// offloadData is what the journal keeps: the features that were on, by the
// kernel's names.
type offloadData struct {
	WereOn []string `json:"were_on"`
}

func init() { RegisterUndo(offloadKind, undoOffloads) }

// PortOffloads lists the features that change or merge frames before XDP sees
// them, by the kernel's names (net/ethtool/common.c), for a port of that mode.
func PortOffloads(mode Mode) []string {
	names := []string{
		"rx-vlan-hw-parse",      // the tag would be cut out of the frame
		"rx-vlan-stag-hw-parse", // likewise 802.1ad
		"rx-gro-hw",             // frames merged by the NIC
		"rx-lro",
		"rx-udp-gro-forwarding", // datagrams merged on the way to a redirect
		"rx-gro-list",
	}
	if mode == ModeGeneric {
		// Generic XDP runs after GRO. Native XDP runs before it, and on veth the
		// same switch is what gives the device its NAPI.
		names = append(names, "rx-gro")
	}
	return names
}

// HostOffloads lists the features to turn off on the far end of a cable that
// is no cable: a veth end on which the kernel's own stack talks to an AF_XDP
// port hands over partial checksums, tags beside the frame, and segments larger
// than the MTU, none of which can cross a UMEM. exists says which names the
// interface has; segmentation features differ between kernels.
func HostOffloads(exists []string) []string {
	var names []string
	for _, name := range exists {
		switch {
		case !strings.HasPrefix(name, "tx-"):
		case strings.HasPrefix(name, "tx-checksum-"), strings.HasSuffix(name, "-segmentation"), strings.HasPrefix(name, "tx-gso-"),
			name == "tx-vlan-hw-insert", name == "tx-vlan-stag-hw-insert":
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Offloads are features turned off until Restore.
type Offloads struct {
	// Disabled were on and are off now.
	Disabled []string
	// Stuck are on and cannot be turned off; packets may arrive merged, or
	// without their VLAN tag.
	Stuck []string

	link    *Link
	journal *Journal
	seq     int
	held    []string
}

// DisableOffloads turns off those of the named features that are on and may be
// changed; names the interface does not have are ignored. It is journaled
// before; without a journal (nil) only Restore puts it back.
func DisableOffloads(l *Link, j *Journal, names []string) (*Offloads, error) {
	o := &Offloads{link: l, journal: j}
	err := l.Namespace.ethtool(func(e *ethtool.Ethtool) error {
		var others []Change
		if j != nil {
			unlock, err := lockRunDir(j.dir)
			if err != nil {
				return err
			}
			defer unlock()
			others = otherChanges(j.dir, j.instance)
		}
		return o.disable(e, names, others)
	})
	if err != nil {
		return nil, fmt.Errorf("turn off offloads of %v: %w%s", l, err, needsCapability(err, "CAP_NET_ADMIN"))
	}
	return o, nil
}

func (o *Offloads) disable(e *ethtool.Ethtool, names []string, others []Change) error {
	state, err := e.FeaturesWithState(o.link.Name)
	if err != nil {
		return fmt.Errorf("read features: %w", err)
	}
	byOthers := heldOffloads(o.link.ID(), others)
	off := map[string]bool{}
	for _, name := range names {
		s, exists := state[name]
		switch {
		case !exists || slices.Contains(o.held, name):
		case s.Available && !s.NeverChanged && (s.Requested || s.Active):
			off[name] = false
			o.held = append(o.held, name)
		case s.Active:
			o.Stuck = append(o.Stuck, name)
		case byOthers[name]:
			// Off because another instance needs it off as well: whoever of us
			// ends last puts it back.
			o.held = append(o.held, name)
		}
	}
	if len(o.held) == 0 {
		return nil
	}
	slices.Sort(o.held)
	if o.journal != nil {
		c, err := NewChange(offloadKind, o.link, offloadData{WereOn: o.held})
		if err != nil {
			return err
		}
		if o.seq, err = o.journal.Record(c); err != nil {
			return err
		}
	}
	if len(off) == 0 {
		return nil
	}
	if err := e.Change(o.link.Name, off); err != nil {
		return err
	}
	if state, err = e.FeaturesWithState(o.link.Name); err != nil {
		return fmt.Errorf("read features back: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(off)) {
		if state[name].Active {
			o.Stuck = append(o.Stuck, name)
		} else {
			o.Disabled = append(o.Disabled, name)
		}
	}
	return nil
}

// Restore turns the features on again, unless another instance needs them off
// still. It may be called again.
func (o *Offloads) Restore() error {
	if o.journal != nil {
		return o.journal.Undo(o.seq)
	}
	_, err := enableOffloads(o.link, o.held)
	o.held = nil
	return err
}

func undoOffloads(u Undo) (string, error) {
	var data offloadData
	if err := json.Unmarshal(u.Data, &data); err != nil {
		return "", err
	}
	needed := heldOffloads(u.Link.ID(), u.Others)
	data.WereOn = slices.DeleteFunc(data.WereOn, func(name string) bool { return needed[name] })
	return enableOffloads(u.Link, data.WereOn)
}

func enableOffloads(l *Link, names []string) (string, error) {
	if len(names) == 0 {
		return "nothing to turn on", nil
	}
	err := l.Namespace.ethtool(func(e *ethtool.Ethtool) error {
		state, err := e.FeaturesWithState(l.Name)
		if err != nil {
			return err
		}
		// Those never turned off are not asked for: who may not turn anything off
		// may not turn it on either, and would leave a journal behind.
		on := map[string]bool{}
		names = slices.DeleteFunc(names, func(name string) bool { return state[name].Requested })
		for _, name := range names {
			on[name] = true
		}
		if len(on) == 0 {
			return nil
		}
		if err := e.Change(l.Name, on); err != nil {
			return err
		}
		if state, err = e.FeaturesWithState(l.Name); err != nil {
			return err
		}
		for _, name := range names {
			// A feature wanted but not active waits for something else, such as an
			// XDP program of another owner; that is as it was.
			if !state[name].Requested && !state[name].Active {
				return fmt.Errorf("the driver did not take %s", name)
			}
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("turn on %s of %v: %w%s", strings.Join(names, ", "), l, err, needsCapability(err, "CAP_NET_ADMIN"))
	}
	if len(names) == 0 {
		return "all were on still", nil
	}
	return "turned on " + strings.Join(names, ", "), nil
}

// heldOffloads lists the features of an interface that the changes keep off.
func heldOffloads(id InterfaceID, changes []Change) map[string]bool {
	held := map[string]bool{}
	for _, c := range changes {
		var data offloadData
		if c.Kind != offloadKind || !id.same(c.Interface) || json.Unmarshal(c.Data, &data) != nil {
			continue
		}
		for _, name := range data.WereOn {
			held[name] = true
		}
	}
	return held
}

// DisableHostOffloads turns off [HostOffloads] of an interface, for one that
// will not outlive the caller's topology: it is not journaled.
func DisableHostOffloads(l *Link) (*Offloads, error) {
	state, err := OffloadState(l)
	if err != nil {
		return nil, err
	}
	return DisableOffloads(l, nil, HostOffloads(slices.Collect(maps.Keys(state))))
}

// OffloadState reads which features are on, by the kernel's names.
func OffloadState(l *Link) (map[string]bool, error) {
	var on map[string]bool
	err := l.Namespace.ethtool(func(e *ethtool.Ethtool) error {
		var err error
		on, err = e.Features(l.Name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read features of %v: %w", l, err)
	}
	return on, nil
}
