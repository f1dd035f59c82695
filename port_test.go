package xdpipe_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xdpipe/xdpipe"
	"github.com/xdpipe/xdpipe/bpf"
	"github.com/xdpipe/xdpipe/control"
	"github.com/xdpipe/xdpipe/internal/traffic"
	"github.com/xdpipe/xdpipe/lab"
	"github.com/xdpipe/xdpipe/pipeline"
)

// portConfig is a configuration of one port, with more of its keys, and workers.
func portConfig(t testing.TB, l *control.Link, keys string, workers int) *pipeline.Config {
	t.Helper()
	cfg, err := pipeline.ParseConfig("port.yaml", fmt.Appendf(nil, `
workers: {count: %d}
ports:
  p: {interface: %s, netns: %s, steer: all%s}
pipelines: [{from: p, stages: [count], to: p}]
`, workers, l.Name, l.Namespace.Name(), keys))
	must(t, err)
	return cfg
}

// portOptions are those of an instance with a run directory and, if it can have
// pins, a BPF file system of the test's own.
func portOptions(t testing.TB, pins bool) xdpipe.Options {
	t.Helper()
	o := options(t)
	if pins {
		o.BPFFS = t.TempDir()
		must(t, unix.Mount("bpf", o.BPFFS, "bpf", 0, ""))
		t.Cleanup(func() { must(t, unix.Unmount(o.BPFFS, 0)) })
	}
	return o
}

// vethWith makes a veth pair, up, with attributes that no lab has.
func vethWith(t testing.TB, ns *lab.NS, a netlink.LinkAttrs, peerQueues uint32) *control.Link {
	t.Helper()
	must(t, ns.Do(func() error {
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: a, PeerName: "b", PeerNumRxQueues: peerQueues, PeerNumTxQueues: peerQueues})
	}))
	for _, name := range []string{"b", "a"} {
		l, err := ns.Link(name)
		must(t, err)
		must(t, l.SetUp(true))
	}
	l, err := ns.Link("a")
	must(t, err)
	return l
}

func TestPinsOfADeletedInterfaceHinderNobody(t *testing.T) {
	l := lab.ForTest(t)
	ns := l.MustNamespace("pins")
	o := portOptions(t, true)
	for name, then := range map[string]func(t *testing.T, again *control.Link){
		"the next start removes them": func(t *testing.T, again *control.Link) {
			inst, err := xdpipe.Open(portConfig(t, again, "", 1), o)
			must(t, err)
			must(t, inst.Close())
		},
		"attach pins in their place": func(t *testing.T, again *control.Link) {
			att, err := xdpipe.AttachPinned(again, bpf.Policy{All: true}, control.AttachOptions{}, o.BPFFS)
			must(t, err)
			must(t, att.Detach())
			_, err = xdpipe.Detach(again, o.BPFFS)
			must(t, err)
		},
		"detach removes them": func(t *testing.T, again *control.Link) {
			_, err := xdpipe.Detach(again, o.BPFFS)
			must(t, err)
		},
		"a sweep removes them": func(t *testing.T, _ *control.Link) {
			removed, err := xdpipe.SweepPins(o.BPFFS)
			must(t, err)
			if len(removed) != 1 {
				t.Errorf("removed %v", removed)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			pair, err := l.Pair(lab.End{NS: ns, Name: "a"}, lab.End{NS: ns, Name: "b"}, lab.PairOptions{})
			must(t, err)
			att, err := xdpipe.AttachPinned(pair.A, bpf.Policy{All: true}, control.AttachOptions{}, o.BPFFS)
			must(t, err)
			must(t, att.Close())
			must(t, pair.A.Delete())
			again := vethWith(t, ns, netlink.LinkAttrs{Name: "a", Index: pair.A.Index}, 1)
			then(t, again)
			must(t, again.Delete())
			if left, _ := filepath.Glob(filepath.Join(o.BPFFS, "xdpipe", "*")); len(left) > 0 {
				t.Errorf("pins left: %v", left)
			}
		})
	}
}

func TestATakeOverThatFailsLeavesThePinnedProgramAsItWas(t *testing.T) {
	l := lab.ForTest(t)
	ns := l.MustNamespace("take")
	pair, err := l.Pair(lab.End{NS: ns, Name: "a"}, lab.End{NS: ns, Name: "b"}, lab.PairOptions{})
	must(t, err)
	o := portOptions(t, true)
	rule, err := bpf.ParseRule("icmp")
	must(t, err)
	att, err := xdpipe.AttachPinned(pair.A, bpf.Policy{Rules: []bpf.Rule{rule}}, control.AttachOptions{Mode: control.ModeNative}, o.BPFFS)
	must(t, err)
	id := att.ProgramID()
	must(t, att.Close())

	if inst, err := xdpipe.Open(portConfig(t, pair.A, ", mode: generic", 1), o); err == nil {
		must(t, inst.Close())
		t.Error("asked for generic mode, it took the program in native mode over")
	} else if !strings.Contains(err.Error(), "native mode") || !strings.Contains(err.Error(), "xdpipe detach a") {
		t.Errorf("the error: %v", err)
	}
	on, err := control.Attached(pair.A)
	must(t, err)
	if len(on) != 1 || on[0].ID != id {
		t.Errorf("attached now: %+v, want program %d", on, id)
	}
	removed, err := xdpipe.Detach(pair.A, o.BPFFS)
	if !removed || err != nil {
		t.Errorf("detach: %v, %v", removed, err)
	}
}

func TestGenericModeByFallbackTurnsOffGROAndPutsItBack(t *testing.T) {
	l := lab.ForTest(t)
	ns := l.MustNamespace("gro")
	// With fewer RX queues than the peer has TX queues, veth refuses native mode.
	a := vethWith(t, ns, netlink.LinkAttrs{Name: "a", NumRxQueues: 1, NumTxQueues: 1}, 2)
	must(t, ns.Do(func() error {
		e, err := ethtool.NewEthtool()
		if err != nil {
			return err
		}
		defer e.Close()
		return e.Change("a", map[string]bool{"rx-gro": true})
	}))

	inst, err := xdpipe.Open(portConfig(t, a, "", 1), portOptions(t, false))
	must(t, err)
	s := inst.Status().Interfaces[0]
	if s.Mode != "generic" || s.WhyNotNative == "" {
		t.Errorf("mode %s, because %q", s.Mode, s.WhyNotNative)
	}
	if !slices.Contains(s.OffloadsOff, "rx-gro") {
		t.Errorf("turned off: %v, not rx-gro", s.OffloadsOff)
	}
	on, err := control.OffloadState(a)
	must(t, err)
	if on["rx-gro"] {
		t.Error("rx-gro is on: packets arrive merged")
	}
	must(t, inst.Close())
	if on, err = control.OffloadState(a); err != nil || !on["rx-gro"] {
		t.Errorf("rx-gro is not on again (%v)", err)
	}
}

func TestWhatAnotherInstanceCannotUndoIsNoReasonNotToStart(t *testing.T) {
	l := lab.ForTest(t)
	ns := l.MustNamespace("stale")
	pair, err := l.Pair(lab.End{NS: ns, Name: "a"}, lab.End{NS: ns, Name: "b"}, lab.PairOptions{})
	must(t, err)
	o := portOptions(t, false)
	must(t, os.WriteFile(filepath.Join(o.RunDir, "other.journal"), []byte(`{"seq":1,"change":{"kind":"of a later version"}}`+"\n"), 0o600))
	inst, err := xdpipe.Open(portConfig(t, pair.A, "", 1), o)
	must(t, err)
	must(t, inst.Close())

	cfg := portConfig(t, pair.A, "", 1)
	cfg.Name = "other"
	_, err = xdpipe.Open(cfg, o)
	if err == nil || !strings.Contains(err.Error(), "of a later version") || !strings.Contains(err.Error(), "other.journal") {
		t.Errorf("started under the name of the other: %v", err)
	}
}

func TestAPortWithoutACarrierSaysSoFromTheStart(t *testing.T) {
	l := lab.ForTest(t)
	ns := l.MustNamespace("carrier")
	pair, err := l.Pair(lab.End{NS: ns, Name: "a"}, lab.End{NS: ns, Name: "b"}, lab.PairOptions{})
	must(t, err)
	must(t, pair.B.SetUp(false))
	inst, err := xdpipe.Open(portConfig(t, pair.A, "", 1), portOptions(t, false))
	must(t, err)
	if state := inst.Status().Ports[0].State; !strings.Contains(state, "link down") {
		t.Errorf("state %q", state)
	}
	must(t, inst.Close())
}

func TestThePlanNoticesWorkersWithoutAQueue(t *testing.T) {
	l := lab.ForTest(t)
	ns := l.MustNamespace("workers")
	pair, err := l.Pair(lab.End{NS: ns, Name: "a"}, lab.End{NS: ns, Name: "b"}, lab.PairOptions{})
	must(t, err)
	_, err = xdpipe.NewPlan(portConfig(t, pair.A, "", 2))
	if err == nil || !strings.Contains(err.Error(), "port.yaml:2:") || !strings.Contains(err.Error(), "worker 1 has nothing to do") {
		t.Errorf("the error: %v", err)
	}
}

func TestInstancesThatCannotBeListedAreAnError(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(dir, nil, 0o600))
	if _, err := xdpipe.Instances(t.Context(), dir); err == nil {
		t.Error("a run directory that cannot be read is taken for an empty one")
	}
	if all, err := xdpipe.Instances(t.Context(), dir+"x"); all == nil || len(all) > 0 || err != nil {
		t.Errorf("no run directory: %v, %v", all, err)
	}
}

func TestAnInstanceThatDoesNotAnswerIsNamed(t *testing.T) {
	dir := t.TempDir()
	silent, err := net.Listen("unix", filepath.Join(dir, "silent.sock"))
	must(t, err)
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = xdpipe.Instances(ctx, dir)
	if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "silent") || !strings.Contains(err.Error(), "stopped") {
		t.Errorf("the error: %v", err)
	}
}

func TestAPortThatNoPipelineReadsLeavesItsPacketsToTheKernel(t *testing.T) {
	l := lab.ForTest(t)
	line, err := l.Line(lab.Topology{})
	if err != nil {
		t.Fatal(err)
	}
	ns := line.Xdpipe.Namespace.Name()
	cfg, err := pipeline.ParseConfig("test", []byte(fmt.Sprintf(`
ports:
  a: {interface: veth-a, netns: %s, steer: all}
  b: {interface: veth-b, netns: %s, steer: all}
pipelines:
  - {from: a, stages: [count], to: b}
`, ns, ns)))
	if err != nil {
		t.Fatal(err)
	}
	inst, err := xdpipe.Open(cfg, xdpipe.Options{RunDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer inst.Close()
	// The kernel in the middle has an address on the port that is only written to.
	if err := line.PortB.AddAddress(netip.MustParsePrefix("198.51.100.9/24")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- inst.Run(ctx) }()
	r, err := traffic.ICMP(ctx, peer(line.Server, line.ServerLink, "198.51.100.2"), peer(line.Xdpipe, line.PortB, "198.51.100.9"), traffic.Options{Count: 50})
	if err != nil {
		t.Errorf("the kernel does not answer on the port: %v (%+v)", err, r)
	}
	for _, i := range inst.Status().Interfaces {
		if i.Port == "b" && i.Steering["redirect"].Packets != 0 {
			t.Errorf("port b took packets that no pipeline reads: %+v", i.Steering)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := inst.Close(); err != nil {
		t.Error(err)
	}
}

func peer(ns *lab.NS, l *control.Link, addr string) traffic.Peer {
	return traffic.Peer{NS: ns, Interface: l.Name, MAC: l.MAC, IPv4: netip.MustParseAddr(addr)}
}
