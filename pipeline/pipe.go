package pipeline

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// PanicLimit is how many panics of its stages a pipeline survives, and PanicWindow
// the time without one after which they are forgotten.
const (
	PanicLimit  = 8
	PanicWindow = time.Minute
)

// What a pipe's state is.
const (
	pipeRuns int32 = iota
	pipeDrops
	pipePasses
	pipeStopped
)

var pipeStateNames = []string{"running", "dropping", "passing", "stopped"}

// A pipe is what all workers share of a pipeline.
type pipe struct {
	name     string
	from, to string
	action   PanicAction
	state    atomic.Int32
	disabled atomic.Uint64 // packets dropped since it is not running

	mu     sync.Mutex
	panics uint64 // in all
	recent int    // in quick succession
	last   int64
}

// panicked notes a panic of a stage, and puts the pipeline into its state if there
// were too many. An error means that the engine is to stop.
func (p *pipe) panicked(e *Engine, stage string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := clock()
	if now-p.last > int64(PanicWindow) {
		p.recent = 0
	}
	p.last = now
	p.panics++
	if p.recent++; p.recent < PanicLimit || p.state.Load() != pipeRuns {
		return nil
	}
	state := pipeDrops
	switch {
	case p.action == PanicStop:
		p.state.Store(pipeStopped)
		return fmt.Errorf("pipeline %s: stage %s panicked %d times: the engine stops, as on_panic says", p.name, stage, PanicLimit)
	case p.action == PanicPass && p.to != "" && p.from != "":
		state = pipePasses
	}
	p.state.Store(state)
	e.log.Error("a pipeline's stages panicked too often; reload starts it again",
		"pipeline", p.name, "stage", stage, "panics", PanicLimit, "state", pipeStateNames[state])
	return nil
}

func (p *pipe) status() PipelineStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	return PipelineStatus{Name: p.name, From: p.from, To: p.to, State: pipeStateNames[p.state.Load()], Panics: p.panics, Dropped: p.disabled.Load()}
}
