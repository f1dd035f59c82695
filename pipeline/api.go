package pipeline

import (
	"fmt"
	"slices"
	"strings"

	"github.com/xdpipe/xdpipe/internal/buildinfo"
)

// APIVersion is the version of the stage API: of what a stage may call, and is
// called with. It grows by one when stages that were right become wrong, in what
// they do or because they do not compile any more; additions leave it as it is.
// Modules state which they were written for in Module.API.
const APIVersion = 1

// An APIError says that a module was refused: it was written for another
// APIVersion, and could do with packets what it does not mean to.
type APIError struct {
	Stage   string // the module's name
	API     int    // what it was written for
	Package string // the import path of the package it is from
}

func (e *APIError) Error() string {
	from := e.Package
	if m, ok := buildinfo.Of(e.Package); ok {
		from = m.String()
	}
	remedy := fmt.Sprintf("build with a version of it for API %d, or with a newer xdpipe", APIVersion)
	if e.API < APIVersion {
		remedy = fmt.Sprintf("build with a version of it for API %d, or with an older xdpipe", APIVersion)
	}
	return fmt.Sprintf("stage %q of %s is for stage API %d and this xdpipe has %d: %s", e.Stage, from, e.API, APIVersion, remedy)
}

// Refused returns what was refused of the modules that were registered, sorted by
// name.
func Refused() []*APIError {
	registry.Lock()
	defer registry.Unlock()
	var all []*APIError
	for _, e := range registry.refused {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *APIError) int { return strings.Compare(a.Stage, b.Stage) })
	return all
}

// refusal returns the reason why the module of that name cannot be used, if it is
// there.
func refusal(name string) error {
	registry.Lock()
	defer registry.Unlock()
	if e, ok := registry.refused[name]; ok {
		return e
	}
	return nil
}
