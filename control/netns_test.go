package control

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDoRunsInTheNamespaceAndLeavesNoThreadThere(t *testing.T) {
	ns := newNamespace(t)
	own, err := os.Readlink("/proc/self/ns/net")
	must(t, err)
	var inside string
	var tid int
	must(t, ns.Do(func() error {
		tid = unix.Gettid()
		inside, err = os.Readlink("/proc/thread-self/ns/net")
		return err
	}))
	if inside == own {
		t.Fatalf("Do ran in the process's own namespace %s", own)
	}
	if tid == os.Getpid() {
		t.Error("Do used the process's first thread, which is never discarded")
	}
	eventually(t, "the end of Do's thread", func() bool {
		threads, _ := os.ReadDir("/proc/self/task")
		for _, thread := range threads {
			if link, _ := os.Readlink("/proc/self/task/" + thread.Name() + "/ns/net"); link == inside {
				return false
			}
		}
		return true
	})
}

func TestDoNeverUsesTheFirstThreadEvenWhenManyRunAtOnce(t *testing.T) {
	ns := newNamespace(t)
	errs := make(chan error)
	for range 64 {
		go func() {
			errs <- ns.Do(func() error {
				if unix.Gettid() == os.Getpid() {
					return errors.New("on the first thread")
				}
				runtime.Gosched()
				return nil
			})
		}()
	}
	for range 64 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestDoPassesOnErrorsPanicsAndGoexit(t *testing.T) {
	ns := newNamespace(t)
	sentinel := errors.New("sentinel")
	if err := ns.Do(func() error { return sentinel }); !errors.Is(err, sentinel) {
		t.Errorf("error: got %v", err)
	}
	func() {
		defer func() {
			if v := recover(); v == nil || !strings.Contains(v.(string), "boom") || !strings.Contains(v.(string), "netns_test.go") {
				t.Errorf("panic: got %v, wanted boom with the stack in the namespace", v)
			}
		}()
		_ = ns.Do(func() error { panic("boom") })
		t.Error("a panic did not reach the caller")
	}()
	done := make(chan bool, 1)
	go func() {
		defer close(done)
		_ = ns.Do(func() error { runtime.Goexit(); return nil })
		done <- true
	}()
	if <-done {
		t.Error("Goexit in Do did not end the caller")
	}
}

func TestCookiesTellNamespacesApart(t *testing.T) {
	a, b := newNamespace(t), newNamespace(t)
	if a.Cookie() == b.Cookie() || a.Cookie() == 0 {
		t.Errorf("cookies %d and %d", a.Cookie(), b.Cookie())
	}
	again, err := OpenNamespace(a.Name())
	must(t, err)
	defer again.Close()
	if again.Cookie() != a.Cookie() {
		t.Errorf("opened again: cookie %d, was %d", again.Cookie(), a.Cookie())
	}
	must(t, a.Do(func() error {
		current, err := CurrentNamespace()
		if err != nil {
			return err
		}
		defer current.Close()
		if current.Cookie() != a.Cookie() || current.Name() != a.Name() {
			t.Errorf("inside Do the current namespace is %v", current)
		}
		return nil
	}))
}

func TestNamespaceNamesAreCheckedAndErrorsNameWhatExists(t *testing.T) {
	ns := newNamespace(t)
	for _, name := range []string{"..", "a/b", ".", strings.Repeat("x", 256)} {
		if _, err := CreateNamespace(name); err == nil {
			t.Errorf("created %q", name)
		}
	}
	if _, err := CreateNamespace(ns.Name()); !errors.Is(err, os.ErrExist) {
		t.Errorf("creating a taken name: %v", err)
	}
	_, err := OpenNamespace(testPrefix() + "none")
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("opening a missing name: %v", err)
	}
	mentions(t, err, testPrefix()+"none", "existing")
}

func TestLoopbackIsUpInACreatedNamespace(t *testing.T) {
	lo, err := LinkByName(newNamespace(t), "lo")
	must(t, err)
	if !lo.Up {
		t.Error("lo is down")
	}
}
