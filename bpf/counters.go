package bpf

import (
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
)

// Counter is a number of packets and of their bytes: Ethernet frames without
// the frame check sequence.
type Counter struct {
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

func (c *Counter) add(o Counter) {
	c.Packets += o.Packets
	c.Bytes += o.Bytes
}

// Counters is what the program counted since it was loaded, over all CPUs.
type Counters struct {
	// Each packet is in exactly one of these.
	Redirect     Counter // given to a socket (the kernel counts what its ring had no room for)
	PassNoMatch  Counter // to the kernel: no rule matched, nor the filter if there is one
	PassRule     Counter // to the kernel: a rule says so
	PassNoSocket Counter // to the kernel: to be redirected, but its queue has no socket
	DropRule     Counter // discarded: a rule says so
	PassNoFilter Counter // to the kernel: the filter of the policy was not there to ask

	// Filter has the packets that filters matched, counted beside the verdict,
	// which is Redirect or PassNoSocket.
	Filter Counter

	// Packets whose headers could not be read as far as the rules needed, counted
	// beside the verdict.
	Truncated Counter // the packet ends within a header
	Malformed Counter // a header contradicts itself
	TooDeep   Counter // more IPv6 extension headers than are walked

	// Rules has the packets that each rule of the present policy decided, since it
	// was set. What a rule redirects counts here also where there was no socket.
	Rules []uint64
}

// Reason describes one of the counters.
type Reason struct {
	// Name is the counter's key in Counters.ByReason and in status output.
	Name string

	// Verdict reports whether the counter is one of those that each packet is in
	// exactly one of.
	Verdict bool

	// Doc is a line for people: what happened and, where there is one, the remedy.
	Doc string
}

// The order is that of enum reason in steer.c.
var reasons = [steerReasonREASON_COUNT]struct {
	Reason
	in func(*Counters) *Counter
}{
	steerReasonREASON_REDIRECT: {
		Reason{"redirect", true, "given to an AF_XDP socket"},
		func(c *Counters) *Counter { return &c.Redirect }},
	steerReasonREASON_PASS_NO_MATCH: {
		Reason{"pass_no_match", true, "left to the kernel: no rule or filter matched"},
		func(c *Counters) *Counter { return &c.PassNoMatch }},
	steerReasonREASON_PASS_RULE: {
		Reason{"pass_rule", true, "left to the kernel by a rule"},
		func(c *Counters) *Counter { return &c.PassRule }},
	steerReasonREASON_PASS_NO_SOCKET: {
		Reason{"pass_no_socket", true, "left to the kernel: the queue has no socket; serve all queues, or steer the traffic to those served"},
		func(c *Counters) *Counter { return &c.PassNoSocket }},
	steerReasonREASON_DROP_RULE: {
		Reason{"drop_rule", true, "dropped by a rule"},
		func(c *Counters) *Counter { return &c.DropRule }},
	steerReasonREASON_PASS_NO_FILTER: {
		Reason{"pass_no_filter", true, "left to the kernel: the program of the filter is gone, because its map was neither held nor pinned; set the policy again"},
		func(c *Counters) *Counter { return &c.PassNoFilter }},
	steerReasonREASON_FILTER: {
		Reason{"filter", false, "the filter matched; the packet was redirected, or passed where its queue has no socket"},
		func(c *Counters) *Counter { return &c.Filter }},
	steerReasonREASON_TRUNCATED: {
		Reason{"truncated", false, "the packet ends within a header; rules that need more of it did not match"},
		func(c *Counters) *Counter { return &c.Truncated }},
	steerReasonREASON_MALFORMED: {
		Reason{"malformed", false, "an IP header contradicts itself; rules that need it did not match"},
		func(c *Counters) *Counter { return &c.Malformed }},
	steerReasonREASON_TOO_DEEP: {
		Reason{"too_deep", false, "more than 8 IPv6 extension headers; rules that need what follows did not match"},
		func(c *Counters) *Counter { return &c.TooDeep }},
}

// Reasons returns the descriptions of all counters, verdicts first.
func Reasons() []Reason {
	list := make([]Reason, len(reasons))
	for i, reason := range reasons {
		list[i] = reason.Reason
	}
	return list
}

// ByReason returns the counters by the names of Reasons.
func (c Counters) ByReason() map[string]Counter {
	named := make(map[string]Counter, len(reasons))
	for _, reason := range reasons {
		named[reason.Name] = *reason.in(&c)
	}
	return named
}

// Total returns the sum of the verdicts: every packet the program saw.
func (c Counters) Total() Counter {
	var total Counter
	for _, reason := range reasons {
		if reason.Verdict {
			total.add(*reason.in(&c))
		}
	}
	return total
}

// Counters reads the counters. Packets are counted meanwhile: the sum is that of
// no single moment while traffic flows.
func (s *Steering) Counters() (Counters, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return Counters{}, ErrClosed
	}
	var c Counters
	var perCPU []steerCounter
	for i, reason := range reasons {
		if err := s.maps.Counters.Lookup(uint32(i), &perCPU); err != nil {
			return Counters{}, fmt.Errorf("read counter %s: %w", reason.Name, err)
		}
		for _, one := range perCPU {
			reason.in(&c).add(Counter{Packets: one.Packets, Bytes: one.Bytes})
		}
	}
	c.Rules = make([]uint64, len(s.policy.Rules))
	var hits []uint64
	for i := range c.Rules {
		if err := s.maps.Hits.Lookup(firstHit(s.generation)+uint32(i), &hits); err != nil {
			return Counters{}, fmt.Errorf("read hits of rule %d: %w", i, err)
		}
		for _, one := range hits {
			c.Rules[i] += one
		}
	}
	return c, nil
}

// firstHit returns the index in the hits map of the generation's rule 0.
func firstHit(generation uint32) uint32 {
	return (generation & 1) * MaxRules
}

// clearHits empties the hits of a generation that is to come. Its half of the map
// was last written by the generation before the present one, which no packet
// sees any more.
func (s *Steering) clearHits(generation uint32) error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("clear hits: %w", err)
	}
	zero := slices.Repeat([]uint64{0}, cpus)
	for i := range uint32(MaxRules) {
		if err := s.maps.Hits.Put(firstHit(generation)+i, zero); err != nil {
			return fmt.Errorf("clear hits of rule %d: %w", i, err)
		}
	}
	return nil
}
