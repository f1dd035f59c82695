package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/xdpipe/xdpipe/control"
)

// persistentDir holds one directory per lab that outlives its maker, apart from
// the others, since nobody alive holds its journal and yet it is wanted.
const persistentDir = "labs-up"

// ErrUp says that a lab of that name exists.
var ErrUp = errors.New("the lab is up already")

// ErrNotUp says that no lab of that name exists.
var ErrNotUp = errors.New("no such lab is up")

// Up builds a [Line] that stays when the process ends, until [Down]. Its
// namespaces are NAME-client, NAME-xdpipe and NAME-server. If anything fails,
// what was made is removed.
func Up(t Topology) (*Lab, *Line, error) {
	t.fill()
	dir, err := upDir(t.RunDir, t.Name)
	if err != nil {
		return nil, nil, err
	}
	// Of two at once, one makes the directory, and nobody removes the other's.
	if err := os.Mkdir(dir, 0o700); errors.Is(err, os.ErrExist) {
		return nil, nil, fmt.Errorf("lab %s: %w; remove it with: xdpipe lab down --name %s", t.Name, ErrUp, t.Name)
	} else if err != nil {
		return nil, nil, fmt.Errorf("lab %s: %w", t.Name, err)
	}
	l, err := newLab(t.Name, dir)
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	line, err := l.Line(t)
	if err == nil {
		err = l.keep()
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("lab %s: %w", t.Name, err), l.Close(), os.RemoveAll(dir))
	}
	return l, line, nil
}

// Load opens a lab that [Up] made, in this process or another, to run something
// in it. Closing it leaves it up.
func Load(runDir, name string) (*Lab, error) {
	dir, err := upDir(runDir, name)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("lab %s: %w; make it with: xdpipe lab up --name %s", name, ErrNotUp, name)
	}
	l := &Lab{id: name, dir: dir, spaces: map[string]*NS{}}
	for _, label := range []string{ClientNS, XdpipeNS, ServerNS} {
		ns, err := control.OpenNamespace(name + "-" + label)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("lab %s is incomplete: %w; remove it with: xdpipe lab down --name %s", name, err, name), l.Close())
		}
		l.spaces[label] = &NS{Namespace: ns, name: label, lab: l}
	}
	return l, nil
}

// Down removes a lab that [Up] made, also a half-made one.
func Down(runDir, name string) error {
	dir, err := upDir(runDir, name)
	if err != nil {
		return err
	}
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("lab %s: %w", name, ErrNotUp)
	}
	if _, err := control.RestoreStale(dir); err != nil {
		return fmt.Errorf("lab %s: %w", name, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.journal")); len(left) > 0 {
		return fmt.Errorf("lab %s is being built by another process; wait for it, or end it", name)
	}
	return os.RemoveAll(dir)
}

// Names lists the labs that are up.
func Names(runDir string) ([]string, error) {
	dir, err := subDir(runDir, persistentDir)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

func upDir(runDir, name string) (string, error) {
	if !prefixPattern.MatchString(name) {
		return "", fmt.Errorf("lab name %q: use 1 to 32 letters, digits, dashes and underscores, no dash or underscore first", name)
	}
	dir, err := subDir(runDir, persistentDir)
	return filepath.Join(dir, name), err
}
