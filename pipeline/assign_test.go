package pipeline_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
)

func TestQueuesAreDealtToWorkers(t *testing.T) {
	for _, tc := range []struct {
		queues, workers int
		explicit, want  []int
	}{
		{0, 1, nil, []int{}},
		{1, 1, nil, []int{0}},
		{4, 2, nil, []int{0, 1, 0, 1}},
		{2, 4, nil, []int{0, 1}},
		{3, 2, []int{}, []int{0, 1, 0}},
		{4, 3, []int{2}, []int{2, 2, 2, 2}},
		{5, 3, []int{2, 0}, []int{2, 0, 2, 0, 2}},
		{1, 3, []int{1, 2}, []int{1}},
	} {
		if got := pipeline.AssignQueues(tc.queues, tc.workers, tc.explicit); !slices.Equal(got, tc.want) {
			t.Errorf("%d queues, %d workers, %v: got %v, want %v", tc.queues, tc.workers, tc.explicit, got, tc.want)
		}
	}
}

func TestWorkersWithoutWorkAreFound(t *testing.T) {
	source := func(worker int, stages string) pipeline.Pipeline {
		return pipeline.Pipeline{Name: "s", To: "b", Worker: worker, Stages: pipe(t, "", "", "", stages).Stages}
	}
	for _, tc := range []struct {
		name      string
		workers   int
		owners    map[string][]int
		pipelines []pipeline.Pipeline
		want      []int
	}{
		{"each has a queue that is read", 2, map[string][]int{"a": {0, 1}, "b": {0, 1}}, []pipeline.Pipeline{pipe(t, "p", "a", "b", "")}, nil},
		{"one has none", 3, map[string][]int{"a": {0, 1}, "b": {0, 1}}, []pipeline.Pipeline{pipe(t, "p", "a", "b", "")}, []int{2}},
		{"one has only a queue that nobody transmits on", 2, map[string][]int{"a": {0}, "b": {0, 1}}, []pipeline.Pipeline{pipe(t, "p", "a", "b", "")}, []int{1}},
		{"one transmits for another", 2, map[string][]int{"a": {0}, "b": {1}}, []pipeline.Pipeline{pipe(t, "p", "a", "b", "")}, nil},
		{"one transmits for a branch of another", 2, map[string][]int{"a": {0}, "b": {0}, "c": {1}}, []pipeline.Pipeline{pipe(t, "p", "a", "b", "test-split odd->c")}, nil},
		{"packets are handed to all", 4, map[string][]int{"a": {0}, "b": {0}}, []pipeline.Pipeline{pipe(t, "p", "a", "b", "test-hand")}, nil},
		{"a source on the second", 2, map[string][]int{"b": {0}}, []pipeline.Pipeline{source(1, "test-source")}, nil},
		{"a source on the first", 2, map[string][]int{"b": {0}}, []pipeline.Pipeline{source(0, "test-source")}, []int{1}},
		{"none", 1, map[string][]int{"a": {0}}, nil, []int{0}},
	} {
		if got := pipeline.IdleWorkers(tc.workers, tc.owners, tc.pipelines); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v are idle, want %v", tc.name, got, tc.want)
		}
	}
}

func TestAnEngineRefusesQueuesForWorkersThatAreNotThereAndWorkersWithoutWork(t *testing.T) {
	_, err := tryNet(t, netConfig{owners: map[string][]int{"a": {0, 1}}}, pipe(t, "p", "a", "b", ""))
	if err == nil || !strings.Contains(err.Error(), "port a: queue 1 is for worker 1, and there are 1, from 0") {
		t.Errorf("got %v", err)
	}
	_, err = tryNet(t, netConfig{workers: 2, owners: map[string][]int{"a": {-1}}}, pipe(t, "p", "a", "b", ""))
	if err == nil || !strings.Contains(err.Error(), "worker -1") {
		t.Errorf("got %v", err)
	}
	_, err = tryNet(t, netConfig{workers: 2}, pipe(t, "p", "a", "b", "count"))
	var idle *pipeline.IdleWorkerError
	if !errors.As(err, &idle) || idle.Worker != 1 {
		t.Errorf("got %v, want worker 1 without work", err)
	}
}

func TestQueuesOfPortsGoToTheWorkersThatAreNamed(t *testing.T) {
	n := newNet(t, netConfig{workers: 2, owners: map[string][]int{"a": {1, 0, 1}, "b": {0, 1}}, ports: []string{"a", "b"}}, pipe(t, "p", "a", "b", ""))
	var got []int
	for i := range 2 { // the status goes by worker
		for _, p := range n.eng.Snapshot().Ports {
			if p.Name == "a" && p.Worker == i {
				got = append(got, i)
			}
		}
	}
	if !slices.Equal(got, []int{0, 1, 1}) {
		t.Errorf("the queues of a belong to %v, want one to worker 0 and two to 1", got)
	}
	n.end()
}
