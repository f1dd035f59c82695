package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xdpipe/xdpipe/internal/buildinfo"
	"github.com/xdpipe/xdpipe/internal/custom"
)

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "the version, and what is inside: stages with their modules, other modules, Go",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			c := custom.Inside()
			if a.json {
				return a.printJSON(c)
			}
			self := buildinfo.Module{Path: "xdpipe", Version: c.Version, Replace: c.Replace}
			fmt.Fprintf(a.out, "%s, stage API %d, %s %s/%s\n", self, c.API, c.Go, c.OS, c.Arch)
			modules, stages := c.ByModule()
			for _, m := range modules {
				fmt.Fprintf(a.out, "stages of %s: %s\n", m, strings.Join(stages[m.Path], ", "))
			}
			for _, r := range c.Refused {
				fmt.Fprintf(a.out, "refused: %s\n", r.Error)
			}
			for _, m := range buildinfo.All() {
				if len(stages[m.Path]) == 0 {
					fmt.Fprintf(a.out, "with %s\n", m)
				}
			}
			return nil
		},
	}
}
