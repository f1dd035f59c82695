package control

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/safchain/ethtool"
	"golang.org/x/sys/unix"
)

func TestTheModeGrantedIsReadBack(t *testing.T) {
	for _, c := range []struct{ asked, granted Mode }{{"", ModeNative}, {ModeAuto, ModeNative}, {ModeNative, ModeNative}, {ModeGeneric, ModeGeneric}} {
		t.Run("asked "+string(c.asked), func(t *testing.T) {
			a, _ := newPair(t, VethOptions{Queues: 2})
			att, err := Attach(a, newProgram(t, "mine", false), AttachOptions{Mode: c.asked})
			must(t, err)
			if att.Mode() != c.granted || att.WhyNotNative() != "" {
				t.Errorf("granted %s (%s), want %s", att.Mode(), att.WhyNotNative(), c.granted)
			}
			on, err := Attached(a)
			must(t, err)
			if len(on) != 1 || on[0].ID != att.ProgramID() || on[0].Name != "mine" || on[0].Mode != c.granted || on[0].LinkID == 0 {
				t.Errorf("attached: %+v", on)
			}
			if len(on) == 1 && (len(on[0].Owners) != 1 || on[0].Owners[0] != os.Getpid()) {
				t.Errorf("owners %v, want this process", on[0].Owners)
			}
			must(t, att.Detach())
			must(t, att.Detach())
			if on, err := Attached(a); err != nil || len(on) != 0 {
				t.Errorf("after Detach: %v, %v", on, err)
			}
		})
	}
}

func TestAutoFallsBackToGenericAndSaysWhy(t *testing.T) {
	a, _ := newPair(t, VethOptions{MTU: 9000}) // too large for native mode without frags
	prog := newProgram(t, "mine", false)
	_, err := Attach(a, prog, AttachOptions{Mode: ModeNative})
	var refused *AttachError
	if !errors.As(err, &refused) || !errors.Is(err, unix.ERANGE) {
		t.Fatalf("native with MTU 9000: %v", err)
	}
	mentions(t, err, "a in network namespace", "native", "MTU", "xdp.frags")
	if refused.Kernel == "" {
		t.Error("the kernel's own explanation is missing")
	}
	att, err := Attach(a, prog, AttachOptions{})
	must(t, err)
	if att.Mode() != ModeGeneric || att.WhyNotNative() == "" {
		t.Errorf("mode %s, why %q", att.Mode(), att.WhyNotNative())
	}
	must(t, att.Detach())
	att, err = Attach(a, newProgram(t, "frags", true), AttachOptions{})
	must(t, err)
	if att.Mode() != ModeNative {
		t.Errorf("with frags: mode %s, %s", att.Mode(), att.WhyNotNative())
	}
	must(t, att.Detach())
}

func TestFewerRXQueuesThanThePeersTXQueuesIsExplained(t *testing.T) {
	a, _ := newPair(t, VethOptions{Queues: 2})
	must(t, a.Namespace.ethtool(func(e *ethtool.Ethtool) error {
		c, err := e.GetChannels(a.Name)
		if err != nil {
			return err
		}
		c.RxCount = 1
		_, err = e.SetChannels(a.Name, c)
		return err
	}))
	_, err := Attach(a, newProgram(t, "mine", false), AttachOptions{Mode: ModeNative})
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	mentions(t, err, "RX queues", "ethtool -L a rx")
}

func TestMissingCapabilityIsNamed(t *testing.T) {
	e := &AttachError{Interface: "a", Mode: ModeNative, Err: fmt.Errorf("attach: %w", unix.EPERM), Remedy: remedy(&Link{Name: "a"}, ModeNative, unix.EPERM)}
	mentions(t, e, "CAP_NET_ADMIN", "CAP_BPF", "native")
	if e.otherModeMayWork() {
		t.Error("a missing capability would be tried again in generic mode")
	}
}

func TestAForeignProgramIsNeverReplacedUnasked(t *testing.T) {
	for _, mode := range []Mode{ModeNative, ModeGeneric} {
		t.Run(string(mode), func(t *testing.T) {
			a, _ := newPair(t, VethOptions{})
			foreign := newProgram(t, "foreign", false)
			must(t, setXDP(a, foreign.FD(), mode.flags()))
			for _, own := range []Mode{ModeAuto, ModeNative, ModeGeneric} {
				_, err := Attach(a, newProgram(t, "mine", false), AttachOptions{Mode: own})
				var e *ForeignProgramError
				if !errors.As(err, &e) || e.Name != "foreign" || e.Mode != mode {
					t.Fatalf("attach in %s mode: %v", own, err)
				}
				mentions(t, err, "foreign", fmt.Sprintf("id %d", e.ID), "--replace", "ip link set dev a "+ipKeyword(mode)+" off")
			}
			att, err := Attach(a, newProgram(t, "mine", false), AttachOptions{Replace: true})
			must(t, err)
			on, err := Attached(a)
			must(t, err)
			if len(on) != 1 || on[0].Name != "mine" {
				t.Errorf("after replacing: %+v", on)
			}
			must(t, att.Detach())
		})
	}
}

func TestAFailedReplaceLeavesTheForeignProgramInPlace(t *testing.T) {
	a, _ := newPair(t, VethOptions{MTU: 9000})
	must(t, setXDP(a, newProgram(t, "foreign", true).FD(), ModeNative.flags()))
	if _, err := Attach(a, newProgram(t, "mine", false), AttachOptions{Mode: ModeNative, Replace: true}); err == nil {
		t.Fatal("attached natively with MTU 9000 and no frags")
	}
	on, err := Attached(a)
	must(t, err)
	if len(on) != 1 || on[0].Name != "foreign" || on[0].Mode != ModeNative {
		t.Errorf("left attached: %+v", on)
	}
	must(t, setXDP(a, -1, ModeNative.flags()))
}

func TestAProgramHeldByALinkIsNotReplacedEvenWhenAsked(t *testing.T) {
	a, _ := newPair(t, VethOptions{})
	first, err := Attach(a, newProgram(t, "foreign", false), AttachOptions{})
	must(t, err)
	_, err = Attach(a, newProgram(t, "mine", false), AttachOptions{Replace: true})
	mentions(t, err, "foreign", "bpf_link", fmt.Sprintf("pid %d", os.Getpid()), "--replace cannot")
	must(t, first.Detach())
	ours, err := Attach(a, newProgram(t, SteeringProgram, false), AttachOptions{})
	must(t, err)
	_, err = Attach(a, newProgram(t, "mine", false), AttachOptions{})
	mentions(t, err, "xdpipe detach a")
	on, err := Attached(a)
	must(t, err)
	if len(on) != 1 || !on[0].Ours() {
		t.Fatalf("%+v", on)
	}
	must(t, DetachProgram(a, on[0])) // what `xdpipe detach` does
	must(t, DetachProgram(a, on[0]))
	if on, _ := Attached(a); len(on) != 0 {
		t.Errorf("still there: %+v", on)
	}
	must(t, ours.Detach())
}

func TestAnAttachmentOutlivesItsLastReference(t *testing.T) {
	a, _ := newPair(t, VethOptions{})
	_, err := Attach(a, newProgram(t, "mine", false), AttachOptions{})
	must(t, err)
	for range 5 {
		runtime.GC()
	}
	on, err := Attached(a)
	must(t, err)
	if len(on) != 1 {
		t.Fatal("the garbage collector detached the program")
	}
	attachments.Range(func(k, _ any) bool { must(t, k.(*Attachment).Detach()); return true })
}

func TestAPinnedAttachmentOutlivesItsOwnerAndCanBeOpenedAgain(t *testing.T) {
	a, _ := newPair(t, VethOptions{})
	dir := mountBPF(t)
	att, err := Attach(a, newProgram(t, "mine", false), AttachOptions{})
	must(t, err)
	mentions(t, att.Pin(filepath.Join(t.TempDir(), "x")), "mount -t bpf")
	pin := filepath.Join(dir, "link")
	must(t, att.Pin(pin))
	must(t, att.Close())
	on, err := Attached(a)
	must(t, err)
	if len(on) != 1 || len(on[0].Owners) != 0 {
		t.Fatalf("after Close: %+v", on)
	}
	again, err := OpenAttachment(a.Namespace, pin)
	must(t, err)
	if again.Mode() != ModeNative || again.Link().Name != "a" {
		t.Errorf("opened again: %s on %v", again.Mode(), again.Link())
	}
	must(t, again.Detach())
	if on, _ := Attached(a); len(on) != 0 {
		t.Errorf("after Detach: %+v", on)
	}
	if _, err := os.Stat(pin); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the pin is still there: %v", err)
	}
}

func TestDetachAfterTheInterfaceIsGone(t *testing.T) {
	a, _ := newPair(t, VethOptions{})
	att, err := Attach(a, newProgram(t, "mine", false), AttachOptions{})
	must(t, err)
	must(t, a.Delete())
	must(t, att.Detach())
	if _, err := Attach(a, newProgram(t, "mine", false), AttachOptions{}); !errors.Is(err, unix.ENODEV) {
		t.Errorf("attach to a deleted interface: %v", err)
	}
}

func FuzzLinkMessagesNeverCrashTheParser(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, 16))
	f.Add(append(make([]byte, 16), 12, 0, 43, 0, 8, 0, 5, 0, 1, 0, 0, 0))
	f.Fuzz(func(t *testing.T, msg []byte) { _, _ = parseXDP(msg) })
}
