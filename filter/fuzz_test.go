package filter

import (
	"errors"
	"testing"

	"github.com/xdpipe/xdpipe/internal/filtertest"
)

func FuzzCompile(f *testing.F) {
	for i, expression := range filtertest.Expressions() {
		if len(expression) < 200 {
			f.Add(expression, []byte{byte(i), 1, 2, 3})
		}
	}
	all := filtertest.Packets()
	packets := [][]byte{nil}
	for i := 0; i < len(all); i += 211 {
		packets = append(packets, all[i])
	}
	f.Fuzz(func(t *testing.T, expression string, packet []byte) {
		filter, err := Compile(expression)
		if err != nil {
			var failure *Error
			if !errors.As(err, &failure) {
				t.Fatalf("Compile(%q) gave %T, want *Error: %v", expression, err, err)
			}
			if failure.Expr != expression || failure.Column < 1 || failure.Column > len(expression)+1 || failure.Message == "" {
				t.Fatalf("Compile(%q) gave an error without place: %#v", expression, failure)
			}
			return
		}
		vm := newVM(t, filter.Raw())
		for _, p := range append(packets, packet) {
			if got, want := filter.Match(p), vmMatches(t, vm, p); got != want {
				t.Fatalf("%q on %x: Match gives %v, classic BPF %v", expression, p, got, want)
			}
			if filter.Match(p) && !filter.MayMatch(allKnown(p)) {
				t.Fatalf("%q matches %x, and MayMatch says it cannot", expression, p)
			}
		}
	})
}
