package cli

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/xdpipe/xdpipe/pipeline"
)

// moduleInfo is a module as JSON has it.
type moduleInfo struct {
	Name    string            `json:"name"`
	Doc     string            `json:"doc"`
	Options []pipeline.Option `json:"options"`
}

func (a *app) stages() *cobra.Command {
	return &cobra.Command{
		Use:   "stages [NAME]",
		Short: "list the stages, or document one",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("stages: unexpected argument %q; it documents one stage at a time", args[1])
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			modules := pipeline.Modules()
			if len(args) == 1 {
				m, ok := pipeline.Lookup(args[0])
				if !ok {
					for _, refused := range pipeline.Refused() {
						if refused.Stage == args[0] {
							return refused
						}
					}
					return fmt.Errorf("no stage is named %q; list them with: xdpipe stages", args[0])
				}
				modules = []pipeline.Module{m}
			}
			if a.json {
				infos := []moduleInfo{}
				for _, m := range modules {
					opts := m.Options()
					if opts == nil {
						opts = []pipeline.Option{}
					}
					infos = append(infos, moduleInfo{m.Name, m.Doc, opts})
				}
				if len(args) == 1 {
					return a.printJSON(infos[0])
				}
				return a.printJSON(infos)
			}
			if len(args) == 1 {
				a.documentStage(modules[0])
				return nil
			}
			t := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
			for _, m := range modules {
				fmt.Fprintf(t, "%s\t%s\n", m.Name, m.Doc)
			}
			return t.Flush()
		},
	}
}

func (a *app) documentStage(m pipeline.Module) {
	fmt.Fprintf(a.out, "%s: %s\n", m.Name, m.Doc)
	opts := m.Options()
	if len(opts) == 0 {
		fmt.Fprintln(a.out, "\nIt has no options.")
		return
	}
	fmt.Fprintln(a.out, "\nOptions:")
	t := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	for _, o := range opts {
		kind := o.Type
		if o.Unit != "" {
			kind += " in " + o.Unit
		}
		def := "default " + o.Default
		if o.Required {
			def = "required"
		} else if o.Default == "" {
			def = "default empty"
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\n", o.Name, kind, def, o.Doc)
	}
	t.Flush()
}
