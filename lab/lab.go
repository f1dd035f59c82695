package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/xdpipe/xdpipe/control"
)

// namespaceKind is the journal's name for a namespace of a lab.
const namespaceKind = "lab-namespace"

func init() {
	control.RegisterUndo(namespaceKind, func(u control.Undo) (string, error) {
		var name string
		if err := json.Unmarshal(u.Data, &name); err != nil {
			return "", err
		}
		return "removed " + name, removeNamespace(name)
	})
}

// Options for a lab. The zero value is good for most.
type Options struct {
	// Prefix begins the names of the lab's namespaces; "" is "xdplab". A new lab
	// removes what dead processes left of labs with the same prefix.
	Prefix string
	// RunDir is where what was made is recorded; "" is [control.DefaultRunDir].
	RunDir string
}

// Lab is a set of namespaces and what is in them. Its methods may be called
// from several goroutines.
type Lab struct {
	id      string
	dir     string
	journal *control.Journal // nil for a lab from Load

	mu       sync.Mutex
	spaces   map[string]*NS
	commands []*Cmd
	closed   bool
}

var (
	prefixPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$`)
	serial        atomic.Int32
)

// New makes an empty lab, after removing those that processes now dead left
// behind under the same prefix.
func New(opts Options) (*Lab, error) {
	if opts.Prefix == "" {
		opts.Prefix = "xdplab"
	}
	if !prefixPattern.MatchString(opts.Prefix) {
		return nil, fmt.Errorf("new lab: prefix %q: use 1 to 32 letters, digits, dashes and underscores, no dash or underscore first", opts.Prefix)
	}
	dir, err := subDir(opts.RunDir, "labs", opts.Prefix)
	if err != nil {
		return nil, fmt.Errorf("new lab: %w", err)
	}
	if _, err := control.RestoreStale(dir); err != nil {
		return nil, fmt.Errorf("new lab: remove what earlier ones left: %w", err)
	}
	// A pid comes again; the serial number alone is unique only in a process.
	id := fmt.Sprintf("%s-%d-%d", opts.Prefix, os.Getpid(), serial.Add(1))
	return newLab(id, dir)
}

func newLab(id, dir string) (*Lab, error) {
	j, err := control.OpenJournal(dir, id)
	if err != nil {
		return nil, fmt.Errorf("new lab %s: %w", id, err)
	}
	return &Lab{id: id, dir: dir, journal: j, spaces: map[string]*NS{}}, nil
}

// subDir makes a directory below the run directory, each level only ours.
func subDir(runDir string, below ...string) (string, error) {
	if runDir == "" {
		runDir = control.DefaultRunDir
	}
	dir := filepath.Join(append([]string{runDir}, below...)...)
	err := os.MkdirAll(dir, 0o700)
	if errors.Is(err, os.ErrPermission) {
		err = fmt.Errorf("%w; labs need root", err)
	}
	return dir, err
}

// Name begins the names of all the lab's namespaces.
func (l *Lab) Name() string { return l.id }

// Namespace makes a namespace; its name on the machine is the lab's, a dash,
// and this one. In it lo is up, and IPv6 addresses are usable at once, without
// duplicate address detection. One made already is returned again.
func (l *Lab) Namespace(name string) (*NS, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ns := l.spaces[name]; ns != nil {
		return ns, nil
	}
	if !prefixPattern.MatchString(name) {
		return nil, fmt.Errorf("namespace name %q: use 1 to 32 letters, digits, dashes and underscores, no dash or underscore first", name)
	}
	if l.closed || l.journal == nil {
		return nil, fmt.Errorf("namespace %s: lab %s has none of that name (it has %s), and makes no more", name, l.id, strings.Join(slices.Sorted(maps.Keys(l.spaces)), ", "))
	}
	full := l.id + "-" + name
	// Before it is recorded, or undoing would remove one that is not ours.
	if _, err := os.Lstat(filepath.Join(control.NamespaceDir, full)); err == nil {
		return nil, fmt.Errorf("create network namespace %s: %w; remove it with ip netns delete, or choose another name", full, os.ErrExist)
	}
	c, err := control.NewChange(namespaceKind, nil, full)
	if err != nil {
		return nil, err
	}
	seq, err := l.journal.Record(c)
	if err != nil {
		return nil, err
	}
	made, err := control.CreateNamespace(full)
	if err != nil {
		if errors.Is(err, os.ErrExist) {
			// Not ours to remove.
			return nil, errors.Join(err, l.journal.Amend(seq, ""))
		}
		return nil, errors.Join(err, l.journal.Undo(seq))
	}
	ns := &NS{Namespace: made, name: name, lab: l}
	l.spaces[name] = ns
	for _, conf := range []string{"all", "default"} {
		if err := ns.quietIPv6(conf); err != nil {
			return nil, err
		}
	}
	return ns, nil
}

// MustNamespace is Namespace for tests: it panics where that returns an error.
func (l *Lab) MustNamespace(name string) *NS {
	ns, err := l.Namespace(name)
	if err != nil {
		panic(err)
	}
	return ns
}

// Close ends the programs started in the lab and removes the namespaces with
// all that is in them. It may be called again, and after anything failed. A lab
// from [Up] or [Load] stays, until [Down].
func (l *Lab) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	var errs []error
	for _, c := range l.commands {
		c.stop()
	}
	for _, ns := range l.spaces {
		errs = append(errs, ns.Namespace.Close())
	}
	if l.journal != nil {
		_, err := l.journal.Restore()
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close lab %s: %w", l.id, err)
	}
	return nil
}

// keep gives up ownership: what was made stays when the process ends.
func (l *Lab) keep() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.journal.Close()
	l.journal = nil
	return err
}

// removeNamespace deletes a namespace and the links in it. The kernel would
// delete those too, but only when the last process has left.
func removeNamespace(name string) error {
	if name == "" {
		return nil
	}
	ns, err := control.OpenNamespace(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var errs []error
	if err == nil {
		links, err := control.Links(ns)
		errs = append(errs, err)
		for _, link := range links {
			if link.Kind != "device" { // hardware goes back where it came from
				errs = append(errs, link.Delete())
			}
		}
		errs = append(errs, ns.Close())
	}
	// A name whose mount never came about cannot be opened, only removed.
	return errors.Join(append(errs, control.DeleteNamespace(name))...)
}
