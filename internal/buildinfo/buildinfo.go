// Package buildinfo says which Go module a package of this binary is from.
package buildinfo

import (
	"runtime/debug"
	"strings"
	"sync"
)

// XDPipe is the path of xdpipe's own module.
const XDPipe = "github.com/xdpipe/xdpipe"

// Devel is the version of what was built from a working tree, as Go calls it.
const Devel = "(devel)"

// A Module is a Go module inside this binary.
type Module struct {
	Path    string `json:"path"`
	Version string `json:"version"` // Devel if it is none that others can fetch
	// Replace is what stands in its place: a directory, or MODULE@VERSION; "" if
	// nothing does.
	Replace string `json:"replace,omitempty"`
}

func (m Module) String() string {
	s := m.Path
	if m.Version != "" {
		s += " " + m.Version
	}
	if m.Replace != "" {
		s += " => " + m.Replace
	}
	return s
}

// All returns the modules of this binary, the main one first.
var All = sync.OnceValue(func() []Module {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	modules := []Module{of(&info.Main)}
	for _, m := range info.Deps {
		modules = append(modules, of(m))
	}
	return modules
})

func of(m *debug.Module) Module {
	v := Module{Path: m.Path, Version: m.Version}
	switch r := m.Replace; {
	case r == nil:
	case r.Version == "" || r.Version == Devel: // a directory: what Version says is made up
		v.Version, v.Replace = Devel, r.Path
	default:
		v.Replace = r.Path + "@" + r.Version
	}
	if v.Version == "" {
		v.Version = Devel
	}
	return v
}

// Self is xdpipe's own module: the main one, or one of those inside a binary with
// more stages.
func Self() Module {
	if m, ok := find(All(), XDPipe); ok {
		return m
	}
	return Module{Path: XDPipe, Version: Devel}
}

// Of returns the module that the package of that import path is from.
func Of(pkg string) (Module, bool) { return find(All(), pkg) }

// find returns the module with the longest path that the package's begins with.
// Package main is of the main module.
func find(modules []Module, pkg string) (best Module, ok bool) {
	if pkg == "main" && len(modules) > 0 {
		return modules[0], true
	}
	for _, m := range modules {
		if (pkg == m.Path || strings.HasPrefix(pkg, m.Path+"/")) && len(m.Path) > len(best.Path) {
			best, ok = m, true
		}
	}
	return best, ok
}
