package cli

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/xdpipe/xdpipe"
	"github.com/xdpipe/xdpipe/pipeline"
)

func (a *app) reload() *cobra.Command {
	return &cobra.Command{
		Use:   "reload [INSTANCE]",
		Short: "let a running instance read its configuration file again",
		Long: `reload makes an instance read the file again that it was started with, and replaces its
pipelines and what its ports steer, between two batches and without losing a packet. If
anything is wrong with the file, it is printed as FILE:LINE:COLUMN: message and nothing
changes. SIGHUP to the instance does the same and leaves the outcome in its log.

Counters go on. Memory, workers, and what else there is of the ports need a new start.`,
		Args: atMostOne("INSTANCE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := ""
			if len(args) == 1 {
				name = args[0]
			}
			r, err := xdpipe.Reload(cmd.Context(), a.runDir, name)
			if err != nil {
				return a.mistakes(err)
			}
			if a.json {
				return a.printJSON(map[string]any{"ok": true, "reloaded": r})
			}
			fmt.Fprintf(a.out, "instance %s reloaded\n", r.Name)
			for _, p := range r.Pipelines {
				fmt.Fprint(a.out, p.Graph)
			}
			return nil
		},
	}
}

// rereader returns what reads the configuration file again, or nil if there is
// none. The file is the same one wherever the process goes meanwhile.
func (f *runFlags) rereader(args []string) (func() (*pipeline.Config, error), error) {
	if len(f.interfaces) > 0 {
		return nil, nil
	}
	file, err := filepath.Abs(args[0])
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return func() (*pipeline.Config, error) { return f.config([]string{file}) }, nil
}

// reloadOnHangup reloads at each SIGHUP until stop is called, and logs what came of
// it.
func reloadOnHangup(inst *xdpipe.Instance, hangups chan os.Signal) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangups:
			}
			r, err := inst.ReloadConfig()
			if err != nil {
				for _, m := range xdpipe.Mistakes(err) {
					slog.Error("SIGHUP: not reloaded", "error", m.String())
				}
				continue
			}
			slog.Info("SIGHUP: reloaded", "instance", r.Name, "pipelines", len(r.Pipelines))
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// hangups catches SIGHUP, which from then on does not end the process.
func hangups() (ch chan os.Signal, stop func()) {
	ch = make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGHUP)
	return ch, func() { signal.Stop(ch) }
}
