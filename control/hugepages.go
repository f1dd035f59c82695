package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

const hugepageKind = "hugepages"

// hugepagesDir is a variable for tests.
var hugepagesDir = "/sys/kernel/mm/hugepages"

// hugepageData is what the journal keeps. Granted is nil until the kernel has
// answered.
type hugepageData struct {
	Size    int64  `json:"size"` // bytes
	Wanted  uint64 `json:"wanted"`
	Before  uint64 `json:"before"`
	Granted *int64 `json:"granted,omitempty"`
}

func init() { RegisterUndo(hugepageKind, undoHugepages) }

// HugepageError says that the kernel could not set aside the pages.
type HugepageError struct {
	Size    int64 // bytes of one page
	Wanted  uint64
	Granted uint64 // put back already
	Total   uint64 // pages of that size there were before
	FreeMem uint64 // bytes of free memory, which may be too scattered
}

func (e *HugepageError) Error() string {
	fix := fmt.Sprintf("sysctl -w vm.nr_hugepages=%d", e.Total+e.Wanted)
	if e.Size != 2<<20 {
		fix = fmt.Sprintf("echo %d > %s", e.Total+e.Wanted, hugepageFile(e.Size, "nr_hugepages"))
	}
	return fmt.Sprintf("reserve %d hugepages of %d KiB: the kernel granted %d, with %d MiB of memory free; free memory, or set them aside early after boot: %s",
		e.Wanted, e.Size>>10, e.Granted, e.FreeMem>>20, fix)
}

// Hugepages are pages set aside until Release.
type Hugepages struct {
	// Size is that of one page, in bytes.
	Size int64
	// Count is how many were added.
	Count uint64

	journal *Journal
	seq     int
}

// ReserveHugepages adds count pages of size bytes (2 MiB or 1 GiB on x86) to
// those the kernel has set aside, and checks that it did: less than all is a
// *[HugepageError] and leaves none. It is journaled before.
func ReserveHugepages(j *Journal, size int64, count uint64) (*Hugepages, error) {
	fail := func(err error) (*Hugepages, error) {
		return nil, fmt.Errorf("reserve %d hugepages of %d KiB: %w%s", count, size>>10, err, needsCapability(err, "CAP_SYS_ADMIN"))
	}
	if _, err := os.Stat(hugepageFile(size, "")); err != nil {
		sizes, _ := filepath.Glob(filepath.Join(hugepagesDir, "hugepages-*"))
		for i := range sizes {
			sizes[i] = filepath.Base(sizes[i])
		}
		return fail(fmt.Errorf("this machine has no such size, only %s", listOr(sizes, "none")))
	}
	unlock, err := lockRunDir(j.dir)
	if err != nil {
		return fail(err)
	}
	h, shortfall, err := reserve(j, size, count)
	unlock() // Undo takes the lock itself
	if err != nil {
		if h != nil {
			err = errors.Join(err, h.Release())
		}
		return fail(err)
	}
	if shortfall != nil {
		if err := h.Release(); err != nil {
			return nil, errors.Join(shortfall, err)
		}
		return nil, shortfall
	}
	return h, nil
}

func reserve(j *Journal, size int64, count uint64) (*Hugepages, *HugepageError, error) {
	before, err := readHugepages(size, "nr_hugepages")
	if err != nil {
		return nil, nil, err
	}
	data := hugepageData{Size: size, Wanted: count, Before: before}
	c, err := NewChange(hugepageKind, nil, data)
	if err != nil {
		return nil, nil, err
	}
	h := &Hugepages{Size: size, Count: count, journal: j}
	if h.seq, err = j.Record(c); err != nil {
		return nil, nil, err
	}
	if err := writeHugepages(size, before+count); err != nil {
		return h, nil, err
	}
	now, err := readHugepages(size, "nr_hugepages")
	if err != nil {
		return h, nil, err
	}
	granted := int64(now) - int64(before)
	data.Granted = &granted
	if err := j.Amend(h.seq, data); err != nil {
		return h, nil, err
	}
	if granted < int64(count) {
		return h, &HugepageError{Size: size, Wanted: count, Granted: uint64(max(granted, 0)), Total: before, FreeMem: freeMemory()}, nil
	}
	return h, nil, nil
}

// Release gives the pages back. Memory that was mapped from them should be
// unmapped before: pages in use are not taken from their users.
func (h *Hugepages) Release() error { return h.journal.Undo(h.seq) }

// FreeHugepages is the number of pages of a size that are set aside and neither
// used nor promised to anyone.
func FreeHugepages(size int64) (uint64, error) {
	free, err := readHugepages(size, "free_hugepages")
	if err != nil {
		return 0, fmt.Errorf("read free hugepages: %w", err)
	}
	promised, err := readHugepages(size, "resv_hugepages")
	if err != nil {
		return 0, fmt.Errorf("read promised hugepages: %w", err)
	}
	return free - min(promised, free), nil
}

// undoHugepages subtracts what was added. It does not write back the old
// number, since others may have changed it meanwhile, and goes no lower than
// what is in use.
func undoHugepages(u Undo) (string, error) {
	var data hugepageData
	if err := json.Unmarshal(u.Data, &data); err != nil {
		return "", err
	}
	now, err := readHugepages(data.Size, "nr_hugepages")
	if err != nil {
		return "", err
	}
	var added uint64
	switch {
	case data.Granted != nil:
		added = uint64(max(*data.Granted, 0))
	case now > data.Before:
		// Death came between record and answer: at most the difference is ours.
		added = min(data.Wanted, now-data.Before)
	}
	free, err := FreeHugepages(data.Size)
	if err != nil {
		return "", err
	}
	target := max(now-min(added, now), now-min(free, now))
	if target == now {
		return "none to give back", nil
	}
	if err := writeHugepages(data.Size, target); err != nil {
		return "", fmt.Errorf("give back %d hugepages: %w", now-target, err)
	}
	return fmt.Sprintf("gave back %d hugepages of %d KiB", now-target, data.Size>>10), nil
}

func hugepageFile(size int64, name string) string {
	return filepath.Join(hugepagesDir, fmt.Sprintf("hugepages-%dkB", size>>10), name)
}

func readHugepages(size int64, name string) (uint64, error) {
	raw, err := os.ReadFile(hugepageFile(size, name))
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(string(bytes.TrimSpace(raw)), 10, 64)
}

func writeHugepages(size int64, count uint64) error {
	return os.WriteFile(hugepageFile(size, "nr_hugepages"), strconv.AppendUint(nil, count, 10), 0o644)
}

// freeMemory is MemFree in bytes, or 0 if it cannot be read.
func freeMemory() uint64 {
	raw, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(raw) {
		fields := bytes.Fields(line)
		if len(fields) > 1 && string(fields[0]) == "MemFree:" {
			kib, _ := strconv.ParseUint(string(fields[1]), 10, 64)
			return kib << 10
		}
	}
	return 0
}
