package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit statuses of the command-line contract.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// Main carries out the command line of the process and exits with its status.
func Main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// app is what all verbs share.
type app struct {
	json    bool
	verbose bool
	runDir  string
	bpffs   string
	out     io.Writer
	err     io.Writer
}

// A usageError makes the exit status 2.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errReported ends with status 1 without another message.
var errReported = errors.New("reported")

// run carries out one command line and returns the exit status.
func run(args []string, out, errOut io.Writer) int {
	// A clean stop on the first signal; the second one kills.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		stop()
	}()
	a := &app{out: out, err: errOut}
	root := a.root()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	var usage usageError
	var status exitStatus
	switch {
	case errors.As(err, &status):
		return int(status)
	case err == nil:
		return exitDone
	case errors.Is(err, errReported):
		return exitFailed
	case errors.As(err, &usage):
		fmt.Fprintf(errOut, "xdpipe: %v\nTry 'xdpipe help' or 'xdpipe VERB --help'.\n", err)
		return exitUsage
	}
	fmt.Fprintf(errOut, "xdpipe: %v\n", err)
	return exitFailed
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "xdpipe",
		Short:         "packet pipelines in Go on AF_XDP sockets",
		Long:          "xdpipe redirects chosen packets from an interface into AF_XDP sockets on one shared memory\nand runs them through stages written in Go, by descriptor and without copying.",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		CompletionOptions: cobra.CompletionOptions{
			HiddenDefaultCmd: true,
		},
		PersistentPreRun: func(*cobra.Command, []string) {
			level := slog.LevelInfo
			if a.verbose {
				level = slog.LevelDebug
			}
			slog.SetDefault(slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: level})))
		},
	}
	flags := root.PersistentFlags()
	flags.BoolVarP(&a.json, "json", "j", false, "print JSON")
	flags.BoolVarP(&a.verbose, "verbose", "v", false, "log more")
	flags.StringVar(&a.runDir, "run-dir", "", "directory for journals, claims and sockets (default /run/xdpipe)")
	flags.StringVar(&a.bpffs, "bpffs", "", "mount point of the BPF file system (default /sys/fs/bpf)")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(a.demo(), a.runVerb(), a.check(), a.attach(), a.detach(), a.status(), a.top(), a.trace(), a.reload(), a.features(), a.lab(), a.stages(), a.newVerb(), a.build(), a.version())
	return root
}

// noArgs refuses arguments as wrong usage.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s: unexpected argument %q", cmd.CommandPath(), args[0])
	}
	return nil
}

// exactArgs wants the named arguments.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return usagef("%s: %s is missing", cmd.CommandPath(), names[len(args)])
		}
		if len(args) > len(names) {
			return usagef("%s: unexpected argument %q", cmd.CommandPath(), args[len(names)])
		}
		return nil
	}
}

// printJSON prints one document on a line.
func (a *app) printJSON(v any) error {
	return json.NewEncoder(a.out).Encode(v)
}
