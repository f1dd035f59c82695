package asavie

import (
	"bytes"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// unmapSocket unmaps what this process still has mapped of the socket with that
// inode. The library keeps its mappings to itself, and each of them keeps the
// socket open in the kernel.
func unmapSocket(inode uint64) error {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return fmt.Errorf("asavie: unmap the rings: %w: the queue stays in use until the process ends", err)
	}
	name := fmt.Appendf(nil, " socket:[%d]", inode)
	for line := range bytes.Lines(maps) {
		if !bytes.HasSuffix(bytes.TrimSpace(line), name[1:]) || !bytes.Contains(line, name) {
			continue
		}
		var start, end uintptr
		if _, err := fmt.Sscanf(string(line), "%x-%x ", &start, &end); err != nil {
			return fmt.Errorf("asavie: unmap the rings: read %q of /proc/self/maps: %w", line, err)
		}
		if _, _, errno := unix.Syscall(unix.SYS_MUNMAP, start, end-start, 0); errno != 0 {
			return fmt.Errorf("asavie: unmap a ring: %w", errno)
		}
	}
	return nil
}
