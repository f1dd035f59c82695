// Package xdpipetest runs configurations on a lab, for tests of stages with real
// clients. It needs root; without it tests skip, see lab.ForTest.
//
//	func TestClientsPass(t *testing.T) {
//		line := xdpipetest.Line(t, lab.Topology{})
//		inst := xdpipetest.Start(t, line, xdpipetest.Load(t, "bridge.yaml"))
//		// programs in line.Client and line.Server now talk through the configuration
//	}
package xdpipetest

import (
	"context"
	"log/slog"
	"testing"

	"github.com/xdpipe/xdpipe"
	"github.com/xdpipe/xdpipe/lab"
	"github.com/xdpipe/xdpipe/pipeline"
)

// Line builds client ⇄ xdpipe ⇄ server, which is removed when the test ends.
func Line(t testing.TB, topology lab.Topology) *lab.Line {
	t.Helper()
	line, err := lab.ForTest(t).Line(topology)
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// Load reads a configuration file.
func Load(t testing.TB, file string) *pipeline.Config {
	t.Helper()
	cfg, err := pipeline.LoadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// Parse reads a configuration.
func Parse(t testing.TB, text string) *pipeline.Config {
	t.Helper()
	cfg, err := pipeline.ParseConfig("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// Start runs the configuration on the line's ports, lab.ClientPort and
// lab.ServerPort; which namespace the configuration says they are in does not
// matter. When the test ends it stops, and fails the test if it ended otherwise, or
// if a frame is missing.
func Start(t testing.TB, line *lab.Line, cfg *pipeline.Config) *xdpipe.Instance {
	t.Helper()
	In(line, cfg)
	inst, err := xdpipe.Open(cfg, xdpipe.Options{RunDir: t.TempDir(), BPFFS: t.TempDir(), Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- inst.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		if err := inst.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if a := inst.Account(); a.Free != a.Frames {
			t.Errorf("frames are missing: %v", a)
		}
	})
	return inst
}

// In puts all ports of a configuration into the namespace of the line's ports, as a
// configuration has to be that a running instance is to reload.
func In(line *lab.Line, cfg *pipeline.Config) {
	for i := range cfg.Ports {
		cfg.Ports[i].NetNS = line.Xdpipe.Namespace.Name()
	}
}

// Value returns a counter that the stages of a type report, added up.
func Value(inst *xdpipe.Instance, stage, name string) uint64 {
	var n uint64
	for _, s := range inst.Status().Stages {
		if s.Type == stage {
			n += s.Values[name]
		}
	}
	return n
}
