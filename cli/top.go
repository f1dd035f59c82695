package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/xdpipe/xdpipe"
)

// topShortest is the shortest interval of top: at each reading the workers stop
// between two batches.
const topShortest = 50 * time.Millisecond

func (a *app) top() *cobra.Command {
	var count int
	var interval time.Duration
	cmd := &cobra.Command{
		Use:   "top [INSTANCE]",
		Short: "what running instances do, live: rates, time for a packet, drops by reason",
		Long: `top shows what each port, stage and worker does: packets and bits a second, packets
in a call, nanoseconds for a packet, the part of a core that this takes, drops a second
by reason, and frames by place.

On a terminal it is a live view: q ends it, o p n l d sort the stages (by order,
packets, nanoseconds for a packet, load, drops), the space bar holds it still, arrows
scroll. Elsewhere it prints a line for each port and stage after each interval, in
columns that stay, and with -j one JSON document.`,
		Example: `  xdpipe top
  xdpipe top -n 1 -d 5s bridge
  xdpipe top -j | jq -c '.instances[].stages[] | {name, packets, ns_per_packet}'`,
		Args: atMostOne("INSTANCE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case count < 0:
				return usagef("top: -n %d: want a number of intervals, or 0 for no end", count)
			case interval < topShortest:
				return usagef("top: -d %v: want %v or more", interval, topShortest)
			}
			w := &watcher{runDir: a.runDir, interval: interval, count: count}
			if len(args) == 1 {
				w.name = args[0]
			}
			if t, ok := liveTerminal(a.out); ok && !a.json {
				return topLive(cmd.Context(), w, t)
			}
			return a.topLines(cmd.Context(), w)
		},
	}
	flags := cmd.Flags()
	flags.IntVarP(&count, "count", "n", 0, "end after so many intervals (0: when stopped)")
	flags.DurationVarP(&interval, "interval", "d", time.Second, "time between two readings")
	return cmd
}

// atMostOne accepts the named argument or none.
func atMostOne(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return usagef("%s: unexpected argument %q; want one %s or none", cmd.CommandPath(), args[1], name)
		}
		return nil
	}
}

// A watcher reads instances again and again.
type watcher struct {
	runDir   string
	name     string // "" for all
	interval time.Duration
	count    int // 0: no end

	last map[string]xdpipe.Status
}

// read returns what the instances did since the reading before. An error tells of
// those that did not answer, beside the others, or that there is none.
func (w *watcher) read(ctx context.Context) ([]xdpipe.Rates, error) {
	all, err := xdpipe.Instances(ctx, w.runDir)
	if ctx.Err() != nil {
		err = nil // those asked last did not answer because we end
	}
	rates := []xdpipe.Rates{}
	last := map[string]xdpipe.Status{}
	none := &xdpipe.NoInstanceError{Name: w.name}
	for _, s := range all {
		none.Live = append(none.Live, s.Name)
		if w.name == "" || w.name == s.Name {
			rates = append(rates, xdpipe.RatesBetween(w.last[s.Name], s))
			last[s.Name] = s
		}
	}
	w.last = last
	if len(rates) == 0 && err == nil && ctx.Err() == nil {
		err = none
	}
	return rates, err
}

// topLines prints the rates after each interval.
func (a *app) topLines(ctx context.Context, w *watcher) error {
	first, err := w.read(ctx)
	if len(first) == 0 {
		return err
	}
	complain := complaints(a)
	complain(err)
	out := &topWriter{out: a.out}
	tick := time.NewTicker(w.interval)
	defer tick.Stop()
	for n := 0; w.count == 0 || n < w.count; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		rates, err := w.read(ctx)
		if ctx.Err() != nil {
			return nil
		}
		complain(err)
		if a.json {
			err = a.printJSON(map[string]any{"at": time.Now(), "instances": rates})
		} else {
			err = out.write(rates)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// complaints tells of an error when it is new, not at every reading.
func complaints(a *app) func(error) {
	last := ""
	return func(err error) {
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != "" && text != last {
			fmt.Fprintf(a.err, "xdpipe: %s\n", text)
		}
		last = text
	}
}

// A stageOrder sorts the stages of the live view.
type stageOrder struct {
	key  byte
	name string
	more func(a, b xdpipe.StageRates) int // nil: as they are in the pipelines
}

// by sorts the largest first.
func by(value func(xdpipe.StageRates) float64) func(a, b xdpipe.StageRates) int {
	return func(a, b xdpipe.StageRates) int {
		switch x, y := value(a), value(b); {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	}
}

var stageOrders = []stageOrder{
	{'o', "order", nil},
	{'p', "packets", by(func(s xdpipe.StageRates) float64 { return s.Packets })},
	{'n', "ns/packet", by(func(s xdpipe.StageRates) float64 { return s.NsPerPacket })},
	{'l', "load", by(func(s xdpipe.StageRates) float64 { return s.Load })},
	{'d', "drops", by(func(s xdpipe.StageRates) float64 { return sum(s.Drops) })},
}

// sorted returns the stages in this order; equal ones stay as they were.
func (o stageOrder) sorted(stages []xdpipe.StageRates) []xdpipe.StageRates {
	if o.more == nil {
		return stages
	}
	stages = slices.Clone(stages)
	slices.SortStableFunc(stages, o.more)
	return stages
}

func sum(rates map[string]float64) (total float64) {
	for _, r := range rates {
		total += r
	}
	return total
}
