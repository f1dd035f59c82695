package cli

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/xdpipe/xdpipe/pipeline"
)

// moduleInfo is a module as JSON has it.
type moduleInfo struct {
	Name    string                `json:"name"`
	Doc     string                `json:"doc"`
	Help    string                `json:"help,omitempty"`
	Example string                `json:"example,omitempty"`
	Kind    string                `json:"kind"` // stage, source or sink
	Writes  bool                  `json:"writes"`
	Hands   bool                  `json:"hands"`
	Outputs []pipeline.OutputInfo `json:"outputs"`
	Options []pipeline.Option     `json:"options"`
}

func infoOf(m pipeline.Module) moduleInfo {
	return moduleInfo{
		Name: m.Name, Doc: m.Doc, Help: m.Help, Example: m.Example, Kind: m.Kind(), Writes: m.Writes, Hands: m.Hands,
		Outputs: append([]pipeline.OutputInfo{}, m.Outputs...), // JSON has a list, if an empty one
		Options: append([]pipeline.Option{}, m.Options()...),
	}
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
					infos = append(infos, infoOf(m))
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
	if m.Help != "" {
		fmt.Fprintf(a.out, "\n%s\n", m.Help)
	}
	if m.Example != "" {
		fmt.Fprintf(a.out, "\nExample: %s\n", m.Example)
	}
	fmt.Fprintf(a.out, "\n%s\n", nature(m))
	if len(m.Outputs) > 0 {
		fmt.Fprintln(a.out, "\nOutputs, besides the next stage:")
		t := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
		for _, o := range m.Outputs {
			must := "must be connected"
			if o.Optional {
				must = "optional"
			}
			fmt.Fprintf(t, "  %s\t%s\t%s\n", o.Name, must, o.Doc)
		}
		t.Flush()
	}
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

// nature says in a sentence where a stage can stand and what it may do.
func nature(m pipeline.Module) string {
	text := "It reads packets and does not change them"
	switch {
	case m.Kind() == "source":
		text = "It makes packets: a pipeline without from begins with it"
	case m.Kind() == "sink":
		text = "Packets end in it: a pipeline without to ends with it"
	case m.Writes:
		text = "It changes packets"
	}
	if m.Hands {
		text += ", and sends them to other workers"
	}
	return text + "."
}
