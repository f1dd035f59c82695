package rate

import (
	"strings"
	"testing"
)

func TestRatesAreReadExactlyAndPrintedAsTheyAreRead(t *testing.T) {
	for _, tc := range []struct {
		text, printed string
		want          Rate
	}{
		{"1pps", "1pps", Rate{1, Packets}},
		{"100kpps", "100kpps", Rate{100_000, Packets}},
		{"1.5Mpps", "1500kpps", Rate{1_500_000, Packets}},
		{"14.880952Mpps", "14880952pps", Rate{14_880_952, Packets}},
		{"0.1kpps", "100pps", Rate{100, Packets}},
		{"64 kbps", "64kbps", Rate{64_000, Bits}},
		{"10 Gbps", "10Gbps", Rate{10_000_000_000, Bits}},
		{"10gbps", "10Gbps", Rate{10_000_000_000, Bits}},
		{"1.50Kbps", "1500bps", Rate{1500, Bits}},
		{"1000Tbps", "1000Tbps", Rate{Most, Bits}},
		{"007bps", "7bps", Rate{7, Bits}},
		{"10mbit", "10Mbps", Rate{10_000_000, Bits}},
		{"10 Mbit/s", "10Mbps", Rate{10_000_000, Bits}},
		{"max", "max", Rate{}},
		{"unlimited", "max", Rate{}},
	} {
		var r, again Rate
		if err := r.UnmarshalText([]byte(tc.text)); err != nil || r != tc.want {
			t.Errorf("%q is %+v, %v; want %+v", tc.text, r, err, tc.want)
		}
		if s := r.String(); s != tc.printed {
			t.Errorf("%q prints as %q, want %q", tc.text, s, tc.printed)
		} else if err := again.UnmarshalText([]byte(s)); err != nil || again != r {
			t.Errorf("%q is %+v after printing, %v; want %+v", tc.text, again, err, r)
		}
	}
}

func TestWhatIsNoRateIsRefusedWithWhatIsWanted(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"", "want a number with its unit"},
		{"100", "want a number with its unit"},
		{"100k", "want a number with its unit"},
		{"1GBps", "want a number with its unit"},
		{"1Gbps/s", "want a number with its unit"},
		{"pps", "want a number with its unit"},
		{"kpps", "want a number with its unit"},
		{".5kpps", "want a number with its unit"},
		{"5.kpps", "want a number with its unit"},
		{"-5pps", "want a number with its unit"},
		{"1e6pps", "want a number with its unit"},
		{"1..5kpps", "want a number with its unit"},
		{"0.5pps", "want a whole number of pps"},
		{"1.0005kbps", "want a whole number of bps"},
		{"0pps", "want from 1pps to 1000Tpps"},
		{"1000.1Tbps", "want from 1bps to 1000Tbps"},
		{"99999999999999999999pps", "want from 1pps"},
	} {
		r := Rate{5, Bits}
		err := r.UnmarshalText([]byte(tc.text))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v, want %s", tc.text, err, tc.want)
		}
		if (r != Rate{5, Bits}) {
			t.Errorf("%q changed the rate to %+v", tc.text, r)
		}
	}
}

func FuzzRate(f *testing.F) {
	for _, s := range []string{"1pps", "1.5Mpps", "max", "10Gbps", "0.001kbps", "1 T pps"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var r, again Rate
		if r.UnmarshalText([]byte(s)) != nil {
			return
		}
		if r.N > Most || r.N == 0 != (r.Unit == Unlimited) {
			t.Errorf("%q is %+v", s, r)
		}
		if err := again.UnmarshalText([]byte(r.String())); err != nil || again != r {
			t.Errorf("%q prints as %v, which is %+v, %v", s, r, again, err)
		}
	})
}
