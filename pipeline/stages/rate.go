package stages

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// A Rate is so many packets or bits a second. The zero value is no limit.
type Rate struct {
	// In whole bits, or in thousandths of packets: what is sent to be seen by
	// people may come less than once a second.
	n    uint64
	bits bool
}

// The most a Rate can be: more than a machine can carry, and a bound for the
// arithmetic.
const (
	maxBits    = 1e14
	maxPackets = 1e12
)

// rateUnits are the units of rates, in bits, or in thousandths of packets.
var rateUnits = map[string]Rate{
	"pps": {1e3, false}, "kpps": {1e6, false}, "mpps": {1e9, false}, "gpps": {1e12, false},
	"bps": {1, true}, "kbps": {1e3, true}, "mbps": {1e6, true}, "gbps": {1e9, true}, "tbps": {1e12, true},
	"bit": {1, true}, "kbit": {1e3, true}, "mbit": {1e6, true}, "gbit": {1e9, true}, "tbit": {1e12, true},
}

// UnmarshalText reads a rate such as 1000pps, 2.5Mpps, 10Mbps, 10mbit, 10Mbit/s or
// unlimited. Prefixes are powers of a thousand, in upper or lower case.
func (r *Rate) UnmarshalText(text []byte) error {
	if string(text) == "unlimited" {
		*r = Rate{}
		return nil
	}
	number, unit := splitUnit(string(text))
	if number == "" {
		return fmt.Errorf("found %q, want a rate such as 1000pps or 10Mbps, or unlimited", text)
	}
	if unit == "" {
		return fmt.Errorf("found %q without a unit, want %spps for packets, or %sbps for bits a second", text, number, number)
	}
	if strings.Contains(unit, "B") && !strings.Contains(unit, "BIT") {
		return fmt.Errorf("found %q, where B is for bytes; want bits, eight to a byte, such as 80Mbps", text)
	}
	u, ok := rateUnits[strings.TrimSuffix(strings.ToLower(unit), "/s")]
	if !ok {
		return fmt.Errorf("found %q with the unit %q, want pps, kpps, Mpps, bps, kbps, Mbps or Gbps", text, unit)
	}
	n, err := scale(number, u.n)
	most := uint64(maxBits)
	if !u.bits {
		most = maxPackets * 1000
	}
	switch {
	case err != nil:
		return fmt.Errorf("found %q, %w", text, err)
	case n == 0:
		return fmt.Errorf("found %q, want more than 0; to let nothing pass use the stage drop", text)
	case n > most:
		return fmt.Errorf("found %q, want at most %s", text, Rate{most, u.bits})
	}
	*r = Rate{n, u.bits}
	return nil
}

// MarshalText writes the rate as String does.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// String writes the rate in the largest unit that takes no fraction.
func (r Rate) String() string {
	if r.n == 0 {
		return "unlimited"
	}
	n, units := r.n, []string{"bps", "kbps", "Mbps", "Gbps", "Tbps"}
	if !r.bits {
		if n%1000 != 0 {
			return strconv.FormatFloat(float64(n)/1000, 'f', -1, 64) + "pps"
		}
		n, units = n/1000, []string{"pps", "kpps", "Mpps", "Gpps"}
	}
	i := 0
	for ; n%1000 == 0 && i+1 < len(units); i++ {
		n /= 1000
	}
	return strconv.FormatUint(n, 10) + units[i]
}

// A Burst is how much may pass at once after a while of less than the rate: so
// many packets or bytes, or as much as the rate gives in some time. The zero
// value stands for the default.
type Burst struct {
	Time  time.Duration
	Count uint64
	Unit  BurstUnit // of Count
}

// A BurstUnit is what a Burst counts.
type BurstUnit uint8

// The units of a Burst. Without one it counts what its rate does: packets, or
// bytes for a rate in bits.
const (
	BurstAny BurstUnit = iota
	BurstPackets
	BurstBytes
)

var burstUnits = map[string]struct {
	n    uint64
	unit BurstUnit
}{
	"": {1, BurstAny}, "p": {1, BurstPackets}, "packet": {1, BurstPackets}, "packets": {1, BurstPackets},
	"b": {1, BurstBytes}, "kb": {1e3, BurstBytes}, "mb": {1e6, BurstBytes}, "gb": {1e9, BurstBytes},
	"kib": {1 << 10, BurstBytes}, "mib": {1 << 20, BurstBytes}, "gib": {1 << 30, BurstBytes},
}

// maxBurst bounds a Burst's Count for the arithmetic.
const maxBurst = 1e12

// UnmarshalText reads a burst such as 50ms, 100, 100p, 64KB or 64KiB.
func (b *Burst) UnmarshalText(text []byte) error {
	if d, err := time.ParseDuration(string(text)); err == nil && d > 0 {
		*b = Burst{Time: d}
		return nil
	}
	number, unit := splitUnit(string(text))
	u, ok := burstUnits[strings.ToLower(unit)]
	if number == "" || !ok {
		return fmt.Errorf("found %q, want a burst such as 50ms (of the rate), 100p (packets) or 64KB", text)
	}
	n, err := scale(number, u.n)
	switch {
	case err != nil:
		return fmt.Errorf("found %q, %w", text, err)
	case n == 0:
		return fmt.Errorf("found %q, want more than 0, or nothing could pass", text)
	case n > maxBurst:
		return fmt.Errorf("found %q, want at most %d", text, uint64(maxBurst))
	}
	*b = Burst{Count: n, Unit: u.unit}
	return nil
}

// splitUnit splits a number from what follows it, perhaps after a space.
func splitUnit(s string) (number, unit string) {
	end := len(s) - len(strings.TrimLeft(s, "0123456789._"))
	return s[:end], strings.TrimSpace(s[end:])
}

// scale returns the number times the unit, which must be whole. The number is one
// of splitUnit: digits, underscores and points.
func scale(number string, unit uint64) (uint64, error) {
	digits, decimals, _ := strings.Cut(strings.ReplaceAll(number, "_", ""), ".")
	if strings.Contains(decimals, ".") || digits+decimals == "" {
		return 0, fmt.Errorf("want one number")
	}
	for decimals != "" && unit%10 == 0 {
		digits, decimals, unit = digits+decimals[:1], decimals[1:], unit/10
	}
	if strings.Trim(decimals, "0") != "" {
		return 0, fmt.Errorf("want no more decimals than the unit has")
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n > math.MaxUint64/unit {
		return 0, fmt.Errorf("which is too large")
	}
	return n * unit, nil
}
