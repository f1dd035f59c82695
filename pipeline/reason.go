package pipeline

import (
	"fmt"
	"sync"
)

// A Reason says why a packet was dropped. It is an index into the engine's
// table of reasons; every drop carries one.
type Reason uint16

// Reasons of the engine itself. Stages make their own with Context.Reason.
const (
	// ReasonPanic: the stage panicked while it had the packet.
	ReasonPanic Reason = iota + 1
	// ReasonTxFull: the transmit ring stayed full through the retries.
	ReasonTxFull
	// ReasonLinkDown: the link of the port to transmit on is down.
	ReasonLinkDown
	// ReasonPortGone: the interface of the port to transmit on is gone, or its
	// driver refuses to transmit.
	ReasonPortGone
	// ReasonTooLong: the packet does not fit the port to transmit on.
	ReasonTooLong
	// ReasonNoFrame: no free frame to copy the packet into: by a copying port, or
	// for a stage that writes to a packet with other holders.
	ReasonNoFrame
	// ReasonNoHeadroom and ReasonNoTailroom: the frame has no room for what a
	// stage adds before or after the packet.
	ReasonNoHeadroom
	ReasonNoTailroom
	// ReasonTooShort: a stage takes more off the packet than it has.
	ReasonTooShort
	// ReasonNoOutput: the stage sent it to an output that leads nowhere.
	ReasonNoOutput
	// ReasonHandoffFull: the worker it was for does not keep up.
	ReasonHandoffFull
	// ReasonMulti: it has several descriptors, and the port to transmit on takes
	// packets of one.
	ReasonMulti
	// ReasonDisabled: the pipeline's stages panicked too often and it drops.
	ReasonDisabled

	firstStageReason
)

// A ReasonInfo is what is known of a Reason.
type ReasonInfo struct {
	Name string // for counters and labels: lower case, words joined by _
	Doc  string // cause and remedy, for people
}

// maxReasons is bounded by the fate of a packet in a Batch, which keeps one bit
// for "dropped".
const maxReasons = 1 << 15

// reasonTable holds the reasons of one engine. It grows while stages are
// provisioned and is only read afterwards.
type reasonTable struct {
	mu    sync.Mutex
	infos []ReasonInfo
	index map[ReasonInfo]Reason
}

func newReasonTable() *reasonTable {
	t := &reasonTable{index: map[ReasonInfo]Reason{}}
	t.infos = make([]ReasonInfo, firstStageReason)
	t.infos[0] = ReasonInfo{"unknown", "the stage gave a reason that it did not make in Provision; correct the stage"}
	t.infos[ReasonPanic] = ReasonInfo{"panic", "the stage panicked and lost its batch; the log has the stack once"}
	t.infos[ReasonTxFull] = ReasonInfo{"tx_ring_full", "the transmit ring stayed full; the outgoing link or its receiver is slower than what arrives"}
	t.infos[ReasonLinkDown] = ReasonInfo{"tx_link_down", "the outgoing link is down; bring it up with: ip link set dev IFACE up"}
	t.infos[ReasonPortGone] = ReasonInfo{"tx_port_gone", "the outgoing interface was removed or cannot transmit in this mode"}
	t.infos[ReasonTooLong] = ReasonInfo{"tx_too_long", "the packet does not fit the outgoing port's frames; raise its frame size"}
	t.infos[ReasonNoFrame] = ReasonInfo{"no_free_frame", "no free frame to copy the packet into; raise memory.frames"}
	t.infos[ReasonNoHeadroom] = ReasonInfo{"no_headroom", "no room before the packet for the header to be pushed; raise memory.headroom"}
	t.infos[ReasonNoTailroom] = ReasonInfo{"no_tailroom", "no room behind the packet for what is to be appended; raise memory.frame_size, or lower the MTU"}
	t.infos[ReasonTooShort] = ReasonInfo{"too_short", "the packet ends within what the stage works on"}
	t.infos[ReasonNoOutput] = ReasonInfo{"no_output", "the stage sent it to an output that it has not or that is not connected; correct the stage"}
	t.infos[ReasonHandoffFull] = ReasonInfo{"handoff_full", "the worker it was handed to does not keep up; add workers, or spread the flows better"}
	t.infos[ReasonMulti] = ReasonInfo{"multi_buffer", "the packet has several frames and the outgoing port takes packets of one; lower the MTU of the incoming port"}
	t.infos[ReasonDisabled] = ReasonInfo{"pipeline_disabled", "a stage of the pipeline panicked too often; the log has its stack, and reload starts the pipeline again"}
	return t
}

// add returns the reason with this name and text, made now if it is new: the
// instances of a stage on several workers share their reasons.
func (t *reasonTable) add(name, doc string) (Reason, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	info := ReasonInfo{name, doc}
	if r, ok := t.index[info]; ok {
		return r, nil
	}
	if len(t.infos) == maxReasons {
		return 0, fmt.Errorf("more than %d drop reasons", maxReasons)
	}
	r := Reason(len(t.infos))
	t.infos = append(t.infos, info)
	t.index[info] = r
	return r, nil
}

func (t *reasonTable) info(r Reason) ReasonInfo {
	t.mu.Lock()
	defer t.mu.Unlock()
	if int(r) < len(t.infos) && t.infos[r].Name != "" {
		return t.infos[r]
	}
	return ReasonInfo{Name: fmt.Sprintf("reason_%d", r)}
}

func (t *reasonTable) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.infos)
}

// named turns counters indexed by Reason into a map by name, without zeros.
func (t *reasonTable) named(counts []uint64) map[string]uint64 {
	m := map[string]uint64{}
	for r, n := range counts {
		if n > 0 {
			m[t.info(Reason(r)).Name] += n
		}
	}
	return m
}
