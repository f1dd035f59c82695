package pipeline_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/xdpipe/xdpipe/pipeline"
)

// The modules that tests of the engine use. Packets are those of numbered: the kind
// is in byte 14, the flow in byte 15, and the number in the four after them.

func init() {
	for _, m := range []pipeline.Module{
		{Name: "test-split", New: func() pipeline.Stage { return &split{} }, Outputs: []pipeline.OutputInfo{
			{Name: "odd", Doc: "packets of kind 1"},
			{Name: "even", Doc: "packets of kind 2; dropped if unconnected", Optional: true},
		}},
		{Name: "test-tee", New: func() pipeline.Stage { return &teeing{} }, Outputs: []pipeline.OutputInfo{
			{Name: "copy", Doc: "one more of each"},
		}},
		{Name: "test-write", Writes: true, New: func() pipeline.Stage { return &writer{} }},
		{Name: "test-liar", New: func() pipeline.Stage { return &liar{} }},
		{Name: "test-hand", Hands: true, New: func() pipeline.Stage { return &hander{} }},
		{Name: "test-make", New: func() pipeline.Stage { return &maker{} }},
		{Name: "test-source", New: func() pipeline.Stage { return &source{Count: 10, Burst: 1} }},
		{Name: "test-sink", New: func() pipeline.Stage { return &sink{} }},
		{Name: "test-boom", Outputs: []pipeline.OutputInfo{{Name: "copy", Doc: "tees", Optional: true}},
			New: func() pipeline.Stage { return &boom{On: 7} }},
		{Name: "test-heir", New: func() pipeline.Stage { return &heir{} }},
		{Name: "test-move", Writes: true, New: func() pipeline.Stage { return &mover{} }},
	} {
		pipeline.Register(m)
	}
}

// numbered is a packet of a kind and flow with a number.
func numbered(kind, flow byte, n int) []byte {
	p := packet(0)
	p[14], p[15] = kind, flow
	binary.BigEndian.PutUint32(p[16:], uint32(n))
	return p
}

func number(p []byte) int { return int(binary.BigEndian.Uint32(p[16:])) }

// split sends packets of kind 1 to odd and those of kind 2 to even.
type split struct{ odd, even pipeline.Output }

func (s *split) Provision(ctx *pipeline.Context) error {
	var connected bool
	if s.odd, connected = ctx.Output("odd"); !connected {
		return errors.New("odd is not connected")
	}
	s.even, _ = ctx.Output("even")
	return nil
}

func (s *split) Process(b *pipeline.Batch) {
	for i := range b.Len() {
		switch b.Data(i)[14] {
		case 1:
			b.To(i, s.odd)
		case 2:
			b.To(i, s.even)
		}
	}
}

// teeing makes a further reference to each packet.
type teeing struct{ copy pipeline.Output }

func (s *teeing) Provision(ctx *pipeline.Context) error {
	s.copy, _ = ctx.Output("copy")
	return nil
}

func (s *teeing) Process(b *pipeline.Batch) {
	for i := range b.Len() {
		b.Tee(i, s.copy)
	}
}

// writer writes its mark into byte 30 of each packet.
type writer struct {
	Mark int `stage:"mark"`
}

func (s *writer) Process(b *pipeline.Batch) {
	for i := range b.Len() {
		b.Data(i)[30] = byte(s.Mark)
	}
}

// liar writes as well, and its module does not say so.
type liar struct{ writer }

// hander hands each packet to the worker of its flow, or all to one.
type hander struct {
	To      int `stage:"to"`
	workers int
}

func (s *hander) Provision(ctx *pipeline.Context) error { s.workers = ctx.Workers; return nil }

func (s *hander) Process(b *pipeline.Batch) {
	for i := range b.Len() {
		if s.To > 0 {
			b.ToWorker(i, s.To)
		} else {
			b.ToWorker(i, int(b.Data(i)[15])%s.workers)
		}
	}
}

// maker makes a packet of kind 9 for each one that it sees.
type maker struct{}

func (*maker) Process(b *pipeline.Batch) {
	for range b.Len() {
		if p := b.Alloc(64); p != nil {
			copy(p, numbered(9, 0, 0))
		}
	}
}

// source makes Count packets, Burst at a time, Every nanoseconds.
type source struct {
	Count int    `stage:"count"`
	Burst int    `stage:"burst"`
	Every int    `stage:"every"`
	Wrong string `stage:"wrong"` // due: panic when asked

	made int
	due  int64
	now  func() int64
}

func (s *source) Provision(ctx *pipeline.Context) error {
	s.now = ctx.Now
	s.due = ctx.Now()
	return nil
}

func (s *source) Due() int64 {
	if s.Wrong == "due" {
		panic("not due")
	}
	if s.made == s.Count {
		return pipeline.Never
	}
	return s.due
}

func (s *source) Process(b *pipeline.Batch) {
	if b.Len() != 0 {
		panic("the batch is not empty")
	}
	for range min(s.Burst, s.Count-s.made) {
		p := b.Alloc(64)
		if p == nil {
			break
		}
		copy(p, numbered(0, 0, s.made))
		s.made++
	}
	s.due += int64(s.Every)
}

// sink takes all packets, and drops those of kind 1.
type sink struct{ seven pipeline.Reason }

func (s *sink) Provision(ctx *pipeline.Context) error {
	s.seven = ctx.Reason("unwanted", "test")
	return nil
}

func (s *sink) Process(b *pipeline.Batch) {
	for i := range b.Len() {
		if b.Data(i)[14] == 1 {
			b.Drop(i, s.seven)
		}
	}
}

func (*sink) Sink() {}

// boom panics at a packet of kind On, after having done what First says.
type boom struct {
	On    int    `stage:"on"`
	First string `stage:"first"` // tee, make, drop
	copy  pipeline.Output
	why   pipeline.Reason
}

func (s *boom) Provision(ctx *pipeline.Context) error {
	s.copy, _ = ctx.Output("copy")
	s.why = ctx.Reason("before_the_panic", "test")
	return nil
}

func (s *boom) Process(b *pipeline.Batch) {
	n := b.Len()
	for i := range n {
		if int(b.Data(i)[14]) != s.On {
			continue
		}
		switch s.First {
		case "tee":
			for j := range n {
				b.Tee(j, s.copy)
			}
		case "make":
			copy(b.Alloc(64), numbered(9, 0, 0))
		case "drop":
			for j := range n {
				b.Drop(j, s.why)
			}
		}
		panic("boom")
	}
}

// heir counts packets, goes on where its predecessor was, and does what Wrong says.
// Its instances share a value by its key.
type heir struct {
	Wrong string `stage:"wrong"` // provision: fails; panic: panics in it; inherit, close: panics in those
	Key   string `stage:"key"`
	seen  uint64
	value *sharedValue
}

// sharedValue notes how often it is closed.
type sharedValue struct{ made, closed *atomic.Int32 }

func (v *sharedValue) Close() error { v.closed.Add(1); return nil }

var sharedMade, sharedClosed atomic.Int32

// heirs is how many instances are open.
var heirs atomic.Int32

func (s *heir) Provision(ctx *pipeline.Context) error {
	heirs.Add(1)
	v, err := ctx.SharedBy("test-heir "+s.Key, func() (any, error) {
		sharedMade.Add(1)
		return &sharedValue{&sharedMade, &sharedClosed}, nil
	})
	if err != nil {
		return err
	}
	s.value = v.(*sharedValue)
	switch s.Wrong {
	case "provision":
		return fmt.Errorf("refused")
	case "panic":
		panic("in Provision")
	}
	return nil
}

func (s *heir) Process(b *pipeline.Batch) { s.seen += uint64(b.Len()) }

func (s *heir) Inherit(old pipeline.Stage) {
	if s.Wrong == "inherit" {
		panic("in Inherit")
	}
	s.seen = old.(*heir).seen
}

func (s *heir) Report() map[string]uint64 { return map[string]uint64{"seen": s.seen} }

func (s *heir) Close() error {
	heirs.Add(-1)
	if s.Wrong == "close" {
		panic("in Close")
	}
	return nil
}

// mover pushes and pulls.
type mover struct {
	Push int `stage:"push"`
	Pull int `stage:"pull"`
}

func (s *mover) Process(b *pipeline.Batch) {
	for i := range b.Len() {
		if s.Push > 0 {
			b.Push(i, s.Push)
		}
		if s.Pull > 0 {
			b.Pull(i, s.Pull)
		}
	}
}
