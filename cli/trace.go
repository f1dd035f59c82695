package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/xdpipe/xdpipe"
	"github.com/xdpipe/xdpipe/filter"
	"github.com/xdpipe/xdpipe/pipeline"
)

func (a *app) trace() *cobra.Command {
	var q xdpipe.TraceQuery
	var instance, file string
	cmd := &cobra.Command{
		Use:   "trace [-n N] [EXPR]",
		Short: "follow packets through the stages of a running instance",
		Long: `trace prints the path of the next packets that arrive and match a pcap-filter
expression: each stage, the time since arrival, the verdict with its reason, and what the
stage changed. It ends after N packets, after --timeout, or with ctrl-C.

With -w it also writes the packets, as they arrived, to a pcapng file, each with its path
as its comment, which Wireshark and tshark show (frame.comment). -w - writes the file to
standard output, and no text.`,
		Example: `  xdpipe trace -n 3 'udp port 53'
  xdpipe trace -n 1000 --timeout 10s -w trace.pcapng
  xdpipe trace -w - tcp | tshark -r - -T fields -e frame.comment
  xdpipe trace -j -n 100 | jq -r '.path[] | select(.verdict == "drop") | .reason'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			q.Filter = strings.Join(args, " ") // as tcpdump does
			switch {
			case q.Packets < 1 || q.Packets > pipeline.MaxTraced:
				return usagef("trace: -n %d: want 1 to %d packets", q.Packets, pipeline.MaxTraced)
			case q.Timeout < 0:
				return usagef("trace: --timeout %v: want a time, or 0 for none", q.Timeout)
			case file == "-" && a.json:
				return usagef("trace: -j and -w - both want standard output")
			}
			if _, err := filter.Compile(q.Filter); err != nil {
				return usageError{fmt.Errorf("trace: %w", err)}
			}
			return a.follow(cmd.Context(), instance, q, file)
		},
	}
	flags := cmd.Flags()
	flags.IntVarP(&q.Packets, "count", "n", xdpipe.DefaultTraced, "end after so many packets")
	flags.StringVarP(&file, "write", "w", "", "also write the packets to this pcapng file, with their paths as comments")
	flags.StringVar(&instance, "instance", "", "name of the instance (default the only one)")
	flags.DurationVar(&q.Timeout, "timeout", 0, "end after this time")
	return cmd
}

// follow traces and prints.
func (a *app) follow(ctx context.Context, instance string, q xdpipe.TraceQuery, file string) (err error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var out *traceFile
	q.Started = func(name string) {
		// Not before: an instance that is not there is no reason to empty a file.
		if out, err = a.openTraceFile(file); err != nil {
			stop(err)
			return
		}
		fmt.Fprintf(a.err, "following %s of instance %s%s; ctrl-C ends it\n", packets(q.Packets), name, matching(q.Filter))
	}
	seen := 0
	e := xdpipe.Trace(ctx, a.runDir, instance, q, func(p pipeline.TracedPacket) error {
		seen++
		var err error
		switch {
		case a.json:
			err = a.printJSON(p)
		case file != "-":
			_, err = io.WriteString(a.out, xdpipe.TraceText(p))
		}
		return errors.Join(err, out.write(p))
	})
	if err = errors.Join(err, e, out.close()); err != nil {
		return err
	}
	if seen < q.Packets {
		fmt.Fprintf(a.err, "%d of %s\n", seen, packets(q.Packets))
	}
	return nil
}

func packets(n int) string {
	if n == 1 {
		return "1 packet"
	}
	return fmt.Sprintf("%d packets", n)
}

func matching(expr string) string {
	if expr == "" {
		return ""
	}
	return fmt.Sprintf(" that match %q", expr)
}

// A traceFile is where the packets are written, if anywhere: nil is nowhere.
type traceFile struct {
	*xdpipe.TraceWriter
	file *os.File // nil: not ours to close
}

func (a *app) openTraceFile(name string) (*traceFile, error) {
	switch name {
	case "":
		return nil, nil
	case "-":
		if f, ok := a.out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			return nil, usagef("trace: -w - writes a file, and standard output is a terminal: redirect it")
		}
		return &traceFile{TraceWriter: xdpipe.NewTraceWriter(a.out)}, nil
	}
	// Packets may hold anything that is private.
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	return &traceFile{xdpipe.NewTraceWriter(f), f}, nil
}

func (t *traceFile) write(p pipeline.TracedPacket) error {
	if t == nil {
		return nil
	}
	return t.Write(p)
}

func (t *traceFile) close() error {
	if t == nil {
		return nil
	}
	err := t.Close()
	if t.file != nil {
		err = errors.Join(err, t.file.Close())
	}
	return err
}
