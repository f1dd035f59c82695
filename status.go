package xdpipe

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/xdpipe/xdpipe/bpf"
	"github.com/xdpipe/xdpipe/pipeline"
)

// Status is what an instance says of itself. Its JSON is an element of
// "instances" in `xdpipe status -j`.
type Status struct {
	Name    string    `json:"name"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
	// At is when the counters were read: rates are over the time between two.
	At time.Time `json:"at"`
	pipeline.Snapshot
	Interfaces []InterfaceStatus `json:"interfaces"`
	// Reasons says of each drop reason above what causes it and what to do.
	Reasons map[string]string `json:"reasons,omitempty"`
}

// InterfaceStatus is what is known of a port's interface as a whole.
type InterfaceStatus struct {
	Port         string                 `json:"port"`
	Interface    string                 `json:"interface"`
	Namespace    string                 `json:"netns,omitempty"`
	Mode         string                 `json:"mode"`
	WhyNotNative string                 `json:"why_not_native,omitempty"`
	Program      uint32                 `json:"program_id"`
	Pinned       bool                   `json:"pinned"`
	Promiscuous  bool                   `json:"promiscuous"`
	State        string                 `json:"state"`
	Policy       string                 `json:"steer"`
	Steering     map[string]bpf.Counter `json:"steering"` // by verdict and reason
	RuleHits     []uint64               `json:"rule_hits,omitempty"`
	OffloadsOff  []string               `json:"offloads_disabled,omitempty"`
	OffloadsOn   []string               `json:"offloads_stuck,omitempty"`
}

// Status reads all counters. It may be called until Close.
func (i *Instance) Status() Status {
	s := Status{Name: i.plan.Name, PID: os.Getpid(), Started: i.started, Snapshot: i.engine.Snapshot(), At: time.Now()}
	for _, p := range i.ports {
		is := InterfaceStatus{
			Port: p.plan.Name, Interface: p.plan.Link.Name, Namespace: p.plan.Link.Namespace.Name(),
			Mode: string(p.attached.Mode()), WhyNotNative: p.attached.WhyNotNative(),
			Program: p.attached.ProgramID(), Pinned: p.adopted != nil, Promiscuous: p.promisc != nil,
			State: p.state.get(), Policy: i.policy(p).Line(),
		}
		for _, o := range p.offloads {
			is.OffloadsOff = append(is.OffloadsOff, o.Disabled...)
			is.OffloadsOn = append(is.OffloadsOn, o.Stuck...)
		}
		if c, err := p.steering.Counters(); err == nil {
			is.Steering = c.ByReason()
			is.RuleHits = c.Rules
		}
		s.Interfaces = append(s.Interfaces, is)
		// A link that is down is known here first: nobody need transmit on it.
		for j := range s.Ports {
			if s.Ports[j].Name == p.plan.Name && s.Ports[j].State == stateUp {
				s.Ports[j].State = is.State
			}
		}
	}
	s.Reasons = reasonDocs(i.engine.Reasons(), s)
	return s
}

// reasonDocs keeps the texts of the reasons that occur.
func reasonDocs(docs map[string]string, s Status) map[string]string {
	used := map[string]string{}
	note := func(drops map[string]uint64) {
		for name := range drops {
			if doc := docs[name]; doc != "" {
				used[name] = doc
			} else if doc := pipeline.KernelDropDocs[name]; doc != "" {
				used[name] = doc
			}
		}
	}
	for _, p := range s.Ports {
		note(p.Drops)
	}
	for _, st := range s.Stages {
		note(st.Drops)
	}
	note(s.Packets.Drops)
	return used
}

// Account is the final account of an instance: every packet and every frame.
// Received, Created and Teed are as many as Transmitted, Consumed and Drops
// together, without those that the kernel dropped before they were received.
type Account struct {
	Frames int `json:"frames"`
	Free   int `json:"free"` // after everything was closed; less than Frames is a leak

	Received    uint64            `json:"received"`
	Transmitted uint64            `json:"transmitted"`
	Copied      uint64            `json:"copied"`
	Created     uint64            `json:"created"`  // by stages
	Teed        uint64            `json:"teed"`     // further references to packets
	Consumed    uint64            `json:"consumed"` // by sinks
	Drops       map[string]uint64 `json:"drops"`
}

func (a *Account) count(s pipeline.Snapshot) {
	a.Drops = map[string]uint64{}
	a.Created, a.Teed, a.Consumed, a.Copied = s.Packets.Created, s.Packets.Teed, s.Packets.Consumed, s.Packets.Copied
	for name, n := range s.Packets.Drops {
		a.Drops[name] += n
	}
	for _, p := range s.Ports {
		a.Received += p.RxPackets
		a.Transmitted += p.TxPackets
		a.Copied += p.CopiedPackets
		for name, n := range p.Drops {
			a.Drops[name] += n
		}
	}
	for _, st := range s.Stages {
		for name, n := range st.Drops {
			a.Drops[name] += n
		}
	}
}

// String is the account in one line.
func (a Account) String() string {
	var drops []string
	for name, n := range a.Drops {
		drops = append(drops, fmt.Sprintf("%s %d", name, n))
	}
	slices.Sort(drops)
	if len(drops) == 0 {
		drops = []string{"none"}
	}
	verdict := "all returned"
	if a.Free != a.Frames {
		verdict = fmt.Sprintf("%d MISSING", a.Frames-a.Free)
	}
	within := ""
	for _, c := range []struct {
		name string
		n    uint64
	}{{"created", a.Created}, {"teed", a.Teed}, {"consumed", a.Consumed}} {
		if c.n > 0 {
			within += fmt.Sprintf(", %s %d", c.name, c.n)
		}
	}
	return fmt.Sprintf("account: frames %d, %s; packets received %d, transmitted %d, copied %d%s, dropped: %s",
		a.Frames, verdict, a.Received, a.Transmitted, a.Copied, within, strings.Join(drops, ", "))
}
