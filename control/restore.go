package control

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Undo is what an undo function is given.
type Undo struct {
	Change
	// Link is the interface, found again; nil for a change to the machine.
	Link *Link
	// Others are the pending changes of other instances: what one of them
	// counts on is left to it to put back.
	Others []Change
}

// UndoFunc puts one change back. It must bear being called twice, and being
// called for a change that was recorded but never made. The note says in a few
// words what was done.
type UndoFunc func(u Undo) (note string, err error)

var undos struct {
	mu sync.Mutex
	by map[string]UndoFunc
}

// RegisterUndo adds a kind of change that journals may hold. It is called from
// init functions, so that every program that can make a change can undo it. It
// panics if the kind is taken.
func RegisterUndo(kind string, fn UndoFunc) {
	undos.mu.Lock()
	defer undos.mu.Unlock()
	if _, taken := undos.by[kind]; taken || kind == "" || fn == nil {
		panic(fmt.Sprintf("control: undo kind %q is empty, without a function, or taken", kind))
	}
	if undos.by == nil {
		undos.by = map[string]UndoFunc{}
	}
	undos.by[kind] = fn
}

func undoOf(kind string) (UndoFunc, bool) {
	undos.mu.Lock()
	defer undos.mu.Unlock()
	fn, ok := undos.by[kind]
	return fn, ok
}

// Restored says what became of one change.
type Restored struct {
	Instance  string
	Kind      string
	Interface string // "" for a change to the machine
	Note      string
	Err       error // nil if it is undone
}

// String is one line for a log.
func (r Restored) String() string {
	what := r.Kind
	if r.Interface != "" {
		what += " of " + r.Interface
	}
	if r.Err != nil {
		return fmt.Sprintf("%s: %s: %v", r.Instance, what, r.Err)
	}
	return fmt.Sprintf("%s: %s: %s", r.Instance, what, r.Note)
}

// RestoreStale undoes what dead instances left changed, going by the journals
// in dir ("" is [DefaultRunDir]), and removes their claims. Live instances are
// left alone. A journal with lines that cannot be read is restored as far as it
// can be and kept beside under the name *.damaged. The error joins what could
// not be undone, which stays for the next call.
func RestoreStale(dir string) ([]Restored, error) {
	if dir == "" {
		dir = DefaultRunDir
	}
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	dir, err := makeRunDir(dir)
	if err != nil {
		return nil, err
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*"+journalSuffix))
	if err != nil {
		return nil, err
	}
	var all []Restored
	var errs []error
	for _, path := range paths {
		done, err := restoreFile(dir, path)
		all = append(all, done...)
		errs = append(errs, err)
	}
	errs = append(errs, sweepClaims(dir))
	return all, errors.Join(errs...)
}

func restoreFile(dir, path string) ([]Restored, error) {
	file, err := lockFile(path, false)
	if errors.Is(err, errLocked) || errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("restore %s: %w", path, err)
	}
	raw, err := readJournalFile(path)
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("restore %s: %w", path, err)
	}
	p := parseJournal(raw)
	instance := strings.TrimSuffix(filepath.Base(path), journalSuffix)
	j := &Journal{file: file, path: path, dir: dir, instance: instance, next: p.Last + 1, pending: p.pending()}
	if p.Torn {
		// Marks appended to half a line would be lost with it.
		if err := file.Truncate(int64(bytes.LastIndexByte(raw, '\n') + 1)); err != nil {
			file.Close()
			return nil, fmt.Errorf("restore %s: %w", path, err)
		}
	}
	var damage error
	if len(p.Damage) > 0 {
		kept := path + damagedSuffix
		damage = fmt.Errorf("journal of instance %s has %d lines that cannot be read, first %s; what they changed is not put back; kept as %s", instance, len(p.Damage), p.Damage[0], kept)
		damage = errors.Join(damage, os.WriteFile(kept, raw, 0o600))
	}
	done, err := j.Restore()
	return done, errors.Join(damage, err)
}

// runUndo finds the interface of a change again and calls its undo function.
func runUndo(dir, instance string, c Change) (string, error) {
	fn, ok := undoOf(c.Kind)
	if !ok {
		return "", fmt.Errorf("this program does not know changes of kind %q; use the version that made it", c.Kind)
	}
	u := Undo{Change: c}
	if c.Interface != nil {
		l, release, err := c.Interface.find()
		if errors.Is(err, errInterfaceGone) {
			return err.Error(), nil
		}
		if err != nil {
			return "", err
		}
		defer release()
		u.Link = l
	}
	u.Others = otherChanges(dir, instance)
	return fn(u)
}

// otherChanges lists what other instances, alive or not, have pending.
func otherChanges(dir, instance string) []Change {
	paths, err := filepath.Glob(filepath.Join(dir, "*"+journalSuffix))
	if err != nil {
		return nil
	}
	own := filepath.Join(dir, instance+journalSuffix)
	var changes []Change
	for _, path := range slices.DeleteFunc(paths, func(p string) bool { return p == own }) {
		raw, err := readJournalFile(path)
		if err != nil {
			continue
		}
		for _, e := range parseJournal(raw).pending() {
			changes = append(changes, e.Change)
		}
	}
	return changes
}
