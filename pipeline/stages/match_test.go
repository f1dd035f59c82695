package stages

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
)

// provision prepares a stage without an engine, with the outputs connected: the
// first is output 1, and so on.
func provision(t testing.TB, s pipeline.Stage, outputs ...string) *pipeline.Context {
	t.Helper()
	ctx := &pipeline.Context{Workers: 1}
	ctx.Connect(outputs...)
	if v, ok := s.(pipeline.Validator); ok {
		must(t, v.Validate())
	}
	must(t, s.(pipeline.Provisioner).Provision(ctx))
	return ctx
}

// verdicts writes down where each packet goes: . to the next stage, a digit to
// that output, or the reason for which it is dropped.
func verdicts(ctx *pipeline.Context, b *pipeline.Batch) string {
	var all []string
	for i := range b.Len() {
		switch to, dropped, why := b.Verdict(i); {
		case dropped:
			all = append(all, ctx.ReasonName(why))
		case to == pipeline.Next:
			all = append(all, ".")
		default:
			all = append(all, fmt.Sprint(to))
		}
	}
	return strings.Join(all, " ")
}

func TestMatchPassesWhatMatchesAndSendsTheRestElsewhere(t *testing.T) {
	arp := ethernet("\x08\x06")
	tcp := ipv4Packet(6, whole, ports)
	for _, tc := range []struct {
		expr    string
		outputs []string
		want    string
	}{
		{"udp port 53", []string{"else"}, ". 1 1 1"},
		{"udp port 53", nil, ". not_matched not_matched not_matched"},
		{"port 53", nil, ". . not_matched not_matched"},
		{"not arp", []string{"else"}, ". . 1 1"}, // the last ends before its EtherType
		{"udp port 53 and not host 192.0.2.1", nil, "not_matched not_matched not_matched not_matched"},
		{"greater 1", nil, ". . . ."},
	} {
		s := &Match{Expr: tc.expr}
		ctx := provision(t, s, tc.outputs...)
		b := newBatch(t, udpPacket(), tcp, arp, []byte("short"))
		s.Process(b)
		if got := verdicts(ctx, b); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.expr, got, tc.want)
		}
		passed := uint64(strings.Count(tc.want, "."))
		if want := map[string]uint64{"matched": passed, "other": 4 - passed}; !maps.Equal(s.Report(), want) {
			t.Errorf("%s: counted %v, want %v", tc.expr, s.Report(), want)
		}
	}
}

func TestMatchBlamesItsExpressionWithTheColumn(t *testing.T) {
	for _, tc := range []struct{ stage, want string }{
		{"match expr='udp prot 53'", `stages:1:12: stage match: option expr: column 5 of "udp prot 53": `},
		{"count ! match expr='host example'", `stages:1:20: stage match: option expr: column 6 of "host example": `},
		{"match expr=", `stages:1:12: stage match: expr is empty`},
		{"match", "stages:1:1: stage match: expr is missing"},
	} {
		_, err := pipeline.ParseQuick("stages", tc.stage)
		if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %s…", tc.stage, err, tc.want)
		}
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	s := &Match{Expr: "udp port 53 and not host 10.0.0.1"}
	provision(t, s)
	noAllocations(t, s)
}

func FuzzMatch(f *testing.F) {
	fuzzStage(f, func() pipeline.Stage {
		return &Match{Expr: "udp port 53 and not host 10.0.0.1 or vlan and ip6 or tcp[0] > 5"}
	})
}

func BenchmarkMatch(b *testing.B) {
	s := &Match{Expr: "udp port 53 and not host 10.0.0.1"}
	provision(b, s)
	benchmark(b, s)
}
