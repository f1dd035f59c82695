package xdpipe

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/xdpipe/xdpipe/pipeline"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// isGolden compares text with a file of testdata.
func isGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		must(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	must(t, err)
	if got != string(want) {
		t.Errorf("not what %s has (-update writes it anew):\n%s", path, got)
	}
}

func frameOf(t *testing.T, l ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true}, l...))
	return bytes.Clone(buf.Bytes())
}

func ethernet(kind layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: []byte{2, 0, 0, 0, 0, 1}, DstMAC: []byte{2, 0, 0, 0, 0, 2}, EthernetType: kind}
}

func ip4(protocol layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Protocol: protocol, SrcIP: []byte{192, 0, 2, 1}, DstIP: []byte{198, 51, 100, 2}}
}

func ip6(protocol layers.IPProtocol) *layers.IPv6 {
	src, dst := make([]byte, 16), make([]byte, 16)
	copy(src, "\x20\x01\x0d\xb8")
	copy(dst, "\x20\x01\x0d\xb8")
	src[15], dst[15] = 1, 2
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: protocol, SrcIP: src, DstIP: dst}
}

func TestAPacketIsSaidInAFewWords(t *testing.T) {
	arp := &layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: layers.ARPRequest,
		SourceHwAddress: []byte{2, 0, 0, 0, 0, 1}, SourceProtAddress: []byte{192, 0, 2, 1}, DstHwAddress: make([]byte, 6), DstProtAddress: []byte{192, 0, 2, 2}}
	reply := *arp
	reply.Operation = layers.ARPReply
	fragment := ip4(layers.IPProtocolUDP)
	fragment.FragOffset = 185
	udp := &layers.UDP{SrcPort: 1234, DstPort: 53}
	for _, tt := range []struct {
		want string
		data []byte
	}{
		{"192.0.2.1:1234 > 198.51.100.2:53 udp", frameOf(t, ethernet(layers.EthernetTypeIPv4), ip4(layers.IPProtocolUDP), udp, gopacket.Payload("query"))},
		{"192.0.2.1:9 > 198.51.100.2:80 tcp [S.]", frameOf(t, ethernet(layers.EthernetTypeIPv4), ip4(layers.IPProtocolTCP), &layers.TCP{SrcPort: 9, DstPort: 80, SYN: true, ACK: true})},
		{"[2001:db8::1]:1234 > [2001:db8::2]:53 udp", frameOf(t, ethernet(layers.EthernetTypeIPv6), ip6(layers.IPProtocolUDP), udp, gopacket.Payload("query"))},
		{"192.0.2.1 > 198.51.100.2 icmp EchoRequest", frameOf(t, ethernet(layers.EthernetTypeIPv4), ip4(layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0)})},
		{"2001:db8::1 > 2001:db8::2 icmp6 EchoReply", frameOf(t, ethernet(layers.EthernetTypeIPv6), ip6(layers.IPProtocolICMPv6), &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(129, 0)})},
		{"192.0.2.1 > 198.51.100.2 sctp", frameOf(t, ethernet(layers.EthernetTypeIPv4), ip4(layers.IPProtocolSCTP))},
		{"192.0.2.1 > 198.51.100.2 udp fragment at 1480", frameOf(t, ethernet(layers.EthernetTypeIPv4), fragment, gopacket.Payload("the rest"))},
		{"arp who has 192.0.2.2 tell 192.0.2.1", frameOf(t, ethernet(layers.EthernetTypeARP), arp)},
		{"arp 192.0.2.1 is at 02:00:00:00:00:01", frameOf(t, ethernet(layers.EthernetTypeARP), &reply)},
		{"vlan 7 vlan 8 192.0.2.1:1234 > 198.51.100.2:53 udp", frameOf(t, ethernet(layers.EthernetTypeDot1Q), &layers.Dot1Q{VLANIdentifier: 7, Type: layers.EthernetTypeDot1Q},
			&layers.Dot1Q{VLANIdentifier: 8, Type: layers.EthernetTypeIPv4}, ip4(layers.IPProtocolUDP), udp, gopacket.Payload("query"))},
		{"02:00:00:00:00:01 > 02:00:00:00:00:02 ethertype 0x88b5", frameOf(t, ethernet(0x88b5), gopacket.Payload("of our own, and long enough not to be a length"))},
		{"no Ethernet header", []byte{1, 2, 3}},
		{"no Ethernet header", nil},
	} {
		want := fmt.Sprintf("%s, %d bytes", tt.want, len(tt.data))
		if got := packetLine(pipeline.TracedPacket{Data: tt.data, Length: len(tt.data)}); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func FuzzPacketsAreSaidWithoutHarm(f *testing.F) {
	for _, seed := range []string{"", "020000000001020000000002080045000014", "02000000000102000000000286dd6000000000003aff", "0200000000010200000000020806000108000604000", "0200000000010200000000028100000788a8"} {
		raw, _ := hex.DecodeString(seed)
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		text := TraceText(pipeline.TracedPacket{Data: data, Length: len(data), Port: string(data), Path: []pipeline.TraceStep{{Stage: string(data), Reason: string(data), Changed: []string{string(data)}}}})
		if strings.ContainsAny(text, "\x1b\x07\r") || strings.Count(text, "\n") != 2 {
			t.Errorf("%q", text)
		}
	})
}

// followed is a packet that went all the ways there are.
func followed(t *testing.T) pipeline.TracedPacket {
	data := frameOf(t, ethernet(layers.EthernetTypeIPv4), ip4(layers.IPProtocolUDP), &layers.UDP{SrcPort: 1234, DstPort: 53}, gopacket.Payload("query"))
	return pipeline.TracedPacket{
		Number: 3, At: time.Date(2026, 1, 2, 3, 4, 5, 123456789, time.UTC), Port: "wan", Queue: 1, Worker: 0, Length: len(data), Data: data,
		Path: []pipeline.TraceStep{
			{Stage: "wan-lan/1:parse", After: 250, Verdict: "next", Changed: []string{"parsed: ipv4 udp 1234 > 53"}},
			{Stage: "wan-lan/2:mirror", After: 900, Verdict: "tee", To: "copy"},
			{Stage: "wan-lan/2:mirror", After: 950, Verdict: "next"},
			{Stage: "wan-lan/3:hash", After: 1_234, Verdict: "worker", To: "1"},
			{Stage: "wan-lan/4:match", Worker: 1, After: 45_678, Verdict: "output", To: "else"},
			{Stage: "wan-lan/5:nat", Worker: 1, After: 98_765, Verdict: "next", Changed: []string{"bytes 26-29, 34", "checksum good"}},
			{Stage: "wan-lan/6:li\x1b[2Jmit", Worker: 1, After: 12_345_678, Verdict: "drop", Reason: "over_\u202elimit"},
			{Stage: "lan", Worker: 0, After: 1_500_000_123, Verdict: "transmit", To: "lan"},
		},
	}
}

func TestAPathIsThatOfTheGoldenFile(t *testing.T) {
	p := followed(t)
	unfinished := p
	unfinished.Number, unfinished.Path = 4, nil
	isGolden(t, "trace.golden", TraceText(p)+TraceText(unfinished))
}

func TestFollowedPacketsAreAPcapngFileWithTheirPathsAsComments(t *testing.T) {
	p, q := followed(t), followed(t)
	q.Port, q.Data, q.Length = "lan", q.Data[:20], 3000
	long := followed(t)
	for range 2000 {
		long.Path = append(long.Path, p.Path[0], p.Path[5])
	}
	path := filepath.Join(t.TempDir(), "trace.pcapng")
	file, err := os.Create(path)
	must(t, err)
	w := NewTraceWriter(file)
	for _, p := range []pipeline.TracedPacket{p, q, long} {
		must(t, w.Write(p))
	}
	must(t, w.Close())
	must(t, file.Close())

	raw, err := os.ReadFile(path)
	must(t, err)
	r, err := pcapgo.NewNgReader(bytes.NewReader(raw), pcapgo.DefaultNgReaderOptions)
	must(t, err)
	for i, p := range []pipeline.TracedPacket{p, q, long} {
		data, info, opts, err := r.ReadPacketDataWithOptions()
		must(t, err)
		link, err := r.Interface(info.InterfaceIndex)
		must(t, err)
		if !bytes.Equal(data, p.Data) || info.Length != p.Length || !info.Timestamp.Equal(p.At) || link.Name != p.Port || *opts.Queue != 1 || len(opts.Comments) != 1 {
			t.Fatalf("packet %d: %x %+v %+v", i, data, info, opts)
		}
		text := opts.Comments[0]
		if !utf8.ValidString(text) || !strings.Contains(text, "wan-lan/5:nat") || len(text) > maxComment {
			t.Errorf("comment: %s", text)
		}
		if cut := strings.HasSuffix(text, "\n…"); cut != (i == 2) || cut && len(text) < maxComment-16 {
			t.Errorf("packet %d: a comment of %d bytes, cut %v", i, len(text), cut)
		}
	}

	tshark, err := exec.LookPath("tshark")
	if err != nil {
		t.Log("tshark is not installed: not asked")
		return
	}
	out, err := exec.Command(tshark, "-r", path, "-T", "fields", "-e", "frame.interface_name", "-e", "frame.len", "-e", "udp.dstport", "-e", "frame.comment").CombinedOutput()
	must(t, err)
	for _, want := range []string{"wan\t60\t53\tworker 0", "lan\t3000\t\tworker 0", "parsed: ipv4 udp 1234 > 53", "drop: over_?limit", "bytes 26-29, 34; checksum good"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("tshark shows no %q in:\n%.3000s", want, out)
		}
	}
}

func TestATraceOfNoPacketIsAFileToo(t *testing.T) {
	var b bytes.Buffer
	w := NewTraceWriter(&b)
	must(t, w.Close())
	r, err := pcapgo.NewNgReader(&b, pcapgo.DefaultNgReaderOptions)
	must(t, err)
	if _, _, err := r.ReadPacketData(); err == nil {
		t.Error("a packet that nobody wrote")
	}
}
