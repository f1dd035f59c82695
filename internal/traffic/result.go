package traffic

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Result is what a check counted. Packets are counted in both directions where
// a check goes both ways; TCP counts bytes only.
type Result struct {
	Check       string        // the check's name: arp, nd, icmp, icmpv6, tcp, udp, vlan or large
	Sent        uint64        // packets sent; for ARP and ND, resolutions begun
	Received    uint64        // different packets that arrived; for ARP and ND, resolutions completed
	Lost        uint64        // packets sent that did not arrive
	Duplicated  uint64        // arrivals beyond each packet's first
	Reordered   uint64        // packets that arrived after one sent later; not counted for echo
	Corrupted   uint64        // arrivals that were not what was sent
	Bytes       uint64        // payload that arrived, duplicates not counted
	Retransmits uint64        // TCP segments sent again, both ends
	Elapsed     time.Duration // from the first packet's departure to the last one's arrival
	Detail      string        // one line for people, without the check's name
}

// BitsPerSecond returns the payload rate, both directions together.
func (r Result) BitsPerSecond() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Bytes) * 8 / r.Elapsed.Seconds()
}

// PacketsPerSecond returns the rate of arrivals, both directions together.
func (r Result) PacketsPerSecond() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Received) / r.Elapsed.Seconds()
}

// add merges the counts of another direction that ran at the same time.
func (r *Result) add(o Result) {
	r.Sent += o.Sent
	r.Received += o.Received
	r.Lost += o.Lost
	r.Duplicated += o.Duplicated
	r.Reordered += o.Reordered
	r.Corrupted += o.Corrupted
	r.Bytes += o.Bytes
	r.Retransmits += o.Retransmits
	r.Elapsed = max(r.Elapsed, o.Elapsed)
}

// What a path can do wrong. An *Error unwraps to each that happened.
var (
	ErrLost       = errors.New("lost")
	ErrDuplicated = errors.New("arrived more than once")
	ErrReordered  = errors.New("out of order")
	ErrCorrupted  = errors.New("changed on the way")
	ErrDeadline   = errors.New("deadline passed")
)

// Error is a check that ran and failed.
type Error struct {
	Check  string  // as in Result
	Path   string  // the direction, as in "client 192.0.2.1 to server 192.0.2.2"
	Detail string  // what happened, with counts, the first places and who dropped it where that is known
	Causes []error // the sentinels above that apply, or a context's or socket's error
}

func (e *Error) Error() string {
	return e.Check + ": " + e.Path + ": " + e.Detail
}

// Unwrap lets errors.Is and errors.As look at every cause.
func (e *Error) Unwrap() []error { return e.Causes }

// failed makes an Error of a socket's or context's error. Once ctx has ended,
// its cause is the error: the socket's was only how it showed.
func failed(ctx context.Context, check, path, doing string, err error) *Error {
	if at, ok := ctx.Deadline(); ok && !time.Now().Before(at) {
		<-ctx.Done() // a socket with the same deadline may have been quicker
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return &Error{Check: check, Path: path, Detail: fmt.Sprintf("%s: %v", doing, err), Causes: []error{err}}
}

// thousands writes n with commas, as in 200,000.
func thousands[N int | int64 | uint64](n N) string {
	s := strconv.FormatUint(uint64(n), 10)
	var b strings.Builder
	for i, c := range s {
		if i > 0 && (len(s)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	return b.String()
}
