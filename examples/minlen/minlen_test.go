package main

import (
	"context"
	"testing"
	"time"

	"github.com/xdpipe/xdpipe/pipeline"
	"github.com/xdpipe/xdpipe/umem"
	"github.com/xdpipe/xdpipe/xsk"
	"github.com/xdpipe/xdpipe/xsk/xsktest"
)

// A stage is tested without root and without an interface: the engine runs on a
// simulated socket.
func TestShortPacketsAreDroppedAndCounted(t *testing.T) {
	mem, err := umem.New(umem.Options{Frames: 1024})
	if err != nil {
		t.Fatal(err)
	}
	sock, kernel, err := xsktest.New(mem, xsk.Options{RxSize: 64, TxSize: 64, FillSize: 64, CompletionSize: 64})
	if err != nil {
		t.Fatal(err)
	}
	stages, err := pipeline.ParseQuick("stages", "minlen min=100")
	if err != nil {
		t.Fatal(err)
	}
	eng, err := pipeline.New(pipeline.Options{
		Memory:    mem,
		Ports:     []pipeline.Port{{Name: "wire", Queues: []pipeline.Queue{pipeline.NewXSK(sock, "simulated", "native")}}},
		Pipelines: []pipeline.Pipeline{{Name: "p", From: "wire", Stages: stages, To: "wire"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- eng.Run(ctx) }()

	for kernel.Deliver(make([]byte, 60)) == 0 { // until the fill ring has frames
		time.Sleep(time.Millisecond)
	}
	kernel.Deliver(make([]byte, 100))
	var out [][]byte
	for deadline := time.Now().Add(5 * time.Second); len(out) == 0 && time.Now().Before(deadline); {
		out = append(out, kernel.Transmitted()...)
		time.Sleep(time.Millisecond)
	}
	if len(out) != 1 || len(out[0]) != 100 {
		t.Errorf("%d packets passed, want the one of 100 bytes", len(out))
	}
	if n := eng.Snapshot().Stages[0].Drops["too_short"]; n != 1 {
		t.Errorf("%d packets dropped as too short, want 1", n)
	}

	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := eng.Close(); err != nil {
		t.Error(err)
	}
	if err := mem.Close(); err != nil { // counts frames that were lost
		t.Error(err)
	}
}
