package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/xdpipe/xdpipe/xsk"
)

// TraceOptions say which packets Engine.Trace follows.
type TraceOptions struct {
	// Match chooses packets as they arrive; nil takes all. It is called on the
	// workers.
	Match func(packet []byte) bool
	// Packets is how many are followed, from 1 to MaxTraced.
	Packets int
}

// MaxTraced is how many packets one trace follows at most.
const MaxTraced = 10000

// A TracedPacket is a packet and the path that it took. Its JSON is a line of
// `xdpipe trace -j`.
type TracedPacket struct {
	Number int         `json:"number"` // from 1
	At     time.Time   `json:"at"`
	Port   string      `json:"port"` // it came by; the stage that made it, if it came by none
	Queue  int         `json:"queue"`
	Worker int         `json:"worker"`
	Length int         `json:"length"` // bytes
	Data   []byte      `json:"data"`   // as it arrived
	Path   []TraceStep `json:"path"`
}

// A TraceStep is what a stage, or the port at the end, did with a packet.
type TraceStep struct {
	Stage   string   `json:"stage"` // pipeline/position:type, or the port's name
	Worker  int      `json:"worker"`
	After   int64    `json:"after_ns"` // nanoseconds since arrival, when it was done with the batch
	Changed []string `json:"changed,omitempty"`
	Verdict string   `json:"verdict"` // next, output, worker, drop, transmit, sink
	To      string   `json:"to,omitempty"`
	Reason  string   `json:"reason,omitempty"`
}

// ErrTracing is returned by Trace while another trace runs.
var ErrTracing = errors.New("another trace is running; end it first")

// Trace follows the next packets that match through every stage and calls emit for
// each when its path, with those of its tees, has come to an end. It returns when
// all have been followed, or ctx is done, which is no error: packets whose path has
// not ended are then given as they are. One trace at a time runs on an engine; what
// it costs, only the packets of batches that are looked at pay.
func (e *Engine) Trace(ctx context.Context, opts TraceOptions, emit func(TracedPacket)) error {
	if opts.Packets < 1 || opts.Packets > MaxTraced {
		return fmt.Errorf("trace: %d packets: want 1 to %d", opts.Packets, MaxTraced)
	}
	t := &tracer{
		engine: e, match: opts.Match, left: opts.Packets,
		records: map[uint16]*record{}, ended: make(chan TracedPacket, opts.Packets),
	}
	if !e.tracer.CompareAndSwap(nil, t) {
		return fmt.Errorf("trace: %w", ErrTracing)
	}
	end := func() { e.tracer.CompareAndSwap(t, nil) } // and not another that has begun since
	defer end()
	for range opts.Packets {
		select {
		case p := <-t.ended:
			emit(p)
		case <-ctx.Done():
			end()
			for _, p := range t.rest() {
				emit(p)
			}
			return nil
		}
	}
	return nil
}

// A tracer follows packets. Workers find it at the beginning of a round; what they
// follow carries its number in the metadata.
type tracer struct {
	engine *Engine
	match  func([]byte) bool

	mu      sync.Mutex
	left    int // packets still to be picked
	picked  int
	records map[uint16]*record // not yet ended
	ended   chan TracedPacket  // has room for all
}

// A record is a packet that is followed.
type record struct {
	packet TracedPacket
	start  int64 // on the engine's clock
	live   int   // references to it that are on their way
}

// pick chooses packets of a batch that has just arrived.
func (t *tracer) pick(w *worker, b *Batch, port string, q Queue) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := 0; i < b.n && t.left > 0; i++ {
		data := b.Data(i)
		if t.match != nil && !t.matches(data) {
			continue
		}
		id := uint16(t.engine.traceID.Add(1))
		if id == 0 {
			id = uint16(t.engine.traceID.Add(1))
		}
		t.left--
		t.picked++
		b.meta[i].trace = id
		r := &record{start: b.Now(), live: 1, packet: TracedPacket{
			Number: t.picked, At: time.Now(), Port: port, Worker: w.id, Length: b.Size(i), Data: slices.Clone(data),
		}}
		if q != nil {
			r.packet.Queue = q.Info().Queue
		}
		t.records[id] = r
	}
}

// matches asks Match, which is the caller's and runs on the workers: one that panics
// chooses nothing.
func (t *tracer) matches(data []byte) bool {
	defer t.engine.recovered("trace: Match")
	return t.match(data)
}

// step notes a step of a packet. ends is how many references to it end with it,
// less those that it adds.
func (t *tracer) step(id uint16, s TraceStep, ends int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.records[id]
	if r == nil {
		return // of an earlier trace
	}
	s.After = t.engine.clock() - r.start
	r.packet.Path = append(r.packet.Path, s)
	if r.live -= ends; r.live <= 0 {
		delete(t.records, id)
		t.ended <- r.packet
	}
}

func (t *tracer) follows(id uint16) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return id != 0 && t.records[id] != nil
}

// rest returns the packets that are picked and were not given yet, in order.
func (t *tracer) rest() []TracedPacket {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.left = 0
	var list []TracedPacket
	for len(t.ended) > 0 {
		list = append(list, <-t.ended)
	}
	for id, r := range t.records {
		list = append(list, r.packet)
		delete(t.records, id)
	}
	slices.SortFunc(list, func(a, b TracedPacket) int { return a.Number - b.Number })
	return list
}

// A watch is what a worker keeps of followed packets while a stage has them.
type watch struct {
	copied []int // that were copied for the stage, by index
	seen   []watched
	gone   []uint16 // those in a batch that is transmitted
}

type watched struct {
	index  int
	desc   xsk.Desc
	meta   Meta
	data   []byte
	copied bool
}

// before keeps what the batch's followed packets are.
func (v *watch) before(t *tracer, b *Batch) {
	v.seen = v.seen[:0]
	for i := range b.n {
		if t.follows(b.meta[i].trace) {
			v.seen = append(v.seen, watched{i, b.desc[i], b.meta[i], slices.Clone(b.Data(i)), slices.Contains(v.copied, i)})
		}
	}
	v.copied = v.copied[:0]
}

// after notes what the stage did with them, before they are swept.
func (v *watch) after(t *tracer, w *worker, n *node, b *Batch) {
	// What a source made has arrived by it.
	if _, ok := n.stage.(Source); ok {
		t.pick(w, b, n.name, nil)
		v.before(t, b)
	}
	for _, s := range v.seen {
		step := TraceStep{Stage: n.name, Worker: w.id, Verdict: "next", Changed: changes(s, b)}
		ends := 0
		for _, tee := range b.tees {
			if tee.packet == s.index {
				t.step(s.meta.trace, TraceStep{Stage: n.name, Worker: w.id, Verdict: "tee", To: n.outputName(tee.output)}, -1)
			}
		}
		switch f := b.fate[s.index]; {
		case f&dropped != 0:
			step.Verdict, step.Reason, ends = "drop", t.engine.reasons.info(Reason(f&^dropped)).Name, 1
		case f&handed != 0:
			step.Verdict, step.To = "worker", fmt.Sprint(int(f&^handed))
		case f != 0:
			step.Verdict, step.To = "output", n.outputName(Output(f))
		}
		t.step(s.meta.trace, step, ends)
	}
}

func (n *node) outputName(out Output) string {
	if m, ok := Lookup(n.kind); ok && out > 0 && int(out) <= len(m.Outputs) {
		return m.Outputs[out-1].Name
	}
	return "none"
}

// lost notes that a packet was dropped by the engine.
func (w *worker) lost(m *Meta, at string, why Reason) {
	if w.tracer != nil && m.trace != 0 {
		w.tracer.step(m.trace, TraceStep{Stage: at, Worker: w.id, Verdict: "drop", Reason: w.engine.reasons.info(why).Name}, 1)
	}
}

// sunk notes that packets ended in a sink.
func (w *worker) sunk(b *Batch, at string) {
	if w.tracer == nil {
		return
	}
	for i := range b.n {
		if id := b.meta[i].trace; id != 0 {
			w.tracer.step(id, TraceStep{Stage: at, Worker: w.id, Verdict: "sink"}, 1)
		}
	}
}

// departing keeps which packets are followed, since a queue may compact a batch,
// and departed notes what became of them.
func (w *worker) departing(b *Batch) {
	w.watch.gone = w.watch.gone[:0]
	for i := range b.n {
		w.watch.gone = append(w.watch.gone, b.meta[i].trace)
	}
}

func (w *worker) departed(taken int, o *outlets, way *outlet, why Reason) {
	for i, id := range w.watch.gone {
		s := TraceStep{Stage: o.port, Worker: w.id, Verdict: "transmit", To: o.port}
		switch {
		case id == 0:
			continue
		case i >= taken:
			s.Verdict, s.To, s.Reason = "drop", "", w.engine.reasons.info(why).Name
		case way.ring != nil: // its path goes on there
			s.Verdict, s.To = "worker", fmt.Sprint(way.ring.to.id)
			w.tracer.step(id, s, 0)
			continue
		}
		w.tracer.step(id, s, 1)
	}
}
