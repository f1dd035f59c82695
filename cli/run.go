package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/xdpipe/xdpipe"
	"github.com/xdpipe/xdpipe/control"
	"github.com/xdpipe/xdpipe/pipeline"
)

// runFlags are the flags of run, which stand for a configuration file.
type runFlags struct {
	interfaces []string
	netns      string
	name       string
	steer      steerFlags
	mode       string
	zeroCopy   string
	queues     string
	busyPoll   bool
	workers    int
	pages      string
	reserve    bool
	replace    bool
	insist     bool
	duration   time.Duration
	readyFile  string
	metrics    string
}

func (a *app) runVerb() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run CONFIG.yaml | run -i A[,B] (--all | --rule RULE… | --filter EXPR) 'STAGE ! STAGE …'",
		Short: "run a pipeline until stopped",
		Long: `run forwards packets until SIGINT or SIGTERM, and then puts the machine back as
it was. With one interface what leaves the pipeline goes back out of it; with
two, to the other one. It prints ready on standard error once traffic flows,
and as its last line the account of packets and frames.

A rule takes packets by key=value pairs, all of which must match: ethertype,
protocol, src, dst, src_port, dst_port, port, vlan, action (redirect, pass,
drop). Rules are tried in order; what none matches stays with the kernel, unless
the filter takes it: an expression of the pcap-filter language, as tcpdump has
it.`,
		Example: `  xdpipe run bridge.yaml
  xdpipe run -i veth-a,veth-b --all 'parse ! count'
  xdpipe run -i eth1 --rule protocol=udp,dst_port=53 'pcap file=dns.pcapng ! drop'
  xdpipe run -i eth1 --filter 'udp port 53 and not host 10.0.0.1' 'count ! drop'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd.Flags(), args); err != nil {
				return err
			}
			cfg, err := f.config(args)
			if err != nil {
				return err
			}
			reread, err := f.rereader(args)
			if err != nil {
				return err
			}
			return a.forward(cmd.Context(), cfg, reread, f)
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVarP(&f.interfaces, "interface", "i", nil, "interface, or two")
	flags.StringVar(&f.netns, "netns", "", "network namespace of the interfaces, by name or path")
	flags.StringVar(&f.name, "name", "", "name of the instance (default the file's, or xdpipe)")
	f.steer.register(flags)
	flags.StringVar(&f.mode, "mode", "auto", "XDP mode: native, generic, auto")
	flags.StringVar(&f.zeroCopy, "zerocopy", "prefer", "zero-copy: require, prefer, never")
	flags.StringVar(&f.queues, "queues", "all", "queues: all, or numbers such as 0,1")
	flags.BoolVar(&f.busyPoll, "busy-poll", false, "prefer busy polling")
	flags.IntVar(&f.workers, "workers", 1, "worker threads, each with its own queues")
	flags.StringVar(&f.pages, "pages", "auto", "pages of the memory: auto, 1g, 2m, thp, 4k")
	flags.BoolVar(&f.reserve, "reserve-hugepages", false, "reserve missing 2 MiB pages while running")
	flags.BoolVar(&f.replace, "replace", false, "replace another XDP program on the interface; it is not put back")
	flags.BoolVar(&f.insist, "insist", false, "take the default route's interface though the rules are not selective")
	flags.DurationVar(&f.duration, "duration", 0, "stop by itself after this time")
	flags.StringVar(&f.metrics, "metrics", "", "answer Prometheus at this HOST:PORT, such as 127.0.0.1:9100, or path of a unix socket")
	flags.StringVar(&f.readyFile, "ready-file", "", "create this file once traffic flows")
	return cmd
}

// check refuses flags that would have no effect beside a configuration file.
func (f *runFlags) check(flags *pflag.FlagSet, args []string) error {
	if len(f.interfaces) > 0 || len(args) != 1 {
		return nil
	}
	var err error
	flags.Visit(func(flag *pflag.Flag) {
		switch flag.Name {
		case "netns", "all", "rule", "filter", "mode", "zerocopy", "queues", "busy-poll", "replace", "insist":
			err = usagef("run: --%s is for -i; in a configuration file the port says so (see docs/configuration.md)", flag.Name)
		case "workers", "pages":
			err = usagef("run: --%s is for -i; in a configuration file write it under workers or memory", flag.Name)
		}
	})
	return err
}

// config reads the file, or makes of the flags what a file would say.
func (f *runFlags) config(args []string) (*pipeline.Config, error) {
	var cfg *pipeline.Config
	var err error
	switch {
	case len(args) > 1:
		return nil, usagef("run: unexpected argument %q; the stages are one argument, in quotes", args[1])
	case len(f.interfaces) == 0 && len(args) == 1:
		cfg, err = pipeline.LoadConfig(args[0])
	case len(f.interfaces) == 0:
		return nil, usagef("run: want a configuration file, or interfaces with -i")
	default:
		cfg, err = f.quick(args)
	}
	if err != nil {
		return nil, err
	}
	if f.name != "" {
		cfg.Name = f.name
	}
	if f.reserve {
		cfg.Memory.Reserve = true
	}
	return cfg, nil
}

// quick is the configuration that the flags stand for.
func (f *runFlags) quick(args []string) (*pipeline.Config, error) {
	if len(f.interfaces) > 2 {
		return nil, usagef("run: -i takes one interface or two; a configuration file takes more")
	}
	if err := f.steer.check("run"); err != nil {
		return nil, err
	}
	cfg := &pipeline.Config{Workers: pipeline.WorkersConfig{Count: f.workers}}
	if f.workers < 1 {
		return nil, usagef("run: --workers %d: want 1 or more", f.workers)
	}
	if err := cfg.Memory.Pages.UnmarshalText([]byte(f.pages)); err != nil {
		return nil, usagef("run: --pages: %v", err)
	}
	port := pipeline.PortConfig{
		NetNS: f.netns, Mode: f.mode, BusyPoll: f.busyPoll, Replace: f.replace, Insist: f.insist,
		Steer: pipeline.SteerConfig{All: f.steer.all, Filter: pipeline.SteerFilter{Text: f.steer.filter()}},
	}
	if !slices.Contains([]string{"native", "generic", "auto"}, f.mode) {
		return nil, usagef("run: --mode %q: want native, generic or auto", f.mode)
	}
	if err := port.ZeroCopy.UnmarshalText([]byte(f.zeroCopy)); err != nil {
		return nil, usagef("run: --zerocopy: %v", err)
	}
	for _, r := range f.steer.rules {
		port.Steer.Rules = append(port.Steer.Rules, pipeline.SteerRule{Text: r})
	}
	if f.queues != "all" {
		for _, q := range strings.Split(f.queues, ",") {
			n, err := strconv.Atoi(q)
			if err != nil || n < 0 || slices.Contains(port.Queues.List, n) {
				return nil, usagef("run: --queues %q: want all, or different numbers such as 0,1", f.queues)
			}
			port.Queues.List = append(port.Queues.List, n)
		}
	}
	stages := ""
	if len(args) == 1 {
		stages = args[0]
	}
	specs, err := pipeline.ParseQuick("pipeline", stages)
	if err != nil {
		return nil, err
	}
	for _, name := range f.interfaces {
		port.Name, port.Interface = name, name
		cfg.Ports = append(cfg.Ports, port)
	}
	last := len(f.interfaces) - 1
	for i, name := range f.interfaces {
		to := f.interfaces[last-i] // of one interface, itself
		cfg.Pipelines = append(cfg.Pipelines, pipeline.QuickPipeline(specs, name, to))
	}
	return cfg, cfg.Check("pipeline")
}

// forward runs the configuration until ctx is done. reread reads it again, if it can
// be.
func (a *app) forward(ctx context.Context, cfg *pipeline.Config, reread func() (*pipeline.Config, error), f runFlags) (err error) {
	hup, ignore := hangups() // from now on; one that comes early waits until all is ready
	defer ignore()
	if f.readyFile != "" {
		// One that a killed run left would say ready too early.
		if err := removeReady(f.readyFile); err != nil {
			return fmt.Errorf("ready file: %w", err)
		}
	}
	inst, err := xdpipe.Open(cfg, xdpipe.Options{RunDir: a.runDir, BPFFS: a.bpffs, Metrics: f.metrics, Config: reread})
	if errors.Is(err, xdpipe.ErrMetricsAddress) {
		return usageError{fmt.Errorf("run: --metrics: %w", err)}
	}
	if err != nil {
		return explainHolders(err)
	}
	defer func() {
		err = errors.Join(err, inst.Close())
		// The account is the last line, also after an error.
		if err != nil {
			fmt.Fprintf(a.err, "xdpipe: %v\n", err)
			err = errReported
		}
		fmt.Fprintln(a.err, inst.Account())
	}()
	if f.readyFile != "" {
		if err := os.WriteFile(f.readyFile, nil, 0o644); err != nil {
			return fmt.Errorf("ready file: %w", err)
		}
		defer func() { err = errors.Join(err, removeReady(f.readyFile)) }()
	}
	defer reloadOnHangup(inst, hup)()
	fmt.Fprintln(a.err, "ready")
	if f.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.duration)
		defer cancel()
	}
	return inst.Run(ctx)
}

// removeReady removes the ready file if it is there. A device or pipe that was
// given for one is not ours to remove.
func removeReady(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return nil
	}
	if err == nil {
		err = os.Remove(path)
	}
	return err
}

// explainHolders adds what to do to an error whose cause is another instance.
func explainHolders(err error) error {
	var busy *control.InstanceBusyError
	if errors.As(err, &busy) {
		return fmt.Errorf("%w; see it with: xdpipe status", err)
	}
	return err
}
