package stages

import (
	"encoding/binary"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xdpipe/xdpipe/pipeline"
)

// A stamp is what generate writes at the start of the payload and sink reads, in
// network byte order. The long one, where every packet has room for it:
//
//	 0  4  "xdp" 1
//	 4  2  id of the generator
//	 6  2  zero
//	 8  8  sequence number among the generator's packets, from 0
//	16  8  time, nanoseconds of CLOCK_MONOTONIC
//	24  8  sequence number among those of the flow, from 0
//	32  4  number of the flow, from 0
//
// The short one fits UDP over IPv4 in the smallest Ethernet frame:
//
//	 0  4  "xdp" 2
//	 4  2  id
//	 6  6  the lower 48 bits of the sequence number
//	12  6  the lower 48 bits of the time, which are three days
type stamp struct {
	id      uint16
	long    bool
	flow    uint32 // with long, as flowSeq
	seq     uint64
	time    uint64
	flowSeq uint64
}

const (
	stampMagic = "xdp"
	stampLong  = 1
	stampShort = 2

	stampLongSize  = 36
	stampShortSize = 18

	low48 = 1<<48 - 1
)

// read reads the stamp of a payload; false if it begins with none. It sets the
// fields one by one, since a struct that is returned is copied in wider pieces
// than it was written in, for which the CPU waits.
func (s *stamp) read(p []byte) bool {
	if len(p) < stampShortSize || string(p[:3]) != stampMagic {
		return false
	}
	switch {
	case p[3] == stampShort:
		s.long = false
		s.seq = binary.BigEndian.Uint64(p[4:]) & low48
		s.time = binary.BigEndian.Uint64(p[10:]) & low48
	case p[3] == stampLong && len(p) >= stampLongSize:
		s.long = true
		s.seq = binary.BigEndian.Uint64(p[8:])
		s.time = binary.BigEndian.Uint64(p[16:])
		s.flowSeq = binary.BigEndian.Uint64(p[24:])
		s.flow = binary.BigEndian.Uint32(p[32:])
	default:
		return false
	}
	s.id = binary.BigEndian.Uint16(p[4:])
	return true
}

// of reads the stamp of a packet that has one.
func (s *stamp) of(b *pipeline.Batch, i int) bool {
	m, p := b.Meta(i), b.Data(i)
	if m.Flags&pipeline.MetaParsed == 0 {
		m.Parse(p)
	}
	if m.Flags&pipeline.MetaL4 == 0 {
		return false
	}
	at, end := int(m.L4), min(int(m.End), len(p))
	switch m.Protocol {
	case pipeline.ProtocolUDP, pipeline.ProtocolICMP, pipeline.ProtocolICMPv6:
		at += 8
	case pipeline.ProtocolTCP:
		if at+13 > end {
			return false
		}
		at += int(p[at+12]>>4) * 4
	default:
		return false
	}
	if at > end {
		return false
	}
	return s.read(p[at:end])
}

// widen returns the number nearest to near with the given lower 48 bits.
func widen(low, near uint64) uint64 {
	v := near&^low48 | low
	switch {
	case v > near && v-near > 1<<47 && v > low48:
		return v - (low48 + 1)
	case v < near && near-v > 1<<47:
		return v + (low48 + 1)
	}
	return v
}

var stampEpoch = time.Now()

// stampOffset is the time of stampEpoch on CLOCK_MONOTONIC. Go's clock is the same
// one with another zero, and read without a system call. The zero is found to
// within some ten nanoseconds by looking at both, of which the closest look counts.
var stampOffset = sync.OnceValue(func() int64 {
	best, offset := time.Duration(1<<62), int64(0)
	for range 64 {
		var ts unix.Timespec
		before := time.Since(stampEpoch)
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			return 0 // then times can be compared within the process
		}
		after := time.Since(stampEpoch)
		if after-before < best {
			best, offset = after-before, ts.Nano()-int64(before+after)/2
		}
	}
	return offset
})

// A stampClock reads CLOCK_MONOTONIC, which is the same for all processes of the
// host that share a time namespace.
type stampClock struct{ offset int64 }

func newStampClock() stampClock { return stampClock{stampOffset()} }

func (c stampClock) now() int64 { return int64(time.Since(stampEpoch)) + c.offset }
