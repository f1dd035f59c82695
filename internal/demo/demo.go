// Package demo is `xdpipe demo`: real traffic between two network namespaces,
// forwarded by xdpipe, with every check a sentence of what it promises.
//
//	client ⇄ veth-a [xdpipe] veth-b ⇄ server
//
// The client and server are the kernel's own TCP/IP stacks. Beside it the same
// transfer runs over a Linux bridge, for comparison in the same run.
package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/xdpipe/xdpipe"
	"github.com/xdpipe/xdpipe/control"
	"github.com/xdpipe/xdpipe/internal/traffic"
	"github.com/xdpipe/xdpipe/lab"
	"github.com/xdpipe/xdpipe/pipeline"
	_ "github.com/xdpipe/xdpipe/pipeline/stages" // the demo's pipeline uses them
)

// Options shape a demo. The zero value is the whole of it.
type Options struct {
	RunDir string // "" is control.DefaultRunDir
	// Scale divides packet and byte counts, for tests; 0 is 1.
	Scale int
	Log   *slog.Logger
	// Report, if set, is called with each check when it ends, and Progress
	// about ten times a second while one runs.
	Report   func(Check)
	Progress func(check string, packets, bytes uint64)
}

// A Check is one promise, and whether it was kept.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// A Result is all checks. OK is true only if every one passed.
type Result struct {
	OK     bool    `json:"ok"`
	Checks []Check `json:"checks"`
}

// prefix begins the names of the demo's namespaces. A new demo removes what one
// that was killed left behind.
const prefix = "xdpdemo"

// stages are what each packet passes, in both directions.
const stages = "[parse, count]"

// Run builds the topology, runs all checks and takes everything down again. It
// returns an error only if the demo could not be carried out; a check that
// failed is in the Result.
func Run(ctx context.Context, o Options) (*Result, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("demo: needs root, or CAP_SYS_ADMIN for network namespaces and CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and CAP_PERFMON for the forwarder: run it with sudo")
	}
	d := &demo{opts: o, result: &Result{OK: true}}
	if d.opts.Scale < 1 {
		d.opts.Scale = 1
	}
	if d.opts.Log == nil {
		d.opts.Log = slog.New(slog.DiscardHandler)
	}
	var err error
	if d.lab, err = lab.New(lab.Options{Prefix: prefix, RunDir: o.RunDir}); err != nil {
		return nil, err
	}
	if err = d.run(ctx); err != nil {
		err = fmt.Errorf("demo: %w", err)
	}
	if e := d.lab.Close(); e != nil {
		err = errors.Join(err, fmt.Errorf("demo: clean up: %w", e))
	}
	if err != nil {
		return nil, err
	}
	return d.result, nil
}

type demo struct {
	opts   Options
	lab    *lab.Lab
	line   *lab.Line
	inst   *xdpipe.Instance
	result *Result
}

func (d *demo) run(ctx context.Context) (err error) {
	if d.line, err = d.lab.Line(lab.Topology{}); err != nil {
		return err
	}
	if err := d.open(); err != nil {
		return err
	}
	// From here on the forwarder is closed in any case, and its end is a check.
	runCtx, stop := context.WithCancel(ctx)
	defer stop()
	var runErr error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runErr = d.inst.Run(runCtx)
	}()
	d.checks(ctx, ended)
	d.account()
	stop()
	<-ended
	if err := d.inst.Close(); err != nil {
		d.report("closed", err, "")
	} else {
		acct := d.inst.Account()
		d.report("closed", frames(acct), acct.String())
	}
	if runErr != nil && ctx.Err() == nil {
		d.report("forwarder", runErr, "")
	}
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted before all checks were made: %w", ctx.Err())
	}
	return nil
}

func frames(a xdpipe.Account) error {
	if a.Free != a.Frames {
		return fmt.Errorf("%s", a)
	}
	return nil
}

// open starts the forwarder on the two ports.
func (d *demo) open() error {
	ns := d.line.Xdpipe.Namespace.Name()
	text := fmt.Sprintf(`
name: demo-%d
memory: {frame_size: 4096}   # the demo raises the MTU to 3,000 later
# Rings for a tenth of a second of datagrams, since the forwarder has to share
# two cores with everything that the demo compares it with.
ports:
  a: {interface: %s, netns: %s, steer: all, mode: native, rings: {rx: 4096, fill: 4096}}
  b: {interface: %s, netns: %s, steer: all, mode: native, rings: {rx: 4096, fill: 4096}}
pipelines:
  - {from: a, stages: %s, to: b}
  - {from: b, stages: %s, to: a}
`, os.Getpid(), d.line.PortA.Name, ns, d.line.PortB.Name, ns, stages, stages)
	cfg, err := pipeline.ParseConfig("demo", []byte(text))
	if err != nil {
		return err
	}
	d.inst, err = xdpipe.Open(cfg, xdpipe.Options{RunDir: d.opts.RunDir, Log: d.opts.Log})
	if err != nil {
		return err
	}
	s := d.inst.Status()
	d.report("forwarder", nil, fmt.Sprintf("%d frames of %d bytes on %s pages; %s XDP on both ports; zero-copy %v",
		s.Memory.Frames, s.Memory.FrameSize, s.Memory.Pages, s.Interfaces[0].Mode, s.Ports[0].ZeroCopy))
	return nil
}

// report adds a check to the result.
func (d *demo) report(name string, err error, detail string) {
	c := Check{Name: name, OK: err == nil, Detail: detail}
	if err != nil {
		c.Detail = err.Error()
		d.result.OK = false
	}
	d.result.Checks = append(d.result.Checks, c)
	if d.opts.Report != nil {
		d.opts.Report(c)
	}
}

// checkFunc is a check of package traffic.
type checkFunc func(context.Context, traffic.Peer, traffic.Peer, traffic.Options) (traffic.Result, error)

// check runs one and reports it. The result is zero if it failed.
func (d *demo) check(ctx context.Context, name string, f checkFunc, client, server traffic.Peer, o traffic.Options) traffic.Result {
	if ctx.Err() != nil {
		return traffic.Result{}
	}
	if d.opts.Progress != nil {
		o.Progress = func(packets, bytes uint64) { d.opts.Progress(name, packets, bytes) }
		o.Progress(0, 0)
	}
	r, err := f(ctx, client, server, o)
	if ctx.Err() != nil {
		return traffic.Result{}
	}
	d.report(name, err, r.Detail)
	return r
}

const (
	count    = 1000      // packets of each kind
	udpCount = 200_000   // datagrams
	udpRate  = 40_000    // a second: below what two cores can send, forward and receive
	tcpBytes = 256 << 20 // each way
)

// checks runs all traffic, unless the forwarder ends before.
func (d *demo) checks(ctx context.Context, ended <-chan struct{}) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	client, server := d.peers(d.line)
	n := traffic.Options{Count: max(count/d.opts.Scale, 10)}
	d.check(ctx, "arp", traffic.ARP, client, server, n)
	d.check(ctx, "neighbour discovery", traffic.ND, client, server, n)
	d.check(ctx, "icmp echo", traffic.ICMP, client, server, n)
	d.check(ctx, "icmpv6 echo", traffic.ICMPv6, client, server, n)
	d.tcp(ctx, client, server)
	rate := udpRate
	if d.inst.Verifying() {
		rate /= 8 // the ledger checks each step of each frame
	}
	d.check(ctx, "udp", traffic.UDP, client, server, traffic.Options{Count: max(udpCount/d.opts.Scale, 100), Rate: rate})
	d.check(ctx, "vlan", traffic.VLAN, client, server, n)
	d.large(ctx, client, server, n)
}

// tcp transfers over IPv4 and IPv6 through the forwarder, and over a bridge in
// between, so that all see the same machine.
func (d *demo) tcp(ctx context.Context, client, server traffic.Peer) {
	bclient, bserver, err := d.bridge()
	if err != nil {
		d.report("bridge", err, "")
		return
	}
	for _, v6 := range []bool{false, true} {
		o := traffic.Options{Bytes: max(tcpBytes/int64(d.opts.Scale), 1<<20), IPv6: v6}
		family := "ipv4"
		if v6 {
			family = "ipv6"
		}
		r := d.check(ctx, "tcp "+family, traffic.TCP, client, server, o)
		b := d.check(ctx, "tcp "+family+" over a bridge", traffic.TCP, bclient, bserver, o)
		if b.BitsPerSecond() > 0 && r.BitsPerSecond() > 0 {
			d.report("throughput "+family, nil, fmt.Sprintf("xdpipe %.2f Gb/s, Linux bridge with segmentation offload %.2f Gb/s (both directions added)",
				r.BitsPerSecond()/1e9, b.BitsPerSecond()/1e9))
		}
	}
}

// bridge builds the same line with a Linux bridge in the place of xdpipe.
func (d *demo) bridge() (client, server traffic.Peer, err error) {
	var ns [3]*lab.NS
	for i, name := range []string{"bridged-client", "bridge", "bridged-server"} {
		if ns[i], err = d.lab.Namespace(name); err != nil {
			return
		}
	}
	t := lab.DefaultTopology()
	left, err := d.lab.Pair(lab.End{NS: ns[0], Name: lab.ClientLink, Addrs: t.Client}, lab.End{NS: ns[1], Name: "br-a"}, lab.PairOptions{})
	if err != nil {
		return
	}
	right, err := d.lab.Pair(lab.End{NS: ns[1], Name: "br-b"}, lab.End{NS: ns[2], Name: lab.ServerLink, Addrs: t.Server}, lab.PairOptions{})
	if err != nil {
		return
	}
	if _, err = ns[1].Bridge("br0", left.B, right.A); err != nil {
		return
	}
	client, server = d.peers(&lab.Line{Client: ns[0], Server: ns[2], ClientLink: left.A, ServerLink: right.B})
	return client, server, nil
}

// peers are the two hosts of a line with the usual addresses.
func (d *demo) peers(line *lab.Line) (client, server traffic.Peer) {
	t := lab.DefaultTopology()
	client = traffic.Peer{NS: line.Client, Interface: line.ClientLink.Name, MAC: line.ClientLink.MAC,
		IPv4: t.Client[0].Addr(), IPv6: t.Client[1].Addr()}
	server = traffic.Peer{NS: line.Server, Interface: line.ServerLink.Name, MAC: line.ServerLink.MAC,
		IPv4: t.Server[0].Addr(), IPv6: t.Server[1].Addr()}
	return client, server
}

// large raises the MTU on the whole line and sends frames of 3,000 bytes.
func (d *demo) large(ctx context.Context, client, server traffic.Peer, o traffic.Options) {
	const frame = 3000
	for _, l := range []*control.Link{d.line.PortA, d.line.PortB, d.line.ClientLink, d.line.ServerLink} {
		if err := l.SetMTU(frame); err != nil {
			d.report("frames of 3000 bytes", err, "")
			return
		}
	}
	o.FrameSize = frame
	d.check(ctx, "frames of 3000 bytes", traffic.Large, client, server, o)
}

// account holds the forwarder's counters against each other.
func (d *demo) account() {
	s := d.inst.Status()
	var wrong []string
	places := s.Memory.Places
	if places.Sum() != places.Total {
		wrong = append(wrong, fmt.Sprintf("places add up to %d of %d frames", places.Sum(), places.Total))
	}
	var rx, tx, copied, dropped uint64
	var drops []string
	note := func(where string, reasons map[string]uint64) {
		for name, n := range reasons {
			dropped += n
			drops = append(drops, fmt.Sprintf("%s %s %d", where, name, n))
			if s.Reasons[name] == "" {
				wrong = append(wrong, fmt.Sprintf("drops without an explained reason: %s %s", where, name))
			}
		}
	}
	for _, p := range s.Ports {
		rx, tx, copied = rx+p.RxPackets, tx+p.TxPackets, copied+p.CopiedPackets
		kernel := pipeline.KernelDrops(p)
		for name, n := range p.Drops {
			if _, ok := kernel[name]; ok {
				drops = append(drops, fmt.Sprintf("%s %s %d", p.Interface, name, n)) // before it was received
				continue
			}
			note(p.Interface, map[string]uint64{name: n})
		}
	}
	for _, st := range s.Stages {
		note(st.Name, st.Drops)
	}
	if copied != 0 {
		wrong = append(wrong, fmt.Sprintf("copied_packets is %d, want 0", copied))
	}
	if rx != tx+dropped {
		wrong = append(wrong, fmt.Sprintf("received %d, but transmitted %d and dropped %d", rx, tx, dropped))
	}
	if len(drops) == 0 {
		drops = []string{"none"}
	}
	detail := fmt.Sprintf("received %d = transmitted %d + dropped %d; copied_packets %d; %d frames = free %d + fill %d + rx %d + tx %d + completion %d + batch %d; drops: %s",
		rx, tx, dropped, copied, places.Total, places.Free, places.Fill, places.Rx, places.Tx, places.Completion, places.Batch, strings.Join(drops, ", "))
	var err error
	if len(wrong) > 0 {
		err = fmt.Errorf("%s (%s)", strings.Join(wrong, "; "), detail)
	}
	d.report("account", err, detail)
}

// Timeout bounds a whole demo.
const Timeout = 3 * time.Minute
