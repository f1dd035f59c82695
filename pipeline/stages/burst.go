package stages

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

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
