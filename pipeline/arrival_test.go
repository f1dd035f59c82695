package pipeline_test

import (
	"fmt"
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
)

// A tickClock goes on by a tick with every look at it.
type tickClock struct{ now, looks int64 }

func (c *tickClock) read() int64 {
	c.now++
	c.looks++
	return c.now
}

// asker is a stage that asks for times; what it was told is in asked.
type asker struct {
	Arrivals bool `stage:"arrivals" doc:"ask for those too"`
}

var asked []string

func (s *asker) Process(b *pipeline.Batch) {
	for i := range b.Len() {
		if s.Arrivals {
			asked = append(asked, fmt.Sprintf("%s@%d of %d", b.Data(i), b.Arrival(i), b.Now()))
		}
	}
}

func init() {
	pipeline.Register(pipeline.Module{Name: "test-asks-the-time", New: func() pipeline.Stage { return &asker{} }})
}

// told returns what the asker was told since it was last called.
func told() []string {
	list := asked
	asked = nil
	return list
}

func TestTheClockIsReadOnlyInRoundsInWhichSomebodyAsks(t *testing.T) {
	for stage, perRound := range map[string]int64{"": 0, "count": 0, "test-asks-the-time": 0, "test-asks-the-time arrivals=true": 1} {
		c := &tickClock{}
		eng, a, b := scripted(t, stage, 1, 0, c.read)
		b.untimed = true
		a.receive = func(b *pipeline.Batch) { arrive(b, "x"); arrive(b, "y"); arrive(b, "z") }
		before := c.looks
		for range 10 {
			eng.RoundOf(0)
		}
		if looks := c.looks - before; looks != 10*perRound {
			t.Errorf("%q: the clock was read %d times in 10 rounds, want %d", stage, looks, 10*perRound)
		}
		told()
	}
}

func TestPacketsOfARoundArriveAtTheTimeThatIsReadInIt(t *testing.T) {
	c := &tickClock{now: 99}
	eng, a, b := scripted(t, "test-asks-the-time arrivals=true ! test-asks-the-time arrivals=true", 1, 0, c.read)
	a.receive = func(b *pipeline.Batch) { arrive(b, "x"); arrive(b, "y") }
	c.now = 99
	eng.RoundOf(0)
	c.now = 499
	eng.RoundOf(0)
	want := "[x@100 of 100 y@100 of 100 x@100 of 100 y@100 of 100 x@500 of 500 y@500 of 500 x@500 of 500 y@500 of 500]"
	if got := fmt.Sprint(told()); got != want {
		t.Errorf("told\n%v, want\n%v", got, want)
	}
	if got, want := fmt.Sprint(b.sent), "[{x 100} {y 100} {x 500} {y 500}]"; got != want {
		t.Errorf("the port was told %v, want %v", got, want)
	}
}

func TestAPacketKeepsTheArrivalThatItsQueueKnows(t *testing.T) {
	c := &tickClock{now: 99}
	eng, a, b := scripted(t, "test-asks-the-time arrivals=true", 1, 0, c.read)
	a.receive = func(b *pipeline.Batch) {
		arrive(b, "x")
		b.SetArrival(0, 7)
		arrive(b, "y")
	}
	c.now = 99
	eng.RoundOf(0)
	told()
	if got, want := fmt.Sprint(b.sent), "[{x 7} {y 100}]"; got != want {
		t.Errorf("the port was told %v, want %v", got, want)
	}
}

func TestAPacketThatIsReceivedAfterTheClockWasReadArrivesThen(t *testing.T) {
	c := &tickClock{}
	eng, a, b := scripted(t, "", 1, 0, c.read)
	a.receive = func(b *pipeline.Batch) {
		arrive(b, "x")
		b.Now() // as a stage of an earlier batch in the round
		arrive(b, "y")
	}
	c.now = 9
	eng.RoundOf(0)
	if got, want := fmt.Sprint(b.sent), "[{x 10} {y 10}]"; got != want {
		t.Errorf("the port was told %v, want %v", got, want)
	}
}

func TestAPacketThatWaitsForAnotherWorkerKeepsTheTimeOfItsOwnRound(t *testing.T) {
	for _, tc := range []struct {
		name, stages string
		owner        int
	}{
		{"for its port", "count", 1},
		{"after a hand-off", "handoff workers=1 ! count", 1},
		{"after a hand-off, and again for its port", "handoff workers=1 ! count", 0},
	} {
		c := &tickClock{}
		eng, a, b := scripted(t, tc.stages, 2, tc.owner, c.read)
		first := true
		a.receive = func(b *pipeline.Batch) {
			if first {
				arrive(b, "a packet of an unknown kind")
			}
			first = false
		}
		c.now = 99
		eng.RoundOf(0)
		c.now = 999
		eng.RoundOf(1)
		c.now = 9999
		eng.RoundOf(0)
		if len(b.sent) != 1 || b.sent[0].arrival != 100 {
			t.Errorf("%s: sent %v, want one that arrived at 100", tc.name, b.sent)
		}
	}
}

func TestAPacketThatWaitsAtAnOutputKeepsTheTimeOfItsOwnRound(t *testing.T) {
	c := &tickClock{}
	eng, a, b := scripted(t, "tee copy->rest ! count -> b ; rest: test-asks-the-time arrivals=true", 1, 0, c.read)
	a.receive = func(b *pipeline.Batch) { arrive(b, "x") }
	c.now = 9
	eng.RoundOf(0)
	c.now = 99
	eng.RoundOf(0)
	if got, want := fmt.Sprint(told()), "[x@10 of 10 x@100 of 100]"; got != want {
		t.Errorf("told %v, want %v", got, want)
	}
	if got, want := fmt.Sprint(b.sent), "[{x 10} {x 10} {x 100} {x 100}]"; got != want {
		t.Errorf("the port was told %v, want %v", got, want)
	}
}
