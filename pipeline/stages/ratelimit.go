package stages

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/xdpipe/xdpipe/internal/rate"
	"github.com/xdpipe/xdpipe/pipeline"
)

func init() {
	pipeline.Register(pipeline.Module{
		Name: "ratelimit",
		Doc:  "lets packets pass up to a rate: of all, or of each rule, host or flow, by token buckets in bounded memory",
		Help: `A rule's rate holds for the packets that it is the first to match, rate for those
that none matches. by says what gets a bucket of its own under each of them. Bits
are those of the packet as it is in this stage, from the Ethernet header on and
with padding, without preamble, checksum and gap. What has no key, such as ARP by
src, passes and is counted as unkeyed. Packets need not be parsed before.`,
		Example: "ratelimit rate=1000pps by=src ! count",
		New: func() pipeline.Stage {
			return &RateLimit{Keys: 65536, IPv4Prefix: 32, IPv6Prefix: 64}
		},
		Outputs: []pipeline.OutputInfo{
			{Name: "exceeded", Doc: "packets over the rate; unconnected, they are dropped as rate_exceeded", Optional: true},
		},
	})
}

// RateLimit passes packets up to a rate. It needs no parse stage before it.
//
// A rule's rate holds for the packets it is the first to match, Rate for those
// that none matches. By says what gets a bucket of its own under each of them.
// Bits are those of the packet as it is in this stage, from the Ethernet header on
// and with padding, without preamble, checksum and gap.
//
// What has no key, such as ARP by src, passes and is counted as unkeyed.
type RateLimit struct {
	Rate       rate.Rate      `stage:"rate" doc:"packets (1000pps, 2.5kpps) or bits (10Mbps, 10mbit; Ethernet header and padding count) a second, for what no rule matches; max: no limit"`
	Burst      Burst          `stage:"burst" doc:"how much may pass at once after a pause: 50ms (of the rate), 100p or 64KB; default: 100ms, at least a packet or 10 KB"`
	Rules      []LimitRule    `stage:"rules" type:"list of rule" doc:"rates by pcap-filter expression, as RATE [burst BURST] EXPRESSION: 1000pps udp port 53; the first that matches counts"`
	By         LimitBy        `stage:"by" type:"choice" doc:"what has a bucket of its own, under each rule: all (one bucket), src or dst (host), flow (one direction of it)"`
	Keys       int            `stage:"keys" doc:"most hosts or flows kept, at 16 bytes each; beyond, the one nearest to a full bucket among eight is forgotten (counted: recycled if the bucket was full and nothing is lost, else evicted)"`
	IPv4Prefix int            `stage:"ipv4_prefix" unit:"bits" doc:"so much of an IPv4 address is one host"`
	IPv6Prefix int            `stage:"ipv6_prefix" unit:"bits" doc:"so much of an IPv6 address is one host"`
	Workers    LimitOfWorkers `stage:"workers" type:"choice" doc:"each: every worker applies the rate by itself, which is exact after handoff by the same key; split: each worker that has the stage gets an equal share, so that all together keep to the rate, though what one does not use another cannot; auto: each for flow, which a port gives to one worker, else split"`

	limits    []limit  // of the rules, then of Rate
	buckets   []bucket // by limit, for LimitByAll
	table     *bucketTable
	mask      hostMask
	over      pipeline.Output
	connected bool
	exceeded  pipeline.Reason
	clock     int64 // the latest arrival
	sharers   *sharers
	config    string // what an heir must have too

	unlimited, unkeyed uint64

	// What is found out about a batch before the buckets are looked at.
	keyed   [pipeline.MaxBatch]keyedPacket
	keys    [pipeline.MaxBatch]bucketKey
	touched int64
}

// A keyedPacket is a packet that has a key, and the limit it is under.
type keyedPacket struct{ packet, limit uint16 }

// LimitBy is what RateLimit gives a bucket of its own.
type LimitBy uint8

// What RateLimit can give a bucket of its own.
const (
	LimitByAll LimitBy = iota
	LimitBySrc
	LimitByDst
	LimitByFlow
)

var limitByNames = []string{"all", "src", "dst", "flow"}

func (by LimitBy) String() string { return limitByNames[by] }

// UnmarshalText reads all, src, dst or flow.
func (by *LimitBy) UnmarshalText(b []byte) error {
	n := slices.Index(limitByNames, string(b))
	if n < 0 {
		return fmt.Errorf("found %q, want one of %s", b, strings.Join(limitByNames, ", "))
	}
	*by = LimitBy(n)
	return nil
}

// LimitOfWorkers says how workers share a rate.
type LimitOfWorkers uint8

// How workers share a rate.
const (
	LimitAuto  LimitOfWorkers = iota // LimitEach for flows, otherwise LimitSplit
	LimitEach                        // each has all of it
	LimitSplit                       // each has its share
)

var limitOfWorkersNames = []string{"auto", "each", "split"}

func (w LimitOfWorkers) String() string { return limitOfWorkersNames[w] }

// UnmarshalText reads auto, each or split.
func (w *LimitOfWorkers) UnmarshalText(b []byte) error {
	n := slices.Index(limitOfWorkersNames, string(b))
	if n < 0 {
		return fmt.Errorf("found %q, want one of %s", b, strings.Join(limitOfWorkersNames, ", "))
	}
	*w = LimitOfWorkers(n)
	return nil
}

const (
	maxKeys  = 1 << 26 // 1 GiB
	maxRules = 256
)

// Validate implements pipeline.Validator.
func (s *RateLimit) Validate() error {
	if s.Rate.Unit == rate.Unlimited && len(s.Rules) == 0 {
		return pipeline.BadOption("rate", "neither a rate nor rules, so that nothing would be limited; want a rate such as 1000pps or 10Mbps")
	}
	if s.Keys < 1 || s.Keys > maxKeys {
		return pipeline.BadOption("keys", "found %d, want 1 to %d", s.Keys, maxKeys)
	}
	if len(s.Rules) > maxRules {
		return pipeline.BadOption("rules", "found %d rules, want at most %d", len(s.Rules), maxRules)
	}
	if err := checkPrefixes(s.IPv4Prefix, s.IPv6Prefix); err != nil {
		return err
	}
	_, err := s.newLimits(1)
	return err
}

// newLimits returns the limits of the rules, then that of Rate.
func (s *RateLimit) newLimits(workers int) ([]limit, error) {
	var limits []limit
	for i := range s.Rules {
		r := &s.Rules[i]
		if err := r.compile(); err != nil {
			return nil, &pipeline.OptionError{Option: "rules", Err: err}
		}
		burst, option := r.Burst, "rules"
		if burst == (Burst{}) {
			burst, option = s.Burst, "burst"
		}
		l, err := newLimit(r.Rate, burst, workers)
		if err != nil {
			return nil, pipeline.BadOption(option, "rule %q: %w", r.Expr, err)
		}
		limits = append(limits, l)
	}
	l, err := newLimit(s.Rate, s.Burst, workers)
	if err != nil {
		return nil, &pipeline.OptionError{Option: "burst", Err: err}
	}
	return append(limits, l), nil
}

// sharers counts the instances of the stage.
type sharers struct{ n int }

// Provision implements pipeline.Provisioner.
func (s *RateLimit) Provision(ctx *pipeline.Context) error {
	if _, err := s.newLimits(1); err != nil {
		return err
	}
	all, err := ctx.Shared(func() (any, error) { return &sharers{}, nil })
	if err != nil {
		return err
	}
	s.sharers = all.(*sharers)
	s.sharers.n++ // of one assembly, whose stages are provisioned one after the other
	if s.By != LimitByAll {
		s.table = newBucketTable(s.Keys)
	}
	s.mask = newHostMask(s.IPv4Prefix, s.IPv6Prefix)
	s.clock = fullForever
	s.over, s.connected = ctx.Output("exceeded")
	s.exceeded = ctx.Reason("rate_exceeded", "more packets than a ratelimit stage lets pass; raise its rate or burst, or connect its output exceeded")
	return nil
}

// begin sets the limits, now that all instances that share them are there.
func (s *RateLimit) begin() {
	workers := s.sharers.n
	if s.Workers == LimitEach || s.Workers == LimitAuto && s.By == LimitByFlow {
		workers = 1
	}
	s.limits, _ = s.newLimits(workers) // Provision has seen its errors
	s.buckets = make([]bucket, len(s.limits))
	for i := range s.buckets {
		s.buckets[i].full = fullForever
	}
	var rules []string
	for _, r := range s.Rules {
		rules = append(rules, fmt.Sprint(r.Rate, r.Burst, r.Expr))
	}
	s.config = fmt.Sprintf("%v %v %q %v %d %d %d %d", s.Rate, s.Burst, rules, s.By, s.Keys, s.IPv4Prefix, s.IPv6Prefix, workers)
}

// Inherit implements pipeline.Heir: with the same options, the buckets are as full
// as they were.
func (s *RateLimit) Inherit(old pipeline.Stage) {
	s.begin()
	o, ok := old.(*RateLimit)
	if !ok || o.limits == nil || o.config != s.config {
		return
	}
	s.limits, s.buckets, s.table = o.limits, o.buckets, o.table
	s.clock, s.unlimited, s.unkeyed = o.clock, o.unlimited, o.unkeyed
}

// Process implements pipeline.Stage.
func (s *RateLimit) Process(b *pipeline.Batch) {
	if s.limits == nil {
		s.begin()
	}
	n := b.Len()
	if s.table == nil {
		for i := range n {
			of := 0
			if len(s.Rules) > 0 {
				if of = s.limitOf(b, i); of < 0 {
					continue
				}
			}
			after, ok := s.limits[of].take(s.buckets[of], s.time(b.Arrival(i)), b.Size(i))
			s.buckets[of] = after
			if !ok {
				s.exceed(b, i)
			}
		}
		return
	}
	// First the keys of all packets, so that the memory of all their buckets is on its
	// way at once.
	keyed := 0
	for i := range n {
		of := 0
		if len(s.Rules) > 0 {
			if of = s.limitOf(b, i); of < 0 {
				continue
			}
		}
		if key, ok := s.key(b, i, uint64(of)); ok {
			s.keyed[keyed] = keyedPacket{uint16(i), uint16(of)}
			s.keys[keyed] = key
			keyed++
		} else {
			s.unkeyed++
		}
	}
	s.touched = s.table.touch(s.keys[:keyed])
	for j, p := range s.keyed[:keyed] {
		i, key := int(p.packet), s.keys[j]
		now := s.time(b.Arrival(i))
		set := s.table.set(key)
		at := s.table.place(set, key, now)
		after, ok := s.limits[p.limit].take(bucket{set.full[at], set.part[at]}, now, b.Size(i))
		set.full[at], set.part[at] = after.full, after.part
		if !ok {
			s.exceed(b, i)
		}
	}
}

func (s *RateLimit) exceed(b *pipeline.Batch, i int) {
	if s.connected {
		b.To(i, s.over)
	} else {
		b.Drop(i, s.exceeded)
	}
}

// limitOf returns the index of the limit that the packet is under, -1 if it is
// under none.
func (s *RateLimit) limitOf(b *pipeline.Batch, i int) int {
	for r := range s.Rules {
		if rule := &s.Rules[r]; rule.filter.Match(b.Data(i)) {
			if rule.Rate.Unit == rate.Unlimited {
				s.unlimited++
				return -1
			}
			return r
		}
	}
	if s.Rate.Unit == rate.Unlimited {
		s.unlimited++
		return -1
	}
	return len(s.Rules)
}

// key returns the key of the packet's bucket under a limit; false if it has none.
func (s *RateLimit) key(b *pipeline.Batch, i int, limit uint64) (bucketKey, bool) {
	m, p := parsed(b, i), b.Data(i)
	if s.By == LimitByFlow {
		return s.flowKey(m, p, limit)
	}
	var h host
	var ok bool
	if s.By == LimitBySrc {
		h, ok = s.mask.source(m, p)
	} else {
		h, ok = s.mask.destination(m, p)
	}
	return s.table.key(h.hi, h.lo, limit), ok
}

// flowKey returns the key of one direction of a flow: addresses, protocol and
// ports. All fragments of a packet have the same, so that their ports are left out.
func (s *RateLimit) flowKey(m *pipeline.Meta, p []byte, limit uint64) (bucketKey, bool) {
	rest := uint64(m.Protocol)
	if m.Flags&(pipeline.MetaPorts|pipeline.MetaFragment) == pipeline.MetaPorts {
		rest |= uint64(m.SrcPort)<<48 | uint64(m.DstPort)<<32
	}
	l3 := int(m.L3)
	switch {
	case m.Flags&pipeline.MetaIPv4 != 0 && len(p) >= l3+20:
		return s.table.key(binary.NativeEndian.Uint64(p[l3+12:]), rest, limit), true
	case m.Flags&pipeline.MetaIPv6 != 0 && len(p) >= l3+40:
		a := p[l3+8 : l3+40]
		source := s.table.key(binary.NativeEndian.Uint64(a), binary.NativeEndian.Uint64(a[8:]), 0)
		destination := s.table.key(binary.NativeEndian.Uint64(a[16:]), binary.NativeEndian.Uint64(a[24:]), 0)
		// A bit that IPv4 has not, and the sum in which the two are not the same.
		return s.table.key(uint64(source)+3*uint64(destination), rest|1<<8, limit), true
	}
	return 0, false
}

// setBack is how far arrivals may be out of order. Beyond, the clock was set back.
const setBack = 1e9 // ns

// time returns when a packet arrived, for buckets: no earlier than packets before
// it, unless the clock was set back.
func (s *RateLimit) time(arrival int64) int64 {
	if arrival > s.clock || s.clock-arrival > setBack {
		s.clock = arrival
	}
	return s.clock
}

// Report implements pipeline.Reporter.
func (s *RateLimit) Report() map[string]uint64 {
	values := map[string]uint64{"passed": 0, "exceeded": 0, "unlimited": s.unlimited}
	for i, l := range s.limits {
		values["passed"] += l.passed
		values["exceeded"] += l.exceeded
		if i < len(s.Rules) && s.Rules[i].Rate.Unit != rate.Unlimited {
			values[fmt.Sprintf("rule_%d_passed", i+1)] = l.passed
			values[fmt.Sprintf("rule_%d_exceeded", i+1)] = l.exceeded
		}
	}
	if t := s.table; t != nil {
		values["unkeyed"] = s.unkeyed
		values["keys"], values["recycled"], values["evicted"] = t.used, t.recycled, t.evicted
	}
	return values
}
