package bpf

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLoadRefusesQueuesOutOfRange(t *testing.T) {
	for _, queues := range []int{-1, MaxQueues + 1} {
		if s, err := Load(Options{Queues: queues}); err == nil || !strings.Contains(err.Error(), "queues is out of range") {
			t.Errorf("Load with %d queues: %v, %v", queues, s, err)
		}
	}
}

func TestLoadTakesAUsefulDefault(t *testing.T) {
	needRoot(t)
	noLeaks(t)
	s, err := Load(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Queues() != DefaultQueues {
		t.Errorf("%d queues, want %d", s.Queues(), DefaultQueues)
	}
	info, err := s.Program().Info()
	if err != nil {
		t.Fatal(err)
	}
	if info.Name != ProgramName {
		t.Errorf("the kernel knows the program as %q, want %q", info.Name, ProgramName)
	}
}

func TestSocketsThatCannotBeRegistered(t *testing.T) {
	s := load(t)
	other, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(other)
	file, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	tests := []struct {
		name  string
		queue int
		fd    int
		want  error
	}{
		{"a queue below 0", -1, socket(t), ErrNoSuchQueue},
		{"a queue past the last", 4, socket(t), ErrNoSuchQueue},
		{"another kind of socket", 0, other, ErrNotSocket},
		{"a file", 0, int(file.Fd()), ErrNotSocket},
		{"a descriptor that is not open", 0, 1 << 20, ErrNotSocket},
		{"a negative descriptor", 0, -1, ErrNotSocket},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if err := s.Register(test.queue, test.fd); !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
		})
	}
	if err := s.Unregister(4); !errors.Is(err, ErrNoSuchQueue) {
		t.Errorf("unregister queue 4: %v, want %v", err, ErrNoSuchQueue)
	}
	if err := s.Unregister(3); err != nil {
		t.Errorf("unregister a queue without socket: %v", err)
	}
}

func TestAClosedSteeringSaysSo(t *testing.T) {
	s := load(t)
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, countersErr := s.Counters()
	for name, err := range map[string]error{
		"SetPolicy":  s.SetPolicy(Policy{}),
		"Register":   s.Register(0, 0),
		"Unregister": s.Unregister(0),
		"Counters":   countersErr,
		"Pin":        s.Pin("/nowhere"),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v, want %v", name, err, ErrClosed)
		}
	}
}

func TestLoadWithoutCapabilitiesNamesThem(t *testing.T) {
	needRoot(t)
	for name, has := range map[string][]int{
		"none":            nil,
		"all but PERFMON": {unix.CAP_BPF, unix.CAP_NET_ADMIN},
	} {
		t.Run(name, func(t *testing.T) { loadWith(t, has) })
	}
}

// loadWith loads with only those capabilities, which are not enough.
func loadWith(t *testing.T, has []int) {
	noLeaks(t)
	done := make(chan error)
	go func() {
		// The thread without capabilities ends with the goroutine: it is never
		// unlocked.
		runtime.LockOSThread()
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var some [2]unix.CapUserData
		for _, capability := range has {
			some[capability/32].Effective |= 1 << (capability % 32)
			some[capability/32].Permitted |= 1 << (capability % 32)
		}
		if err := unix.Capset(&header, &some[0]); err != nil {
			done <- err
			return
		}
		s, err := Load(Options{})
		if err == nil {
			err = errors.Join(errors.New("it loaded"), s.Close())
		}
		done <- err
	}()
	err := <-done
	if !errors.Is(err, ErrNotPermitted) {
		t.Fatalf("error %v, want %v", err, ErrNotPermitted)
	}
	for _, word := range []string{ProgramName, "CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not name %s", err, word)
		}
	}
}

func TestFiftySteeringsLeaveNothingOpen(t *testing.T) {
	needRoot(t)
	noLeaks(t)
	for range 50 {
		s, err := Load(Options{Queues: 64})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.SetPolicy(Policy{All: true}); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
