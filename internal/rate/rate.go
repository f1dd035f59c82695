// Package rate has the type of options that say how much a second: packets or
// bits.
package rate

import (
	"fmt"
	"strconv"
	"strings"
)

// A Unit is what a Rate counts.
type Unit uint8

// The units. The zero one makes the zero Rate unlimited.
const (
	Unlimited Unit = iota
	Packets
	Bits
)

func (u Unit) String() string { return [...]string{"max", "pps", "bps"}[u] }

// Most is the largest N of a Rate, a thousand times the fastest links of today,
// so that arithmetic with rates fits 64 bits.
const Most = 1e15

// A Rate is N units a second, from 1 to Most, or as much as can be.
type Rate struct {
	N    uint64
	Unit Unit
}

const want = `want a number with its unit, such as 250pps, 1.5Mpps, 100kbps or 10Gbps (bits), or "max"`

// UnmarshalText reads NUMBER, k, M, G or T if it is in thousands and so on, and
// pps or bps, or bit or bit/s, which are bps as well; or max or unlimited.
func (r *Rate) UnmarshalText(text []byte) error {
	s := string(text)
	if s == "max" || s == "unlimited" {
		*r = Rate{}
		return nil
	}
	var unit Unit
	number, ok := strings.CutSuffix(s, "pps")
	switch {
	case ok:
		unit = Packets
	default:
		// Not in any case: B is bytes.
		for _, name := range []string{"bps", "bit", "bit/s"} {
			if number, ok = strings.CutSuffix(s, name); ok {
				break
			}
		}
		if !ok {
			return fmt.Errorf("found %q, %s", s, want)
		}
		unit = Bits
	}
	number = strings.TrimRight(number, " ")
	zeros := 0
	if number != "" {
		if i := strings.IndexByte("kmgt", number[len(number)-1]|0x20); i >= 0 {
			zeros = 3 * (i + 1)
			number = strings.TrimRight(number[:len(number)-1], " ")
		}
	}
	whole, fraction, dot := strings.Cut(number, ".")
	fraction = strings.TrimRight(fraction, "0")
	if len(fraction) > zeros {
		return fmt.Errorf("found %q, want a whole number of %v", s, unit)
	}
	digits := whole + fraction + strings.Repeat("0", zeros-len(fraction))
	if whole == "" || dot && strings.HasSuffix(number, ".") || strings.Trim(digits, "0123456789") != "" {
		return fmt.Errorf("found %q, %s", s, want)
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n == 0 || n > Most {
		return fmt.Errorf("found %q, want from 1%v to 1000T%v", s, unit, unit)
	}
	*r = Rate{n, unit}
	return nil
}

// String returns the rate as UnmarshalText reads it, with the largest prefix
// that leaves a whole number.
func (r Rate) String() string {
	if r.Unit == Unlimited {
		return "max"
	}
	n, prefix := r.N, 0
	for prefix < 4 && n > 0 && n%1000 == 0 {
		n, prefix = n/1000, prefix+1
	}
	return fmt.Sprintf("%d%s%v", n, []string{"", "k", "M", "G", "T"}[prefix], r.Unit)
}
