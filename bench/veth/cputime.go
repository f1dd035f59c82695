package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the unit of times in /proc: USER_HZ is 100 on every architecture that
// Go runs on.
const tick = 10 * time.Millisecond

// cpuTime is the CPU time of a process, all its threads, since its start.
type cpuTime struct {
	total time.Duration // exact, from the process's CPU clock
	// User and system time as getrusage has them, in ticks of 1/100 s: the
	// kernel knows the sum exactly and samples how it is divided.
	user, system time.Duration
}

func (a cpuTime) sub(b cpuTime) cpuTime {
	return cpuTime{a.total - b.total, a.user - b.user, a.system - b.system}
}

// processTime reads the CPU time of a running process from outside, so that
// a forwarder's loop is not disturbed to ask for it.
func processTime(pid int) (cpuTime, error) {
	// clock_getcpuclockid(3): the complement of the pid, and CPUCLOCK_SCHED.
	const cpuclockSched = 2
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|cpuclockSched), &ts); err != nil {
		return cpuTime{}, fmt.Errorf("read the CPU clock of process %d: %w", pid, err)
	}
	t := cpuTime{total: time.Duration(ts.Nano())}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return t, err
	}
	// The second field is the command in parentheses and may hold spaces; utime
	// and stime are fields 14 and 15 (proc(5)), in ticks of USER_HZ.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	for field, d := range map[int]*time.Duration{14: &t.user, 15: &t.system} {
		n, err := strconv.ParseInt(fields[field-3], 10, 64)
		if err != nil {
			return t, fmt.Errorf("read the CPU time of process %d: %w", pid, err)
		}
		*d = time.Duration(n) * tick
	}
	return t, nil
}

// softirqThread returns the pid of the kernel thread that takes over the
// softirqs of a CPU when they are too many, or 0 if it cannot be found (in a PID
// namespace). Its time is work for the forwarder that the forwarder's own CPU
// time does not show.
func softirqThread(cpu int) int {
	names, _ := filepath.Glob("/proc/[0-9]*/comm")
	want := fmt.Sprintf("ksoftirqd/%d\n", cpu)
	for _, name := range names {
		if comm, err := os.ReadFile(name); err == nil && string(comm) == want {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			return pid
		}
	}
	return 0
}

// threadTime returns what a kernel thread has run; 0 for pid 0.
func threadTime(pid int) time.Duration {
	if pid == 0 {
		return 0
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
	if err != nil {
		return 0 // a kernel without scheduler information
	}
	ran, _, _ := strings.Cut(string(text), " ")
	n, _ := strconv.ParseInt(ran, 10, 64)
	return time.Duration(n)
}

// busyTime returns how long a CPU has not been idle since the machine started,
// sampled, with what a hypervisor took from it (proc_stat(5)).
func busyTime(cpu int) (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 9 || fields[0] != fmt.Sprintf("cpu%d", cpu) {
			continue
		}
		var busy int64
		// user nice system idle iowait irq softirq steal; what guests use is in user.
		for _, i := range []int{1, 2, 3, 6, 7, 8} {
			n, err := strconv.ParseInt(fields[i], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read the time of CPU %d: %w", cpu, err)
			}
			busy += n
		}
		return time.Duration(busy) * tick, nil
	}
	return 0, fmt.Errorf("read the time of CPU %d: /proc/stat does not have it", cpu)
}
