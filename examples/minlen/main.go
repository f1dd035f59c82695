// Command minlen is xdpipe with one more stage: it runs a configuration that may
// use minlen beside the built-in stages.
//
//	go run ./examples/minlen CONFIG.yaml
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/xdpipe/xdpipe"
	"github.com/xdpipe/xdpipe/pipeline"
	_ "github.com/xdpipe/xdpipe/pipeline/stages"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: minlen CONFIG.yaml")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(file string) (err error) {
	cfg, err := pipeline.LoadConfig(file)
	if err != nil {
		return err
	}
	inst, err := xdpipe.Open(cfg, xdpipe.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, inst.Close()) }()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return inst.Run(ctx)
}
