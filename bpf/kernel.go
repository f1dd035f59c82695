package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// liftMemlock lifts the limit on locked memory, which kernels before 5.11 count
// maps against. Containers often may not; the error is kept for the case that
// loading fails.
func liftMemlock() error {
	return rlimit.RemoveMemlock()
}

// loadError says why the kernel refused the program or a map.
func loadError(err, memlock error) error {
	if lacksPerfmon(err) {
		return fmt.Errorf("load %s: %w", ProgramName, permission(err))
	}
	if errors.Is(err, unix.EPERM) {
		if memlock != nil {
			err = fmt.Errorf("%w (the limit on locked memory, RLIMIT_MEMLOCK, may be too low and could not be raised: %w)", err, memlock)
		}
		return fmt.Errorf("load %s: %w", ProgramName, permission(err))
	}
	// Linux 5.18 brought fragments for XDP: the program flag, and the helper that
	// can be probed for without attaching.
	if probe := features.HaveProgramHelper(ebpf.XDP, asm.FnXdpLoadBytes); errors.Is(probe, ebpf.ErrNotSupported) {
		return fmt.Errorf("load %s: %w: it needs XDP with fragments, Linux 5.18 or later: %w", ProgramName, ErrKernelTooOld, err)
	}
	return fmt.Errorf("load %s: %w", ProgramName, err)
}

// lacksPerfmon reports whether err comes of a missing CAP_PERFMON. Without it the
// verifier refuses pointer arithmetic on packets, as it does for other mistakes,
// with EACCES.
func lacksPerfmon(err error) bool {
	return errors.Is(err, unix.EACCES) && !capable(unix.CAP_PERFMON) && !capable(unix.CAP_SYS_ADMIN)
}

// permission names the capabilities if that is what err is about.
func permission(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%w: run as root or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN (or CAP_SYS_ADMIN): %w", ErrNotPermitted, err)
	}
	return err
}

// capable reports whether the process has a capability in effect. Where that
// cannot be read it is taken to have it.
func capable(capability int) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // 32 capabilities each
	if err := unix.Capget(&header, &data[0]); err != nil {
		return true
	}
	return data[capability/32].Effective&(1<<(capability%32)) != 0
}
