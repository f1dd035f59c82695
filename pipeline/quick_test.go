package pipeline_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
	"github.com/xdpipe/xdpipe/pipeline/stages"
)

func TestTheQuickFormMeansTheSameAsTheList(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"", ""},
		{" \t\n", ""},
		{"count", "count"},
		{"parse!count!drop", "parse count drop"},
		{"  parse  !\tcount\n! drop  ", "parse count drop"},
		{"drop every=3", "drop"},
		{"drop ! drop every=3 ! parse drop_malformed=yes", "drop drop parse"},
	} {
		specs, err := pipeline.ParseQuick("quick", tc.text)
		if err != nil {
			t.Errorf("%q: %v", tc.text, err)
			continue
		}
		var got []string
		for _, s := range specs {
			got = append(got, s.Type)
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%q is %v, want %s", tc.text, got, tc.want)
		}
	}
}

func TestListsOfTheQuickFormHaveCommas(t *testing.T) {
	for text, want := range map[string]string{
		"vlan op=pop match=7":       "[7]",
		"vlan op=pop match=7,100,8": "[7 100 8]",
		"vlan op=pop match='7,8'":   "[7 8]",
	} {
		specs, err := pipeline.ParseQuick("quick", text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		for range 2 { // it is made for each worker
			stage, err := specs[0].New()
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			if got := fmt.Sprint(stage.(*stages.VLAN).Match); got != want {
				t.Errorf("%s is %s, want %s", text, got, want)
			}
		}
	}
	for text, want := range map[string]string{
		"vlan op=pop match=7,x,9":    `quick:1:21: stage vlan: match: found "x", want a whole number`,
		"vlan op=pop match=7,":       `quick:1:21: stage vlan: match: found "", want a whole number`,
		"vlan op=pop match='7, 8'":   `quick:1:19: stage vlan: match: found "7, 8", want a whole number`,
		"respond addresses='a b,c'":  `quick:1:19: stage respond: option addresses: found "a b,c", want an IPv4 or IPv6 address or prefix such as 192.0.2.1 or 2001:db8::/64`,
		"vlan op=pop match=7,8,4095": "quick:1:23: stage vlan: match: found 4095, want at most 4094",
	} {
		if _, err := pipeline.ParseQuick("quick", text); fmt.Sprint(err) != want {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func TestValuesOfTheQuickFormMayBeQuoted(t *testing.T) {
	for text, want := range map[string]string{
		`pcap file=a.pcapng`:             "a.pcapng",
		`pcap file="a b!c.pcapng"`:       "a b!c.pcapng",
		`pcap 'file=a b'`:                "a b",
		`pcap file='say "hi"'`:           `say "hi"`,
		`pcap file="it's"`:               "it's",
		`pcap file=a=b`:                  "a=b",
		`pcap file=a" b "c ! drop`:       "a b c",
		"pcap file=\"two\twords\"":       "two\twords",
		`pcap snaplen=1 file=größe.pcap`: "größe.pcap",
	} {
		specs, err := pipeline.ParseQuick("quick", text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		stage, err := specs[0].New()
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := stage.(*stages.Pcap).File; got != want {
			t.Errorf("%s: file is %q, want %q", text, got, want)
		}
	}
}

func TestMistakesOfTheQuickFormAreNamedByTheirColumn(t *testing.T) {
	for _, tc := range []struct {
		text string
		want string // without the file
	}{
		{"!", "1:1: a stage is missing here; want NAME or NAME option=value, with ! between stages|1:2: a stage is missing"},
		{"count !", "1:8: a stage is missing here"},
		{"count ! ! drop", "1:9: a stage is missing here"},
		{"! count", "1:1: a stage is missing here"},
		{"cuont", `1:1: stages: unknown stage "cuont": did you mean "count"?`},
		{"count drop", `1:7: stage count: found "drop", want option=value, or ! before the next stage`},
		{"drop evry=3", `1:6: stage drop: unknown key "evry": did you mean "every"?`},
		{"drop every=x", `1:12: stage drop: every: found "x", want a whole number`},
		{"drop every=", `1:12: stage drop: every: found "", want a whole number`},
		{"drop every=2 every=3", `1:14: stage drop: key "every" is there twice`},
		{"drop every=0", "1:12: stage drop: option every: found 0, want 1 or more"},
		{"every=3", `1:1: found the option "every=3", want a stage before it: NAME option=value`},
		{"count ! every=3 ! drop", `1:9: found the option "every=3", want a stage before it`},
		{`pcap file="a`, "1:6: a quote is not closed"},
		{`"`, "1:1: a quote is not closed"},
		{"pcap", "1:1: stage pcap: file is missing"},
		{"pcap file=", "1:11: stage pcap: file is empty"},
		{"cuont ! prase", "1:1: stages: unknown stage|1:9: stages: unknown stage"},
		{`"two words"`, `1:1: stages: unknown stage "two words"`},
		{`"!"`, `1:1: stages: unknown stage "!"`},
	} {
		_, err := pipeline.ParseQuick("quick", tc.text)
		if err == nil {
			t.Errorf("%q is accepted", tc.text)
			continue
		}
		checkErrors(t, err)
		got, want := strings.Split(err.Error(), "\n"), strings.Split(tc.want, "|")
		ok := len(got) == len(want)
		for i := 0; ok && i < len(got); i++ {
			ok = strings.HasPrefix(got[i], "quick:"+want[i])
		}
		if !ok {
			t.Errorf("%q gives\n%s, want\n%s", tc.text, err, tc.want)
		}
	}
}

func FuzzParseQuick(f *testing.F) {
	for _, text := range []string{
		"", "!", "parse ! count", `pcap file="a b" snaplen=96 ! drop every=3`, "a=b", "'", "count!!", "drop every=1_0", "parse drop_malformed=on\x00", "test-options", "'0\n' 00",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		specs, err := pipeline.ParseQuick("quick", text)
		if err != nil {
			checkErrors(t, err)
			return
		}
		for _, s := range specs { // what was accepted can be made
			if stage, err := s.New(); err != nil || stage == nil {
				t.Errorf("%q is accepted, but not stage %s: %v", text, s.Type, err)
			}
		}
	})
}

// optionsOf returns the stage of a quick form as text.
func optionsOf(t testing.TB, text string) string {
	t.Helper()
	specs, err := pipeline.ParseQuick("quick", text)
	if err != nil {
		t.Fatal(err)
	}
	stage, err := specs[0].New()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%+v", reflect.ValueOf(stage).Elem().Interface())
}
