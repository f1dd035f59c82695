package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// A contender is a forwarder that is measured.
type contender struct {
	name string
	doc  string
	// run forwards on the interface, which is in the process's namespace, until
	// it is told to stop. It calls ready once frames may come.
	run func(iface string, ready func(attachment)) (any, error)
}

// An attachment is what a contender says of itself once it is set up.
type attachment struct {
	Mode string `json:"mode"` // of its XDP program, as the kernel granted it
}

// The contenders; the first is the one the others are compared with.
var contenders = []contender{
	{"xdpipe", "parse ! macswap ! count, all options at their defaults", runXdpipe},
	{"xdpipe-sleep", "xdpipe with workers that never spin (idle: sleep), as asavie's do not", runXdpipeSleep},
	{"asavie", "asavie/xdp, its one-interface example, all options at their defaults (64-entry rings)", asavieDefault},
	{"asavie-large", "asavie with rings of 2048 and 4096 frames", asavieLarge},
}

func contenderNamed(name string) (contender, error) {
	var known []string
	for _, c := range contenders {
		if c.name == name {
			return c, nil
		}
		known = append(known, c.name)
	}
	return contender{}, fmt.Errorf("no contender %q; there are %v", name, known)
}

// The environment of a contender's process. It is this program again, so that
// nothing needs to be built or found.
const (
	roleEnv   = "XDPIPE_BENCH_CONTENDER" // its name
	ifaceEnv  = "XDPIPE_BENCH_INTERFACE"
	cpuEnv    = "XDPIPE_BENCH_CPU"
	pinnedEnv = "XDPIPE_BENCH_PINNED" // set once the process is on its CPU
)

// A report is what a contender's process prints, one a line: the first when it
// is ready, the second when it was told to stop.
type report struct {
	Ready *attachment     `json:"ready,omitempty"`
	Final json.RawMessage `json:"final,omitempty"` // its own account, for -v
}

// contenderMain is the whole life of a contender's process, if this is one.
func contenderMain() {
	name := os.Getenv(roleEnv)
	if name == "" {
		return
	}
	if err := contend(name, os.Getenv(ifaceEnv)); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func contend(name, iface string) error {
	c, err := contenderNamed(name)
	if err != nil {
		return err
	}
	var cpu int
	if _, err := fmt.Sscan(os.Getenv(cpuEnv), &cpu); err != nil {
		return fmt.Errorf("%s: %w", cpuEnv, err)
	}
	if err := pinProcess(cpu); err != nil {
		return err
	}
	account, err := c.run(iface, func(a attachment) { json.NewEncoder(os.Stdout).Encode(report{Ready: &a}) })
	if err != nil {
		return err
	}
	return printFinal(account)
}

// printFinal prints a contender's own account.
func printFinal(account any) error {
	final, err := json.Marshal(account)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(report{Final: final})
}

// pinProcess puts all threads of this process on one CPU. Threads that the
// runtime has made already are out of reach: the program is executed anew from a
// thread that is where all shall be.
func pinProcess(cpu int) error {
	if os.Getenv(pinnedEnv) != "" {
		return nil
	}
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("pin to CPU %d: %w", cpu, err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return fmt.Errorf("execute %s again: %w", self, syscall.Exec(self, os.Args, append(os.Environ(), pinnedEnv+"=1")))
}

// stopped is closed when the process is told to stop: by a signal, or by the
// end of its standard input, which comes also when the parent is killed.
func stopped() <-chan struct{} {
	done := make(chan struct{})
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, unix.SIGTERM)
	input := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(input)
	}()
	go func() {
		select {
		case <-signals:
		case <-input:
		}
		close(done)
	}()
	return done
}

var errNotNative = errors.New("the program was not attached in native mode, which is what is compared here")
