package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xdpipe/xdpipe/control"
)

func (a *app) features() *cobra.Command {
	var netns string
	cmd := &cobra.Command{
		Use:   "features IFACE",
		Short: "what an interface and its driver can do for XDP",
		Args:  exactArgs("IFACE"),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.withLink(netns, args[0], func(l *control.Link) error {
				f, err := control.Features(l)
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(f)
				}
				x := f.XDP
				fmt.Fprintf(a.out, "%s: driver %s, MTU %d\n", l, f.Driver, f.MTU)
				fmt.Fprintf(a.out, "queues: rx %d, tx %d, combined %d, at most %d\n", f.Queues.RX, f.Queues.TX, f.Queues.Combined, f.Queues.Max)
				fmt.Fprintf(a.out, "xdp: native %v, generic %v, redirect %v, zero-copy %v (segments %d), multi-buffer %v\n",
					x.Native, x.Generic, x.Redirect, x.ZeroCopy, x.ZCMaxSegs, x.MultiBuffer)
				fmt.Fprintf(a.out, "metadata: receive %s; transmit %s\n", list(f.RXMetadata), list(f.TXMetadata))
				for _, p := range f.Programs {
					fmt.Fprintf(a.out, "attached: program %d %s in %s mode\n", p.ID, p.Name, p.Mode)
				}
				for _, n := range f.Notes {
					fmt.Fprintf(a.out, "note: %s\n", n)
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&netns, "netns", "", "network namespace of the interface, by name or path")
	return cmd
}

func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
