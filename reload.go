package xdpipe

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/xdpipe/xdpipe/bpf"
	"github.com/xdpipe/xdpipe/pipeline"
)

// Reload replaces the pipelines by those of the configuration, and what the ports
// steer, while packets flow and without losing one: see pipeline.Engine.Swap. Names,
// memory, workers and everything else of the ports must be what they are; to change
// those, start anew.
//
// After an error nothing has changed. The error has positions where the mistake is in
// the configuration. Reloads come one after the other.
func (i *Instance) Reload(cfg *pipeline.Config) error {
	i.reloading.Lock()
	defer i.reloading.Unlock()
	if i.ending {
		return errors.New("reload: the instance is ending")
	}
	if err := i.reloadable(cfg); err != nil {
		return err
	}
	next, err := NewPlan(cfg)
	if err != nil {
		return err
	}
	defer next.Close()
	if need := next.Memory.Frames; need > i.mem.Frames() {
		return cfg.Errorf(cfg.Memory.Pos, "reload: memory: the pipelines need %d frames and there are %d: start anew", need, i.mem.Frames())
	}
	if err := i.steer(next); err != nil {
		return errors.Join(err, i.steer(i.plan))
	}
	if err := i.unhear(next); err != nil {
		return errors.Join(err, i.hear(i.plan), i.steer(i.plan))
	}
	if err := i.engine.Swap(next.Pipelines); err != nil {
		return errors.Join(err, i.hear(i.plan), i.steer(i.plan))
	}
	i.adopt(next)
	if err := i.hear(next); err != nil {
		return fmt.Errorf("reload: the pipelines are replaced, but not all packets reach them: %w", err)
	}
	return nil
}

// reloadable refuses a configuration that differs in what stays.
func (i *Instance) reloadable(cfg *pipeline.Config) error {
	old := i.plan.config
	if name := cfg.Name; name != "" && name != i.plan.Name {
		return cfg.Errorf(pipeline.Pos{Line: 1, Column: 1}, "reload: the instance is named %q and not %q: start anew", i.plan.Name, name)
	}
	const anew = "a reload replaces pipelines and what ports steer: start anew, or put it back"
	switch {
	case !same(old.Memory, cfg.Memory):
		return cfg.Errorf(cfg.Memory.Pos, "reload: memory was changed; %s", anew)
	case !same(old.Workers, cfg.Workers):
		return cfg.Errorf(cfg.Workers.Pos, "reload: workers was changed; %s", anew)
	}
	before := map[string]pipeline.PortConfig{}
	for _, p := range old.Ports {
		before[p.Name] = p
	}
	for _, p := range cfg.Ports {
		was, ok := before[p.Name]
		if !ok {
			return cfg.Errorf(p.Pos, "reload: port %s is new; %s", p.Name, anew)
		}
		delete(before, p.Name)
		was.Steer = p.Steer
		if !same(was, p) {
			return cfg.Errorf(p.Pos, "reload: port %s was changed in more than steer; %s", p.Name, anew)
		}
	}
	for name := range before {
		return cfg.Errorf(pipeline.Pos{Line: 1, Column: 1}, "reload: port %s is gone; %s", name, anew)
	}
	return nil
}

// same compares configurations without their positions.
func same(a, b any) bool { return sameValue(reflect.ValueOf(a), reflect.ValueOf(b)) }

func sameValue(a, b reflect.Value) bool {
	switch {
	case a.Type() == reflect.TypeFor[pipeline.Pos]():
		return true
	case a.Kind() == reflect.Struct:
		for i := range a.NumField() {
			if !sameValue(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case a.Kind() == reflect.Slice:
		for i := range min(a.Len(), b.Len()) {
			if !sameValue(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return a.Len() == b.Len()
	}
	return a.Equal(b)
}

// steer gives the ports the plan's policies where they have others.
func (i *Instance) steer(plan *Plan) error {
	for _, p := range i.ports {
		policy := plan.port(p.plan.Name).Policy
		if reflect.DeepEqual(policy, p.steering.Policy()) {
			continue
		}
		if err := p.steering.SetPolicy(policy); err != nil {
			return fmt.Errorf("reload: port %s: %w", p.plan.Name, err)
		}
	}
	return nil
}

// unhear lets the packets of ports that no pipeline of the plan reads pass to the
// kernel, and waits until those that have come are taken.
func (i *Instance) unhear(plan *Plan) error {
	silenced := map[string]bool{}
	for _, p := range i.ports {
		if plan.port(p.plan.Name).Receives {
			continue
		}
		for len(p.registered) > 0 {
			if err := p.steering.Unregister(p.registered[0]); err != nil {
				return fmt.Errorf("reload: port %s: %w", p.plan.Name, err)
			}
			p.registered = p.registered[1:]
			silenced[p.plan.Name] = true
		}
	}
	for deadline := time.Now().Add(drainLimit); len(silenced) > 0 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		waiting := 0
		i.engine.Between(func() {
			for _, p := range i.ports {
				if silenced[p.plan.Name] {
					for _, q := range p.queues {
						waiting += q.Places().Rx
					}
				}
			}
		})
		if waiting == 0 {
			break
		}
	}
	return nil
}

// drainLimit is how long a reload waits for packets that have come to be taken.
const drainLimit = time.Second

// hear gives the program the sockets of the ports that the plan's pipelines read.
func (i *Instance) hear(plan *Plan) error {
	var errs []error
	for _, p := range i.ports {
		if plan.port(p.plan.Name).Receives {
			errs = append(errs, p.register())
		}
	}
	return errors.Join(errs...)
}

// adopt notes what is in force now.
func (i *Instance) adopt(next *Plan) {
	i.planMu.Lock()
	defer i.planMu.Unlock()
	for _, p := range i.ports {
		n := next.port(p.plan.Name)
		p.plan.Policy, p.plan.Receives = n.Policy, n.Receives
	}
	for j := range i.plan.Ports {
		n := next.port(i.plan.Ports[j].Name)
		i.plan.Ports[j].Policy, i.plan.Ports[j].Receives = n.Policy, n.Receives
	}
	i.plan.Pipelines, i.plan.config = next.Pipelines, next.config
}

// policy returns what the port steers.
func (i *Instance) policy(p *port) bpf.Policy {
	i.planMu.Lock()
	defer i.planMu.Unlock()
	return p.plan.Policy
}

// port returns the port of that name.
func (p *Plan) port(name string) *PortPlan {
	for i := range p.Ports {
		if p.Ports[i].Name == name {
			return &p.Ports[i]
		}
	}
	return &PortPlan{}
}
