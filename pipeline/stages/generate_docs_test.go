package stages

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
)

// docs is what people are told about generate and sink.
func docs(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("../../docs/generate.md")
	must(t, err)
	return string(data)
}

func TestConfigurationsInTheDocumentationAreRight(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(docs(t), -1)
	if len(blocks) == 0 {
		t.Fatal("no configuration in it")
	}
	for _, block := range blocks {
		if _, err := pipeline.ParseConfig("generate.md", []byte(block[1])); err != nil {
			t.Errorf("%v, of:\n%s", err, block[1])
		}
	}
}

func TestSmallestSizesAreThoseOfTheDocumentation(t *testing.T) {
	rows := map[string]string{
		"UDP or ICMP over IPv4": "", "TCP over IPv4": "protocol=tcp",
		"UDP or ICMP over IPv6": "dst=2001:db8::1", "TCP over IPv6": "protocol=tcp dst=2001:db8::1",
	}
	text := docs(t)
	for row, options := range rows {
		want := "| " + row
		for _, stamp := range []string{"long", "short", "false"} {
			least := 64
			for ; least < 200; least++ {
				if _, err := tryGenerate(fmt.Sprintf("%s stamp=%s size=%d", options, stamp, least)); err == nil {
					break
				}
			}
			want += fmt.Sprintf(" | %d", least)
		}
		if !strings.Contains(text, want+" |\n") {
			t.Errorf("the documentation has no row %q", want)
		}
	}
}

func TestEveryValueReportedIsInTheDocumentation(t *testing.T) {
	text := docs(t)
	g, err := tryGenerate("")
	must(t, err)
	for _, stage := range []pipeline.Reporter{g, newSink(t, "")} {
		for name := range stage.Report() {
			if !strings.Contains(text, "`"+name+"`") {
				t.Errorf("%T reports %s, which the documentation does not say", stage, name)
			}
		}
	}
}
