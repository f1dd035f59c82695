package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// programPin is the program's file in a directory of pins; maps go by their names.
const programPin = "program"

// pinnedMap is one of the maps that are pinned.
type pinnedMap struct {
	name string
	in   func(*steerMaps) **ebpf.Map
}

var pinnedMaps = []pinnedMap{
	{steerMapActive, func(m *steerMaps) **ebpf.Map { return &m.Active }},
	{steerMapCounters, func(m *steerMaps) **ebpf.Map { return &m.Counters }},
	{steerMapFilters, func(m *steerMaps) **ebpf.Map { return &m.Filters }},
	{steerMapHits, func(m *steerMaps) **ebpf.Map { return &m.Hits }},
	{steerMapPrefixes4, func(m *steerMaps) **ebpf.Map { return &m.Prefixes4 }},
	{steerMapPrefixes6, func(m *steerMaps) **ebpf.Map { return &m.Prefixes6 }},
	{steerMapRecords, func(m *steerMaps) **ebpf.Map { return &m.Records }},
	{steerMapXsks, func(m *steerMaps) **ebpf.Map { return &m.Xsks }},
}

// Pin makes the program and its maps files in dir, a directory on a BPF file
// system that is made if there is none, so that they outlive the process. It is
// an error if one of the files exists; nothing new is left after an error. Sockets
// do not outlive their process: without them packets pass to the kernel.
func (s *Steering) Pin(dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("pin to %s: %w", dir, ErrClosed)
	}
	made, err := makeDir(dir)
	if err != nil {
		return fmt.Errorf("pin to %s: %w", dir, permission(err))
	}
	var done []string
	undo := func() {
		for _, path := range done {
			_ = os.Remove(path)
		}
		for _, path := range slices.Backward(made) {
			_ = os.Remove(path)
		}
	}
	pin := func(name string, object func(path string) error) error {
		path := filepath.Join(dir, name)
		if err := object(path); err != nil {
			err = pinError(path, err)
			undo()
			return err
		}
		done = append(done, path)
		return nil
	}
	// Clones are pinned, because the library remembers where an object is pinned
	// and would not notice that someone else removed the file.
	if err := pin(programPin, func(path string) error {
		clone, err := s.program.Clone()
		if err != nil {
			return err
		}
		return errors.Join(clone.Pin(path), clone.Close())
	}); err != nil {
		return err
	}
	for _, m := range pinnedMaps {
		if err := pin(m.name, func(path string) error {
			clone, err := (*m.in(&s.maps)).Clone()
			if err != nil {
				return err
			}
			return errors.Join(clone.Pin(path), clone.Close())
		}); err != nil {
			return err
		}
	}
	return nil
}

// makeDir makes dir and the directories above it that do not exist, for the owner
// alone, and returns those it made, outermost first.
func makeDir(dir string) ([]string, error) {
	dir = filepath.Clean(dir)
	if info, err := os.Stat(dir); err == nil {
		if !info.IsDir() {
			return nil, &fs.PathError{Op: "mkdir", Path: dir, Err: unix.ENOTDIR}
		}
		return nil, nil
	}
	var made []string
	if parent := filepath.Dir(dir); parent != dir {
		above, err := makeDir(parent)
		if err != nil {
			return nil, err
		}
		made = above
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		for _, path := range slices.Backward(made) {
			_ = os.Remove(path)
		}
		return nil, err
	}
	return append(made, dir), nil
}

func pinError(path string, err error) error {
	var stat unix.Statfs_t
	switch {
	case errors.Is(err, unix.EEXIST):
		return fmt.Errorf("pin %s: it exists: remove the earlier pins first: %w", path, err)
	case unix.Statfs(filepath.Dir(path), &stat) == nil && uint32(stat.Type) != unix.BPF_FS_MAGIC:
		return fmt.Errorf("pin %s: not on a BPF file system: mount one there, such as mount -t bpf bpf /sys/fs/bpf: %w", path, err)
	}
	return fmt.Errorf("pin %s: %w", path, permission(err))
}

// LoadPinned returns the Steering that Pin left in dir, with its policy and
// counters. Errors wrap ErrNotPinned when a file is missing, ErrIncompatible when
// another version pinned it; Unpin removes either.
func LoadPinned(dir string) (*Steering, error) {
	fail := func(err error) (*Steering, error) {
		return nil, fmt.Errorf("load pins of %s: %w", dir, permission(err))
	}
	spec, err := loadSteer()
	if err != nil {
		return fail(err)
	}
	s := &Steering{bank: bankSpec(spec), filter: spec.Programs[steerProgXdpipeFilter]}
	program, err := ebpf.LoadPinnedProgram(filepath.Join(dir, programPin), nil)
	if err != nil {
		return fail(missing(err, programPin))
	}
	s.program = program
	if err := s.loadPinnedMaps(dir, spec); err != nil {
		return fail(errors.Join(err, s.Close()))
	}
	if err := s.recall(); err != nil {
		return fail(errors.Join(err, s.Close()))
	}
	return s, nil
}

func (s *Steering) loadPinnedMaps(dir string, spec *ebpf.CollectionSpec) error {
	info, err := s.program.Info()
	if err != nil {
		return err
	}
	if info.Name != ProgramName || info.Type != ebpf.XDP {
		return fmt.Errorf("%s is the %s program %q, not %s: %w", programPin, info.Type, info.Name, ProgramName, ErrIncompatible)
	}
	for _, pinned := range pinnedMaps {
		m, err := ebpf.LoadPinnedMap(filepath.Join(dir, pinned.name), nil)
		if err != nil {
			return missing(err, pinned.name)
		}
		*pinned.in(&s.maps) = m
		want := spec.Maps[pinned.name].Copy()
		if pinned.name == steerMapXsks {
			want.MaxEntries = m.MaxEntries()
		}
		if err := want.Compatible(m); err != nil {
			return fmt.Errorf("map %s: %w: %w", pinned.name, ErrIncompatible, err)
		}
	}
	return nil
}

func missing(err error, name string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w: %w", name, ErrNotPinned, err)
	}
	return fmt.Errorf("%s: %w", name, err)
}

// Unpin removes the files that Pin made in dir, and dir if it is empty then. Files
// and a directory that do not exist are no error. A program that is attached stays
// attached.
func Unpin(dir string) error {
	names := []string{programPin}
	for _, m := range pinnedMaps {
		names = append(names, m.name)
	}
	var failed error
	for _, name := range names {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
	}
	if failed == nil {
		err := os.Remove(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EBUSY) {
			failed = err
		}
	}
	if failed != nil {
		return fmt.Errorf("unpin %s: %w", dir, permission(failed))
	}
	return nil
}
