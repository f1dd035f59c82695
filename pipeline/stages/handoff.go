package stages

import (
	"fmt"
	"slices"
	"strings"

	"github.com/xdpipe/xdpipe/pipeline"
)

func init() {
	pipeline.Register(pipeline.Module{
		Name: "handoff",
		Doc:  "spreads packets over workers, which go on with the next stage",
		Help: `Packets that belong together meet on one worker, in their order, whatever queues
they came by. Packets that are not IP are spread by their MAC addresses. The ports
of fragments are not known to all of them: a flow's fragments go together, but not
necessarily to where its whole packets go. Packets need not be parsed before.`,
		Example: "parse ! handoff by=flow ! count",
		Hands:   true,
		New:     func() pipeline.Stage { return &Handoff{IPv4Prefix: 32, IPv6Prefix: 64} },
	})
}

// Handoff spreads packets over workers by a hash, so that those that belong
// together meet on one worker, in their order, whatever queues they came by. It
// needs no parse stage before it.
//
// Packets that are not IP are spread by their MAC addresses. The ports of
// fragments are not known to all of them, so a flow's fragments go together but
// not necessarily to where its whole packets go.
type Handoff struct {
	By         HandoffBy `stage:"by" type:"choice" doc:"what keeps packets together: flow (both directions of it), src or dst (host), or round_robin, which keeps none and no order"`
	Workers    []int     `stage:"workers" doc:"indices of the workers to spread over, from 0; default: all"`
	IPv4Prefix int       `stage:"ipv4_prefix" unit:"bits" doc:"for src and dst: so much of an IPv4 address is one host"`
	IPv6Prefix int       `stage:"ipv6_prefix" unit:"bits" doc:"for src and dst: so much of an IPv6 address is one host"`

	mask   hostMask
	next   int      // for round_robin: position in Workers
	handed []uint64 // packets by position in Workers
}

// HandoffBy is what Handoff keeps together.
type HandoffBy uint8

// What Handoff can keep together.
const (
	HandoffByFlow HandoffBy = iota
	HandoffBySrc
	HandoffByDst
	HandoffRoundRobin
)

var handoffNames = []string{"flow", "src", "dst", "round_robin"}

func (by HandoffBy) String() string { return handoffNames[by] }

// UnmarshalText reads flow, src, dst or round_robin.
func (by *HandoffBy) UnmarshalText(b []byte) error {
	n := slices.Index(handoffNames, string(b))
	if n < 0 {
		return fmt.Errorf("found %q, want one of %s", b, strings.Join(handoffNames, ", "))
	}
	*by = HandoffBy(n)
	return nil
}

// Validate implements pipeline.Validator.
func (s *Handoff) Validate() error {
	for i, w := range s.Workers {
		if w < 0 {
			return pipeline.BadOption("workers", "found %d, want indices from 0", w)
		}
		if slices.Contains(s.Workers[:i], w) {
			return pipeline.BadOption("workers", "worker %d is there twice", w)
		}
	}
	return checkPrefixes(s.IPv4Prefix, s.IPv6Prefix)
}

// Provision implements pipeline.Provisioner.
func (s *Handoff) Provision(ctx *pipeline.Context) error {
	workers := max(ctx.Workers, 1)
	if len(s.Workers) == 0 {
		for w := range workers {
			s.Workers = append(s.Workers, w)
		}
	}
	for _, w := range s.Workers {
		if w >= workers {
			return pipeline.BadOption("workers", "found %d, but the workers are 0 to %d; raise workers.count to have more", w, workers-1)
		}
	}
	s.mask = newHostMask(s.IPv4Prefix, s.IPv6Prefix)
	s.handed = make([]uint64, len(s.Workers))
	return nil
}

// Process implements pipeline.Stage.
func (s *Handoff) Process(b *pipeline.Batch) {
	if s.By == HandoffRoundRobin {
		for i := range b.Len() {
			s.hand(b, i, s.next)
			if s.next++; s.next == len(s.Workers) {
				s.next = 0
			}
		}
		return
	}
	for i := range b.Len() {
		s.hand(b, i, s.position(s.hash(b, i)))
	}
}

func (s *Handoff) hand(b *pipeline.Batch, i, position int) {
	s.handed[position]++
	b.ToWorker(i, s.Workers[position])
}

// position maps a hash to a position in Workers, evenly: as a fraction of all
// hashes, which takes a multiplication where a remainder takes a division.
func (s *Handoff) position(hash uint32) int {
	return int(uint64(hash) * uint64(len(s.Workers)) >> 32)
}

// hash returns a hash of what keeps the packet together with others. It is the
// same on all workers.
func (s *Handoff) hash(b *pipeline.Batch, i int) uint32 {
	m := parsed(b, i)
	var h host
	ip := false
	switch s.By {
	case HandoffBySrc:
		h, ip = s.mask.source(m, b.Data(i))
	case HandoffByDst:
		h, ip = s.mask.destination(m, b.Data(i))
	}
	if !ip {
		return b.FlowHash(i)
	}
	// Each step keeps different words different; the last brings what all bits say
	// to the top half.
	const odd = 0x9e3779b97f4a7c15 // of the golden ratio
	x := h.hi*odd ^ h.hi>>32
	x = (x ^ h.lo) * odd
	x = (x ^ x>>32) * odd
	return uint32(x >> 32)
}

// Report implements pipeline.Reporter.
func (s *Handoff) Report() map[string]uint64 {
	values := map[string]uint64{}
	for i, w := range s.Workers {
		values[fmt.Sprintf("to_worker_%d", w)] = s.handed[i]
	}
	return values
}
