package asavie_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/asavie/xdp"
	"github.com/vishvananda/netlink"

	"github.com/xdpipe/xdpipe/pipeline"
	"github.com/xdpipe/xdpipe/pipeline/asavie"
	_ "github.com/xdpipe/xdpipe/pipeline/stages" // parse, macswap, count, …
	"github.com/xdpipe/xdpipe/umem"
)

// A program that has a socket of the library runs stages on it: what arrives on
// veth-a goes back to its sender, until Ctrl-C.
func Example() {
	if err := reflect("veth-a"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func reflect(ifname string) error {
	// The socket and its program, as with the library alone.
	link, err := netlink.LinkByName(ifname)
	if err != nil {
		return err
	}
	program, err := xdp.NewProgram(1)
	if err != nil {
		return err
	}
	defer program.Close()
	if err := program.Attach(link.Attrs().Index); err != nil {
		return err
	}
	defer program.Detach(link.Attrs().Index)
	sock, err := xdp.NewSocket(link.Attrs().Index, 0, nil)
	if err != nil {
		return err
	}
	if err := program.Register(0, sock.FD()); err != nil {
		return err
	}

	// From here on the engine has it.
	mem, err := umem.New(umem.Options{Frames: 1024})
	if err != nil {
		return err
	}
	defer mem.Close()
	stages, err := pipeline.ParseQuick("stages", "parse ! macswap ! count")
	if err != nil {
		return err
	}
	engine, err := pipeline.New(pipeline.Options{
		Memory: mem,
		Ports: []pipeline.Port{{
			Name:   "port",
			Queues: []pipeline.Queue{asavie.New(sock, asavie.Options{Interface: ifname, Mode: "native"})},
		}},
		Pipelines: []pipeline.Pipeline{{Name: "reflect", From: "port", Stages: stages, To: "port"}},
	})
	if err != nil {
		return err
	}
	defer engine.Close()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	return engine.Run(ctx)
}
