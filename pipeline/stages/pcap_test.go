package stages

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"golang.org/x/sys/unix"
)

type captured struct {
	info gopacket.CaptureInfo
	data []byte
}

// readCapture reads a capture to its end.
func readCapture(t testing.TB, r io.Reader) []captured {
	t.Helper()
	ng, err := pcapgo.NewNgReader(r, pcapgo.DefaultNgReaderOptions)
	must(t, err)
	if ng.LinkType() != layers.LinkTypeEthernet {
		t.Errorf("link type %v, want Ethernet", ng.LinkType())
	}
	var all []captured
	for {
		data, info, err := ng.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return all
		}
		must(t, err)
		all = append(all, captured{info, data})
	}
}

func readFile(t testing.TB, name string) []captured {
	t.Helper()
	data, err := os.ReadFile(name)
	must(t, err)
	return readCapture(t, bytes.NewReader(data))
}

func numbered(n, length int) []byte {
	p := bytes.Repeat([]byte{byte(n)}, length)
	copy(p, macs+"\x88\xb5")
	binary.BigEndian.PutUint32(p[14:], uint32(n))
	return p
}

func TestPcapHasEveryPacketInOrderAsItWas(t *testing.T) {
	name := filepath.Join(t.TempDir(), "out.pcapng")
	before := time.Now()
	r := newRig(t, 1, "macswap ! pcap file="+name+" ! macswap")
	var packets [][]byte
	for i := range 5000 { // more than one chunk
		packets = append(packets, numbered(i, 60+i%1400))
	}
	left := r.pass(0, packets...)
	if len(left) != len(packets) {
		t.Fatalf("%d packets left, want %d", len(left), len(packets))
	}
	v := r.values(1)
	must(t, r.stop())
	after := time.Now()
	if v["captured"]+v["missed"] != 5000 || v["missed"] != 0 {
		t.Errorf("values %v, want 5000 captured", v)
	}
	got := readFile(t, name)
	if len(got) != len(packets) {
		t.Fatalf("%d packets in the file, want %d", len(got), len(packets))
	}
	last := before.Add(-time.Microsecond)
	for i, c := range got {
		p := packets[i]
		want := append(append(append([]byte(nil), p[6:12]...), p[:6]...), p[12:]...)
		if !bytes.Equal(c.data, want) || c.info.Length != len(p) || c.info.CaptureLength != len(p) {
			t.Fatalf("packet %d is %.18x (%+v), want %.18x of %d bytes", i, c.data, c.info, want, len(p))
		}
		if c.info.Timestamp.Before(last) || c.info.Timestamp.After(after) {
			t.Fatalf("packet %d is of %v, want from %v to %v", i, c.info.Timestamp, last, after)
		}
		last = c.info.Timestamp
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v: others may read the packets", info.Mode(), err)
	}
}

func TestPcapKeepsSnaplenBytesAndTheLengthOnTheWire(t *testing.T) {
	name := filepath.Join(t.TempDir(), "out.pcapng")
	r := newRig(t, 1, "pcap snaplen=96 file="+name)
	r.pass(0, numbered(1, 95), numbered(2, 96), numbered(3, 97), numbered(4, 1500))
	must(t, r.stop())
	got := readFile(t, name)
	if len(got) != 4 {
		t.Fatalf("%d packets, want 4", len(got))
	}
	for i, length := range []int{95, 96, 97, 1500} {
		if c := got[i]; c.info.Length != length || !bytes.Equal(c.data, numbered(i+1, length)[:min(length, 96)]) {
			t.Errorf("packet %d has %d of %d bytes: %x", i, len(c.data), c.info.Length, c.data)
		}
	}
}

func TestPcapReplacesAnOldFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "out.pcapng")
	must(t, os.WriteFile(name, bytes.Repeat([]byte("old"), 10000), 0o600))
	r := newRig(t, 1, "pcap file="+name)
	r.pass(0, numbered(1, 60))
	must(t, r.stop())
	if got := readFile(t, name); len(got) != 1 {
		t.Errorf("%d packets, want 1", len(got))
	}
}

func TestPcapOfAQuietLinkIsInTheFileWithoutClose(t *testing.T) {
	name := filepath.Join(t.TempDir(), "out.pcapng")
	r := newRig(t, 1, "pcap file="+name)
	for i := range 3 {
		r.pass(0, numbered(i, 60))
		waitFor(t, func() bool { return r.values(0)["written"] == uint64(i+1) })
		// written counts packets on their way; the file has them a moment later.
		waitFor(t, func() bool {
			data, err := os.ReadFile(name)
			must(t, err)
			return bytes.Contains(data, numbered(i, 60))
		})
	}
	must(t, r.stop())
}

func TestPcapOfSeveralWorkersIsOneFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "out.pcapng")
	r := newRig(t, 2, "pcap file="+name)
	for i := range 300 {
		r.pass(i%2, numbered(i, 60))
	}
	must(t, r.stop())
	seen := map[uint32]bool{}
	next := [2]uint32{0, 1}
	for _, c := range readFile(t, name) {
		n := binary.BigEndian.Uint32(c.data[14:])
		if n != next[n%2] {
			t.Fatalf("packet %d of worker %d where %d was next", n, n%2, next[n%2])
		}
		next[n%2] += 2
		seen[n] = true
	}
	if len(seen) != 300 {
		t.Errorf("%d packets in the file, want 300", len(seen))
	}
}

// newPipe makes a pipe with a name, and opens its end to read from.
func newPipe(t testing.TB) (name string, reader *os.File) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "pipe")
	must(t, unix.Mkfifo(name, 0o600))
	reader, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	must(t, err)
	t.Cleanup(func() { reader.Close() })
	return name, reader
}

func TestPcapOnASlowDiskMissesPacketsAndForwardsThemAll(t *testing.T) {
	name, reader := newPipe(t) // a disk as slow as whoever reads it
	r := newRig(t, 1, "pcap file="+name)
	const total = 10000 // of 1500 bytes: more than the stage's buffers and the pipe's
	for i := range total / 100 {
		var packets [][]byte
		for j := range 100 {
			packets = append(packets, numbered(i*100+j, 1500))
		}
		if left := r.pass(0, packets...); len(left) != 100 {
			t.Fatalf("%d of 100 packets left", len(left))
		}
	}
	v := r.values(0)
	if v["missed"] == 0 || v["captured"] == 0 || v["captured"]+v["missed"] != total {
		t.Errorf("values %v, want some captured and the others of %d missed", v, total)
	}
	read := make(chan []byte)
	go func() {
		data, _ := io.ReadAll(reader)
		read <- data
	}()
	// What was captured is written when the disk is there again, also what no
	// later packet pushes.
	waitFor(t, func() bool { return r.values(0)["written"] == v["captured"] })
	must(t, r.stop())
	got := readCapture(t, bytes.NewReader(<-read))
	if uint64(len(got)) != v["captured"] {
		t.Errorf("%d packets read, want %d", len(got), v["captured"])
	}
	for i, c := range got {
		if n := binary.BigEndian.Uint32(c.data[14:]); n != uint32(i) {
			t.Fatalf("packet %d is number %d; those before the first that was missed are in order", i, n)
		}
	}
}

func TestPcapEndsThoughNobodyReadsItsPipe(t *testing.T) {
	name, _ := newPipe(t)
	r := newRig(t, 1, "pcap file="+name)
	for i := range 100 {
		r.pass(0, numbered(i, 1500))
	}
	if err := r.stop(); !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), name) {
		t.Errorf("close says %v, want a timeout that names the file", err)
	}
}

func TestPcapOnAFullDiskForwardsAndSaysSoAtTheEnd(t *testing.T) {
	r := newRig(t, 1, "pcap file=/dev/full")
	for i := range 50 {
		if left := r.pass(0, numbered(i, 1500)); len(left) != 1 {
			t.Fatalf("packet %d did not leave", i)
		}
	}
	if err := r.stop(); !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "/dev/full") {
		t.Errorf("close says %v, want no space, and the file named", err)
	}
}

func TestPcapThatCannotBeOpenedNamesTheOption(t *testing.T) {
	for _, tc := range []struct{ stages, want string }{
		{"count ! pcap snaplen=64 file=/nonexistent/out.pcapng", "stages:1:30: stage pcap: option file: open /nonexistent/out.pcapng: no such file or directory"},
		{"pcap file=/", "stages:1:11: stage pcap: option file: open /: is a directory"},
		{"pcap file=x snaplen=0", "stages:1:21: stage pcap: option snaplen: found 0, want 1 to 65535 bytes"},
		{"pcap file=x snaplen=65536", "stages:1:21: stage pcap: option snaplen: found 65536, want 1 to 65535 bytes"},
		{"pcap", "stages:1:1: stage pcap: file is missing (pcapng file to write; replaced if it is there)"},
	} {
		_, err := tryRig(t, 1, tc.stages)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %s", tc.stages, err, tc.want)
		}
	}
}

// newTap is a stage without an engine, which writes to /dev/null.
func newTap(t testing.TB) *Pcap {
	t.Helper()
	out, err := newCaptureFile(os.DevNull, 65535, "test", nil)
	must(t, err)
	s := &Pcap{Snaplen: 65535, out: out}
	out.join(&s.open)
	t.Cleanup(func() {
		must(t, s.Close())
		must(t, out.Close())
	})
	return s
}

func TestPcapDoesNotAllocate(t *testing.T) {
	s := newTap(t)
	for range 200 { // the library's writer makes its buffers
		s.Process(newBatch(t, udpPacket()))
	}
	noAllocations(t, s)
}

func BenchmarkPcap(b *testing.B) {
	s := newTap(b)
	benchmark(b, s)
	b.ReportMetric(float64(s.missed)/float64(s.captured+s.missed), "missed/packet")
}
