package pipeline_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/xdpipe/xdpipe/pipeline"
)

func TestMistakesInAFilterAreFoundWhereTheyStand(t *testing.T) {
	for _, steer := range []string{
		`{filter: udp prot 53}`,
		`{filter: 'udp prot 53'}`,
		`{filter: "udp prot 53"}`,
		`{"filter": "udp prot 53"}`,
		`[vlan=5, {filter: udp prot 53}]`,
		`{filter: udp  prot 53}   # prot`,
		`{filter: "\x75dp\tprot 53"}`,
		`{filter: "\u0075d\U00000070 prot 53"}`,
		`{filter: "ip proto \\tcp and udp prot 53"}`,
		`{filter: 'ip proto \tcp and udp prot 53'}`,
		`&expr {filter: &other udp prot 53}`,
		"{filter: udp prot 53}\r",
		`{filter: "udp prot 53
      and tcp"}`,
	} {
		for _, before := range []string{"ports: {wan: {interface: x, steer: ", "\ufeff# é\nports: {wan: {interface: é, steer: "} {
			text := before + steer + "\n  }}\npipelines: [{from: wan, to: wan}]\n"
			at := strings.Index(text, "prot 53")
			line := text[strings.LastIndexByte(text[:at], '\n')+1 : at]
			want := utf8.RuneCountInString(strings.TrimPrefix(line, "\ufeff"))
			_, err := pipeline.ParseConfig("c.yaml", []byte(text))
			var errs pipeline.ConfigErrors
			if !errors.As(err, &errs) || len(errs) != 1 {
				t.Errorf("%s: error %v, want one mistake", text, err)
				continue
			}
			if got := errs[0]; got.Line != 1+strings.Count(before, "\n") || got.Column != want+1 {
				t.Errorf("%s: mistake at %d:%d, want column %d: %v", text, got.Line, got.Column, want+1, got)
			}
		}
	}
}
