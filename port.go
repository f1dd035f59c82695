package xdpipe

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
	offloads []*control.Offloads
	promisc  *control.Promiscuous
	steering *bpf.Steering
	attached *control.Attachment
	adopted  *bpf.Policy // of a pinned program: to be put back at the end
	queues   []pipeline.Queue
	state    linkState

	sockets    []int // descriptors, by queue of the plan; the queues own them
	registered []int // queues whose sockets the program was told of

	silenceOnce sync.Once
	silenceErr  error
}

// openPort prepares the interface, attaches the program and opens the sockets.
// On failure the port is returned all the same, for close to undo what was done.
func openPort(plan PortPlan, mem *umem.Memory, j *control.Journal, bpffs string) (*port, error) {
	p := &port{plan: plan}
	p.state.set(stateUp)
	if !plan.Link.Running {
		p.state.set(stateDown)
	}
	for _, q := range plan.Queues {
		claim, err := control.Claim(j.Dir(), j.Instance(), plan.Link, q)
		if err != nil {
			return p, err
		}
		p.claims = append(p.claims, claim)
	}
	// Before the program: drivers refuse it while packets are merged (LRO).
	before := control.PortOffloads(plan.Mode)
	if err := p.disableOffloads(before, j); err != nil {
		return p, err
	}
	// With no sockets in its map the program passes everything to the kernel.
	if err := p.attach(bpffs, j); err != nil {
		return p, err
	}
	// Mode auto may have ended in generic, which needs more of them off.
	after := slices.DeleteFunc(control.PortOffloads(p.attached.Mode()), func(name string) bool { return slices.Contains(before, name) })
	if err := p.disableOffloads(after, j); err != nil {
		return p, err
	}
	if plan.Promiscuous {
		var err error
		if p.promisc, err = control.NewPromiscuous(plan.Link); err != nil {
			return p, err
		}
	}
	for _, q := range plan.Queues {
		if err := p.openQueue(q, mem, j.Dir()); err != nil {
			return p, err
		}
	}
	// Unless no pipeline takes packets from the port: what arrives there stays with
	// the kernel.
	if plan.Receives {
		return p, p.register()
	}
	return p, nil
}

// disableOffloads turns off those of the named features that are on.
func (p *port) disableOffloads(names []string, j *control.Journal) error {
	if len(names) == 0 {
		return nil
	}
	o, err := control.DisableOffloads(p.plan.Link, j, names)
	if err == nil {
		p.offloads = append(p.offloads, o)
	}
	return err
}

// attach takes over the program that is pinned for the interface, or attaches
// one that ends with the process.
func (p *port) attach(bpffs string, j *control.Journal) error {
	dir := pinDir(bpffs, p.plan.Link)
	if _, err := dropGonePins(dir); err != nil {
		return err
	}
	steering, err := bpf.LoadPinned(dir)
	if err == nil {
		p.steering = steering
		if p.attached, err = control.OpenAttachment(p.plan.Link.Namespace, filepath.Join(dir, linkPin)); err != nil {
			return fmt.Errorf("%s has a pinned program that cannot be taken over: %w; remove it with: xdpipe detach %s", p.plan.Link, err, p.plan.Link.Name)
		}
		// From here on it is left as it was found, whatever fails.
		policy := steering.Policy()
		p.adopted = &policy
		if m := p.plan.Mode; m != control.ModeAuto && m != p.attached.Mode() {
			return fmt.Errorf("%s has a pinned program in %s mode, and %s mode was asked for; ask for %s or auto, or remove it with: xdpipe detach %s",
				p.plan.Link, p.attached.Mode(), m, p.attached.Mode(), p.plan.Link.Name)
		}
		c, err := control.NewChange(policyKind, p.plan.Link, pinnedPolicy{dir, policy})
		if err != nil {
			return err
		}
		if _, err := j.Record(c); err != nil {
			return err
		}
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

// openQueue opens the socket of one queue.
func (p *port) openQueue(queue int, mem *umem.Memory, runDir string) error {
	var sock *xsk.Socket
	err := p.plan.Link.Namespace.Do(func() (err error) {
		sock, err = xsk.Open(mem, p.plan.Link.Index, queue, p.plan.Socket)
		return err
	})
	if errors.Is(err, unix.EBUSY) {
		// Our own claims are not the answer; they end with this failure anyway.
		for _, c := range p.claims {
			err = errors.Join(err, c.Close())
		}
		if holders, _ := control.Holder(runDir, p.plan.Link, queue); len(holders) > 0 {
			err = fmt.Errorf("%w (held by: %v)", err, holders)
		}
	}
	if err != nil {
		return err
	}
	p.queues = append(p.queues, pipeline.NewXSK(sock, p.plan.Link.Name, string(p.attached.Mode())))
	p.sockets = append(p.sockets, sock.FD())
	return nil
}

// register gives the program the sockets of all queues.
func (p *port) register() error {
	for i, fd := range p.sockets {
		if slices.Contains(p.registered, p.plan.Queues[i]) {
			continue // what a reload that failed half way left
		}
		if err := p.steering.Register(p.plan.Queues[i], fd); err != nil {
			return fmt.Errorf("port %s: %w", p.plan.Name, err)
		}
		p.registered = append(p.registered, p.plan.Queues[i])
	}
	return nil
}

// silence takes the interface's packets away from the sockets, before they are
// closed: what arrives from then on is the kernel's. It may be called again.
func (p *port) silence() error {
	p.silenceOnce.Do(func() {
		var errs []error
		if p.steering != nil {
			for _, q := range p.registered {
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
	for _, o := range p.offloads {
		errs = append(errs, o.Restore())
	}
	for _, c := range p.claims {
		errs = append(errs, c.Close())
	}
	p.attached, p.steering, p.promisc, p.offloads, p.claims = nil, nil, nil, nil, nil
	return errors.Join(errs...)
}

// policyKind is the journal's name for the policy of a pinned program that an
// instance has taken over.
const policyKind = "pinned-policy"

// pinnedPolicy is what the journal keeps of it.
type pinnedPolicy struct {
	Pins   string     `json:"pins"`
	Policy bpf.Policy `json:"policy"`
}

func init() { control.RegisterUndo(policyKind, undoPolicy) }

// undoPolicy gives a pinned program the policy back that it was pinned with.
func undoPolicy(u control.Undo) (string, error) {
	var data pinnedPolicy
	if err := json.Unmarshal(u.Data, &data); err != nil {
		return "", err
	}
	steering, err := bpf.LoadPinned(data.Pins)
	if errors.Is(err, bpf.ErrNotPinned) {
		return "the program is not pinned any more", nil
	}
	if err != nil {
		return "", err
	}
	if err := errors.Join(steering.SetPolicy(data.Policy), steering.Close()); err != nil {
		return "", err
	}
	return "the pinned program steers as before", nil
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

// SweepPins removes what AttachPinned left below bpffs ("" is DefaultBPFFS) of
// interfaces that have been deleted since, and says what. Open calls it first.
func SweepPins(bpffs string) ([]string, error) {
	if bpffs == "" {
		bpffs = DefaultBPFFS
	}
	dirs, err := filepath.Glob(filepath.Join(bpffs, "xdpipe", "*"))
	errs := []error{err}
	var removed []string
	for _, dir := range dirs {
		gone, err := dropGonePins(dir)
		errs = append(errs, err)
		if gone {
			removed = append(removed, "removed "+dir+", the pins of an interface that is gone")
		}
	}
	return removed, errors.Join(errs...)
}

// dropGonePins removes the pins in dir if their interface is gone, and reports
// whether it was. Another interface may have its index by now.
func dropGonePins(dir string) (bool, error) {
	pin := filepath.Join(dir, linkPin)
	gone, err := control.AttachmentGone(pin)
	if !gone || err != nil {
		return false, err
	}
	if err := os.Remove(pin); err != nil && !errors.Is(err, os.ErrNotExist) {
		return true, fmt.Errorf("remove pin: %w", err)
	}
	return true, bpf.Unpin(dir)
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
	// That it could be attached means that pins which are there hold nothing: of
	// an attach that was killed, or of an interface that had this index before.
	if _, err = dropGonePins(dir); err == nil {
		err = bpf.Unpin(dir)
	}
	if err == nil {
		err = steering.Pin(dir)
	}
	if err == nil {
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
	there, err := control.Attached(l)
	if err != nil {
		return false, err
	}
	for _, p := range there {
		if p.Ours() && len(p.Owners) > 0 {
			return false, fmt.Errorf("the program on %s belongs to a running instance (pid %v): stop that instead", l, p.Owners)
		}
	}
	dir := pinDir(bpffs, l)
	if _, err := dropGonePins(dir); err != nil {
		return false, err
	}
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
		if !p.Ours() {
			continue
		}
		if err := control.DetachProgram(l, p); err != nil {
			return pinned, err
		}
		pinned = true
	}
	return pinned, nil
}
