package xdpipe

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/xdpipe/xdpipe/bpf"
	"github.com/xdpipe/xdpipe/control"
	"github.com/xdpipe/xdpipe/pipeline"
	"github.com/xdpipe/xdpipe/umem"
	"github.com/xdpipe/xdpipe/xsk"
)

// port is an interface in use: what was changed about it, its program and its
// sockets.
type port struct {
	plan     PortPlan
	claims   []*control.QueueClaim
	offloads *control.Offloads
	promisc  *control.Promiscuous
	steering *bpf.Steering
	attached *control.Attachment
	adopted  *bpf.Policy // of a pinned program: to be put back at the end
	queues   []pipeline.Queue
	state    linkState

	silenceOnce sync.Once
	silenceErr  error
}

// openPort prepares the interface, attaches the program and opens the sockets.
// On failure the port is returned all the same, for close to undo what was done.
func openPort(plan PortPlan, mem *umem.Memory, j *control.Journal, bpffs string) (*port, error) {
	p := &port{plan: plan}
	p.state.set("up")
	for _, q := range plan.Queues {
		claim, err := control.Claim(j.Dir(), j.Instance(), plan.Link, q)
		if err != nil {
			return p, err
		}
		p.claims = append(p.claims, claim)
	}
	// Before the program: drivers refuse it while packets are merged (LRO).
	var err error
	if p.offloads, err = control.DisableOffloads(plan.Link, j, control.PortOffloads(plan.Mode)); err != nil {
		return p, err
	}
	// With no sockets in its map the program passes everything to the kernel.
	if err := p.attach(bpffs); err != nil {
		return p, err
	}
	if plan.Promiscuous {
		if p.promisc, err = control.NewPromiscuous(plan.Link); err != nil {
			return p, err
		}
	}
	for _, q := range plan.Queues {
		if err := p.openQueue(q, mem); err != nil {
			return p, err
		}
	}
	return p, nil
}

// attach takes over the program that is pinned for the interface, or attaches
// one that ends with the process.
func (p *port) attach(bpffs string) error {
	dir := pinDir(bpffs, p.plan.Link)
	steering, err := bpf.LoadPinned(dir)
	if err == nil {
		p.steering = steering
		if p.attached, err = control.OpenAttachment(p.plan.Link.Namespace, filepath.Join(dir, linkPin)); err != nil {
			return fmt.Errorf("%s has a pinned program that cannot be taken over: %w; remove it with: xdpipe detach %s", p.plan.Link, err, p.plan.Link.Name)
		}
		policy := steering.Policy()
		p.adopted = &policy
		return steering.SetPolicy(p.plan.Policy)
	}
	if !errors.Is(err, bpf.ErrNotPinned) {
		return fmt.Errorf("pinned program of %s: %w; remove it with: xdpipe detach %s", p.plan.Link, err, p.plan.Link.Name)
	}
	// Sized for what the device can be set to, so that more channels later fit.
	if p.steering, err = bpf.Load(bpf.Options{Queues: max(p.plan.Link.RXQueues, p.plan.DeviceQueues)}); err != nil {
		return err
	}
	if err := p.steering.SetPolicy(p.plan.Policy); err != nil {
		return err
	}
	p.attached, err = control.Attach(p.plan.Link, p.steering.Program(), control.AttachOptions{Mode: p.plan.Mode, Replace: p.plan.Replace})
	return err
}

// openQueue opens the socket of one queue and gives it to the program.
func (p *port) openQueue(queue int, mem *umem.Memory) error {
	var sock *xsk.Socket
	err := p.plan.Link.Namespace.Do(func() (err error) {
		sock, err = xsk.Open(mem, p.plan.Link.Index, queue, p.plan.Socket)
		return err
	})
	if errors.Is(err, unix.EBUSY) {
		if holders, _ := control.Holder("", p.plan.Link, queue); len(holders) > 0 {
			err = fmt.Errorf("%w (held by: %v)", err, holders)
		}
	}
	if err != nil {
		return err
	}
	p.queues = append(p.queues, pipeline.NewXSK(sock, p.plan.Link.Name, string(p.attached.Mode())))
	return p.steering.Register(queue, sock.FD())
}

// silence takes the interface's packets away from the sockets, before they are
// closed: what arrives from then on is the kernel's. It may be called again.
func (p *port) silence() error {
	p.silenceOnce.Do(func() {
		var errs []error
		if p.steering != nil {
			for _, q := range p.plan.Queues[:len(p.queues)] {
				errs = append(errs, p.steering.Unregister(q))
			}
			if p.adopted != nil {
				errs = append(errs, p.steering.SetPolicy(*p.adopted))
			}
		}
		if p.attached != nil && p.adopted == nil {
			errs = append(errs, p.attached.Detach())
		}
		p.silenceErr = errors.Join(errs...)
	})
	return p.silenceErr
}

// close undoes everything that openPort did but the sockets, which are the
// engine's.
func (p *port) close() error {
	var errs []error // silence was called before
	if p.attached != nil {
		errs = append(errs, p.attached.Close())
	}
	if p.steering != nil {
		errs = append(errs, p.steering.Close())
	}
	if p.promisc != nil {
		errs = append(errs, p.promisc.Close())
	}
	if p.offloads != nil {
		errs = append(errs, p.offloads.Restore())
	}
	for _, c := range p.claims {
		errs = append(errs, c.Close())
	}
	p.attached, p.steering, p.promisc, p.offloads, p.claims = nil, nil, nil, nil, nil
	return errors.Join(errs...)
}

// DefaultBPFFS is where a BPF file system is usually mounted.
const DefaultBPFFS = "/sys/fs/bpf"

// linkPin is the name of the pinned attachment beside the program's pins.
const linkPin = "link"

// pinDir is where the pins of an interface are: by its namespace and index,
// since names repeat.
func pinDir(bpffs string, l *control.Link) string {
	if bpffs == "" {
		bpffs = DefaultBPFFS
	}
	return filepath.Join(bpffs, "xdpipe", fmt.Sprintf("%d-%d", l.Namespace.Cookie(), l.Index))
}

// AttachPinned attaches the steering program to the interface with the policy
// and pins it, its maps and the attachment below bpffs ("" is DefaultBPFFS), so
// that they outlive the process. Instances that run on the interface take it
// over. Until one does, what the policy redirects passes to the kernel.
func AttachPinned(l *control.Link, policy bpf.Policy, opts control.AttachOptions, bpffs string) (_ *control.Attachment, err error) {
	steering, err := bpf.Load(bpf.Options{Queues: max(l.RXQueues, 1)})
	if err != nil {
		return nil, err
	}
	defer steering.Close()
	if err := steering.SetPolicy(policy); err != nil {
		return nil, err
	}
	att, err := control.Attach(l, steering.Program(), opts)
	if err != nil {
		return nil, err
	}
	dir := pinDir(bpffs, l)
	if err = steering.Pin(dir); err == nil {
		err = att.Pin(filepath.Join(dir, linkPin))
	}
	if err != nil {
		return nil, errors.Join(err, att.Detach(), bpf.Unpin(dir))
	}
	return att, nil
}

// Detach removes the steering program that AttachPinned left on the interface,
// and its pins, and also one whose pins are gone. It reports whether there was
// one. A program that a running instance holds is left alone, with an error.
func Detach(l *control.Link, bpffs string) (bool, error) {
	dir := pinDir(bpffs, l)
	att, err := control.OpenAttachment(l.Namespace, filepath.Join(dir, linkPin))
	pinned := err == nil
	if pinned {
		err = att.Detach()
	} else if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if err := errors.Join(err, bpf.Unpin(dir)); err != nil {
		return pinned, err
	}
	left, err := control.Attached(l)
	if err != nil {
		return pinned, err
	}
	for _, p := range left {
		switch {
		case !p.Ours():
		case len(p.Owners) > 0:
			return pinned, fmt.Errorf("the program on %s belongs to a running instance (pid %v): stop that instead", l, p.Owners)
		default:
			if err := control.DetachProgram(l, p); err != nil {
				return pinned, err
			}
			pinned = true
		}
	}
	return pinned, nil
}
