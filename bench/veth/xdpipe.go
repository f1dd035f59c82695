package main

import (
	"context"
	"errors"

	"github.com/xdpipe/xdpipe/bpf"
	"github.com/xdpipe/xdpipe/control"
	"github.com/xdpipe/xdpipe/pipeline"
	_ "github.com/xdpipe/xdpipe/pipeline/stages"
	"github.com/xdpipe/xdpipe/umem"
	"github.com/xdpipe/xdpipe/xsk"
)

// pipelineText is what xdpipe runs: a pipeline that looks into every packet, as
// one that does something would.
const pipelineText = "parse ! macswap ! count"

// runXdpipe is the engine with every option at its default.
func runXdpipe(iface string, ready func(attachment)) (any, error) {
	return forward(iface, pipeline.WorkersConfig{}, ready)
}

// runXdpipeSleep is the engine with a worker that waits as asavie does, in poll.
func runXdpipeSleep(iface string, ready func(attachment)) (any, error) {
	return forward(iface, pipeline.WorkersConfig{Idle: pipeline.IdleSleep}, ready)
}

// forward forwards with the whole engine.
func forward(iface string, workers pipeline.WorkersConfig, ready func(attachment)) (account any, err error) {
	done := stopped()
	link, err := control.LinkByName(nil, iface)
	if err != nil {
		return nil, err
	}
	mem, err := umem.New(umem.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, mem.Close()) }()
	steering, err := bpf.Load(bpf.Options{Queues: 1})
	if err != nil {
		return nil, err
	}
	defer steering.Close()
	if err := steering.SetPolicy(bpf.Policy{All: true}); err != nil {
		return nil, err
	}
	attached, err := control.Attach(link, steering.Program(), control.AttachOptions{})
	if err != nil {
		return nil, err
	}
	defer attached.Detach()
	if attached.Mode() != control.ModeNative {
		return nil, errNotNative
	}
	sock, err := xsk.Open(mem, link.Index, 0, xsk.Options{Interface: iface})
	if err != nil {
		return nil, err
	}
	stages, err := pipeline.ParseQuick("bench", pipelineText)
	if err != nil {
		return nil, errors.Join(err, sock.Close())
	}
	engine, err := pipeline.New(pipeline.Options{
		Memory:    mem,
		Ports:     []pipeline.Port{{Name: "port", Queues: []pipeline.Queue{pipeline.NewXSK(sock, iface, string(attached.Mode()))}}},
		Pipelines: []pipeline.Pipeline{{Name: "swap", From: "port", Stages: stages, To: "port"}},
		Workers:   workers,
	})
	if err != nil {
		return nil, err
	}
	if err := steering.Register(0, sock.FD()); err != nil {
		return nil, errors.Join(err, engine.Close())
	}
	ready(attachment{Mode: string(attached.Mode())})

	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-done
		cancel()
	}()
	err = engine.Run(ctx)
	snapshot := engine.Snapshot()
	return snapshot, errors.Join(err, attached.Detach(), engine.Close())
}
