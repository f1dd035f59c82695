package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/xdpipe/xdpipe"
	"github.com/xdpipe/xdpipe/pipeline"
)

func (a *app) check() *cobra.Command {
	var offline, dot bool
	cmd := &cobra.Command{
		Use:   "check CONFIG.yaml",
		Short: "validate a configuration and print the plan; changes nothing",
		Long: `check reads a configuration, holds it against this machine and prints what run
would do, with the graph of every pipeline. It changes nothing. Mistakes are printed
as FILE:LINE:COLUMN: message. With --dot it prints the graphs for Graphviz:

  xdpipe check --dot bridge.yaml | dot -Tsvg -o bridge.svg`,
		Args: exactArgs("CONFIG.yaml"),
		RunE: func(_ *cobra.Command, args []string) error {
			cfg, err := pipeline.LoadConfig(args[0])
			if err != nil {
				return a.mistakes(err)
			}
			if offline {
				graphs := cfg.Graphs()
				switch {
				case dot:
					fmt.Fprint(a.out, pipeline.DOT(graphs))
				case a.json:
					return a.printJSON(map[string]any{"ok": true, "graphs": graphs})
				default:
					for _, g := range graphs {
						fmt.Fprint(a.out, g)
					}
					fmt.Fprintf(a.out, "%s: no mistakes found; not held against this machine\n", args[0])
				}
				return nil
			}
			plan, err := xdpipe.NewPlan(cfg)
			if err != nil {
				return a.mistakes(err)
			}
			defer plan.Close()
			if dot {
				fmt.Fprint(a.out, pipeline.DOT(cfg.Graphs()))
				return nil
			}
			if a.json {
				return a.printJSON(map[string]any{"ok": true, "plan": plan.Summary()})
			}
			fmt.Fprint(a.out, plan)
			return nil
		},
	}
	cmd.Flags().BoolVar(&dot, "dot", false, "print the graphs in the language of Graphviz")
	cmd.Flags().BoolVar(&offline, "offline", false, "look at the file only, not at this machine's interfaces")
	return cmd
}

// mistakes prints what is wrong with a configuration, a line each.
func (a *app) mistakes(err error) error {
	list := xdpipe.Mistakes(err)
	if a.json {
		if err := a.printJSON(map[string]any{"ok": false, "errors": list}); err != nil {
			return err
		}
	}
	for _, m := range list {
		if m.Line > 0 {
			fmt.Fprintln(a.err, m)
		} else {
			fmt.Fprintf(a.err, "xdpipe: %s\n", m)
		}
	}
	return errReported
}
