package pipeline_test

import (
	"strings"
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
)

func TestOptionsOfEveryTypeAreDecoded(t *testing.T) {
	text := "test-options flag=yes int=0x10 small=-128 uint=65535 float=1.5e3 text=a wait=1m30s address=2001:db8::1 mode=four ports=53 networks=192.0.2.0/24 needed=x"
	want := "{Flag:true Int:16 Small:-128 Uint:65535 Float:1500 Text:a Wait:1m30s Address:2001:db8::1 Mode:4 Ports:[53] Networks:[192.0.2.0/24] Needed:x Untagged: hidden:h}"
	if got := optionsOf(t, text); got != want {
		t.Errorf("options are\n%s, want\n%s", got, want)
	}
	want = "{Flag:false Int:7 Small:0 Uint:0 Float:0 Text: Wait:2s Address:invalid IP Mode:0 Ports:[] Networks:[] Needed:x Untagged: hidden:h}"
	if got := optionsOf(t, "test-options needed=x"); got != want {
		t.Errorf("defaults are\n%s, want\n%s", got, want)
	}
}

func TestOptionsThatDoNotFitTheirTypeSayWhatDoes(t *testing.T) {
	for _, tc := range []struct{ options, want string }{
		{"flag: 2", `flag: found "2", want true or false`},
		{"int: 0", "int: found 0, want 1 or more"},
		{"int: 101", "int: found 101, want at most 100"},
		{"int: 1e3", `int: found "1e3", want a whole number`},
		{"small: 128", `small: found "128", want a whole number of at most 8 bits`},
		{"uint: -1", `uint: found "-1", want a whole number from 0`},
		{"uint: 65536", `uint: found "65536", want a whole number from 0 of at most 16 bits`},
		{"float: much", `float: found "much", want a number`},
		{"text: [a]", "text: found a list, want one string"},
		{"wait: 5", `wait: found "5", want a duration such as 10s or 250ms`},
		{"address: 192.0.2.256", `address: ParseAddr("192.0.2.256")`},
		{"address: ~", "address: found nothing, want a single value"},
		{"ports: [1, {a: b}]", "ports: found a mapping, want one integer"},
		{"ports: [1, ~]", "ports: found nothing, want one integer"},
		{"networks: [192.0.2.0/24, 192.0.2.0/33]", `networks: netip.ParsePrefix("192.0.2.0/33")`},
		{"needed: \"\"", "needed is empty (there is no default for it)"},
		{"Untagged: x", `unknown key "Untagged"`},
		{"hidden: x", `unknown key "hidden"`},
	} {
		options := tc.options
		if !strings.HasPrefix(options, "needed") {
			options += ", needed: x"
		}
		config := "ports: {a: {interface: x, steer: all}}\npipelines:\n- {from: a, to: a, stages: [{test-options: {" + options + "}}]}\n"
		_, err := pipeline.ParseConfig("c.yaml", []byte(config))
		if err == nil {
			t.Errorf("%s is accepted", tc.options)
			continue
		}
		checkErrors(t, err)
		if msg := err.Error(); !strings.HasPrefix(msg, "c.yaml:3:") || !strings.Contains(msg, ": stage test-options: "+tc.want) || strings.Contains(msg, "\n") {
			t.Errorf("%s gives %s, want %s", tc.options, msg, tc.want)
		}
	}
}

func TestAnEmptyListIsAListOfNone(t *testing.T) {
	for _, ports := range []string{"[]", "", "~"} {
		config := "ports: {a: {interface: x, steer: all}}\npipelines:\n- {from: a, to: a, stages: [{test-options: {needed: x, ports: " + ports + "}}]}\n"
		if _, err := pipeline.ParseConfig("c.yaml", []byte(config)); err != nil {
			t.Errorf("ports %q: %v", ports, err)
		}
	}
}
