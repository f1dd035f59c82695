package traffic

import (
	"cmp"
	"context"
	"fmt"
	"time"
)

// Options shape a check. The zero value asks for each check's defaults.
type Options struct {
	// Count is how many packets are sent, each way where a check goes both
	// ways. Zero means 1,000, and 200,000 for UDP. ICMP and ARP checks take at
	// most 65,536, the number of ICMP sequence numbers.
	Count int

	// Bytes is what TCP sends each way. Zero means 256 MiB.
	Bytes int64

	// IPv6 makes TCP, UDP and Large use IPv6 instead of IPv4. The other checks
	// have their family in their name or use both.
	IPv6 bool

	// MTU is the path's, in bytes. Zero means the smaller one of the two
	// interfaces.
	MTU int

	// FrameSize is the size of Large's Ethernet frames in bytes, headers
	// counted, check sequence not. Zero means 3,000.
	FrameSize int

	// Rate is the number of packets per second at which UDP, VLAN and Large
	// send. Zero means 60,000 for UDP and 20,000 for the others. A sender that
	// was held up does not make up for it with a burst, so this is a ceiling.
	Rate int

	// Idle is the longest wait for an arrival before what is still missing
	// counts as lost. Zero means one second, and five for TCP.
	Idle time.Duration

	// Deadline bounds the whole check, as does the context's. Zero means half
	// a minute and what the check is expected to take.
	Deadline time.Duration

	// Progress, if set, is called about ten times a second with what has
	// arrived so far at both ends, and once more at the end. It is called from
	// one goroutine at a time, never after the check has returned.
	Progress func(packets, bytes uint64)
}

const (
	defaultCount     = 1000
	defaultUDPCount  = 200_000
	defaultBytes     = 256 << 20
	defaultFrameSize = 3000
	defaultRate      = 20_000
	defaultUDPRate   = 60_000
	defaultIdle      = time.Second
	defaultTCPIdle   = 5 * time.Second
	baseDeadline     = 30 * time.Second

	// smallestMTU is the one IPv4 demands of every link (RFC 791).
	smallestMTU = 68

	// largestMTU keeps datagrams within IP's 16-bit length.
	largestMTU = 65535
)

// fill replaces zeros by the defaults given and rejects what no check can use.
func (o Options) fill(count, rate int, idle time.Duration) (Options, error) {
	o.Count = cmp.Or(o.Count, count)
	o.Rate = cmp.Or(o.Rate, rate)
	o.Idle = cmp.Or(o.Idle, idle)
	o.Bytes = cmp.Or(o.Bytes, defaultBytes)
	o.FrameSize = cmp.Or(o.FrameSize, defaultFrameSize)
	switch {
	case o.Count < 0:
		return o, fmt.Errorf("options: count %d is negative", o.Count)
	case o.Bytes < 0:
		return o, fmt.Errorf("options: bytes %d is negative", o.Bytes)
	case o.Rate < 0:
		return o, fmt.Errorf("options: rate %d is negative", o.Rate)
	case o.Idle < 0 || o.Deadline < 0:
		return o, fmt.Errorf("options: idle %v or deadline %v is negative", o.Idle, o.Deadline)
	case o.MTU != 0 && (o.MTU < smallestMTU || o.MTU > largestMTU):
		return o, fmt.Errorf("options: mtu %d is not between %d and %d", o.MTU, smallestMTU, largestMTU)
	}
	return o, nil
}

// mtu returns the MTU to use between the two peers.
func (o Options) mtu(client, server Peer) (int, error) {
	if o.MTU != 0 {
		return o.MTU, nil
	}
	mtu, err := pathMTU(client, server)
	return min(mtu, largestMTU), err
}

// bound returns a context that ends at the deadline, given what the check is
// expected to take.
func (o Options) bound(ctx context.Context, expected time.Duration) (context.Context, context.CancelFunc) {
	d := cmp.Or(o.Deadline, baseDeadline+2*expected)
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("%w (%v)", ErrDeadline, d))
}
