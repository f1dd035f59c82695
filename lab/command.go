package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Cmd is an [exec.Cmd] whose program starts in a namespace. Set its fields
// before Start, as with exec.Cmd, but not SysProcAttr.Pdeathsig: the signal
// would come with the end of the thread that started it, which is at once.
type Cmd struct {
	*exec.Cmd
	// Sysfs gives the program a /sys of its own that shows the namespace's
	// interfaces, as `ip netns exec` does. Other mounts below /sys, such as the
	// bpf filesystem, are carried over.
	Sysfs bool

	ns   *NS
	wait sync.Once
	err  error
}

// Command prepares a program to run in the namespace. It is killed when ctx
// ends, and when the lab is closed.
func (n *NS) Command(ctx context.Context, name string, args ...string) *Cmd {
	c := &Cmd{Cmd: exec.CommandContext(ctx, name, args...), ns: n}
	// Grandchildren may hold its output open longer than it lives.
	c.WaitDelay = 5 * time.Second
	return c
}

// Start starts the program.
func (c *Cmd) Start() error {
	if c.SysProcAttr != nil && c.SysProcAttr.Pdeathsig != 0 {
		return errors.New("start in a namespace: Pdeathsig would kill the program at once; leave it out, closing the lab ends the program")
	}
	c.ns.lab.mu.Lock()
	defer c.ns.lab.mu.Unlock()
	if c.ns.lab.closed {
		return fmt.Errorf("start %s: lab %s is closed", c.Path, c.ns.lab.id)
	}
	// A child belongs to the namespaces of the thread that forks it.
	err := c.ns.Do(func() error {
		if c.Sysfs {
			if err := privateSysfs(); err != nil {
				return fmt.Errorf("mount /sys of %v: %w", c.ns.Namespace, err)
			}
		}
		return c.Cmd.Start()
	})
	if err == nil {
		c.ns.lab.commands = append(c.ns.lab.commands, c)
	}
	return err
}

// Wait waits for the program's end, and may be called more than once.
func (c *Cmd) Wait() error {
	c.wait.Do(func() { c.err = c.Cmd.Wait() })
	return c.err
}

// Run starts the program and waits for its end.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output runs the program and returns what it wrote to standard output.
func (c *Cmd) Output() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout = &out
	err := c.Run()
	return out.Bytes(), err
}

// CombinedOutput runs the program and returns what it wrote to both outputs.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.Bytes(), err
}

// stop kills the program if it runs, and takes its exit status.
func (c *Cmd) stop() {
	_ = c.Process.Kill()
	_ = c.Wait()
}

// privateSysfs gives the calling thread a mount namespace with a /sys of its
// network namespace. The thread is discarded after the fork, so nothing else
// sees it.
func privateSysfs() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "none", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	var kept []int
	defer func() {
		for _, fd := range kept {
			unix.Close(fd)
		}
	}()
	below := []string{"/sys/fs/bpf", "/sys/fs/cgroup", "/sys/kernel/debug", "/sys/kernel/tracing"}
	var carried []string
	for _, path := range below {
		var outer, inner unix.Stat_t
		if unix.Stat("/sys", &outer) != nil || unix.Stat(path, &inner) != nil || outer.Dev == inner.Dev {
			continue // not a mount
		}
		fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err != nil {
			continue
		}
		kept, carried = append(kept, fd), append(carried, path)
	}
	if err := unix.Unmount("/sys", unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmount: %w", err)
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return err
	}
	for i, path := range carried {
		if err := unix.MoveMount(kept[i], "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("carry over %s: %w", path, err)
		}
	}
	return nil
}
