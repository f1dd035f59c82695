package pipeline

import (
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/xdpipe/xdpipe/filter"
	"github.com/xdpipe/xdpipe/xsk"
)

// PortConfigs are the ports in the order of the file.
type PortConfigs []PortConfig

// PortConfig is one interface to receive from and transmit to.
type PortConfig struct {
	Name      string
	Interface string         `yaml:"interface" required:"true"`
	NetNS     string         `yaml:"netns"`           // name or path of a network namespace; "" is the process's own
	Queues    QueuesConfig   `yaml:"queues"`          // all, or a list
	Workers   []int          `yaml:"workers" min:"0"` // that own the queues, in their order; none: dealt out
	Steer     SteerConfig    `yaml:"steer" required:"true" doc:"all, rules such as protocol=udp,dst_port=53, or {filter: udp port 53}"`
	Mode      string         `yaml:"mode"`      // native, generic, or auto ("")
	ZeroCopy  ZeroCopyConfig `yaml:"zero_copy"` // prefer, require, never
	BusyPoll  bool           `yaml:"busy_poll"`
	Rings     RingsConfig    `yaml:"rings"`
	Promisc   PinConfig      `yaml:"promiscuous"` // false: only frames for the interface's own address
	Replace   bool           `yaml:"replace"`     // replace another XDP program
	Insist    bool           `yaml:"insist"`      // take the default route's interface though the rules are not selective
	Pos       Pos
}

// RingsConfig are ring sizes in descriptors; 0 is the default.
type RingsConfig struct {
	Rx         int `yaml:"rx" min:"0"`
	Tx         int `yaml:"tx" min:"0"`
	Fill       int `yaml:"fill" min:"0"`
	Completion int `yaml:"completion" min:"0"`
}

// ZeroCopyConfig is an xsk.ZeroCopy as configurations write it.
type ZeroCopyConfig struct{ xsk.ZeroCopy }

// UnmarshalText reads prefer, require or never.
func (z *ZeroCopyConfig) UnmarshalText(b []byte) (err error) {
	z.ZeroCopy, err = xsk.ParseZeroCopy(string(b))
	return err
}

// QueuesConfig is a choice of queues: all if List is empty.
type QueuesConfig struct {
	List []int
	Pos  Pos
}

func (q *QueuesConfig) decodeNode(d *decoder, n *yaml.Node) {
	q.Pos = posOf(n)
	items := []*yaml.Node{n}
	switch {
	case n.Kind == yaml.ScalarNode && n.Value == "all":
		return
	case n.Kind == yaml.SequenceNode && len(n.Content) > 0:
		items = n.Content
	}
	for _, item := range items {
		item = resolve(item)
		queue, err := strconv.Atoi(item.Value)
		switch {
		case item.Kind != yaml.ScalarNode || err != nil || queue < 0:
			d.errorf(posOf(item), "queues: found %s, want all, or the numbers of queues, from 0", describe(item))
		case slices.Contains(q.List, queue):
			d.errorf(posOf(item), "queues: queue %d is there twice", queue)
		}
		q.List = append(q.List, queue)
	}
}

// SteerConfig says which packets a port takes from the kernel: all, or those
// that rules and, of what no rule matches, a filter choose. Rules are in the text
// form of package bpf.
type SteerConfig struct {
	All    bool
	Rules  []SteerRule
	Filter SteerFilter
	Pos    Pos
}

// A SteerRule is the text of a rule and where it stands.
type SteerRule struct {
	Text string
	Pos  Pos
}

// A SteerFilter is an expression of the pcap-filter language, which was compiled
// to see that it can be, and where it stands. Without one Text is empty.
type SteerFilter struct {
	Text string
	Pos  Pos
}

func (s *SteerConfig) decodeNode(d *decoder, n *yaml.Node) {
	s.Pos = posOf(n)
	items := []*yaml.Node{n}
	switch {
	case n.Kind == yaml.ScalarNode && n.Value == "all":
		s.All = true
		return
	case n.Kind == yaml.SequenceNode && len(n.Content) > 0:
		items = n.Content
	}
	for _, item := range items {
		item = resolve(item)
		if isFilter(item) {
			if s.Filter.Pos != (Pos{}) {
				d.errorf(posOf(item), "steer: a second filter; join the expressions with or")
				continue
			}
			s.Filter.decodeNode(d, item)
			continue
		}
		text, ok := steerText(item)
		switch {
		case !ok:
			d.errorf(posOf(item), "steer: found %s, want all, a rule such as protocol=udp,dst_port=53, a filter such as {filter: udp port 53}, or a list of them", describe(item))
		case s.Filter.Pos != (Pos{}):
			d.errorf(posOf(item), "steer: a rule after the filter; rules are tried before it, so write it before it")
		}
		s.Rules = append(s.Rules, SteerRule{text, posOf(item)})
	}
}

const filterKey = "filter"

// isFilter tells a filter from a rule: a mapping with the key filter.
func isFilter(n *yaml.Node) bool {
	for i := 0; n.Kind == yaml.MappingNode && i < len(n.Content); i += 2 {
		if n.Content[i].Value == filterKey {
			return true
		}
	}
	return false
}

func (f *SteerFilter) decodeNode(d *decoder, n *yaml.Node) {
	f.Pos = posOf(n)
	if len(n.Content) != 2 {
		d.errorf(f.Pos, "steer: a filter has one key, filter; write rules as other items of a list, before it")
		return
	}
	value := resolve(n.Content[1])
	f.Pos = posOf(value)
	if value.Kind != yaml.ScalarNode || isNull(value) || strings.TrimSpace(value.Value) == "" {
		d.errorf(f.Pos, "steer: filter: found %s, want an expression such as udp port 53; for all packets write steer: all", describe(value))
		return
	}
	f.Text = value.Value
	_, err := filter.Compile(f.Text)
	var wrong *filter.Error
	if !errors.As(err, &wrong) {
		return
	}
	if at, ok := d.within(value, wrong.Column-1); ok {
		d.errorf(at, "steer: filter: %s", wrong.Message)
	} else {
		d.errorf(f.Pos, "steer: filter: column %d of the expression: %s", wrong.Column, wrong.Message)
	}
}

// steerText returns the text form of a rule, which may be a mapping:
// {protocol: udp, dst_port: 53} is protocol=udp,dst_port=53.
func steerText(n *yaml.Node) (text string, ok bool) {
	switch {
	case n.Kind == yaml.ScalarNode && !isNull(n) && n.Value != "":
		return n.Value, true
	case n.Kind != yaml.MappingNode || len(n.Content) == 0:
		return "", false
	}
	var parts []string
	for i := 0; i+1 < len(n.Content); i += 2 {
		value := resolve(n.Content[i+1])
		if value.Kind != yaml.ScalarNode || isNull(value) {
			return "", false
		}
		parts = append(parts, n.Content[i].Value+"="+value.Value)
	}
	return strings.Join(parts, ","), true
}

func (p *PortConfigs) decodeNode(d *decoder, n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		d.errorf(posOf(n), "ports: found %s, want a mapping from names to ports", describe(n))
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		port := PortConfig{Name: key.Value}
		if slices.ContainsFunc(*p, func(other PortConfig) bool { return other.Name == port.Name }) {
			d.errorf(posOf(key), "ports: port %q is there twice", port.Name)
		}
		at := d.decodeStruct(value, reflect.ValueOf(&port).Elem(), "yaml", "port "+port.Name)
		if modes := []string{"", "auto", "native", "generic"}; !slices.Contains(modes, port.Mode) {
			d.unknown(at["mode"], "port "+port.Name, "mode", port.Mode, modes[1:])
		}
		port.Pos = posOf(key)
		*p = append(*p, port)
	}
}
