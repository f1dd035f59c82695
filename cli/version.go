package cli

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xdpipe/xdpipe/internal/buildinfo"
	"github.com/xdpipe/xdpipe/pipeline"
)

// versionInfo is what version prints as JSON. xdpipe build reads it, too, from
// the binary it made.
type versionInfo struct {
	Version string            `json:"version"`
	Replace string            `json:"replace,omitempty"` // what xdpipe itself was taken from, in a binary with more stages
	Go      string            `json:"go"`
	OS      string            `json:"os"`
	Arch    string            `json:"arch"`
	API     int               `json:"stage_api"`
	Modules map[string]string `json:"modules"` // version by path, of all that are inside
	Stages  []stageOrigin     `json:"stages"`
	Refused []refusedStage    `json:"refused"`
}

// A stageOrigin is a stage and where it is from.
type stageOrigin struct {
	Name    string           `json:"name"`
	Package string           `json:"package"`
	Module  buildinfo.Module `json:"module"`
}

type refusedStage struct {
	stageOrigin
	API   int    `json:"stage_api"`
	Error string `json:"error"`
}

func origin(stage, pkg string) stageOrigin {
	m, _ := buildinfo.Of(pkg)
	return stageOrigin{stage, pkg, m}
}

// inside looks at this binary.
func inside() versionInfo {
	self := buildinfo.Self()
	v := versionInfo{
		self.Version, self.Replace, runtime.Version(), runtime.GOOS, runtime.GOARCH, pipeline.APIVersion,
		map[string]string{}, []stageOrigin{}, []refusedStage{},
	}
	for _, m := range buildinfo.All() {
		v.Modules[m.Path] = m.Version
	}
	for _, m := range pipeline.Modules() {
		v.Stages = append(v.Stages, origin(m.Name, m.Package()))
	}
	for _, e := range pipeline.Refused() {
		v.Refused = append(v.Refused, refusedStage{origin(e.Stage, e.Package), e.API, e.Error()})
	}
	return v
}

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "the version, and what is inside: stages with their modules, other modules, Go",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			v := inside()
			if a.json {
				return a.printJSON(v)
			}
			self := buildinfo.Module{Path: "xdpipe", Version: v.Version, Replace: v.Replace}
			fmt.Fprintf(a.out, "%s, stage API %d, %s %s/%s\n", self, v.API, v.Go, v.OS, v.Arch)
			printed := map[string]bool{}
			for _, s := range v.Stages {
				if printed[s.Module.Path] {
					continue
				}
				printed[s.Module.Path] = true
				var names []string
				for _, other := range v.Stages {
					if other.Module == s.Module {
						names = append(names, other.Name)
					}
				}
				fmt.Fprintf(a.out, "stages of %s: %s\n", s.Module, strings.Join(names, ", "))
			}
			for _, r := range v.Refused {
				fmt.Fprintf(a.out, "refused: %s\n", r.Error)
			}
			for _, m := range buildinfo.All() {
				if !printed[m.Path] {
					fmt.Fprintf(a.out, "with %s\n", m)
				}
			}
			return nil
		},
	}
}
