package cli

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	_ "github.com/xdpipe/xdpipe/pipeline/stages"
)

const (
	// cliEnv makes the test binary the program under test, so that a test can
	// kill it, and so that its descriptors and threads are its own.
	cliEnv = "XDPIPE_TEST_AS_CLI"
	// dropEnv names capabilities, by number, that the program starts without.
	dropEnv = "XDPIPE_TEST_DROP_CAPABILITIES"
	// memlockEnv is its RLIMIT_MEMLOCK in bytes.
	memlockEnv = "XDPIPE_TEST_MEMLOCK"
)

// childLife bounds a child whose test was killed before it could end it.
const childLife = 3 * time.Minute

func TestMain(m *testing.M) {
	if os.Getenv(cliEnv) != "" {
		if err := confine(); err != nil {
			fmt.Fprintln(os.Stderr, "confine the child:", err)
			os.Exit(99)
		}
		time.AfterFunc(childLife, func() { os.Exit(98) })
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	// What a process starts once and keeps, such as the signal handler, is not
	// what a test left behind.
	run([]string{"version"}, discard{}, discard{})
	os.Exit(m.Run())
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// confine gives up what the environment says and starts the program anew: root
// has, after an exec, every capability of the bounding set and no other.
func confine() error {
	drop, limit := os.Getenv(dropEnv), os.Getenv(memlockEnv)
	if drop == "" && limit == "" {
		return nil
	}
	runtime.LockOSThread() // capabilities are a thread's; exec keeps those of the one that calls it
	if limit != "" {
		bytes, err := strconv.ParseUint(limit, 10, 64)
		if err != nil {
			return err
		}
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: bytes, Max: bytes}); err != nil {
			return err
		}
	}
	for _, number := range strings.FieldsFunc(drop, func(r rune) bool { return r == ',' }) {
		capability, err := strconv.Atoi(number)
		if err != nil {
			return err
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(capability), 0, 0, 0); err != nil {
			return err
		}
	}
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, dropEnv+"=") && !strings.HasPrefix(e, memlockEnv+"=") {
			env = append(env, e)
		}
	}
	return unix.Exec("/proc/self/exe", os.Args, env)
}
