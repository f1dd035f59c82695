package custom

import (
	"runtime"

	"github.com/xdpipe/xdpipe/internal/buildinfo"
	"github.com/xdpipe/xdpipe/pipeline"
)

// Contents is what a binary says is inside it: xdpipe version -j.
type Contents struct {
	Version string            `json:"version"`
	Replace string            `json:"replace,omitempty"` // what xdpipe itself was taken from, in a binary with more stages
	Go      string            `json:"go"`
	OS      string            `json:"os"`
	Arch    string            `json:"arch"`
	API     int               `json:"stage_api"`
	Modules map[string]string `json:"modules"` // version by path, of all that are inside
	Stages  []Origin          `json:"stages"`
	Refused []Refused         `json:"refused"`
}

// An Origin is a stage and where it is from.
type Origin struct {
	Name    string           `json:"name"`
	Package string           `json:"package"`
	Module  buildinfo.Module `json:"module"`
}

// A Refused is a stage for another API version.
type Refused struct {
	Origin
	API   int    `json:"stage_api"`
	Error string `json:"error"`
}

func origin(stage, pkg string) Origin {
	m, _ := buildinfo.Of(pkg)
	return Origin{stage, pkg, m}
}

// Inside returns the contents of this binary.
func Inside() Contents {
	self := buildinfo.Self()
	c := Contents{
		self.Version, self.Replace, runtime.Version(), runtime.GOOS, runtime.GOARCH, pipeline.APIVersion,
		map[string]string{}, []Origin{}, []Refused{},
	}
	for _, m := range buildinfo.All() {
		c.Modules[m.Path] = m.Version
	}
	for _, m := range pipeline.Modules() {
		c.Stages = append(c.Stages, origin(m.Name, m.Package()))
	}
	for _, e := range pipeline.Refused() {
		c.Refused = append(c.Refused, Refused{origin(e.Stage, e.Package), e.API, e.Error()})
	}
	return c
}

// ByModule returns the names of the stages by the module they are from, and the
// modules in the order of their first stage.
func (c Contents) ByModule() (modules []buildinfo.Module, stages map[string][]string) {
	stages = map[string][]string{}
	for _, s := range c.Stages {
		if len(stages[s.Module.Path]) == 0 {
			modules = append(modules, s.Module)
		}
		stages[s.Module.Path] = append(stages[s.Module.Path], s.Name)
	}
	return modules, stages
}
