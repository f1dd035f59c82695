package stages

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/xdpipe/xdpipe/pipeline"
)

// writeCapture writes packets to a pcap or, by its name, a pcapng file.
func writeCapture(t testing.TB, name string, packets [][]byte) string {
	t.Helper()
	var buf bytes.Buffer
	var w interface {
		WritePacket(gopacket.CaptureInfo, []byte) error
	}
	if filepath.Ext(name) == ".pcapng" {
		ng, err := pcapgo.NewNgWriter(&buf, layers.LinkTypeEthernet)
		must(t, err)
		w = ng
		defer func() {
			must(t, ng.Flush())
			must(t, os.WriteFile(name, buf.Bytes(), 0o600))
		}()
	} else {
		p := pcapgo.NewWriter(&buf)
		must(t, p.WriteFileHeader(65535, layers.LinkTypeEthernet))
		w = p
		defer func() { must(t, os.WriteFile(name, buf.Bytes(), 0o600)) }()
	}
	for _, p := range packets {
		must(t, w.WritePacket(gopacket.CaptureInfo{CaptureLength: len(p), Length: len(p)}, p))
	}
	return name
}

func captureOf(t testing.TB, n int) (packets [][]byte) {
	for i := range n {
		packets = append(packets, numbered(i, 60+i%1400))
	}
	return packets
}

func TestGenerateSendsTheCaptureAsItIs(t *testing.T) {
	packets := captureOf(t, 500)
	for _, file := range []string{"in.pcap", "in.pcapng"} {
		name := writeCapture(t, filepath.Join(t.TempDir(), file), packets)
		for _, tc := range []struct {
			options string
			want    int
		}{
			{"", 500},
			{"rate=max", 500},
			{"rate=1Gbps count=123", 123},
			{"count=1000", 500},
			{"count=1700 loop=true", 1700},
		} {
			m := newMint(t, "pcap="+name+" "+tc.options)
			for i, p := range m.packets(tc.want) {
				if !bytes.Equal(p, packets[i%500]) {
					t.Fatalf("%s: packet %d is %.20x, want %.20x", tc.options, i, p, packets[i%500])
				}
			}
			if m.Due() != pipeline.Never {
				t.Errorf("%s: more is due at %d after %d packets", tc.options, m.Due(), tc.want)
			}
		}
		if m := newMint(t, "loop=true rate=max pcap="+name); len(m.packets(5000)) != 5000 || m.Due() == pipeline.Never {
			t.Error("a loop ended")
		}
	}
}

func TestGenerateSendsAllOfACaptureThoughItIsLate(t *testing.T) {
	packets := captureOf(t, 500)
	m := newMint(t, "rate=1Gbps burst=16 pcap="+writeCapture(t, filepath.Join(t.TempDir(), "in.pcap"), packets))
	var got [][]byte
	for now := int64(0); m.Due() != pipeline.Never; now += 1_000_000 {
		got = append(got, m.at(now)...)
	}
	if !slices.EqualFunc(got, packets, bytes.Equal) {
		t.Errorf("%d packets, want the %d of the capture in their order", len(got), len(packets))
	}
	if m.Report()["late"] == 0 {
		t.Error("nothing is late, though most of the time went by between two calls")
	}
}

func TestGenerateGoesOnInTheCapture(t *testing.T) {
	packets := captureOf(t, 100)
	name := writeCapture(t, filepath.Join(t.TempDir(), "in.pcap"), packets)
	old := newMint(t, "pcap="+name)
	old.packets(30)
	m := newMint(t, "rate=2kpps pcap="+name)
	m.Inherit(old.Generate)
	if got := m.packets(70); !slices.EqualFunc(got, packets[30:], bytes.Equal) || m.Due() != pipeline.Never {
		t.Errorf("packet 31 is %.20x, want %.20x; due at %d", got[0], packets[30], m.Due())
	}
}

func TestCapturesThatCannotBeSentAreRefused(t *testing.T) {
	dir := t.TempDir()
	good := func(name string, packets ...[]byte) string { return writeCapture(t, filepath.Join(dir, name), packets) }
	broken := func(name string, change func([]byte) []byte) string {
		data, err := os.ReadFile(good(name, numbered(1, 100), numbered(2, 100)))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, name), change(data), 0o600))
		return filepath.Join(dir, name)
	}
	for _, tc := range []struct{ file, want string }{
		{filepath.Join(dir, "none.pcap"), "option pcap: open " + dir + "/none.pcap: no such file or directory"},
		{good("empty.pcap"), "empty.pcap: no packets in it"},
		{good("short.pcap", numbered(1, 60), make([]byte, 13)), "packet 2 has 13 bytes, want from 14 to 3840"},
		{good("long.pcapng", make([]byte, 3841)), "packet 1 has 3841 bytes, want from 14 to 3840"},
		{broken("text.pcap", func([]byte) []byte { return []byte("no capture at all, but some text") }), "not a pcap or pcapng file"},
		{broken("nothing.pcap", func([]byte) []byte { return nil }), "not a pcap or pcapng file"},
		{broken("cut.pcap", func(p []byte) []byte { return p[:len(p)-1] }), "packet 2: "},
		{broken("link.pcap", func(p []byte) []byte { p[20] = 101; return p }), "its packets are Raw, want Ethernet"},
		{broken("snap.pcap", func(p []byte) []byte { p[24+12] = 200; return p }), "packet 1: only 100 of its 200 bytes were captured; capture whole packets"},
	} {
		if _, err := tryGenerate("pcap=" + tc.file); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %s", tc.file, err, tc.want)
		}
	}
	data, err := os.ReadFile(good("good.pcap", captureOf(t, 10)...))
	must(t, err)
	for _, most := range [][2]int{{644, 10}, {645, 9}} {
		if _, err := readPackets(bytes.NewReader(data), most[0], most[1]); err == nil || !strings.Contains(err.Error(), "kept in memory") {
			t.Errorf("at most %d bytes and %d packets: %v", most[0], most[1], err)
		}
	}
	if packets, err := readPackets(bytes.NewReader(data), 645, 10); err != nil || len(packets) != 10 {
		t.Errorf("%d packets, %v; want 10", len(packets), err)
	}
}

func FuzzGenerateCapture(f *testing.F) {
	for _, name := range []string{"in.pcap", "in.pcapng"} {
		data, err := os.ReadFile(writeCapture(f, filepath.Join(f.TempDir(), name), captureOf(f, 3)))
		must(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		packets, err := readPackets(bytes.NewReader(data), 1<<20, 1000)
		for _, p := range packets {
			if p.n != len(p.inCapture) || p.n < 14 || p.n > longestPacket {
				t.Fatalf("a packet of %d bytes has %d", p.n, len(p.inCapture))
			}
		}
		if (err == nil) != (len(packets) > 0) {
			t.Fatalf("%d packets, %v", len(packets), err)
		}
	})
}

// TestTsharkFindsGeneratedChecksumsRight asks a program that no one here wrote.
func TestTsharkFindsGeneratedChecksumsRight(t *testing.T) {
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		t.Skip("tshark is not installed")
	}
	var packets [][]byte
	want := 0 // checksums
	for _, tc := range generated {
		m := newMint(t, tc.options+" rate=max")
		packets = append(packets, m.packets(200)...)
		want += 200
		if !m.template.ipv6 {
			want += 200
		}
	}
	name := writeCapture(t, filepath.Join(t.TempDir(), "out.pcap"), packets)
	tests := []string{"ip.checksum.status", "udp.checksum.status", "tcp.checksum.status", "icmp.checksum.status", "icmpv6.checksum.status"}
	args := []string{"-r", name, "-T", "fields", "-e", "_ws.malformed"}
	for _, field := range tests {
		protocol, _, _ := strings.Cut(field, ".")
		args = append(args, "-e", field)
		if strings.HasPrefix(protocol, "icmp") {
			continue // always
		}
		args = append(args, "-o", protocol+".check_checksum:TRUE")
	}
	out, err := exec.Command(tshark, args...).Output()
	must(t, err)
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(lines) != len(packets) {
		t.Fatalf("%d lines for %d packets", len(lines), len(packets))
	}
	good := 0
	for i, line := range lines {
		for k, field := range strings.Split(line, "\t") {
			switch {
			case field == "":
			case k > 0 && field == "1": // good
				good++
			default:
				t.Fatalf("packet %d, %.100x: %q for malformed and %v", i, packets[i], line, tests)
			}
		}
	}
	if good != want {
		t.Errorf("tshark finds %d checksums right, want %d", good, want)
	}
}
