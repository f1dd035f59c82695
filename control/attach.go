package control

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// AttachOptions say how to attach. The zero value is mode auto, replacing nothing.
type AttachOptions struct {
	Mode Mode
	// Replace removes a foreign program that was attached through netlink. One
	// held by a bpf_link stays in any case, since its owner counts on it.
	Replace bool
}

// Attachment is an XDP program on an interface, held there by a bpf_link: it
// is removed when the process ends, unless it was pinned. It is kept until
// Detach or Close even if nothing refers to it any more.
type Attachment struct {
	mu     sync.Mutex
	held   link.Link // nil after Detach or Close
	link   *Link
	mode   Mode
	why    string
	id     uint32
	pinned string
}

// attachments holds every attachment that must outlive its last reference:
// the garbage collector would close the bpf_link, and the kernel then detach.
var attachments sync.Map

// Attach attaches prog to the interface and reads back in which mode. Errors
// are a *[ForeignProgramError] if there is a program that may not be replaced,
// else an *[AttachError].
func Attach(l *Link, prog *ebpf.Program, opts AttachOptions) (*Attachment, error) {
	var modes []Mode
	switch opts.Mode {
	case "", ModeAuto:
		modes = []Mode{ModeNative, ModeGeneric}
	case ModeNative, ModeGeneric:
		modes = []Mode{opts.Mode}
	default:
		return nil, fmt.Errorf("attach to %v: unknown mode %q; use native, generic or auto", l, opts.Mode)
	}
	away, err := clearWay(l, opts.Replace)
	defer away.close()
	if err != nil {
		return nil, errors.Join(err, away.putBack(l))
	}
	var why string
	for _, mode := range modes {
		var held link.Link
		held, err = attachLink(l, prog, mode)
		if err == nil {
			return attached(l, held, why)
		}
		var attach *AttachError
		if !errors.As(err, &attach) || !attach.otherModeMayWork() {
			break
		}
		if why == "" {
			why = attach.cause()
		}
	}
	return nil, errors.Join(err, away.putBack(l))
}

// replaced are foreign programs taken off an interface, kept alive so that they
// can be put back.
type replaced []struct {
	program *ebpf.Program
	mode    Mode
}

func (r replaced) putBack(l *Link) error {
	var errs []error
	for _, old := range r {
		if err := setXDP(l, old.program.FD(), old.mode.flags()|unix.XDP_FLAGS_UPDATE_IF_NOEXIST); err != nil {
			errs = append(errs, fmt.Errorf("put the replaced xdp program back on %v: %w", l, err))
		}
	}
	return errors.Join(errs...)
}

func (r replaced) close() {
	for _, old := range r {
		old.program.Close()
	}
}

// clearWay makes sure that no program is on the interface, and gives what it
// took off, also with an error.
func clearWay(l *Link, replace bool) (replaced, error) {
	programs, err := Attached(l)
	if err != nil {
		return nil, err
	}
	var away replaced
	for _, p := range programs {
		if !replace || p.LinkID != 0 || p.Mode == ModeOffload {
			return away, &ForeignProgramError{Interface: l.String(), AttachedProgram: p}
		}
		old, err := ebpf.NewProgramFromID(ebpf.ProgramID(p.ID))
		if err != nil {
			return away, fmt.Errorf("replace xdp program %d of %v: %w", p.ID, l, err)
		}
		if err := DetachProgram(l, p); err != nil {
			old.Close()
			return away, err
		}
		away = append(away, struct {
			program *ebpf.Program
			mode    Mode
		}{old, p.Mode})
	}
	return away, nil
}

// attachLink makes the bpf_link. The interface index is looked up in the
// calling thread's namespace, hence Do.
func attachLink(l *Link, prog *ebpf.Program, mode Mode) (held link.Link, err error) {
	err = l.Namespace.Do(func() error {
		held, err = link.AttachXDP(link.XDPOptions{Program: prog, Interface: l.Index, Flags: link.XDPAttachFlags(mode.flags())})
		return err
	})
	if err == nil {
		return held, nil
	}
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) {
		// Someone was faster than us.
		if programs, readErr := Attached(l); readErr == nil && len(programs) > 0 {
			return nil, &ForeignProgramError{Interface: l.String(), AttachedProgram: programs[0]}
		}
	}
	return nil, newAttachError(l, prog, mode, err)
}

func attached(l *Link, held link.Link, why string) (*Attachment, error) {
	a := &Attachment{held: held, link: l, why: why}
	info, err := held.Info()
	if err == nil {
		a.id = uint32(info.Program)
		err = a.readMode()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read back the mode granted on %v: %w", l, err), held.Close())
	}
	attachments.Store(a, struct{}{})
	return a, nil
}

func (a *Attachment) readMode() error {
	programs, err := attachedIDs(a.link)
	if err != nil {
		return err
	}
	for _, p := range programs {
		if p.ID == a.id {
			a.mode = p.Mode
			return nil
		}
	}
	return fmt.Errorf("program %d is not on %v", a.id, a.link)
}

// OpenAttachment opens an attachment that was pinned at path, by this process
// or an earlier one. The namespace is the one its interface is in; nil is the
// process's own.
func OpenAttachment(ns *Namespace, path string) (*Attachment, error) {
	held, err := link.LoadPinnedLink(path, nil)
	if err != nil {
		return nil, fmt.Errorf("open pinned attachment %s: %w", path, err)
	}
	fail := func(err error) (*Attachment, error) {
		return nil, errors.Join(fmt.Errorf("open pinned attachment %s: %w", path, err), held.Close())
	}
	info, err := held.Info()
	if err != nil {
		return fail(err)
	}
	xdp := info.XDP()
	if xdp == nil {
		return fail(errors.New("it is not an xdp link"))
	}
	if xdp.Ifindex == 0 {
		return fail(fmt.Errorf("its interface is gone: %w", unix.ENODEV))
	}
	l, err := LinkByIndex(ns, int(xdp.Ifindex))
	if err != nil {
		return fail(err)
	}
	a, err := attached(l, held, "")
	if err != nil {
		return nil, err
	}
	a.pinned = path
	return a, nil
}

// AttachmentGone reports whether the attachment pinned at path was of an
// interface that has been deleted since. The pin outlives it.
func AttachmentGone(path string) (bool, error) {
	held, err := link.LoadPinnedLink(path, nil)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open pinned attachment %s: %w", path, err)
	}
	defer held.Close()
	info, err := held.Info()
	if err != nil {
		return false, fmt.Errorf("open pinned attachment %s: %w", path, err)
	}
	xdp := info.XDP()
	return xdp != nil && xdp.Ifindex == 0, nil
}

// Mode is the mode the kernel granted, as read back from it.
func (a *Attachment) Mode() Mode { return a.mode }

// WhyNotNative says why mode auto did not take native, or "".
func (a *Attachment) WhyNotNative() string { return a.why }

// ProgramID is the kernel's id of the attached program.
func (a *Attachment) ProgramID() uint32 { return a.id }

// Link is the interface it is attached to.
func (a *Attachment) Link() *Link { return a.link }

// Pin makes the attachment outlive the process, as a file on a bpf filesystem.
func (a *Attachment) Pin(path string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.held == nil {
		return fmt.Errorf("pin attachment of %v: %w", a.link, os.ErrClosed)
	}
	if err := a.held.Pin(path); err != nil {
		return fmt.Errorf("pin attachment of %v: %w; %s must be a new file on a bpf filesystem (mount -t bpf bpf /sys/fs/bpf)", a.link, err, path)
	}
	a.pinned = path
	return nil
}

// Detach removes the program from the interface, and the pin if there is one.
// It may be called again, and after the interface is gone.
func (a *Attachment) Detach() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.held == nil {
		return nil
	}
	var errs []error
	// ENOLINK and ENODEV: the interface, and with it the attachment, is gone.
	if err := a.held.Detach(); err != nil && !errors.Is(err, unix.ENOLINK) && !errors.Is(err, unix.ENODEV) {
		errs = append(errs, err)
	}
	if a.pinned != "" {
		if err := a.held.Unpin(); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	errs = append(errs, a.release())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("detach xdp program %d from %v: %w", a.id, a.link, err)
	}
	return nil
}

// Close gives up the attachment: a pinned one stays on the interface, one that
// is not pinned is removed from it.
func (a *Attachment) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.held == nil {
		return nil
	}
	return a.release()
}

func (a *Attachment) release() error {
	err := a.held.Close()
	a.held = nil
	attachments.Delete(a)
	return err
}
