package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

const (
	claimsDir   = "claims"
	claimSuffix = ".claim"
)

// claimData is what a claim file says about its owner.
type claimData struct {
	Instance string `json:"instance"`
	PID      int    `json:"pid"`
	Command  string `json:"command"`
}

// QueueClaim is the right, among xdpipe instances, to bind to one queue of one
// interface. It ends with Close or with the process.
type QueueClaim struct {
	once sync.Once
	file *os.File
	path string
	err  error
}

// HeldError says that another live instance has the queue.
type HeldError struct {
	Interface string
	Queue     int
	Instance  string // "" if its claim could not be read
	PID       int    // likewise 0
	Command   string
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("queue %d of %s is held by xdpipe instance %s (pid %d: %s); stop it, or use another queue with --queues", e.Queue, e.Interface, e.Instance, e.PID, e.Command)
}

// Claim claims a queue for an instance, in the run directory dir ("" is
// [DefaultRunDir]). It is a *[HeldError] if a live process has it.
func Claim(dir, instance string, l *Link, queue int) (*QueueClaim, error) {
	if err := checkInstance(instance); err != nil {
		return nil, err
	}
	dir, err := makeRunDir(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dir, claimsDir), 0o700); err != nil {
		return nil, fmt.Errorf("claim queue %d of %v: %w", queue, l, err)
	}
	path := claimPath(dir, l, queue)
	file, err := lockOwn(path)
	if errors.Is(err, errLocked) {
		held := &HeldError{Interface: l.String(), Queue: queue}
		if owner, ok := readClaim(path); ok {
			held.Instance, held.PID, held.Command = owner.Instance, owner.PID, owner.Command
		}
		return nil, held
	}
	if err != nil {
		return nil, fmt.Errorf("claim queue %d of %v: %w", queue, l, err)
	}
	raw, err := json.Marshal(claimData{Instance: instance, PID: os.Getpid(), Command: strings.Join(os.Args, " ")})
	if err == nil {
		err = file.Truncate(0)
	}
	if err == nil {
		_, err = file.Write(raw)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("claim queue %d of %v: %w", queue, l, err), removeIfThere(path), file.Close())
	}
	return &QueueClaim{file: file, path: path}, nil
}

// Close gives the queue free. It may be called again.
func (c *QueueClaim) Close() error {
	c.once.Do(func() {
		c.err = errors.Join(removeIfThere(c.path), c.file.Close()) // removed while locked
	})
	return c.err
}

// claimPath names the file. Interfaces of different namespaces may have equal
// names and indexes, hence the cookie.
func claimPath(dir string, l *Link, queue int) string {
	return filepath.Join(dir, claimsDir, fmt.Sprintf("%d-%d-%d%s", l.Namespace.Cookie(), l.Index, queue, claimSuffix))
}

func readClaim(path string) (claimData, bool) {
	var owner claimData
	raw, err := os.ReadFile(path)
	return owner, err == nil && json.Unmarshal(raw, &owner) == nil
}

// sweepClaims removes the files of dead owners. They hold nothing; they only
// add up.
func sweepClaims(dir string) error {
	paths, err := filepath.Glob(filepath.Join(dir, claimsDir, "*"+claimSuffix))
	var errs []error
	for _, path := range paths {
		file, err := lockFile(path, false)
		if errors.Is(err, errLocked) || errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, removeIfThere(path), file.Close())
	}
	return errors.Join(append(errs, err)...)
}
