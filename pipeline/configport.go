package pipeline

import (
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

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
	Steer     SteerConfig    `yaml:"steer" required:"true" doc:"all, or rules such as protocol=udp,dst_port=53"`
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
// that rules choose. Rules are in the text form of package bpf.
type SteerConfig struct {
	All   bool
	Rules []SteerRule
	Pos   Pos
}

// A SteerRule is the text of a rule and where it stands.
type SteerRule struct {
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
		text, ok := steerText(item)
		if !ok {
			d.errorf(posOf(item), "steer: found %s, want all, a rule such as protocol=udp,dst_port=53, or a list of rules", describe(item))
		}
		s.Rules = append(s.Rules, SteerRule{text, posOf(item)})
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
