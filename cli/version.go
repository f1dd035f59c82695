package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "the version, and that of Go and of the modules inside",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			info, _ := debug.ReadBuildInfo()
			v := struct {
				Version string            `json:"version"`
				Go      string            `json:"go"`
				OS      string            `json:"os"`
				Arch    string            `json:"arch"`
				Modules map[string]string `json:"modules"`
			}{"(devel)", runtime.Version(), runtime.GOOS, runtime.GOARCH, map[string]string{}}
			if info != nil {
				if info.Main.Version != "" {
					v.Version = info.Main.Version
				}
				for _, m := range info.Deps {
					v.Modules[m.Path] = m.Version
				}
			}
			if a.json {
				return a.printJSON(v)
			}
			fmt.Fprintf(a.out, "xdpipe %s, %s %s/%s\n", v.Version, v.Go, v.OS, v.Arch)
			return nil
		},
	}
}
