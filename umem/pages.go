package umem

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A PageKind is a kind of page to back a Memory with.
type PageKind int

// The kinds of page, best first after PagesAuto.
const (
	PagesAuto PageKind = iota // 1 GiB, 2 MiB, transparent, 4 KiB: the first to be had
	Pages1G                   // hugetlb pages of 1 GiB
	Pages2M                   // hugetlb pages of 2 MiB
	PagesTHP                  // ordinary shared memory, transparent huge pages advised and granted
	Pages4K                   // ordinary pages
)

var pageNames = [...]string{"auto", "1g", "2m", "thp", "4k"}

func (k PageKind) String() string {
	if k < 0 || int(k) >= len(pageNames) {
		return fmt.Sprintf("PageKind(%d)", int(k))
	}
	return pageNames[k]
}

// ParsePageKind reads the names that String writes: auto, 1g, 2m, thp, 4k.
func ParsePageKind(s string) (PageKind, error) {
	for k, name := range pageNames {
		if strings.EqualFold(s, name) {
			return PageKind(k), nil
		}
	}
	return 0, fmt.Errorf("unknown kind of page %q: want one of %s", s, strings.Join(pageNames[:], ", "))
}

// Size returns the size of such a page in bytes; 0 for PagesAuto.
func (k PageKind) Size() int {
	switch k {
	case Pages1G:
		return 1 << 30
	case Pages2M, PagesTHP:
		return 2 << 20
	case Pages4K:
		return os.Getpagesize()
	}
	return 0
}

// Pages says what backs a Memory.
type Pages struct {
	Kind   PageKind // what was granted, never PagesAuto
	Asked  PageKind // what was asked for
	Length int64    // bytes mapped, whole pages
	// Why says, for each better kind that was tried under PagesAuto, why it was
	// not taken. It is empty for an exact request.
	Why []string
}

func (p Pages) String() string {
	s := fmt.Sprintf("%d MiB on %s pages", p.Length>>20, p.Kind)
	if len(p.Why) > 0 {
		s += " (" + p.Reasons() + ")"
	}
	return s
}

// Reasons returns Why as one line.
func (p Pages) Reasons() string { return strings.Join(p.Why, "; ") }

// A PageError says why pages of a kind could not be had.
type PageError struct {
	Kind   PageKind
	Length int64 // bytes asked for
	Reason string
	Remedy string
	Err    error
}

func (e *PageError) Error() string {
	s := fmt.Sprintf("umem: cannot map %d MiB on %s pages: %s", (e.Length+1<<20-1)>>20, e.Kind, e.Reason)
	if e.Remedy != "" {
		s += "; " + e.Remedy
	}
	return s
}

func (e *PageError) Unwrap() error { return e.Err }

// mapPages maps at least size bytes on pages of the kind asked for.
func mapPages(size uint64, asked PageKind) (int, []byte, Pages, error) {
	if asked != PagesAuto {
		fd, data, err := mapKind(size, asked)
		return fd, data, Pages{Kind: asked, Asked: asked, Length: int64(len(data))}, err
	}
	var why []string
	for kind := Pages1G; ; kind++ {
		if kind == Pages1G && size < uint64(kind.Size())/2 {
			// Taking a whole one for less than half of it would starve whoever
			// reserved it; who wants it all the same asks for 1g.
			why = append(why, fmt.Sprintf("1g: %d MiB would waste most of one", size>>20))
			continue
		}
		fd, data, err := mapKind(size, kind)
		if err == nil {
			return fd, data, Pages{Kind: kind, Asked: asked, Length: int64(len(data)), Why: why}, nil
		}
		if kind == Pages4K {
			return -1, nil, Pages{}, err
		}
		var pe *PageError
		if errors.As(err, &pe) {
			why = append(why, kind.String()+": "+pe.Reason)
		}
	}
}

// mapKind maps at least size bytes on pages of exactly this kind, every page
// of it present.
func mapKind(size uint64, kind PageKind) (int, []byte, error) {
	page := uint64(kind.Size())
	length := (size + page - 1) / page * page
	fail := func(err error, reason, remedy string) (int, []byte, error) {
		return -1, nil, &PageError{Kind: kind, Length: int64(length), Reason: reason, Remedy: remedy, Err: err}
	}

	// Every page is made present below: asking for more than there is would not
	// fail but end whichever process the kernel chooses. Hugetlb pages are set
	// aside before, and their shortage is an error of mmap.
	if total := totalMemory(); total > 0 && length > total && kind > Pages2M {
		return fail(unix.ENOMEM, fmt.Sprintf("the machine has %d MiB in all", total>>20), "use fewer frames")
	}

	flags := unix.MFD_CLOEXEC
	switch kind {
	case Pages1G:
		flags |= unix.MFD_HUGETLB | unix.MFD_HUGE_1GB
	case Pages2M:
		flags |= unix.MFD_HUGETLB | unix.MFD_HUGE_2MB
	}
	fd, err := unix.MemfdCreate("xdpipe-umem", flags)
	if err != nil {
		return fail(err, fmt.Sprintf("memfd_create: %v", err), hugeRemedy(kind, length))
	}
	ok := false
	defer func() {
		if !ok {
			unix.Close(fd)
		}
	}()
	if err := unix.Ftruncate(fd, int64(length)); err != nil {
		return fail(err, fmt.Sprintf("ftruncate: %v", err), "")
	}

	align := uint64(0)
	if kind == PagesTHP {
		align = page
	}
	// A shared hugetlb mapping reserves its pages here, so that a shortage is
	// this ENOMEM and not a SIGBUS at the first touch.
	data, err := mmap(fd, length, align)
	if err != nil {
		reason := fmt.Sprintf("mmap: %v", err)
		if kind <= Pages2M {
			reason = hugeShortage(kind, length)
		}
		return fail(err, reason, hugeRemedy(kind, length))
	}
	defer func() {
		if !ok {
			munmap(data)
		}
	}()
	if kind == PagesTHP {
		if err := unix.Madvise(data, unix.MADV_HUGEPAGE); err != nil {
			return fail(err, fmt.Sprintf("madvise(MADV_HUGEPAGE): %v", err), thpRemedy)
		}
	}
	// Present now: a fault in the hot path would cost microseconds, and a
	// control-group limit would be a SIGBUS. EINVAL: before Linux 5.14.
	if err := unix.Madvise(data, unix.MADV_POPULATE_WRITE); err != nil && err != unix.EINVAL {
		return fail(err, fmt.Sprintf("populate: %v", err), "check the memory and hugetlb limits of the control group")
	} else if err == unix.EINVAL {
		for i := 0; i < len(data); i += os.Getpagesize() {
			data[i] = 0
		}
	}
	if kind == PagesTHP {
		if huge := mappedHuge(data); huge < int64(size)/2 {
			return fail(nil, fmt.Sprintf("the kernel made %d of %d MiB huge", huge>>20, length>>20), thpRemedy)
		}
	}
	ok = true
	return fd, data, nil
}

// totalMemory returns the bytes of memory the machine has, 0 if unknown.
func totalMemory() uint64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return uint64(info.Totalram) * uint64(info.Unit)
}

const thpRemedy = "allow it with: echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled"

// mmap maps the file shared, at an address that is a multiple of align where
// that is more than a page: transparent huge pages need it, and mmap does not
// promise it.
func mmap(fd int, length, align uint64) ([]byte, error) {
	const prot = unix.PROT_READ | unix.PROT_WRITE
	if align <= uint64(os.Getpagesize()) {
		p, err := unix.MmapPtr(fd, 0, nil, uintptr(length), prot, unix.MAP_SHARED)
		if err != nil {
			return nil, err
		}
		return unsafe.Slice((*byte)(p), length), nil
	}
	// Reserve more address space than needed, map over the aligned part of it,
	// and give the rest back.
	area, err := unix.MmapPtr(-1, 0, nil, uintptr(length+align), unix.PROT_NONE,
		unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil, err
	}
	// The pointers made here stay inside the reservation, which is not Go's
	// heap, and none outlives it.
	head := -uintptr(area) & uintptr(align-1)
	tail := uintptr(align) - head
	start := unsafe.Add(area, head)
	if head > 0 {
		unix.MunmapPtr(area, head)
	}
	if tail > 0 {
		unix.MunmapPtr(unsafe.Add(start, length), tail)
	}
	if _, err := unix.MmapPtr(fd, 0, start, uintptr(length), prot, unix.MAP_SHARED|unix.MAP_FIXED); err != nil {
		unix.MunmapPtr(start, uintptr(length))
		return nil, err
	}
	return unsafe.Slice((*byte)(start), length), nil
}

func munmap(data []byte) error {
	return unix.MunmapPtr(unsafe.Pointer(unsafe.SliceData(data)), uintptr(len(data)))
}

// mappedHuge returns how many bytes of the mapping the kernel mapped with huge
// pages, from the ShmemPmdMapped line of its entry in /proc/self/smaps.
func mappedHuge(data []byte) int64 {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return 0
	}
	defer f.Close()
	want := fmt.Sprintf("%x-", uintptr(unsafe.Pointer(unsafe.SliceData(data)))) // an address to look up, never turned back into a pointer
	in := false
	for s := bufio.NewScanner(f); s.Scan(); {
		line := s.Text()
		if strings.HasPrefix(line, want) {
			in = true
			continue
		}
		if rest, found := strings.CutPrefix(line, "ShmemPmdMapped:"); found && in {
			kb, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
			return kb << 10
		}
	}
	return 0
}

// hugeShortage says how many hugetlb pages of the kind are free and wanted.
func hugeShortage(kind PageKind, length uint64) string {
	return fmt.Sprintf("%d pages wanted, %d free", length/uint64(kind.Size()), freeHuge(kind))
}

// freeHuge returns the hugetlb pages of the kind that nobody uses or reserved.
func freeHuge(kind PageKind) int {
	dir := fmt.Sprintf("/sys/kernel/mm/hugepages/hugepages-%dkB", kind.Size()>>10)
	read := func(name string) int {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return 0
		}
		n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		return n
	}
	return max(0, read("free_hugepages")-read("resv_hugepages"))
}

// hugeRemedy says how to get hugetlb pages of the kind.
func hugeRemedy(kind PageKind, length uint64) string {
	n := length / uint64(max(kind.Size(), 1))
	switch kind {
	case Pages2M:
		return fmt.Sprintf("reserve them with: sysctl vm.nr_hugepages=%d (or --reserve-hugepages), or ask for pages: auto", n)
	case Pages1G:
		return fmt.Sprintf("reserve them with: echo %d > /sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages, or ask for pages: auto", n)
	}
	return ""
}
