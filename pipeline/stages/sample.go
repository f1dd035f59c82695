package stages

import (
	"math"
	"math/rand/v2"

	"github.com/xdpipe/xdpipe/pipeline"
)

func init() {
	pipeline.Register(pipeline.Module{
		Name:    "sample",
		Doc:     "sends one packet in so many to the output sampled as well; all go on to the next stage",
		Help:    "Each worker counts for itself.",
		Example: "sample every=100 sampled->tap ! count",
		New:     func() pipeline.Stage { return &Sample{Every: 1000} },
		Outputs: []pipeline.OutputInfo{
			{Name: "sampled", Doc: "a further reference to each packet that was chosen, not a copy"},
		},
	})
}

// Sample chooses one packet in Every. Each worker counts for itself.
type Sample struct {
	Every  int  `stage:"every" unit:"packets" doc:"choose one packet in so many; 1 chooses all"`
	Random bool `stage:"random" doc:"choose each packet by chance, one in every on average, so that traffic with a rhythm is not always met at the same beat; otherwise each every-th"`

	sampled         pipeline.Output
	wait            int // packets until the next is chosen
	draw            *rand.Rand
	packets, chosen uint64
}

// maxEvery keeps sums of gaps far from what an int holds.
const maxEvery = 1 << 32

// Validate implements pipeline.Validator.
func (s *Sample) Validate() error {
	if s.Every < 1 || s.Every > maxEvery {
		return pipeline.BadOption("every", "found %d, want 1 to %d", s.Every, maxEvery)
	}
	return nil
}

// Provision implements pipeline.Provisioner.
func (s *Sample) Provision(ctx *pipeline.Context) error {
	s.sampled, _ = ctx.Output("sampled")
	s.draw = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	s.wait = s.gap()
	return nil
}

// Process implements pipeline.Stage.
func (s *Sample) Process(b *pipeline.Batch) {
	n := b.Len()
	s.packets += uint64(n)
	at := s.wait
	for at <= n {
		b.Tee(at-1, s.sampled)
		s.chosen++
		at += s.gap()
	}
	s.wait = at - n
}

// gap returns how many packets on the next one is chosen.
func (s *Sample) gap() int {
	if !s.Random || s.Every == 1 {
		return s.Every
	}
	// How long one waits for what happens to each packet with a probability of
	// 1/every: the geometric distribution, at one draw a sample instead of one a
	// packet.
	u := 1 - s.draw.Float64() // above 0, up to 1
	return 1 + int(math.Log(u)/math.Log1p(-1/float64(s.Every)))
}

// Report implements pipeline.Reporter.
func (s *Sample) Report() map[string]uint64 {
	return map[string]uint64{"packets": s.packets, "sampled": s.chosen}
}
