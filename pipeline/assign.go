package pipeline

import "slices"

// AssignQueues returns for each of a port's queues the worker that owns it, by its
// index: those of explicit in their order, beginning again when there are fewer; if
// it is empty queue i is worker i's, modulo their number, so that queues of the same
// rank meet on one worker.
func AssignQueues(queues, workers int, explicit []int) []int {
	owners := make([]int, queues)
	for i := range owners {
		owners[i] = i % workers
		if len(explicit) > 0 {
			owners[i] = explicit[i%len(explicit)]
		}
	}
	return owners
}

// IdleWorkers returns the workers that the pipelines leave nothing to do, given
// which of them owns each queue of the ports. The pipelines have no mistakes.
func IdleWorkers(workers int, owners map[string][]int, pipelines []Pipeline) []int {
	var ports []string
	for name := range owners {
		ports = append(ports, name)
	}
	busy := make([]bool, workers)
	for i := range pipelines {
		p := &pipelines[i]
		g := p.resolve(ports, func(Pos, string, ...any) {})
		for w := range workers {
			runs := g.hands() || p.From == "" && w == p.Worker || slices.Contains(owners[p.From], w)
			if !runs {
				continue
			}
			busy[w] = true
			for _, port := range g.ports() { // of another worker, who transmits for this one
				if own := owners[port]; len(own) > 0 && !slices.Contains(own, w) {
					busy[own[w%len(own)]] = true
				}
			}
		}
	}
	var idle []int
	for w, b := range busy {
		if !b {
			idle = append(idle, w)
		}
	}
	return idle
}

// ports returns the ports that the pipeline transmits on.
func (g *graph) ports() []string {
	var list []string
	if g.pipe.To != "" {
		list = append(list, g.pipe.To)
	}
	for _, edges := range g.edges {
		for _, e := range edges {
			if e.to.port != "" {
				list = append(list, e.to.port)
			}
		}
	}
	return list
}
