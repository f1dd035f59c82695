package stages

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
)

// udpFrom returns a UDP packet of a flow.
func udpFrom(src, dst uint32, srcPort, dstPort uint16) []byte {
	p := udpPacket()
	binary.BigEndian.PutUint32(p[26:], src)
	binary.BigEndian.PutUint32(p[30:], dst)
	binary.BigEndian.PutUint16(p[34:], srcPort)
	binary.BigEndian.PutUint16(p[36:], dstPort)
	return p
}

// udp6From returns one of IPv6, whose addresses are 16 bytes each.
func udp6From(src, dst string, srcPort, dstPort uint16) []byte {
	p := ethernet("\x86\xdd", "\x60\x00\x00\x00\x00\x0c\x11\x40", src, dst, ports, "\x00\x0c\x00\x00", "data")
	binary.BigEndian.PutUint16(p[54:], srcPort)
	binary.BigEndian.PutUint16(p[56:], dstPort)
	return p
}

// worker returns the position of the worker that the stage chooses.
func (s *Handoff) worker(b *pipeline.Batch, i int) int { return s.position(s.hash(b, i)) }

func TestHandoffKeepsTogetherWhatBelongsTogether(t *testing.T) {
	net, net2 := "\x20\x01\x0d\xb8\x00\x01\x00\x02", "\x20\x01\x0d\xb8\x00\x01\x00\x03"
	host1, host2 := "\x00\x00\x00\x00\x00\x00\x00\x01", "\xab\xcd\x00\x00\x00\x00\x00\x02"
	for _, tc := range []struct {
		name     string
		by       HandoffBy
		a, b     []byte
		together bool
	}{
		{"the directions of a flow", HandoffByFlow, udpFrom(1, 2, 10, 20), udpFrom(2, 1, 20, 10), true},
		{"flows of different ports", HandoffByFlow, udpFrom(1, 2, 10, 20), udpFrom(1, 2, 11, 20), false},
		{"fragments of a packet", HandoffByFlow, ipv4Packet(17, first, ports), ipv4Packet(17, later), true},
		{"packets of a source", HandoffBySrc, udpFrom(1, 2, 10, 20), udpFrom(1, 3, 11, 21), true},
		{"packets of different sources", HandoffBySrc, udpFrom(1, 2, 10, 20), udpFrom(3, 2, 10, 20), false},
		{"packets to a destination", HandoffByDst, udpFrom(1, 2, 10, 20), udpFrom(3, 2, 11, 21), true},
		{"packets to different destinations", HandoffByDst, udpFrom(1, 2, 10, 20), udpFrom(1, 3, 10, 20), false},
		{"addresses of an IPv6 subnet", HandoffBySrc, udp6From(net+host1, net+host1, 1, 2), udp6From(net+host2, net2+host1, 3, 4), true},
		{"IPv6 subnets", HandoffBySrc, udp6From(net+host1, net+host1, 1, 2), udp6From(net2+host1, net+host1, 1, 2), false},
		{"destinations in an IPv6 subnet", HandoffByDst, udp6From(net+host1, net+host1, 1, 2), udp6From(net2+host1, net+host2, 1, 2), true},
	} {
		s := &Handoff{By: tc.by, IPv4Prefix: 32, IPv6Prefix: 64}
		ctx := &pipeline.Context{Workers: 1 << 20} // so many that chance brings nothing together
		must(t, s.Validate())
		must(t, s.Provision(ctx))
		b := newBatch(t, tc.a, tc.b)
		if together := s.worker(b, 0) == s.worker(b, 1); together != tc.together {
			t.Errorf("%s: together %v, want %v", tc.name, together, tc.together)
		}
		b2 := newBatch(t, tc.a)
		b2.Parse()
		if s.worker(b2, 0) != s.worker(b, 0) {
			t.Errorf("%s: another worker for a packet that was parsed before", tc.name)
		}
	}
}

func TestHandoffSpreadsEvenly(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, by := range []HandoffBy{HandoffByFlow, HandoffBySrc, HandoffByDst} {
		for _, workers := range []int{1, 2, 3, 7} {
			s := &Handoff{By: by, IPv4Prefix: 32, IPv6Prefix: 64}
			must(t, s.Provision(&pipeline.Context{Workers: workers}))
			const packets = 10 * pipeline.MaxBatch
			for range packets / pipeline.MaxBatch {
				b := newBatch(t)
				for range pipeline.MaxBatch {
					p := udpFrom(0x0a000000+random.Uint32N(1<<16), 0xc0000200+random.Uint32N(1<<10), uint16(random.Uint32()), 53)
					copy(b.Alloc(len(p)), p)
				}
				s.Process(b)
			}
			for w, n := range s.handed {
				// The standard deviation is below the root of the mean; destinations are
				// only a thousand, each with several packets.
				mean := float64(packets) / float64(workers)
				if workers > 1 && (float64(n) < mean*0.75 || float64(n) > mean*1.25) {
					t.Errorf("by %v over %d workers: %d packets to worker %d, want about %.0f", by, workers, n, w, mean)
				}
			}
		}
	}
}

func TestHandoffTakesTurnsIfAsked(t *testing.T) {
	s := &Handoff{By: HandoffRoundRobin, Workers: []int{2, 0}, IPv4Prefix: 32, IPv6Prefix: 64}
	must(t, s.Provision(&pipeline.Context{Workers: 3}))
	for range 3 {
		s.Process(newBatch(t, udpPacket(), udpPacket(), udpPacket()))
	}
	if v := s.Report(); len(v) != 2 || v["to_worker_2"] != 5 || v["to_worker_0"] != 4 {
		t.Errorf("handed %v, want 5 to worker 2 and 4 to worker 0", v)
	}
}

func TestHandoffRefusesWorkersThatThereAreNot(t *testing.T) {
	for _, tc := range []struct{ stage, want string }{
		{"handoff workers=2", "stages:1:17: stage handoff: option workers: found 2, but the workers are 0 to 1; raise workers.count to have more"},
		{"handoff workers=-1", "stages:1:17: stage handoff: option workers: found -1, want indices from 0"},
		{"handoff by=host", `stages:1:12: stage handoff: by: found "host", want one of flow, src, dst, round_robin`},
		{"handoff by=src ipv4_prefix=33", "stages:1:28: stage handoff: option ipv4_prefix: found 33, want 1 to 32 bits"},
		{"handoff by=src ipv6_prefix=0", "stages:1:28: stage handoff: option ipv6_prefix: found 0, want 1 to 128 bits"},
	} {
		_, err := tryRig(t, 2, tc.stage)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %s", tc.stage, err, tc.want)
		}
	}
	if err := (&Handoff{Workers: []int{1, 1}, IPv4Prefix: 32, IPv6Prefix: 64}).Validate(); err == nil || !strings.Contains(err.Error(), "worker 1 is there twice") {
		t.Errorf("worker 1 twice: %v", err)
	}
}

func TestHandoffGoesToAllWorkersUnlessToldOtherwise(t *testing.T) {
	s := &Handoff{IPv4Prefix: 32, IPv6Prefix: 64}
	must(t, s.Provision(&pipeline.Context{Workers: 3}))
	if !slices.Equal(s.Workers, []int{0, 1, 2}) {
		t.Errorf("workers %v, want all three", s.Workers)
	}
}

func TestHandoffDoesNotAllocate(t *testing.T) {
	for _, by := range []HandoffBy{HandoffByFlow, HandoffBySrc, HandoffRoundRobin} {
		s := &Handoff{By: by, IPv4Prefix: 32, IPv6Prefix: 64}
		must(t, s.Provision(&pipeline.Context{Workers: 3}))
		noAllocations(t, s)
	}
}

func FuzzHandoff(f *testing.F) {
	fuzzStage(f, func() pipeline.Stage {
		return &Handoff{By: HandoffBySrc, Workers: []int{0, 2}, IPv4Prefix: 24, IPv6Prefix: 100}
	})
}

func BenchmarkHandoff(b *testing.B) {
	for _, by := range []HandoffBy{HandoffByFlow, HandoffBySrc, HandoffRoundRobin} {
		b.Run(by.String(), func(b *testing.B) {
			s := &Handoff{By: by, IPv4Prefix: 32, IPv6Prefix: 64}
			must(b, s.Provision(&pipeline.Context{Workers: 3}))
			benchmark(b, s, &Parse{})
		})
	}
}
