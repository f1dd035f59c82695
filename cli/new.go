package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xdpipe/xdpipe/internal/buildinfo"
	"github.com/xdpipe/xdpipe/internal/custom"
	"github.com/xdpipe/xdpipe/internal/scaffold"
	"github.com/xdpipe/xdpipe/internal/source"
)

func (a *app) newVerb() *cobra.Command {
	root := &cobra.Command{
		Use:   "new",
		Short: "write the beginnings of a plugin",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddCommand(a.newStage())
	return root
}

func (a *app) newStage() *cobra.Command {
	var (
		o       scaffold.Options
		replace string
	)
	cmd := &cobra.Command{
		Use:   "stage NAME",
		Short: "write a Go module with a stage that builds and passes its test",
		Long: `new stage writes a whole plugin: a stage of forty lines, its test with captures of
what goes in and what has to come out, a README, go.mod, and a main for those who
build without xdpipe at hand. It builds and passes as written; change it from there.

Its go.mod requires the xdpipe of this binary's version; if that is no release, it
replaces it with the working tree that the working directory or this binary is in.`,
		Args: exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Stage = args[0]
			var err error
			if o.Source, err = pluginSource(replace, filepath.Dir(o.Dir)); err != nil {
				return fmt.Errorf("new stage: %w", err)
			}
			r, err := scaffold.Write(cmd.Context(), o)
			if err != nil {
				return fmt.Errorf("new stage: %w", err)
			}
			if r.Untidy != nil {
				fmt.Fprintf(a.err, "go.mod could not be tidied; do so later with go mod tidy: %v\n", r.Untidy)
			}
			if a.json {
				return a.printJSON(r)
			}
			fmt.Fprintf(a.out, "%s: module %s with stage %s\n", r.Dir, r.Path, r.Stage)
			for _, f := range r.Files {
				fmt.Fprintf(a.out, "  %s\n", f)
			}
			dir := r.Dir
			if wd, err := os.Getwd(); err == nil {
				if rel, err := filepath.Rel(wd, r.Dir); err == nil && !strings.HasPrefix(rel, "..") {
					dir = rel
				}
			}
			fmt.Fprintf(a.out, "\nNext:\n  cd %s && go test ./...\n  xdpipe build --with . -o xdpipe-%s\n  ./xdpipe-%[2]s stages %[2]s\n", dir, r.Stage)
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Module, "module", "", "path of the module (default example.com/NAME)")
	flags.StringVar(&o.Dir, "dir", "", "directory to make (default NAME)")
	flags.StringVar(&replace, "replace", "", buildinfo.XDPipe+"=PATH: a working tree to take xdpipe from")
	return cmd
}

// pluginSource finds the xdpipe that a plugin in the directory is to use.
func pluginSource(replace, dir string) (source.Source, error) {
	if replace == "" {
		return source.Find(dir)
	}
	r, err := custom.ParseReplacement(replace)
	if err == nil && (r.Old.Path != buildinfo.XDPipe || r.Old.Version != "" || r.New.Version != "") {
		err = errors.New("want " + buildinfo.XDPipe + "=PATH")
	}
	if err != nil {
		return source.Source{}, usagef("--replace %s: %w", replace, err)
	}
	return source.Source{Dir: r.New.Path, How: "as given"}, nil
}
