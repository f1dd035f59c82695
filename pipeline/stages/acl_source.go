package stages

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xdpipe/xdpipe/internal/acl"
)

const (
	// aclPoll is how often a file of rules is looked at, and so how long it has to
	// stay as it is before it is read: half of it, while it is being written, could
	// lack what denies.
	aclPoll = time.Second
	// maxACLFile bounds what is read, in bytes.
	maxACLFile = 32 << 20
)

// An aclSource is the rules that the instances of acl stages share, and who looks
// whether their file changes.
type aclSource struct {
	file   string // "": only inline rules
	inline []acl.Rule
	opts   acl.Options
	log    *slog.Logger

	reloads, failed atomic.Uint64

	mu    sync.Mutex
	rules []acl.Rule // in force
	sets  map[acl.Direction]*atomic.Pointer[aclRules]

	// Of the file; the goroutine's that watches.
	text    []byte    // as it was last read, good or bad
	stamp   fileStamp // when it was
	fresh   bool      // it had just been changed then: the stamp may miss another change
	seen    fileStamp // at the last look
	problem string    // the last one that was logged

	stop chan struct{}
	done sync.WaitGroup
}

// newACLSource reads the file. The error, if any, says what is wrong with it.
func newACLSource(file string, inline []acl.Rule, opts acl.Options, watch bool, log *slog.Logger) (*aclSource, error) {
	s := &aclSource{file: file, inline: inline, opts: opts, log: log, rules: inline, sets: map[acl.Direction]*atomic.Pointer[aclRules]{}}
	if file == "" {
		return s, nil
	}
	text, stamp, err := readRules(file)
	if err != nil {
		return nil, err
	}
	if s.rules, err = s.parse(text); err != nil {
		return nil, err
	}
	s.remember(text, stamp)
	if watch {
		s.stop = make(chan struct{})
		s.done.Go(s.watch)
	}
	return s, nil
}

func (s *aclSource) parse(text []byte) ([]acl.Rule, error) {
	rules, err := acl.Parse(s.file, text, s.opts)
	if err != nil {
		return nil, err
	}
	if n := len(s.inline) + len(rules); n > acl.MaxRules {
		return nil, fmt.Errorf("%s: %d rules with those of the option rules; at most %d are possible", s.file, n, acl.MaxRules)
	}
	return slices.Concat(s.inline, rules), nil
}

// latest returns where the newest rules for packets of the direction are.
func (s *aclSource) latest(d acl.Direction) *atomic.Pointer[aclRules] {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.sets[d]
	if p == nil {
		p = &atomic.Pointer[aclRules]{}
		p.Store(newACLRules(s.rules, len(s.inline), d))
		s.sets[d] = p
	}
	return p
}

// replace puts other rules in force. Workers find them before their next batch.
func (s *aclSource) replace(rules []acl.Rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = rules
	for d, p := range s.sets {
		p.Store(newACLRules(rules, len(s.inline), d))
	}
}

func (s *aclSource) watch() {
	tick := time.NewTicker(aclPoll)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
			s.look()
		}
	}
}

// look reads the file if it was changed, and not since the last look.
func (s *aclSource) look() {
	stamp, err := stampOf(s.file)
	if err != nil {
		s.fail(err)
		return
	}
	settled := stamp == s.seen
	s.seen = stamp
	if !settled || stamp == s.stamp && !s.fresh {
		return
	}
	text, stamp, err := readRules(s.file)
	if err != nil {
		s.fail(err)
		return
	}
	if stamp != s.seen {
		s.seen = stamp // changed meanwhile; the next look is for that
		return
	}
	same := bytes.Equal(text, s.text)
	s.remember(text, stamp)
	if same && s.problem == "" {
		return
	}
	rules, err := s.parse(text)
	if err != nil {
		s.fail(err)
		return
	}
	s.problem = ""
	if same {
		return // it was gone and is back
	}
	s.replace(rules)
	s.reloads.Add(1)
	s.log.Info("access control list reloaded", "file", s.file, "rules", len(rules))
}

func (s *aclSource) remember(text []byte, stamp fileStamp) {
	s.text, s.stamp, s.seen = text, stamp, stamp
	s.fresh = time.Since(time.Unix(0, stamp.changed)) < 2*aclPoll
}

// fail counts and logs a problem, once.
func (s *aclSource) fail(err error) {
	if s.problem == err.Error() {
		return
	}
	s.problem = err.Error()
	s.failed.Add(1)
	s.log.Error("access control list not reloaded; the rules before it stay in force", "file", s.file, "error", err)
}

// Close ends the watch.
func (s *aclSource) Close() error {
	if s.stop != nil {
		close(s.stop)
		s.done.Wait()
	}
	return nil
}

// A fileStamp changes when a file does.
type fileStamp struct {
	device, inode     uint64
	size              int64
	modified, changed int64 // nanoseconds
}

func stampOf(file string) (fileStamp, error) {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return fileStamp{}, &os.PathError{Op: "stat", Path: file, Err: err}
	}
	return fileStamp{uint64(st.Dev), st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()}, nil
}

// readRules reads the file as it is with the stamp.
func readRules(file string) ([]byte, fileStamp, error) {
	for range 3 {
		before, err := stampOf(file)
		if err != nil {
			return nil, before, err
		}
		text, err := readRegular(file)
		if err != nil {
			return nil, before, err
		}
		if after, err := stampOf(file); err != nil || before == after {
			return text, after, err
		}
	}
	return nil, fileStamp{}, &os.PathError{Op: "read", Path: file, Err: errors.New("it changes while it is read; write another file and rename it")}
}

func readRegular(file string) ([]byte, error) {
	// Without O_NONBLOCK a pipe would wait for somebody to write to it.
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, cmp.Or(err, error(&os.PathError{Op: "read", Path: file, Err: errors.New("it is no regular file")}))
	}
	text, err := io.ReadAll(io.LimitReader(f, maxACLFile+1))
	if err == nil && len(text) > maxACLFile {
		err = &os.PathError{Op: "read", Path: file, Err: fmt.Errorf("it is longer than %d bytes", maxACLFile)}
	}
	return text, err
}
