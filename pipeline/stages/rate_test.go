package stages

import (
	"strings"
	"testing"
	"time"
)

func TestRateReadsPacketsAndBitsASecond(t *testing.T) {
	for _, tc := range []struct {
		text, written string
		n             uint64
		bits          bool
	}{
		{"1000pps", "1kpps", 1e6, false},
		{"1_500pps", "1500pps", 15e5, false},
		{"0.5pps", "0.5pps", 500, false},
		{"2.5Mpps", "2500kpps", 25e8, false},
		{"2.0pps", "2pps", 2000, false},
		{"1 kpps", "1kpps", 1e6, false},
		{"10Mbps", "10Mbps", 1e7, true},
		{"10mbit", "10Mbps", 1e7, true},
		{"10Mbit/s", "10Mbps", 1e7, true},
		{"10MBIT", "10Mbps", 1e7, true},
		{"0.064kbps", "64bps", 64, true},
		{"1.5Gbps", "1500Mbps", 15e8, true},
		{"100Tbps", "100Tbps", 1e14, true},
		{"1000Gpps", "1000Gpps", 1e15, false},
		{"unlimited", "unlimited", 0, false},
	} {
		var r Rate
		if err := r.UnmarshalText([]byte(tc.text)); err != nil || r.n != tc.n || r.bits != tc.bits || r.String() != tc.written {
			t.Errorf("%s: %v, %+v, %v; want %s", tc.text, err, r, r, tc.written)
		}
		var again Rate
		if err := again.UnmarshalText([]byte(r.String())); err != nil || again != r {
			t.Errorf("%s: written as %s, which reads as %v, %v", tc.text, r, again, err)
		}
	}
}

func TestRateSaysWhatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		"":                        `found "", want a rate such as 1000pps or 10Mbps, or unlimited`,
		"fast":                    `found "fast", want a rate such as`,
		"-1pps":                   `found "-1pps", want a rate such as`,
		"1000":                    `found "1000" without a unit, want 1000pps for packets, or 1000bps for bits a second`,
		"10MBps":                  `found "10MBps", where B is for bytes; want bits, eight to a byte`,
		"10furlongs":              `found "10furlongs" with the unit "furlongs", want pps,`,
		"10pps/s/s":               `found "10pps/s/s" with the unit`,
		"0pps":                    `found "0pps", want more than 0; to let nothing pass use the stage drop`,
		"0.0001pps":               `found "0.0001pps", want no more decimals than the unit has`,
		"0.5bps":                  `found "0.5bps", want no more decimals`,
		"1.2.3kpps":               `found "1.2.3kpps", want one number`,
		".bps":                    `found ".bps", want one number`,
		"101Tbps":                 `found "101Tbps", want at most 100Tbps`,
		"99999999999999999999pps": `found "99999999999999999999pps", which is too large`,
		"9999999999999Tbps":       `found "9999999999999Tbps", which is too large`,
	} {
		var r Rate
		if err := r.UnmarshalText([]byte(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s…", text, err, want)
		}
	}
}

func TestBurstReadsTimesPacketsAndBytes(t *testing.T) {
	for text, want := range map[string]Burst{
		"50ms":       {Time: 50 * time.Millisecond},
		"100":        {Count: 100},
		"100p":       {Count: 100, Unit: BurstPackets},
		"1 packet":   {Count: 1, Unit: BurstPackets},
		"20 packets": {Count: 20, Unit: BurstPackets},
		"1500B":      {Count: 1500, Unit: BurstBytes},
		"64KB":       {Count: 64000, Unit: BurstBytes},
		"1.5kB":      {Count: 1500, Unit: BurstBytes},
		"64KiB":      {Count: 65536, Unit: BurstBytes},
	} {
		var b Burst
		if err := b.UnmarshalText([]byte(text)); err != nil || b != want {
			t.Errorf("%s: %+v, %v; want %+v", text, b, err, want)
		}
	}
	for text, want := range map[string]string{
		"":       `found "", want a burst such as 50ms (of the rate), 100p (packets) or 64KB`,
		"-5ms":   `found "-5ms", want a burst such as`,
		"5kpps":  `found "5kpps", want a burst such as`,
		"0":      `found "0", want more than 0, or nothing could pass`,
		"0.5":    `found "0.5", want no more decimals`,
		"2000GB": `found "2000GB", want at most 1000000000000`,
	} {
		var b Burst
		if err := b.UnmarshalText([]byte(text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s…", text, err, want)
		}
	}
}

func FuzzRate(f *testing.F) {
	for _, s := range []string{"1000pps", "2.5Mpps", "10Mbit/s", "unlimited", "0.001pps", "1_000bps", "999999999999999999999gbps"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var r, again Rate
		if r.UnmarshalText([]byte(s)) == nil {
			if err := again.UnmarshalText([]byte(r.String())); err != nil || again != r {
				t.Errorf("%q reads as %+v, which is written %s and reads as %+v, %v", s, r, r, again, err)
			}
		}
		var b Burst
		if b.UnmarshalText([]byte(s)) == nil {
			for _, r := range []Rate{{1, false}, {1, true}, {maxBits, true}, {maxPackets * 1000, false}} {
				if l, err := newLimit(r, b, 3); err == nil && !l.takeFrom(&bucket{full: fullForever}, 0, 1) {
					t.Errorf("burst %q at %v lets nothing pass", s, r)
				}
			}
		}
		var rule LimitRule
		if rule.UnmarshalText([]byte(s)) == nil && rule.filter == nil {
			t.Errorf("rule %q has no filter", s)
		}
	})
}
