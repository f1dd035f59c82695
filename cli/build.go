package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xdpipe/xdpipe/internal/custom"
)

func (a *app) build() *cobra.Command {
	var (
		with, replace []string
		output        string
	)
	cmd := &cobra.Command{
		Use:   "build --with PLUGIN… [--replace MODULE=PATH…] [-o FILE]",
		Short: "make a binary of xdpipe with more stages inside",
		Long: `build compiles xdpipe with the packages of stages that are given, each as

  MODULE@VERSION   fetched by the go command; without @VERSION the latest
  MODULE=PATH      from a directory on this machine
  PATH             the same, if it begins with ./, ../ or /

A package below a module's root is given by its import path, MODULE/PACKAGE. It
needs the go command, and the network only for what is not on this machine.
--replace puts a directory, or MODULE@VERSION, in the place of any module.

xdpipe itself is of this binary's version, or from the working tree that the
working directory or this binary is in.

The binary is asked what is inside before it is put in its place: one that does
not start, or has no stage from a plugin, or a stage for another API version, is
refused.`,
		Example: `  xdpipe build --with example.com/acme/stage@v1.2.0 --with ./mine -o xdpipe-acme
  ./xdpipe-acme version`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := custom.Options{Output: output}
			if len(with) == 0 {
				return usagef("build: say which stages to put in, with --with MODULE@VERSION or --with PATH")
			}
			for _, text := range with {
				p, err := custom.ParsePlugin(text)
				if err != nil {
					return usagef("build: --with %w", err)
				}
				o.Plugins = append(o.Plugins, p)
			}
			for _, text := range replace {
				r, err := custom.ParseReplacement(text)
				if err != nil {
					return usagef("build: --replace %w", err)
				}
				o.Replace = append(o.Replace, r)
			}
			o.Log = func(format string, args ...any) { fmt.Fprintf(a.err, format+"\n", args...) }
			r, err := custom.Build(cmd.Context(), o)
			if err != nil {
				return fmt.Errorf("build: %w", err)
			}
			if a.json {
				return a.printJSON(struct {
					File     string           `json:"file"`
					Contents *custom.Contents `json:"contents"`
				}{r.File, r.Contents})
			}
			if r.Contents == nil {
				fmt.Fprintf(a.out, "%s: built for another system, and not asked what is inside\n", r.File)
				return nil
			}
			modules, stages := r.Contents.ByModule()
			fmt.Fprintf(a.out, "%s: xdpipe %s\n", r.File, r.Contents.Version)
			for _, m := range modules {
				fmt.Fprintf(a.out, "  %s: %s\n", m, strings.Join(stages[m.Path], ", "))
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&with, "with", nil, "package of stages to put in; may be repeated")
	flags.StringArrayVar(&replace, "replace", nil, "MODULE=PATH or MODULE=MODULE@VERSION: what to take in a module's place; may be repeated")
	flags.StringVarP(&output, "output", "o", "xdpipe", "the file to write")
	return cmd
}
