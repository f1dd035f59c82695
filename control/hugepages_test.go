package control

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

const mib2 = 2 << 20

// fakeHugepages makes plain files stand for the kernel's, which grants all.
func fakeHugepages(t testing.TB, total, free int) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "hugepages-2048kB"), 0o700))
	old := hugepagesDir
	hugepagesDir = dir
	t.Cleanup(func() { hugepagesDir = old })
	setFake(t, "nr_hugepages", total)
	setFake(t, "free_hugepages", free)
	setFake(t, "resv_hugepages", 0)
	return dir
}

func setFake(t testing.TB, name string, n int) {
	must(t, os.WriteFile(hugepageFile(mib2, name), fmt.Appendf(nil, "%d\n", n), 0o600))
}

func total(t testing.TB) int {
	n, err := readHugepages(mib2, "nr_hugepages")
	must(t, err)
	return int(n)
}

func TestHugepagesAreGivenBackByWhatWasAdded(t *testing.T) {
	fakeHugepages(t, 3, 100)
	dir := runDirFor(t)
	one, two := openJournal(t, dir, "one"), openJournal(t, dir, "two")
	h, err := ReserveHugepages(one, mib2, 4)
	must(t, err)
	_, err = ReserveHugepages(two, mib2, 8)
	must(t, err)
	if total(t) != 15 {
		t.Fatalf("%d pages, want 15", total(t))
	}
	must(t, h.Release()) // before the other, which read 7 as the number before it
	if total(t) != 11 {
		t.Errorf("%d pages after one of two has gone, want 11", total(t))
	}
	_, err = two.Restore()
	must(t, err)
	if total(t) != 3 {
		t.Errorf("%d pages at the end, want 3", total(t))
	}
}

func TestHugepagesInUseAreNotTakenFromTheirUsers(t *testing.T) {
	fakeHugepages(t, 0, 0)
	j := openJournal(t, runDirFor(t), "one")
	h, err := ReserveHugepages(j, mib2, 8)
	must(t, err)
	setFake(t, "free_hugepages", 5)
	setFake(t, "resv_hugepages", 1)
	must(t, h.Release())
	if total(t) != 4 {
		t.Errorf("%d pages, want the 4 in use or promised", total(t))
	}
}

func TestDeathBetweenRecordAndAnswerGivesBackAtMostTheDifference(t *testing.T) {
	for _, c := range []struct{ before, now, want int }{{2, 2, 2}, {2, 6, 2}, {2, 20, 16}, {9, 5, 5}} {
		fakeHugepages(t, c.now, 100)
		j := openJournal(t, runDirFor(t), "one")
		change, err := NewChange(hugepageKind, nil, hugepageData{Size: mib2, Wanted: 4, Before: uint64(c.before)})
		must(t, err)
		_, err = j.Record(change)
		must(t, err)
		_, err = j.Restore()
		must(t, err)
		if total(t) != c.want {
			t.Errorf("before %d, now %d: restored to %d, want %d", c.before, c.now, total(t), c.want)
		}
	}
}

func TestMoreHugepagesThanThereIsMemoryIsAnErrorAndLeavesNone(t *testing.T) {
	needRoot(t)
	if _, err := os.Stat(hugepageFile(1<<30, "")); err != nil {
		t.Skip("this machine has no pages of 1 GiB")
	}
	before, err := readHugepages(1<<30, "nr_hugepages")
	must(t, err)
	_, err = ReserveHugepages(openJournal(t, runDirFor(t), "one"), 1<<30, 1<<20)
	var short *HugepageError
	if !errors.As(err, &short) || short.Wanted != 1<<20 || short.Granted >= short.Wanted {
		t.Fatalf("got %v", err)
	}
	mentions(t, err, "granted", "MiB of memory free", "echo ", "nr_hugepages")
	if now, _ := readHugepages(1<<30, "nr_hugepages"); now != before {
		t.Errorf("%d pages left set aside", now-before)
	}
	_, err = ReserveHugepages(openJournal(t, runDirFor(t), "two"), 12345<<10, 1)
	mentions(t, err, "no such size", "hugepages-2048kB")
}
