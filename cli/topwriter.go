package cli

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/xdpipe/xdpipe"
	"github.com/xdpipe/xdpipe/internal/printable"
)

// A topWriter prints rates as lines of columns, for what reads lines. Values are
// for each second and in full, so that programs can take them.
type topWriter struct {
	out    io.Writer
	headed bool
}

// The columns of the kinds of lines. Each begins with the time, the
// instance and the kind.
const (
	topPrefix = "%-24s %-12s %-8s "
	topPort   = "%-24s %5s %12s %15s %12s %15s %12s  %-16s %-4s %s\n"
	topStage  = "%-24s %6s %12s %12s %12s %10s %6s %12s  %s\n"
	topPipe   = "%-24s %6s %12s  %s\n"
	topFrames = "%8s %8s %8s %8s %10s %8s %8s %8s\n"
)

func (t *topWriter) write(all []xdpipe.Rates) error {
	w := bufio.NewWriter(t.out)
	line := func(time, instance, kind, format string, columns ...any) {
		fmt.Fprintf(w, topPrefix+format, append([]any{time, instance, kind}, columns...)...)
	}
	if !t.headed {
		t.headed = true
		line("#time", "instance", "port", topPort, "name", "queue", "rx_packets", "rx_bits", "tx_packets", "tx_bits", "drops", "interface", "state", "drops_by_reason")
		line("#time", "instance", "pipeline", topPipe, "name", "panics", "drops", "state")
		line("#time", "instance", "stage", topStage, "name", "worker", "calls", "packets", "packets/call", "ns/packet", "load", "drops", "drops_by_reason")
		line("#time", "instance", "frames", topFrames, "free", "fill", "rx", "tx", "completion", "batch", "foreign", "total")
	}
	whole := func(f float64) string { return fmt.Sprintf("%.0f", f) }
	tenth := func(f float64) string { return fmt.Sprintf("%.1f", f) }
	for _, r := range all {
		at, name := r.At.UTC().Format("2006-01-02T15:04:05.000Z"), printable.Word(r.Name)
		for _, p := range r.Ports {
			line(at, name, "port", topPort, printable.Word(p.Name), fmt.Sprint(p.Queue), whole(p.RxPackets), whole(p.RxBits), whole(p.TxPackets), whole(p.TxBits),
				tenth(sum(p.Drops)), printable.Word(p.Interface), printable.Word(p.State), reasonWords(p.Drops))
		}
		for _, p := range r.Pipelines {
			line(at, name, "pipeline", topPipe, printable.Word(p.Name), fmt.Sprint(p.Panics), tenth(p.Drops), printable.Word(p.State))
		}
		for _, s := range r.Stages {
			line(at, name, "stage", topStage, printable.Word(s.Name), fmt.Sprint(s.Worker), whole(s.Calls), whole(s.Packets), tenth(s.PacketsPerCall), tenth(s.NsPerPacket),
				fmt.Sprintf("%.3f", s.Load), tenth(sum(s.Drops)), reasonWords(s.Drops))
		}
		var places []any
		for _, n := range []int{r.Places.Free, r.Places.Fill, r.Places.Rx, r.Places.Tx, r.Places.Completion, r.Places.Batch, r.Places.Foreign, r.Places.Total} {
			places = append(places, fmt.Sprint(n))
		}
		line(at, name, "frames", topFrames, places...)
	}
	return w.Flush()
}

// reasonWords is drops by reason as one word.
func reasonWords(drops map[string]float64) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(drops)) {
		parts = append(parts, fmt.Sprintf("%s=%.1f", printable.Word(name), drops[name]))
	}
	if len(parts) == 0 {
		return "-"
	}
	return strings.Join(parts, ",")
}
