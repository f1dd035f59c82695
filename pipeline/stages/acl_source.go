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

// An aclSource is the rules that the instances of an acl stage share, and who looks
// whether their file changes. A reload of the configuration makes another, and so
// reads the file again.
type aclSource struct {
	file      string // "": only inline rules
	inline    []acl.Rule
	opts      acl.Options
	direction acl.Direction
	log       *slog.Logger

	latest          atomic.Pointer[aclRules]
	reloads, failed atomic.Uint64

	// Of the file; the goroutine's that watches.
	text    []byte    // as it was last read, good or bad
	stamp   fileStamp // when it was
	fresh   bool      // it had just been changed then: the stamp may miss another change
	seen    fileStamp // at the last look
	problem string    // the last one that was logged

	stop chan struct{}
	done sync.WaitGroup
}

// newACLSource makes a source of the inline rules, and of those of the file, if it is
// named.
func newACLSource(file string, inline []acl.Rule, opts acl.Options, d acl.Direction, log *slog.Logger) (*aclSource, error) {
	s := &aclSource{file: file, inline: inline, opts: opts, direction: d, log: log}
	rules := inline
	if file != "" {
		text, stamp, err := readRules(file)
		if err != nil {
			return nil, err
		}
		if rules, err = s.parse(text); err != nil {
			return nil, err
		}
		s.remember(text, stamp)
	}
	s.replace(rules)
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

// replace puts other rules in force. Workers find them before their next batch.
func (s *aclSource) replace(rules []acl.Rule) {
	s.latest.Store(newACLRules(rules, len(s.inline), s.direction))
}

// start begins to watch the file, until Close.
func (s *aclSource) start() {
	s.stop = make(chan struct{})
	s.done.Go(s.watch)
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
	stamp, err := fileStampOf(s.file)
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

func fileStampOf(file string) (fileStamp, error) {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return fileStamp{}, &os.PathError{Op: "stat", Path: file, Err: err}
	}
	return fileStamp{uint64(st.Dev), st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()}, nil
}

// readRules reads the file as it is with the stamp.
func readRules(file string) ([]byte, fileStamp, error) {
	for range 3 {
		before, err := fileStampOf(file)
		if err != nil {
			return nil, before, err
		}
		text, err := readRegular(file)
		if err != nil {
			return nil, before, err
		}
		if after, err := fileStampOf(file); err != nil || before == after {
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
