package umem

import (
	"errors"
	"os"
	"strings"
	"testing"
)

func newMemory(t testing.TB, opts Options) *Memory {
	t.Helper()
	m, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func TestOptionsOutOfRangeAreNamed(t *testing.T) {
	for _, tc := range []struct {
		opts   Options
		option string
	}{
		{Options{Frames: -1}, "frames"},
		{Options{FrameSize: 1024}, "frame_size"},
		{Options{FrameSize: 3000}, "frame_size"},
		{Options{FrameSize: 2 * os.Getpagesize()}, "frame_size"},
		{Options{FrameSize: 2048, Headroom: 2048 - KernelHeadroom}, "headroom"},
		{Options{Headroom: -8}, "headroom"},
		{Options{Pages: 99}, "pages"},
	} {
		_, err := New(tc.opts)
		var oe *OptionError
		if !errors.As(err, &oe) || oe.Option != tc.option {
			t.Errorf("New(%+v) = %v, want an OptionError for %s", tc.opts, err, tc.option)
		}
	}
}

func TestMemorySaysWhichPagesItGotAndWhy(t *testing.T) {
	m := newMemory(t, Options{Frames: 4096})
	p := m.Pages()
	if p.Kind == PagesAuto || p.Length < 4096*2048 {
		t.Fatalf("pages %+v: want a granted kind and at least 8 MiB", p)
	}
	if p.Kind > Pages1G && len(p.Why) == 0 {
		t.Errorf("pages %v: nothing says why no better kind was taken", p)
	}
	if len(p.Why) != int(p.Kind)-int(Pages1G) {
		t.Errorf("pages %v: %d reasons for %d kinds passed over", p, len(p.Why), p.Kind-Pages1G)
	}
}

func TestHugePagesThatAreNotThereAreAnErrorWithTheSysctl(t *testing.T) {
	// More than any machine has: 1 TiB.
	_, err := New(Options{Frames: 1 << 28, FrameSize: 4096, Pages: Pages2M})
	var pe *PageError
	if !errors.As(err, &pe) {
		t.Fatalf("got %v, want a PageError", err)
	}
	for _, want := range []string{"2m", "free", "sysctl vm.nr_hugepages="} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}

func TestMoreThanTheMachineHasIsAnErrorAndNotTheEndOfAProcess(t *testing.T) {
	for _, kind := range []PageKind{PagesAuto, PagesTHP, Pages4K} {
		_, err := New(Options{Frames: 1 << 28, FrameSize: 4096, Pages: kind}) // 1 TiB
		var pe *PageError
		if !errors.As(err, &pe) || !strings.Contains(err.Error(), "use fewer frames") {
			t.Errorf("%v: %v, want a PageError that says to use fewer frames", kind, err)
		}
	}
}

func TestExactKindsAreGrantedOrRefusedNeverReplaced(t *testing.T) {
	for _, kind := range []PageKind{Pages4K, PagesTHP, Pages2M} {
		m, err := New(Options{Frames: 2048, Pages: kind})
		if err != nil {
			var pe *PageError
			if !errors.As(err, &pe) || pe.Kind != kind {
				t.Errorf("%v: %v, want a PageError of that kind", kind, err)
			}
			continue
		}
		if m.Pages().Kind != kind {
			t.Errorf("asked for %v, got %v", kind, m.Pages())
		}
		m.Bytes(m.DataStart(0), 64)[0] = 1
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestBytesEndsWithItsFrame(t *testing.T) {
	m := newMemory(t, Options{Frames: 4, FrameSize: 2048, Pages: Pages4K})
	b := m.Bytes(2048+256, 100)
	if len(b) != 100 || cap(b) != 2048-256 {
		t.Errorf("len %d cap %d, want 100 and %d", len(b), cap(b), 2048-256)
	}
	for name, f := range map[string]func(){
		"across the frame's end": func() { m.Bytes(2048+256, 2048) },
		"outside the memory":     func() { m.Bytes(4*2048, 1) },
		"address wraps":          func() { m.Bytes(^uint64(0)-10, 100) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func TestPageKindNamesAreRead(t *testing.T) {
	for k := PagesAuto; k <= Pages4K; k++ {
		got, err := ParsePageKind(k.String())
		if err != nil || got != k {
			t.Errorf("ParsePageKind(%q) = %v, %v", k, got, err)
		}
	}
	if _, err := ParsePageKind("3m"); err == nil || !strings.Contains(err.Error(), "auto, 1g, 2m, thp, 4k") {
		t.Errorf("unknown kind: %v, want an error that lists the kinds", err)
	}
}

func TestAThousandMemoriesLeaveNoDescriptor(t *testing.T) {
	count := func() int {
		d, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(d)
	}
	before := count()
	for range 1000 {
		m, err := New(Options{Frames: 8})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if after := count(); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}
