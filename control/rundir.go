package control

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultRunDir is where running instances keep journals, claims and control
// sockets. It is on a tmpfs, so a reboot, which undoes every change, empties it.
const DefaultRunDir = "/run/xdpipe"

// makeRunDir makes dir, or DefaultRunDir if it is empty, with mode 0700. One
// that others may write to is refused: what is in it is done as root.
func makeRunDir(dir string) (string, error) {
	if dir == "" {
		dir = DefaultRunDir
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make run directory: %w; run as root, or choose one of your own with --run-dir", err)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return "", fmt.Errorf("run directory %s: %w", dir, err)
	}
	if uid := os.Geteuid(); int(st.Uid) != uid && uid != 0 {
		return "", fmt.Errorf("run directory %s belongs to uid %d, and this process runs as uid %d: run as that user (root as a rule), or choose one of your own with --run-dir", dir, st.Uid, uid)
	}
	if int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return "", fmt.Errorf("run directory %s belongs to uid %d with mode %04o: others may write to it; remove it or run: chown %d %s && chmod 0700 %s",
			dir, st.Uid, st.Mode&0o7777, os.Geteuid(), dir, dir)
	}
	return dir, nil
}

var instanceName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$`)

func checkInstance(name string) error {
	if !instanceName.MatchString(name) {
		return fmt.Errorf("instance name %q: use 1 to 64 letters, digits, dots, dashes and underscores, and no dot or dash first", name)
	}
	return nil
}

// errLocked says that another open file holds the lock.
var errLocked = errors.New("locked by a live process")

// lockFile opens or creates a file and locks it for as long as it is open: the
// lock goes with the process, however that ends, so that a lock that can be
// taken means a dead owner, whatever its pid is used for now. A file removed
// by its owner between our open and lock is not taken for the one at path.
func lockFile(path string, create bool) (*os.File, error) {
	flags := os.O_RDWR | unix.O_NOFOLLOW
	if create {
		flags |= os.O_CREATE
	}
	for {
		f, err := os.OpenFile(path, flags, 0o600)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, errLocked
			}
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if sameFile(f, path) {
			return f, nil
		}
		f.Close()
	}
}

// lockOwn is lockFile for a file to own. It tries again for a moment, since
// those who look whether an owner is dead hold the lock while they look.
func lockOwn(path string) (*os.File, error) {
	for try := 0; ; try++ {
		f, err := lockFile(path, true)
		if !errors.Is(err, errLocked) || try == 10 {
			return f, err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func sameFile(f *os.File, path string) bool {
	ours, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(path)
	return err == nil && os.SameFile(ours, there)
}

// lockRunDir makes the caller the only one of all instances that changes what
// they share; unlock ends that.
func lockRunDir(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock run directory: %w", err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock run directory %s: %w", dir, err)
	}
	return func() { f.Close() }, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
