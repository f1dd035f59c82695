package stages

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/pcapgo"

	"github.com/xdpipe/xdpipe/pipeline/pipelinetest"
)

// badChecksums returns which of the packets tshark finds a wrong checksum in.
func badChecksums(t *testing.T, packets []pipelinetest.Packet) map[int]bool {
	t.Helper()
	file := filepath.Join(t.TempDir(), "all.pcap")
	pipelinetest.WriteFile(t, file, packets)
	args := []string{"-r", file, "-T", "fields", "-e", "frame.number", "-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE"}
	var filter []string
	for _, preference := range []string{"ip.check_checksum", "tcp.check_checksum", "udp.check_checksum"} { // by default it takes them on trust
		args = append(args, "-o", preference+":TRUE")
	}
	for _, protocol := range []string{"ip", "tcp", "udp", "icmp", "icmpv6"} {
		filter = append(filter, protocol+".checksum.status == 0")
	}
	cmd := exec.Command("tshark", append(args, "-Y", strings.Join(filter, " || "))...)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v\n%s", err, &errOut)
	}
	bad := map[int]bool{}
	for _, word := range strings.Fields(string(out)) {
		n, err := strconv.Atoi(word)
		must(t, err)
		bad[n-1] = true
	}
	return bad
}

// timed reads the packets of a capture; At is their time in the file.
func timed(t *testing.T, file string) []pipelinetest.Packet {
	t.Helper()
	packets := pipelinetest.ReadFile(t, file)
	f, err := os.Open(file)
	must(t, err)
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	must(t, err)
	for i := range packets {
		_, info, err := r.ReadPacketData()
		must(t, err)
		packets[i].At = time.Duration(info.Timestamp.UnixNano())
	}
	return packets
}

// What leaves has the time since the first packet at which it came in. That tells
// which packet it was.
func TestGoldenCapturesHaveNoWrongChecksumThatDidNotComeIn(t *testing.T) {
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Skip("tshark is not installed")
	}
	type origin struct {
		file  string // the capture that came in; "" if none did
		at    time.Duration
		label string
	}
	var all []pipelinetest.Packet
	var origins []origin
	add := func(in, file string, packets []pipelinetest.Packet, first time.Duration) {
		for i, p := range packets {
			all = append(all, p)
			origins = append(origins, origin{in, p.At - first, fmt.Sprintf("%s: packet %d", file, i+1)})
		}
	}
	inputs := map[string]bool{}
	for _, c := range goldenCases(t) {
		if c.in != "" && !inputs[c.in] {
			inputs[c.in] = true
			packets := timed(t, c.in)
			add(c.in, "", packets, packets[0].At)
		}
	}
	came := len(all)
	for _, c := range goldenCases(t) {
		counters, err := os.ReadFile(c.path + ".golden")
		must(t, err)
		for _, port := range regexp.MustCompile(`(?m)^port (\S+): packets [1-9]`).FindAllStringSubmatch(string(counters), -1) {
			if file := c.path + "." + port[1] + ".pcap"; port[1] != "in" {
				add(c.in, file, timed(t, file), 0)
			}
		}
	}
	bad := badChecksums(t, all)
	known := map[origin]bool{}
	for i, o := range origins[:came] {
		o.label = ""
		known[o] = bad[i]
	}
	for i, s := range commonTraffic() { // else tshark does not look
		o := origin{trafficFile, time.Duration(i) * time.Millisecond, ""}
		if strings.Contains(s.name, "with a wrong") != known[o] && !strings.HasPrefix(s.name, "cut") && !strings.HasPrefix(s.name, "noise") {
			t.Errorf("%s: tshark finds a wrong checksum: %v", s.name, known[o])
		}
	}
	for i, o := range origins[came:] {
		label := o.label
		if o.label = ""; bad[came+i] && !known[o] {
			t.Errorf("%s has a wrong checksum that it did not come with", label)
		}
	}
}
