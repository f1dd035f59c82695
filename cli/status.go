package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/xdpipe/xdpipe"
)

func (a *app) status() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "running instances: ports, frames by place, stages, drops with cause and remedy",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := xdpipe.Instances(cmd.Context(), a.runDir)
			if a.json {
				if e := a.printJSON(map[string]any{"instances": all}); e != nil {
					return e
				}
				return err
			}
			if len(all) == 0 && err == nil {
				fmt.Fprintln(a.out, "no instance is running")
			}
			for _, s := range all {
				printStatus(a.out, s)
			}
			return err
		},
	}
}

func printStatus(out io.Writer, s xdpipe.Status) {
	p := s.Memory.Places
	fmt.Fprintf(out, "instance %s, pid %d, running for %v\n", s.Name, s.PID, time.Since(s.Started).Round(time.Second))
	fmt.Fprintf(out, "memory: %d frames of %d bytes on %s pages", s.Memory.Frames, s.Memory.FrameSize, s.Memory.Pages)
	if s.Memory.PagesWhy != "" {
		fmt.Fprintf(out, " (%s)", s.Memory.PagesWhy)
	}
	fmt.Fprintf(out, "\nframes: %d = free %d + fill %d + rx %d + tx %d + completion %d + batch %d + foreign %d\n\n",
		p.Total, p.Free, p.Fill, p.Rx, p.Tx, p.Completion, p.Batch, p.Foreign)

	t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "PORT\tINTERFACE\tQUEUE\tMODE\tZERO-COPY\tRX PACKETS\tRX BYTES\tTX PACKETS\tTX BYTES\tCOPIED\tDROPS\tSTATE")
	for _, q := range s.Ports {
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%v\t%d\t%d\t%d\t%d\t%d\t%s\t%s\n", q.Name, q.Interface, q.Queue, q.Mode, q.ZeroCopy,
			q.RxPackets, q.RxBytes, q.TxPackets, q.TxBytes, q.CopiedPackets, counts(q.Drops), q.State)
	}
	t.Flush()
	fmt.Fprintln(out)
	t = tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "STAGE\tWORKER\tCALLS\tPACKETS\tPACKETS/CALL\tNS/PACKET\tDROPS\tVALUES")
	for _, st := range s.Stages {
		per := 0.0
		if st.Calls > 0 {
			per = float64(st.Packets) / float64(st.Calls)
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%.1f\t%.1f\t%s\t%s\n", st.Name, st.Worker, st.Calls, st.Packets, per, st.NsPerPacket, counts(st.Drops), counts(st.Values))
	}
	t.Flush()
	fmt.Fprintln(out)
	for _, i := range s.Interfaces {
		steering := map[string]uint64{}
		for name, c := range i.Steering {
			steering[name] = c.Packets
		}
		fmt.Fprintf(out, "interface %s: steer %s; %s\n", i.Interface, i.Policy, counts(steering))
		if len(i.OffloadsOn) > 0 {
			fmt.Fprintf(out, "  cannot be turned off and may corrupt packets: %s\n", strings.Join(i.OffloadsOn, ", "))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Reasons)) {
		fmt.Fprintf(out, "drop reason %s: %s\n", name, s.Reasons[name])
	}
}

// counts prints counters that are not zero, by name.
func counts(m map[string]uint64) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if m[name] > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", name, m[name]))
		}
	}
	if len(parts) == 0 {
		return "-"
	}
	return strings.Join(parts, ", ")
}
