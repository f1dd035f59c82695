package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/xdpipe/xdpipe"
	"github.com/xdpipe/xdpipe/internal/printable"
)

// A topScreen is what the live view shows, and how: a model without a terminal.
type topScreen struct {
	rates    []xdpipe.Rates
	problem  error // of the last reading
	at       time.Time
	interval time.Duration
	since    bool // the rates are those since each instance's start

	order  stageOrder
	held   bool
	scroll int // lines of the middle part above the screen
}

// A screenLine is a line of the screen, of printable text.
type screenLine struct {
	text string
	bold bool
}

// key does what a key asks for and reports whether it asks for the end.
func (s *topScreen) key(k string) (quit bool) {
	switch k {
	case "q", "\x03": // ctrl-C, which is no signal in raw mode
		return true
	case " ":
		s.held = !s.held
	case "\x1b[A", "\x1bOA", "k":
		s.scroll--
	case "\x1b[B", "\x1bOB", "j":
		s.scroll++
	case "\x1b[5~":
		s.scroll -= 10
	case "\x1b[6~":
		s.scroll += 10
	}
	for _, o := range stageOrders {
		if k == string(o.key) {
			s.order = o
		}
	}
	return false
}

// show takes a new reading, unless the view is held still.
func (s *topScreen) show(at time.Time, since bool, rates []xdpipe.Rates, problem error) {
	if !s.held {
		s.at, s.since, s.rates, s.problem = at, since, rates, problem
	}
}

// render returns the lines for a terminal of this size, at most height of them
// and none longer than width.
func (s *topScreen) render(width, height int) []screenLine {
	over := fmt.Sprintf("over %v", s.interval)
	if s.since {
		over = "since the start"
	}
	head := fmt.Sprintf("xdpipe top  %s  instances: %d  rates %s  stages by %s", s.at.Format("15:04:05"), len(s.rates), over, s.order.name)
	if s.held {
		head += "  HELD"
	}
	var middle []screenLine
	for _, r := range s.rates {
		middle = append(middle, screenLine{})
		middle = append(middle, s.instance(r)...)
	}
	if s.problem != nil {
		middle = append(middle, screenLine{})
		for line := range strings.Lines(s.problem.Error()) {
			middle = append(middle, screenLine{text: printable.Text(strings.TrimSpace(line))})
		}
	}
	room := max(height-2, 0)
	s.scroll = max(min(s.scroll, len(middle)-room), 0)
	middle = middle[s.scroll:]
	more := len(middle) > room
	middle = middle[:min(room, len(middle))]

	foot := "q quit  sort:"
	for _, o := range stageOrders {
		foot += fmt.Sprintf(" %c %s", o.key, o.name)
	}
	foot += "  space hold  ↑↓ scroll"
	if more {
		foot += " (more below)"
	}
	lines := append([]screenLine{{text: head}}, middle...)
	for len(lines) < height-1 {
		lines = append(lines, screenLine{})
	}
	lines = append(lines, screenLine{text: foot})
	lines = lines[:max(min(height, len(lines)), 0)]
	for i := range lines {
		lines[i].text = cut(lines[i].text, width)
	}
	return lines
}

func (s *topScreen) instance(r xdpipe.Rates) []screenLine {
	p := r.Places
	lines := []screenLine{
		{fmt.Sprintf("%s  pid %d  up %v", printable.Text(r.Name), r.PID, r.At.Sub(r.Started).Round(time.Second)), true},
		{text: fmt.Sprintf("frames %d = free %d + fill %d + rx %d + tx %d + completion %d + batch %d + foreign %d",
			p.Total, p.Free, p.Fill, p.Rx, p.Tx, p.Completion, p.Batch, p.Foreign)},
	}
	wide := len("PORT")
	for _, p := range r.Ports {
		wide = max(wide, nameWidth(p.Name))
	}
	const port = "%s %5s %-12s %8s %8s %8s %8s %8s  %s"
	lines = append(lines, screenLine{fmt.Sprintf(port, pad("PORT", wide), "QUEUE", "INTERFACE", "RX P/S", "RX BIT/S", "TX P/S", "TX BIT/S", "DROPS/S", "STATE, DROPS BY REASON"), true})
	for _, p := range r.Ports {
		lines = append(lines, screenLine{text: fmt.Sprintf(port, pad(p.Name, wide), fmt.Sprint(p.Queue), pad(p.Interface, 12),
			si(p.RxPackets), si(p.RxBits), si(p.TxPackets), si(p.TxBits), si(sum(p.Drops)), strings.TrimSuffix(printable.Text(p.State)+", "+reasonRates(p.Drops), ", "))})
	}
	for _, p := range r.Pipelines {
		if p.State != "running" || p.Panics > 0 {
			lines = append(lines, screenLine{fmt.Sprintf("pipeline %s is %s: %d panics, drops %s packets a second", printable.Text(p.Name), printable.Text(p.State), p.Panics, si(p.Drops)), true})
		}
	}
	for _, s := range r.Stages {
		wide = max(wide, nameWidth(s.Name))
	}
	const stage = "%s %6s %8s %8s %8s %8s %6s %8s  %s"
	lines = append(lines, screenLine{fmt.Sprintf(stage, pad("STAGE", wide), "WORKER", "CALLS/S", "PKTS/S", "PKT/CALL", "NS/PKT", "CORE%", "DROPS/S", "DROPS BY REASON"), true})
	for _, st := range s.order.sorted(r.Stages) {
		lines = append(lines, screenLine{text: fmt.Sprintf(stage, pad(st.Name, wide), fmt.Sprint(st.Worker),
			si(st.Calls), si(st.Packets), fmt.Sprintf("%.1f", st.PacketsPerCall), fmt.Sprintf("%.1f", st.NsPerPacket), fmt.Sprintf("%.1f", 100*st.Load), si(sum(st.Drops)), reasonRates(st.Drops))})
	}
	return lines
}

// reasonRates are drops by reason for people, the most frequent first.
func reasonRates(drops map[string]float64) string {
	names := slices.Sorted(maps.Keys(drops))
	slices.SortStableFunc(names, func(a, b string) int {
		switch {
		case drops[a] > drops[b]:
			return -1
		case drops[a] < drops[b]:
			return 1
		}
		return 0
	})
	var parts []string
	for _, name := range names {
		parts = append(parts, printable.Text(name)+" "+si(drops[name]))
	}
	return strings.Join(parts, ", ")
}

// longestName is where names are cut: figures are to be seen too.
const longestName = 32

func nameWidth(name string) int { return min(len([]rune(printable.Text(name))), longestName) }

// pad makes a name of so many characters.
func pad(name string, width int) string {
	name = cut(printable.Text(name), width)
	return name + strings.Repeat(" ", width-len([]rune(name)))
}

// cut shortens text to so many characters, and shows that it did.
func cut(s string, width int) string {
	r := []rune(s)
	if len(r) <= width {
		return s
	}
	if width < 1 {
		return ""
	}
	return string(r[:width-1]) + "…"
}

// si writes a number with three digits and the prefix of its thousand.
func si(f float64) string {
	if f < 99.95 && f != float64(int(f)) {
		return fmt.Sprintf("%.1f", f)
	}
	prefix := 0
	for ; f >= 999.5 && prefix < len(siPrefixes)-1; prefix++ {
		f /= 1000
	}
	digits := 0
	switch {
	case prefix == 0 || f >= 99.95:
	case f >= 9.995:
		digits = 1
	default:
		digits = 2
	}
	return fmt.Sprintf("%.*f%s", digits, f, siPrefixes[prefix])
}

var siPrefixes = []string{"", "k", "M", "G", "T"}
