package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// Change is one thing about to be changed outside the process, with what is
// needed to undo it.
type Change struct {
	// Kind selects the undo function; see [RegisterUndo].
	Kind string `json:"kind"`
	// Interface is set for changes to an interface.
	Interface *InterfaceID `json:"interface,omitempty"`
	// Data is the kind's own.
	Data json.RawMessage `json:"data,omitempty"`
}

// NewChange makes a change of a kind, to an interface or (nil) to the machine.
func NewChange(kind string, l *Link, data any) (Change, error) {
	c := Change{Kind: kind}
	if l != nil {
		id := l.ID()
		c.Interface = &id
	}
	var err error
	if c.Data, err = json.Marshal(data); err != nil {
		return c, fmt.Errorf("journal a change of kind %s: %w", kind, err)
	}
	return c, nil
}

// Journal is the record of what one instance has changed and not put back: a
// file of JSON lines, synced before each change is made. It is locked while its
// owner lives. Its methods may be called from several goroutines.
type Journal struct {
	mu       sync.Mutex
	file     *os.File // nil after Restore or Close
	path     string
	dir      string
	instance string
	next     int
	pending  []entry // recorded and not undone, oldest first
}

// entry is a recorded change and its number in the journal.
type entry struct {
	Seq    int
	Change Change
}

// InstanceBusyError says that a live process runs under that instance name.
type InstanceBusyError struct {
	Instance string
	PID      int // 0 if it could not be read
}

func (e *InstanceBusyError) Error() string {
	return fmt.Sprintf("instance %s is running already (pid %d); give this one another --name", e.Instance, e.PID)
}

// ErrStaleJournal says that an earlier process of the same instance name died
// before it had put everything back: call [RestoreStale] first.
var ErrStaleJournal = errors.New("an earlier process of this name left changes behind; xdpipe detach puts them back, and removing the file gives them up")

// OpenJournal opens a new journal for an instance in dir; "" is
// [DefaultRunDir]. A live owner of that name is an *[InstanceBusyError], a dead
// one [ErrStaleJournal].
func OpenJournal(dir, instance string) (*Journal, error) {
	if err := checkInstance(instance); err != nil {
		return nil, err
	}
	dir, err := makeRunDir(dir)
	if err != nil {
		return nil, err
	}
	j := &Journal{dir: dir, instance: instance, path: filepath.Join(dir, instance+journalSuffix), next: 1}
	file, err := lockOwn(j.path)
	if errors.Is(err, errLocked) {
		busy := &InstanceBusyError{Instance: instance}
		if raw, err := readJournalFile(j.path); err == nil {
			busy.PID = parseJournal(raw).Header.PID
		}
		return nil, busy
	}
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	raw, err := readJournalFile(j.path)
	if err == nil && len(parseJournal(raw).pending()) > 0 {
		err = ErrStaleJournal
	}
	if err == nil {
		err = file.Truncate(0)
	}
	if err == nil {
		j.file = file
		err = j.append(line{Header: newHeader(instance)})
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("open journal %s: %w", j.path, err)
	}
	return j, nil
}

// Dir is the run directory, for claims of the same instance.
func (j *Journal) Dir() string { return j.dir }

// Instance is the name the journal was opened with.
func (j *Journal) Instance() string { return j.instance }

// Record writes a change and returns its number once it is on disk. Only then
// may the change be made.
func (j *Journal) Record(c Change) (int, error) {
	if _, ok := undoOf(c.Kind); !ok {
		return 0, fmt.Errorf("journal a change of kind %q: no undo function is registered for it", c.Kind)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	e := entry{Seq: j.next, Change: c}
	if err := j.append(line{Seq: e.Seq, Change: &e.Change}); err != nil {
		return 0, fmt.Errorf("journal a change of kind %s: %w", c.Kind, err)
	}
	j.next++
	j.pending = append(j.pending, e)
	return e.Seq, nil
}

// Amend replaces the data of a recorded change by what turned out when it was made.
func (j *Journal) Amend(seq int, data any) error {
	raw, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("amend journal: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := range j.pending {
		if j.pending[i].Seq == seq {
			if err := j.append(line{Amend: seq, Data: raw}); err != nil {
				return fmt.Errorf("amend journal: %w", err)
			}
			j.pending[i].Change.Data = raw
			return nil
		}
	}
	return fmt.Errorf("amend journal: change %d is not pending", seq)
}

// Undo undoes one change before the rest; one undone already is no error.
func (j *Journal) Undo(seq int) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, e := range j.pending {
		if e.Seq == seq {
			_, err := j.undo(i)
			return err
		}
	}
	return nil
}

// Restore undoes every change, the last first, and removes the journal. A
// change that could not be undone stays in the file, which then stays too, for
// [RestoreStale]; the others are undone all the same. The journal is closed in
// any case.
func (j *Journal) Restore() ([]Restored, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil, nil
	}
	var done []Restored
	var errs []error
	for i := len(j.pending) - 1; i >= 0; i-- {
		r, err := j.undo(i)
		done = append(done, r)
		errs = append(errs, err)
	}
	if len(j.pending) == 0 {
		// While it is locked, so that nobody takes the name in between.
		errs = append(errs, removeIfThere(j.path))
	}
	errs = append(errs, j.file.Close())
	j.file = nil
	return done, errors.Join(errs...)
}

// Close gives the journal up without undoing anything. What is pending is then
// undone by the next [RestoreStale].
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	var err error
	if len(j.pending) == 0 {
		err = removeIfThere(j.path)
	}
	err = errors.Join(err, j.file.Close())
	j.file = nil
	return err
}

// undo undoes pending change i and marks it so. Death between the two makes
// the next start undo it again, which every undo function bears.
func (j *Journal) undo(i int) (Restored, error) {
	e := j.pending[i]
	r := Restored{Instance: j.instance, Kind: e.Change.Kind}
	if id := e.Change.Interface; id != nil {
		r.Interface = id.Name
	}
	unlock, err := lockRunDir(j.dir)
	if err == nil {
		r.Note, err = runUndo(j.dir, j.instance, e.Change)
		unlock()
	}
	if err != nil {
		r.Err = fmt.Errorf("undo %s of instance %s: %w", e.Change.Kind, j.instance, err)
		return r, r.Err
	}
	if err := j.append(line{Undone: e.Seq}); err != nil {
		return r, fmt.Errorf("mark change %d undone: %w", e.Seq, err)
	}
	j.pending = append(j.pending[:i:i], j.pending[i+1:]...)
	return r, nil
}

// append writes one line and waits until it is on disk.
func (j *Journal) append(l line) error {
	if j.file == nil {
		return os.ErrClosed
	}
	raw, err := json.Marshal(l)
	if err != nil {
		return err
	}
	end, err := j.file.Seek(0, 2)
	if err != nil {
		return err
	}
	if _, err := j.file.Write(append(raw, '\n')); err != nil {
		return errors.Join(err, j.file.Truncate(end)) // no half line before the next one
	}
	return j.file.Sync()
}
