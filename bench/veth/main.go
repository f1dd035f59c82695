package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xdpipe/xdpipe/lab"
)

func main() {
	contenderMain()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// settings are the command line.
type settings struct {
	plan
	rounds     int
	contenders []contender
	loads      []load
	json       bool
	verbose    bool
}

func parseSettings(args []string) (settings, error) {
	var s settings
	var names, loads string
	var rate int
	flags := flag.NewFlagSet("veth", flag.ExitOnError)
	flags.IntVar(&s.rounds, "rounds", 5, "how often each contender is measured under each load")
	flags.DurationVar(&s.window, "window", 2*time.Second, "how long each measurement lasts")
	flags.DurationVar(&s.warmup, "warmup", 300*time.Millisecond, "how long the load runs before it")
	flags.IntVar(&s.frame, "size", 64, "frame size in bytes, without the frame check sequence")
	flags.IntVar(&rate, "rate", 100_000, "frames per second of the load paced")
	flags.IntVar(&s.genCPU, "gen-cpu", 0, "CPU of the generator")
	flags.IntVar(&s.fwdCPU, "fwd-cpu", 1, "CPU of the forwarder")
	flags.StringVar(&loads, "loads", "overload,paced", "loads, of overload and paced")
	flags.StringVar(&names, "contenders", "", "contenders, the first being compared with the others; all if empty")
	flags.BoolVar(&s.json, "j", false, "print one JSON document in place of text")
	flags.BoolVar(&s.verbose, "v", false, "print each contender's own account to standard error")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: veth [flags]\n\ncontenders:")
		for _, c := range contenders {
			fmt.Fprintf(flags.Output(), "  %-12s %s\n", c.name, c.doc)
		}
		fmt.Fprintln(flags.Output(), "\nflags:")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q; see -help", flags.Arg(0))
	}
	s.contenders = contenders
	if names != "" {
		s.contenders = nil
		for name := range strings.SplitSeq(names, ",") {
			c, err := contenderNamed(name)
			if err != nil {
				return s, err
			}
			if slices.ContainsFunc(s.contenders, func(other contender) bool { return other.name == name }) {
				return s, fmt.Errorf("contender %s is named twice", name)
			}
			s.contenders = append(s.contenders, c)
		}
	}
	for name := range strings.SplitSeq(loads, ",") {
		switch name {
		case "overload":
			s.loads = append(s.loads, load{name: name})
		case "paced":
			s.loads = append(s.loads, load{name: name, rate: rate})
		default:
			return s, fmt.Errorf("no load %q; there are overload and paced", name)
		}
	}
	return s, s.validate(rate)
}

func (s settings) validate(rate int) error {
	switch {
	case s.rounds < 1:
		return fmt.Errorf("-rounds %d: want at least 1", s.rounds)
	case s.window <= 0 || s.warmup < 0:
		return errors.New("-window must be positive, and -warmup not negative")
	case s.frame < minFrame || s.frame > maxFrame:
		return fmt.Errorf("-size %d: want %d to %d bytes", s.frame, minFrame, maxFrame)
	case rate < 1 || rate > 1e7:
		return fmt.Errorf("-rate %d: want 1 to 10000000 frames per second", rate)
	case s.genCPU == s.fwdCPU:
		return fmt.Errorf("generator and forwarder are both on CPU %d; each needs one of its own", s.genCPU)
	}
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return fmt.Errorf("sched_getaffinity: %w", err)
	}
	for _, cpu := range []int{s.genCPU, s.fwdCPU} {
		// After the second start the process is on the generator's CPU.
		if !set.IsSet(cpu) && os.Getenv(pinnedEnv) == "" {
			return fmt.Errorf("CPU %d is not among the %d this process may use; choose with -gen-cpu and -fwd-cpu", cpu, set.Count())
		}
	}
	return nil
}

// turns returns the contenders in the order of a round: every second round is the
// one before it backwards, and the next pair begins with another, so that nobody
// always follows the same one.
func (s settings) turns(round int) []contender {
	n := round / 2 % len(s.contenders)
	order := slices.Concat(s.contenders[n:], s.contenders[:n])
	if round%2 == 1 {
		slices.Reverse(order)
	}
	return order
}

func run(ctx context.Context) (err error) {
	s, err := parseSettings(os.Args[1:])
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("needs root to make network namespaces and attach XDP programs")
	}
	// With everything else of this process beside the generator, the forwarder's
	// CPU is its own.
	if err := pinProcess(s.genCPU); err != nil {
		return err
	}
	os.Unsetenv(pinnedEnv) // the children's is theirs
	// One CPU, but what waits for the kernel and what spins must not wait for
	// each other as well.
	runtime.GOMAXPROCS(max(4, runtime.GOMAXPROCS(0)))
	s.softirqs = softirqThread(s.fwdCPU)

	l, err := lab.New(lab.Options{Prefix: "xdpbench"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	b, err := newBed(l)
	if err != nil {
		return err
	}
	out := newReporter(os.Stdout, s)
	out.begin()
	for _, l := range s.loads {
		for round := range s.rounds {
			for _, c := range s.turns(round) {
				m, err := b.measure(ctx, s.plan, c, l)
				if err != nil {
					return err
				}
				m.round = round + 1
				out.add(m)
				if s.verbose {
					fmt.Fprintf(os.Stderr, "%s: %s\n", c.name, m.account)
				}
			}
		}
	}
	return out.end()
}
