package filter

import (
	"errors"
	"strings"
	"testing"
)

func TestErrorsSayWhatAndWhere(t *testing.T) {
	tests := []struct {
		expression  string
		column      int
		message     string
		unsupported bool
	}{
		{"tcp and", 8, "the expression ends where a primitive", false},
		{"tcp prot 80", 5, `found "prot" where what kind of address it is`, false},
		{"port 65536", 6, "port 65536 is above 65535", false},
		{"port nosuch", 6, "neither a port number", false},
		{"udp port ssh", 10, `"ssh" is over tcp`, false},
		{"ip proto tcp", 10, `write \tcp`, false},
		{"(tcp or udp", 12, `the expression ends where ")"`, false},
		{"tcp)", 4, `found ")" where "and", "or" or the end`, false},
		{"ip[0:3] = 1", 6, "a load of 3 bytes", false},
		{"(ip[0:3] = 1)", 7, "a load of 3 bytes", false},
		{"ip[0] & 1", 10, "a comparison", false},
		{"ip[0] / (2 - 2) = 1", 12, "division by zero", false},
		{"ip[0] << 32 = 1", 10, "a shift by 32 bits", false},
		{"ip[0] = 099", 9, "octal", false},
		{"ip[0] = 4294967296", 9, "does not fit 32 bits", false},
		{"net 192.0.2.1/24", 5, "bits set outside of its mask", false},
		{"net 192.0.2.0/33", 5, "no longer than 32 bits", false},
		{"host 192.0.2.0/24", 6, `a mask is for "net" only`, false},
		{"ip6 host 192.0.2.1", 10, "ip6 has no IPv4 addresses", false},
		{"tcp or 80", 8, `"80" stands alone`, false},
		{"tcp @ udp", 5, `unexpected character '@'`, false},
		{"host 02:00:00:00:00:01", 6, "is an Ethernet address", false},
		{"mpls and arp", 10, "after mpls only IPv4 and IPv6", false},
		{"tcp and host www.example.com", 14, "would have to be looked up", true},
		{"ether host gateway-a", 12, "would have to be looked up", true},
		{"ip6 protochain 6", 16, "in a loop", true},
		{"wlan type mgt", 6, "other link types", true},
		{"tcp and inbound", 9, "live capture", true},
		{"type mgt", 1, "other link types", true},
		{"tcp or ah[0] = 1", 8, "an access into ah", true},
		{strings.Repeat("(", 300) + "tcp", 201, "nested more than 200 deep", false},
		{strings.Repeat("!", 300) + "tcp", 201, "nested more than 200 deep", false},
		{strings.Repeat("x", 1<<17), 1, "65536 are the most", false},
	}
	for _, tt := range tests {
		f, err := Compile(tt.expression)
		var failure *Error
		if !errors.As(err, &failure) || f != nil {
			t.Errorf("Compile(%.60q) gave %v and %v, want an *Error", tt.expression, f, err)
			continue
		}
		if failure.Column != tt.column || !strings.Contains(failure.Message, tt.message) {
			t.Errorf("Compile(%.60q): column %d: %s\nwant column %d and %q", tt.expression, failure.Column, failure.Message, tt.column, tt.message)
		}
		if got := errors.Is(err, ErrUnsupported); got != tt.unsupported {
			t.Errorf("Compile(%.60q): errors.Is(err, ErrUnsupported) is %v, want %v", tt.expression, got, tt.unsupported)
		}
		if failure.Expr != tt.expression {
			t.Errorf("Compile(%.60q): Expr is %.60q", tt.expression, failure.Expr)
		}
	}
}

func TestTooLongProgramsAreRefused(t *testing.T) {
	expression := "port 1" + strings.Repeat(" or port 1234 or 99 and net 2001:db8::/48", 400)
	if f, err := Compile(expression); err == nil || !strings.Contains(err.Error(), "4096 instructions") {
		n := 0
		if f != nil {
			n = len(f.Raw())
		}
		t.Errorf("Compile gave %d instructions and %v, want an error about 4096 instructions", n, err)
	}
}
