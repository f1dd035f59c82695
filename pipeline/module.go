package pipeline

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/xdpipe/xdpipe/internal/edit"
)

// A Module is a kind of stage. Register makes it known under its name.
type Module struct {
	Name string // as configurations write it: lower case
	Doc  string // one line
	// Help is what there is to say beyond Doc: sentences, in paragraphs with an empty
	// line between them. It may be empty.
	Help string
	// Example is a use of the stage in the quick form, which tests and documentation
	// show: on one line, with ports of any name as targets. It may be empty.
	Example string
	// New returns a stage with the defaults of its options set. It has no other
	// effect. The exported fields tagged `stage:"name"` of the struct it points
	// to are the stage's options, of the types listed at Option.
	New func() Stage
	// API is the APIVersion that the module was written for; 0 is 1. One that was
	// written for another is refused: see Refused.
	API int
	// Outputs are the ways out of the stage beside the next stage.
	Outputs []OutputInfo
	// Writes says that Process changes bytes of packets. Packets that others hold
	// too, after a tee, are then copied for it first.
	Writes bool
	// Hands says that Process may send packets to other workers with
	// Batch.ToWorker.
	Hands bool
}

// An OutputInfo describes an output of a module.
type OutputInfo struct {
	Name string `json:"name"` // as configurations write it: lower case
	Doc  string `json:"doc"`  // which packets leave by it, and what becomes of them if it may be left unconnected
	// Optional outputs may be left unconnected: the stage asks with Context.Output.
	Optional bool `json:"optional,omitempty"`
}

// An Option describes an option of a module, from the tags of its field:
// `stage:"name"`, `unit:"bytes"`, `doc:"…"`, `required:"true"`, `min:"1"`, `max:"9"`,
// and `type:"choice"` where the name of its type is not one for people. Its type is a
// bool, an integer, a float, a string, a time.Duration, a type that implements
// encoding.TextUnmarshaler, or a slice of those.
type Option struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	Unit     string `json:"unit,omitempty"`
	Default  string `json:"default,omitempty"`
	Required bool   `json:"required,omitempty"`
	Min      string `json:"min,omitempty"` // of a number, or of those in a list
	Max      string `json:"max,omitempty"`
	Doc      string `json:"doc"`
}

var registry = struct {
	sync.Mutex
	modules map[string]Module
	refused map[string]*APIError
}{modules: map[string]Module{}, refused: map[string]*APIError{}}

// Register makes a module known, or known as refused if it is for another
// APIVersion. It is called from init functions and panics if the name is taken or
// not a name, or if New does not return a pointer to a struct: each is a mistake
// in the program.
func Register(m Module) {
	if !isName(m.Name) || slices.Contains(stageKeys, m.Name) {
		panic(fmt.Sprintf("pipeline: module name %q: want lower-case letters, digits, _ and -, and none of %s", m.Name, strings.Join(stageKeys, ", ")))
	}
	for i, o := range m.Outputs {
		if !isName(o.Name) || slices.ContainsFunc(m.Outputs[:i], func(p OutputInfo) bool { return p.Name == o.Name }) {
			panic(fmt.Sprintf("pipeline: module %q: output %q: want different names of lower-case letters, digits, _ and -", m.Name, o.Name))
		}
	}
	if m.New == nil {
		panic(fmt.Sprintf("pipeline: module %q has no New", m.Name))
	}
	if t := reflect.TypeOf(m.New()); t == nil || t.Kind() != reflect.Pointer || t.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("pipeline: New of module %q returns %v, want a pointer to a struct", m.Name, t))
	}
	if _, sink := m.New().(Sink); sink && m.Hands {
		panic(fmt.Sprintf("pipeline: module %q is a Sink and Hands: packets that end in it cannot go on elsewhere", m.Name))
	}
	registry.Lock()
	defer registry.Unlock()
	if cmp.Or(m.API, 1) != APIVersion {
		registry.refused[m.Name] = &APIError{Stage: m.Name, API: m.API, Package: m.Package()}
		return
	}
	if other, taken := registry.modules[m.Name]; taken {
		panic(fmt.Sprintf("pipeline: module %q registered twice, by %s and %s", m.Name, other.Package(), m.Package()))
	}
	registry.modules[m.Name] = m
}

// Package returns the import path of the package that the module's stages are
// from.
func (m Module) Package() string { return reflect.TypeOf(m.New()).Elem().PkgPath() }

func isName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' || r == '-')
	})
}

// Lookup returns the module of that name, if one is registered and not refused.
func Lookup(name string) (Module, bool) {
	registry.Lock()
	defer registry.Unlock()
	m, ok := registry.modules[name]
	return m, ok
}

// Modules returns all modules, sorted by name.
func Modules() []Module {
	registry.Lock()
	defer registry.Unlock()
	var all []Module
	for _, m := range registry.modules {
		all = append(all, m)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all
}

// Kind is "source", "sink" or, of stages that have others before and behind them,
// "stage".
func (m Module) Kind() string {
	switch m.New().(type) {
	case Source:
		return "source"
	case Sink:
		return "sink"
	}
	return "stage"
}

// Options describes the module's options, in the order of their fields.
func (m Module) Options() []Option {
	v := reflect.ValueOf(m.New()).Elem()
	var opts []Option
	for _, f := range fieldsOf(v.Type(), "stage") {
		o := Option{
			Name:     f.name,
			Type:     cmp.Or(f.field.Tag.Get("type"), typeName(f.field.Type)),
			Unit:     f.field.Tag.Get("unit"),
			Required: f.field.Tag.Get("required") == "true",
			Min:      f.field.Tag.Get("min"),
			Max:      f.field.Tag.Get("max"),
			Doc:      f.field.Tag.Get("doc"),
		}
		if fv := v.FieldByIndex(f.field.Index); !fv.IsZero() || !o.Required && isNumberOrBool(fv.Kind()) {
			o.Default = fmt.Sprint(fv.Interface())
		}
		opts = append(opts, o)
	}
	return opts
}

func isNumberOrBool(k reflect.Kind) bool {
	return k == reflect.Bool || k >= reflect.Int && k <= reflect.Float64
}

// nearest returns the name closest to got, for "did you mean", or "" if none is
// close. A name that begins with got is, if no other is closer.
func nearest(got string, names []string) string {
	best, bestDistance := "", len(got)/2+1
	begins := ""
	for _, name := range slices.Sorted(slices.Values(names)) {
		if d := edit.Distance(got, name); d < bestDistance {
			best, bestDistance = name, d
		}
		if begins == "" && len(got) > 1 && strings.HasPrefix(name, got) {
			begins = name
		}
	}
	if best == "" {
		return begins
	}
	return best
}
