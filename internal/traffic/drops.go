package traffic

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// dropWatch reads what the kernel counted at the receiving end of a UDP flow,
// to tell datagrams lost on the way from those that arrived and were dropped.
type dropWatch struct {
	ns     Namespace
	inode  uint64 // of the receiving socket
	v6     bool
	before udpCounters
}

// udpCounters are the kernel's counters for one namespace's UDP, of one family.
type udpCounters struct {
	bufferFull  uint64 // RcvbufErrors
	badChecksum uint64 // InCsumErrors
}

func newDropWatch(ns Namespace, c syscall.Conn, v6 bool) (dropWatch, error) {
	w := dropWatch{ns: ns, v6: v6}
	rc, err := c.SyscallConn()
	if err != nil {
		return w, err
	}
	err = control(rc, func(fd int) error {
		var st unix.Stat_t
		err := unix.Fstat(fd, &st)
		w.inode = st.Ino
		return err
	})
	if err != nil {
		return w, fmt.Errorf("reading the socket's inode: %w", err)
	}
	_, w.before, err = w.read()
	return w, err
}

// explain says how many of the lost datagrams the receiving end dropped, and
// why.
func (w dropWatch) explain(lost uint64) string {
	drops, now, err := w.read()
	if err != nil {
		return fmt.Sprintf("the receiving socket's drops are unknown: %v", err)
	}
	// Of two counters that may count the same datagram.
	drops = max(drops, now.badChecksum-w.before.badChecksum)
	why := fmt.Sprintf("buffer full: %s, bad checksum: %s",
		thousands(now.bufferFull-w.before.bufferFull), thousands(now.badChecksum-w.before.badChecksum))
	return explainDrops(lost, drops, why)
}

// explainDrops divides what was lost between the receiving end and the way to
// it.
func explainDrops(lost, drops uint64, why string) string {
	switch {
	case drops == 0:
		return "the receiving socket dropped none: lost on the way"
	case drops < lost:
		return fmt.Sprintf("the receiving socket dropped %s (%s), the others were lost on the way", thousands(drops), why)
	}
	return fmt.Sprintf("the receiving socket dropped %s (%s): all arrived at the interface", thousands(drops), why)
}

// read returns the socket's drop count and the namespace's counters. The files
// are those of the thread: /proc/net is the main thread's namespace.
func (w dropWatch) read() (drops uint64, c udpCounters, err error) {
	sockets, snmp := "udp", "snmp"
	if w.v6 {
		sockets, snmp = "udp6", "snmp6"
	}
	var socketText, snmpText []byte
	err = w.ns.Do(func() (err error) {
		if socketText, err = os.ReadFile("/proc/thread-self/net/" + sockets); err != nil {
			return err
		}
		snmpText, err = os.ReadFile("/proc/thread-self/net/" + snmp)
		return err
	})
	if err != nil {
		return 0, c, fmt.Errorf("reading UDP's counters: %w", err)
	}
	return socketDrops(socketText, w.inode), parseCounters(snmpText), nil
}

// socketDrops finds a socket in the text of /proc/net/udp and returns the last
// column.
func socketDrops(text []byte, inode uint64) uint64 {
	const inodeField = 9
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) > inodeField+1 && f[inodeField] == strconv.FormatUint(inode, 10) {
			n, _ := strconv.ParseUint(f[len(f)-1], 10, 64)
			return n
		}
	}
	return 0
}

// parseCounters reads /proc/net/snmp, two lines a protocol, names and then
// values, or /proc/net/snmp6, one line a counter.
func parseCounters(text []byte) udpCounters {
	var c udpCounters
	set := func(name, value string) {
		n, _ := strconv.ParseUint(value, 10, 64)
		switch name {
		case "RcvbufErrors", "Udp6RcvbufErrors":
			c.bufferFull = n
		case "InCsumErrors", "Udp6InCsumErrors":
			c.badChecksum = n
		}
	}
	var names []string
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		f := strings.Fields(s.Text())
		switch {
		case len(f) == 2 && strings.HasPrefix(f[0], "Udp6"):
			set(f[0], f[1])
		case len(f) == 0 || f[0] != "Udp:":
		case names == nil:
			names = f
		default:
			for i := range min(len(f), len(names)) {
				set(names[i], f[i])
			}
		}
	}
	return c
}
