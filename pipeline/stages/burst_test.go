package stages

import (
	"strings"
	"testing"
	"time"

	"github.com/xdpipe/xdpipe/internal/rate"
)

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

func FuzzLimitRule(f *testing.F) {
	for _, s := range []string{"1000pps udp", "50ms", "100p", "64KiB", "1_000", "1.5kb", "10mbit burst 5ms ip[0] > 3", "max arp", "99999999999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var b Burst
		if b.UnmarshalText([]byte(s)) == nil {
			for _, r := range []rate.Rate{{N: 1, Unit: rate.Packets}, {N: 1, Unit: rate.Bits}, {N: rate.Most, Unit: rate.Packets}, {N: rate.Most, Unit: rate.Bits}} {
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
