package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/xdpipe/xdpipe/lab"
)

func newTestBed(t *testing.T) *bed {
	t.Helper()
	l := lab.ForTest(t)
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil || !set.IsSet(0) || !set.IsSet(1) {
		if os.Getenv("CI") != "" {
			t.Fatal("needs CPUs 0 and 1, and with CI set it must not be skipped")
		}
		t.Skip("needs CPUs 0 and 1")
	}
	b, err := newBed(l)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var testPlan = plan{frame: 64, warmup: 20 * time.Millisecond, window: 100 * time.Millisecond, genCPU: 0, fwdCPU: 1}

func TestEveryContenderSendsFramesBackWithTheirAddressesSwapped(t *testing.T) {
	for _, c := range contenders {
		for _, l := range []load{{name: "overload"}, {name: "paced", rate: 20_000}} {
			t.Run(c.name+"/"+l.name, func(t *testing.T) {
				b := newTestBed(t)
				var m measurement
				// On a machine with much other work, the generator or the forwarder may
				// not come to run within one window.
				for try := 0; try < 20 && m.arrivedAll == 0; try++ {
					var err error
					if m, err = b.measure(t.Context(), testPlan, c, l); err != nil {
						t.Fatal(err)
					}
				}
				if m.arrivedAll == 0 || m.other != 0 {
					t.Errorf("%d frames came back, and %d that were not ours", m.arrivedAll, m.other)
				}
				if m.mode != "native" {
					t.Errorf("ran in mode %q", m.mode)
				}
				if !json.Valid(m.account) {
					t.Errorf("its own account is %q", m.account)
				}
			})
		}
	}
}

func TestAnInterruptedMeasurementLeavesNothing(t *testing.T) {
	b := newTestBed(t) // its cleanup looks for what is left
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	p := testPlan
	p.window = time.Minute
	_, err := b.measure(ctx, p, contenders[0], load{name: "paced", rate: 1000})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ended with %v", err)
	}
}

func TestAContenderEndsWithItsParent(t *testing.T) {
	for _, c := range contenders {
		t.Run(c.name, func(t *testing.T) {
			b := newTestBed(t)
			cable, err := b.newCable()
			if err != nil {
				t.Fatal(err)
			}
			defer cable.Close()
			ch, err := startChild(t.Context(), b.far, c, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer ch.kill()
			// The end of its input is all that a child hears of a parent that was
			// killed. It ends without a signal, with its account.
			ch.stdin.Close()
			r, err := ch.next(t.Context())
			if err != nil || r.Final == nil {
				t.Fatalf("heard %+v, %v", r, err)
			}
			if err := ch.cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAContenderThatCannotSetUpIsAnErrorThatNamesIt(t *testing.T) {
	b := newTestBed(t)
	_, err := startChild(t.Context(), b.far, contenders[0], 1) // there is no interface
	if err == nil || err.Error() != "set up xdpipe: its process ended; what it said is above" {
		t.Errorf("got %v", err)
	}
}

// runOn runs a program once on a frame.
func runOn(t *testing.T, program *ebpf.Program, frame []byte) (verdict uint32) {
	t.Helper()
	verdict, err := program.Run(&ebpf.RunOptions{Data: frame})
	if err != nil {
		t.Fatal(err)
	}
	return verdict
}

func TestTheCounterCountsOurFramesApartFromOthersAndDropsAll(t *testing.T) {
	newTestBed(t)
	counter, err := newCounter(nearMAC, farMAC)
	if err != nil {
		t.Fatal(err)
	}
	defer counter.Close()
	swapped := testFrame(64)
	swapMACs(swapped)
	oneBit := append([]byte(nil), swapped...)
	oneBit[11] ^= 1
	for _, frame := range [][]byte{swapped, swapped, swapped, testFrame(64), oneBit, swapped[:headers-1]} {
		if verdict := runOn(t, counter.program, frame); verdict != xdpDrop {
			t.Errorf("verdict on % x is %d", frame, verdict)
		}
	}
	for slot, want := range map[uint32]uint64{slotFrames: 3, slotOther: 3} {
		if got, err := counter.read(slot); err != nil || got != want {
			t.Errorf("slot %d counts %d (%v), want %d", slot, got, err, want)
		}
	}
}

func TestTheSenderKeepsItsPaceAndSendsNothingAfterItsEnd(t *testing.T) {
	const xdpRedirect = 4
	newTestBed(t)
	for name, c := range map[string]struct {
		gap  time.Duration
		want []uint32 // verdicts of runs one after the other
		sent uint64
	}{
		"as fast as it can": {0, []uint32{xdpRedirect, xdpRedirect, xdpRedirect}, 3},
		// The second frame is due in a second, and so early.
		"at a rate": {time.Second, []uint32{xdpRedirect, xdpDrop, xdpDrop}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := newSender(1, c.gap) // never sent: nothing acts on the verdict
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			for i, want := range c.want {
				if got := runOn(t, s.program, testFrame(64)); got != want {
					t.Errorf("verdict %d is %d, want %d", i, got, want)
				}
			}
			if err := s.end(); err != nil {
				t.Fatal(err)
			}
			if got := runOn(t, s.program, testFrame(64)); got != xdpDrop {
				t.Errorf("verdict after the end is %d", got)
			}
			if n, err := s.read(slotFrames); err != nil || n != c.sent {
				t.Errorf("sent %d (%v), want %d", n, err, c.sent)
			}
		})
	}
}

func TestCPUTimeOfAProcessIsReadFromOutside(t *testing.T) {
	before, err := processTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		now, err := processTime(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if spent := now.sub(before); spent.total > 50*time.Millisecond && spent.user+spent.system > 0 {
			return
		}
		if i > 1_000_000 {
			t.Fatal("no CPU time after a million looks")
		}
	}
}
