package stages

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/xdpipe/xdpipe/internal/ranges"
	"github.com/xdpipe/xdpipe/pipeline"
	"github.com/xdpipe/xdpipe/umem"
)

// tryGenerate returns a stage with options of the quick form, ready.
func tryGenerate(options string) (*Generate, error) {
	specs, err := pipeline.ParseQuick("stages", "generate "+options)
	if err != nil {
		return nil, err
	}
	s, err := specs[0].New()
	if err != nil {
		return nil, err
	}
	return s.(*Generate), s.(*Generate).Provision(&pipeline.Context{})
}

// A mint runs a generate stage without an engine, on a clock that the test drives.
type mint struct {
	*Generate
	cache *umem.Cache
	batch *pipeline.Batch
	empty pipeline.Batch
}

func newMint(t testing.TB, options string) *mint {
	t.Helper()
	s, err := tryGenerate(options)
	must(t, err)
	return mintOf(t, s, umem.Options{Frames: 512, FrameSize: 4096, Pages: umem.Pages4K})
}

func mintOf(t testing.TB, s *Generate, opts umem.Options) *mint {
	t.Helper()
	mem, err := umem.New(opts)
	must(t, err)
	m := &mint{Generate: s, cache: mem.NewCache(0)}
	m.batch = pipeline.NewBatch(m.cache, pipeline.MaxBatch)
	m.empty = *m.batch
	t.Cleanup(func() {
		m.reset()
		m.cache.Close()
		must(t, mem.Close())
	})
	return m
}

// reset gives the batch's frames back.
func (m *mint) reset() {
	for _, d := range m.batch.Descs() {
		m.cache.Put(d.Addr)
	}
	*m.batch = m.empty
}

// at lets the stage make packets at the time once, which is also in their stamps,
// and returns them.
func (m *mint) at(now int64) [][]byte {
	m.reset()
	m.make(m.batch, now, now)
	all := make([][]byte, m.batch.Len())
	for i := range all {
		all[i] = bytes.Clone(m.batch.Data(i))
	}
	return all
}

// count is at without keeping the packets.
func (m *mint) count(now int64) int {
	m.reset()
	m.make(m.batch, now, now)
	return m.batch.Len()
}

// make makes n packets, at the times they are due.
func (m *mint) packets(n int) [][]byte {
	var all [][]byte
	for len(all) < n {
		all = append(all, m.at(m.Due())...)
	}
	return all[:n]
}

// generated are the kinds of packets that tests go through.
var generated = []struct{ name, options string }{
	{"udp", ""},
	{"udp of all sizes", "size=64-1518"},
	{"udp flows", "src=10.0.0.0/28 dst=10.1.0.250-10.1.1.5 src_port=1024-1030 dst_port=5000 size=90,64,101 payload=random"},
	{"udp tagged", "vlan=4094 dscp=46 ttl=3 size=68-300 payload=count"},
	{"udp without stamp", "stamp=false size=64,65,512 payload=random src_port=40000-65535"},
	{"udp short stamp", "stamp=short size=64-200 id=65535"},
	{"udp imix", "size=imix"},
	{"udp jumbo", "size=3844"},
	{"udp over ipv6", "src=2001:db8::/120 dst=2001:db8:1::9 src_port=40001-40500 size=84-400 dscp=63 payload=count"},
	{"udp over ipv6 imix tagged", "dst=2001:db8::ffff:fff0/124 vlan=7 size=imix"},
	{"tcp syn", "protocol=tcp src=10.0.0.0/8 src_port=40000-65535 dst_port=8"},
	{"tcp syn of the smallest", "protocol=tcp stamp=false size=64 src=10.0.0.0/8"},
	{"tcp with flags", "protocol=tcp tcp_flags=ack size=76-500 vlan=1 payload=random stamp=off"},
	{"tcp over ipv6", "protocol=tcp src=2001:db8::/64 dst=2001:db8::1 src_port=1-2 size=100-300"},
	{"icmp", "protocol=icmp src=10.0.0.0/24 size=64-200"},
	{"icmp over ipv6", "protocol=icmp src=2001:db8::/112 dst=2001:db8:0:1::/112 size=84,1518,97 payload=random"},
}

func TestGeneratedPacketsAreWhatTheOptionsSay(t *testing.T) {
	for _, tc := range generated {
		t.Run(tc.name, func(t *testing.T) {
			m := newMint(t, tc.options+" rate=max")
			var want []int // sizes in turn
			for _, z := range m.Size {
				want = append(want, z.List...)
			}
			for i, p := range m.packets(2500) {
				checkGenerated(t, m.Generate, p)
				switch {
				case len(want) == 0 && len(p) < 60:
					t.Errorf("packet %d has %d bytes without FCS", i, len(p))
				case len(want) > 0 && m.Size[0].Mix && want[i%len(want)] == 64:
					if len(p) < 60 || len(p) > 100 {
						t.Errorf("packet %d has %d bytes in place of 60", i, len(p))
					}
				case len(want) > 0 && len(p) != want[i%len(want)]-4:
					t.Errorf("packet %d has %d bytes, want %d and the FCS", i, len(p), want[i%len(want)]-4)
				}
				if t.Failed() {
					return
				}
			}
		})
	}
}

// checkGenerated holds a packet against the options and what gopacket makes of it.
func checkGenerated(t *testing.T, s *Generate, p []byte) {
	t.Helper()
	packet := gopacket.NewPacket(p, layers.LayerTypeEthernet, gopacket.Default)
	if packet.ErrorLayer() != nil {
		t.Errorf("%.100x: %v", p, packet.ErrorLayer().Error())
		return
	}
	withNetworkLayer(packet)
	if err, wrong := packet.VerifyChecksums(); err != nil || len(wrong) > 0 {
		t.Errorf("%.100x: checksums %v, %v", p, wrong, err)
	}
	// Gopacket computes lengths and checksums anew, and there is nothing to change.
	again := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	must(t, gopacket.SerializePacket(again, options, packet))
	if !bytes.Equal(again.Bytes(), p) {
		t.Errorf("gopacket makes of\n%.100x\n%.100x", p, again.Bytes())
	}
	eth := packet.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
	if eth.SrcMAC.String() != s.SrcMAC || eth.DstMAC.String() != s.DstMAC {
		t.Errorf("from %v to %v, want %v and %v", eth.SrcMAC, eth.DstMAC, s.SrcMAC, s.DstMAC)
	}
	if tag, ok := packet.Layer(layers.LayerTypeDot1Q).(*layers.Dot1Q); ok != (s.VLAN > 0) || ok && int(tag.VLANIdentifier) != s.VLAN {
		t.Errorf("tag %+v, want %d", tag, s.VLAN)
	}
	ttl, tos := uint8(0), uint8(0)
	if ip, ok := packet.NetworkLayer().(*layers.IPv4); ok {
		ttl, tos = ip.TTL, ip.TOS
		if ip.Flags != layers.IPv4DontFragment {
			t.Errorf("flags %v", ip.Flags)
		}
	} else {
		ip := packet.NetworkLayer().(*layers.IPv6)
		ttl, tos = ip.HopLimit, ip.TrafficClass
	}
	if int(ttl) != s.TTL || int(tos) != s.DSCP<<2 {
		t.Errorf("ttl %d, tos %d; want %d, %d", ttl, tos, s.TTL, s.DSCP<<2)
	}
	src, dst := packet.NetworkLayer().NetworkFlow().Endpoints()
	within(t, "source", s.Src, src.Raw(), "198.18.0.1", "2001:2::1")
	within(t, "destination", s.Dst, dst.Raw(), "198.19.0.1", "2001:2:0:1::1")
	switch l4 := packet.TransportLayer().(type) {
	case *layers.UDP:
		checkPorts(t, s, uint16(l4.SrcPort), uint16(l4.DstPort))
		if s.Protocol != "udp" || l4.Checksum == 0 {
			t.Errorf("udp with checksum %x, want %s with one", l4.Checksum, s.Protocol)
		}
	case *layers.TCP:
		checkPorts(t, s, uint16(l4.SrcPort), uint16(l4.DstPort))
		if ack := slices.Contains(s.TCPFlags, "ack"); s.Protocol != "tcp" || l4.SYN == ack || l4.ACK != ack || l4.RST || l4.FIN || l4.PSH || l4.URG {
			t.Errorf("%+v, want %s %v", l4, s.Protocol, s.TCPFlags)
		}
	default:
		echo4, ok4 := packet.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4)
		echo6, ok6 := packet.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6)
		if s.Protocol != "icmp" || ok4 && echo4.TypeCode != 0x800 || ok6 && echo6.TypeCode != 0x8000 || ok4 == ok6 {
			t.Errorf("%v, want %s", packet, s.Protocol)
		}
	}
}

// withNetworkLayer gives checksums the addresses they cover.
func withNetworkLayer(packet gopacket.Packet) {
	for _, l := range packet.Layers() {
		if l, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			_ = l.SetNetworkLayerForChecksum(packet.NetworkLayer())
		}
	}
}

func within(t *testing.T, what string, want ranges.Addresses, raw []byte, otherwise ...string) {
	t.Helper()
	got, _ := netip.AddrFromSlice(raw)
	if want.N == 0 {
		if !slices.Contains(otherwise, got.String()) {
			t.Errorf("%s %v, want one of %v", what, got, otherwise)
		}
	} else if got.Less(want.First) || ranges.Low(got)-ranges.Low(want.First) >= want.N {
		t.Errorf("%s %v, want one of %v", what, got, want)
	}
}

func checkPorts(t *testing.T, s *Generate, src, dst uint16) {
	t.Helper()
	for _, p := range []struct {
		name      string
		got       uint16
		want      ranges.Ports
		otherwise uint16
	}{{"source", src, s.SrcPort, 1024}, {"destination", dst, s.DstPort, 9}} {
		if p.want.N == 0 && p.got != p.otherwise || p.want.N > 0 && (p.got < p.want.First || uint32(p.got-p.want.First) >= p.want.N) {
			t.Errorf("%s port %d, want %v, or %d by default", p.name, p.got, p.want, p.otherwise)
		}
	}
}

func TestGenerateNumbersAndTimesPackets(t *testing.T) {
	for _, tc := range []struct {
		options  string
		header   int
		long, no bool
	}{
		{"", 42, false, false}, // 64 bytes with FCS
		{"size=82", 42, true, false},
		{"size=81", 42, false, false},
		{"stamp=long", 42, true, false},
		{"stamp=true size=64-1000", 42, false, false},
		{"stamp=false size=500", 42, false, true},
		{"protocol=tcp vlan=5 size=100", 58, true, false},
		{"protocol=icmp size=97", 42, true, false},
		{"protocol=icmp stamp=short size=1000", 42, false, false},
	} {
		m := newMint(t, tc.options+" src=10.0.0.1-10.0.0.3 id=777")
		flows := m.flows.flows
		for i, p := range m.packets(1000) {
			st, ok := stampOf(p[tc.header:])
			want := stamp{id: 777, seq: uint64(i), time: uint64(i) * 1e6, long: tc.long}
			if tc.long {
				want.flow, want.flowSeq = uint32(uint64(i)%flows), uint64(i)/flows
			}
			if tc.no {
				want = stamp{}
			}
			if ok == tc.no || st != want {
				t.Fatalf("%s: packet %d has %+v, %v; want %+v", tc.options, i, st, ok, want)
			}
		}
	}
}

func TestGenerateGoesThroughAllFlowsInTurn(t *testing.T) {
	m := newMint(t, "src=10.0.0.8/30 dst=10.0.1.1-10.0.1.3 src_port=100-101 dst_port=7-8 size=100")
	var want []string
	for dport := 7; dport <= 8; dport++ {
		for sport := 100; sport <= 101; sport++ {
			for dst := 1; dst <= 3; dst++ {
				for src := 8; src <= 11; src++ {
					want = append(want, fmt.Sprintf("10.0.0.%d:%d > 10.0.1.%d:%d", src, sport, dst, dport))
				}
			}
		}
	}
	check := func(m *mint, want []string) {
		t.Helper()
		for i, p := range m.packets(3 * len(want)) {
			packet := gopacket.NewPacket(p, layers.LayerTypeEthernet, gopacket.Default)
			ip, udp := packet.NetworkLayer().(*layers.IPv4), packet.TransportLayer().(*layers.UDP)
			got := fmt.Sprintf("%v:%d > %v:%d", ip.SrcIP, uint16(udp.SrcPort), ip.DstIP, uint16(udp.DstPort))
			if got != want[i%len(want)] {
				t.Fatalf("packet %d is %s, want %s", i, got, want[i%len(want)])
			}
			if st, _ := stampOf(udp.Payload); st.flow != uint32(i%len(want)) || st.flowSeq != uint64(i/len(want)) {
				t.Fatalf("packet %d is stamped %+v, want flow %d of %d", i, st, i%len(want), len(want))
			}
		}
	}
	check(m, want)
	check(newMint(t, "src=10.0.0.8/30 dst=10.0.1.1-10.0.1.3 src_port=100-101 dst_port=7-8 size=100 flows=11"), want[:11])
}

func TestGenerateVariesOverTheWholeAddressSpace(t *testing.T) {
	m := newMint(t, "src=0.0.0.0/0 src_port=0-65535 size=90")
	for _, seq := range []uint64{0, 1<<32 - 1} {
		m.seq = seq
		m.flows.seek(seq)
		for _, p := range m.packets(2) {
			checkGenerated(t, m.Generate, p)
		}
	}
	if m.flows.round != 1 || m.flows.index < 1 {
		t.Errorf("after the last flow comes flow %d of round %d, want the first", m.flows.index, m.flows.round)
	}
}

func TestUDPNeverGoesWithoutAChecksum(t *testing.T) {
	t.Setenv("XDPIPE_VERIFY", "")
	m := newMint(t, "rate=max")
	ones := 0
	for range 1200 { // of 256 packets, of which one in 65,536 has the sum 0
		m.count(0)
		for i := range m.batch.Len() {
			switch p := m.batch.Data(i); {
			case p[40] == 0 && p[41] == 0:
				t.Fatalf("packet %d: %x", m.sent, p)
			case p[40] == 0xff && p[41] == 0xff:
				ones++
				checkGenerated(t, m.Generate, p)
			}
		}
	}
	if ones == 0 {
		t.Error("no packet has a sum of 0, so that this says nothing")
	}
}

func TestGenerateStopsAfterCount(t *testing.T) {
	for _, rate := range []string{"max", "1Mpps", "1Gbps"} {
		m := newMint(t, "count=300 rate="+rate)
		n := len(m.packets(300))
		if due := m.Due(); n != 300 || due != pipeline.Never {
			t.Errorf("rate %s: next due at %d after %d packets, want never", rate, due, n)
		}
		if n := m.count(1e15); n != 0 {
			t.Errorf("rate %s: %d packets after the last", rate, n)
		}
		if r := m.Report(); r["sent"] != 300 || r["late"] != 0 || r["bytes"] != 300*60 || r["intended"] != 300 {
			t.Errorf("rate %s: reports %v", rate, r)
		}
	}
}

func TestGenerateWithoutFramesTriesAgain(t *testing.T) {
	s, err := tryGenerate("rate=max")
	must(t, err)
	m := mintOf(t, s, umem.Options{Frames: 100, Pages: umem.Pages4K})
	var seqs []uint64
	for range 3 {
		for _, p := range m.at(0) {
			st, _ := stampOf(p[42:])
			seqs = append(seqs, st.seq)
		}
	}
	for i, seq := range seqs {
		if seq != uint64(i) {
			t.Fatalf("packet %d has number %d", i, seq)
		}
	}
	if r := m.Report(); len(seqs) != 300 || r["no_frame"] != 3 || r["sent"] != 300 {
		t.Errorf("%d packets, reports %v", len(seqs), r)
	}
}

func TestGenerateCountsWhatDoesNotFitTheMemory(t *testing.T) {
	s, err := tryGenerate("size=64,3000,1796,1797 count=800 rate=1Mpps")
	must(t, err)
	m := mintOf(t, s, umem.Options{Frames: 512, FrameSize: 2048, Pages: umem.Pages4K})
	var lengths []int
	for m.Due() != pipeline.Never {
		for _, p := range m.at(m.Due()) {
			lengths = append(lengths, len(p))
		}
	}
	if r := m.Report(); r["sent"] != 400 || r["too_long"] != 400 || r["intended"] != 800 {
		t.Errorf("reports %v", r)
	}
	for i, n := range lengths {
		if want := []int{60, 1792}[i%2]; n != want {
			t.Fatalf("packet %d has %d bytes, want %d", i, n, want)
		}
	}
}

func TestGenerateRefusesWhatCannotBe(t *testing.T) {
	for _, tc := range []struct{ options, want string }{
		{"rate=100k", "stages:1:15: stage generate: rate: found \"100k\", want a number with its unit"},
		{"layer=l3", "option layer: found \"l3\", want l1 or l2"},
		{"burst=0", "option burst: found 0, want 1 to 1048576 packets"},
		{"size=63", "option size: found 63 bytes, want at least 64, the smallest Ethernet frame"},
		{"size=3845", "option size: found 3845 bytes, want at most 3844"},
		{"size=1-65535", "want at most 3844"},
		{"size=64 vlan=1", "option size: found 64 bytes, want at least 68 for headers, stamp and FCS (46, 18, 4); or set stamp to false, for 64"},
		{"size=81 stamp=long", "option size: found 81 bytes, want at least 82 for headers, stamp and FCS (42, 36, 4); or set stamp to short, for 64"},
		{"size=100,65 dst=::1 stamp=false", "option size: found 65 bytes, want at least 66 for headers, stamp and FCS (62, 0, 4)"},
		{"size=64 protocol=tcp", "want at least 76"},
		{"stamp=tall", "option stamp: found \"tall\", want long, short, auto or false"},
		{"payload=ones", "option payload: found \"ones\", want zero, count or random"},
		{"protocol=sctp", "option protocol: found \"sctp\", want udp, tcp or icmp"},
		{"protocol=icmp src_port=5", "option src_port: icmp has no ports"},
		{"protocol=icmp dst_port=5", "option dst_port: icmp has no ports"},
		{"src_mac=1:2", "option src_mac: found \"1:2\", want a MAC address"},
		{"dst_mac=02:00:5e:10:00:00:00:01", "option dst_mac: found"},
		{"src=10.0.0.1 dst=2001:db8::1", "option dst: found 2001:db8::1, and src is 10.0.0.1: want both IPv4 or both IPv6"},
		{"src=2001:db8::1 dst=10.0.0.1", "want both IPv4 or both IPv6"},
		{"flows=5", "option flows: found 5, but src, dst, src_port and dst_port have 1 combinations"},
		{"flows=4294967297 src=0.0.0.0/0 dst=0.0.0.0/0", "have 4294967296 combinations"},
		{"vlan=4095", "want at most 4094"},
		{"ttl=0", "want 1 or more"},
		{"dscp=64", "want at most 63"},
		{"tcp_flags=sin", "option tcp_flags: found \"sin\", want some of fin, syn, rst, psh, ack, urg"},
		{"loop=true", "option loop: is of no use without pcap"},
		{"pcap=x size=64", "option size: is of no use with pcap"},
		{"pcap=x stamp=false", "option stamp: is of no use with pcap"},
		{"pcap=x layer=l9", "option layer: found"},
	} {
		if _, err := tryGenerate(tc.options); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %s", tc.options, err, tc.want)
		}
	}
}

func TestGenerateGoesOnWhereTheInstanceBeforeItWas(t *testing.T) {
	old := newMint(t, "rate=1Mpps src=10.0.0.0/30 size=100")
	old.packets(10)
	old.count(1_000_000) // a stall
	before := old.Report()
	for _, tc := range []struct {
		options   string
		seq, sent uint64
	}{
		{"rate=2Mpps src=10.0.0.0/30 size=200", before["sent"], before["sent"]},
		{"rate=2Mpps src=10.0.0.0/29", 0, before["sent"]},
		{"rate=2Mpps src=10.0.0.0/30 id=9", 0, 0},
	} {
		m := newMint(t, tc.options)
		m.Inherit(old.Generate)
		fresh := newMint(t, tc.options)
		fresh.flows.seek(tc.seq)
		if m.seq != tc.seq || m.sent != tc.sent || m.flows != fresh.flows {
			t.Errorf("%s: number %d after %d, flows %+v; want %d after %d, %+v", tc.options, m.seq, m.sent, m.flows, tc.seq, tc.sent, fresh.flows)
		}
		if tc.sent > 0 && (m.Due() != old.Due() || m.Report()["late"] != before["late"] || before["late"] == 0) {
			t.Errorf("%s: due %d with %d late, want %d with %d", tc.options, m.Due(), m.Report()["late"], old.Due(), before["late"])
		}
	}
}

// TestGenerateIsAsItWas compares a capture of all kinds with the one of before.
func TestGenerateIsAsItWas(t *testing.T) {
	var buf bytes.Buffer
	w := pcapgo.NewWriterNanos(&buf)
	must(t, w.WriteFileHeader(65535, layers.LinkTypeEthernet))
	for _, tc := range generated {
		m := newMint(t, tc.options+" rate=1Mpps")
		for range 4 {
			now := m.Due()
			for _, p := range m.at(now) {
				p = p[:min(len(p), 160)]
				must(t, w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(0, now), CaptureLength: len(p), Length: len(p)}, p))
			}
		}
	}
	name := filepath.Join("testdata", "generate.pcap")
	if *update {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(name, buf.Bytes(), 0o644))
	}
	want, err := os.ReadFile(name)
	must(t, err)
	if !bytes.Equal(buf.Bytes(), want) {
		t.Errorf("what is generated differs from %s; if that is meant, go test ./pipeline/stages -update", name)
	}
}

func TestGenerateDoesNotAllocate(t *testing.T) {
	t.Setenv("XDPIPE_VERIFY", "") // the ledger does
	for _, tc := range generated {
		m := newMint(t, tc.options+" rate=max")
		n := testing.AllocsPerRun(100, func() {
			m.reset()
			m.Process(m.batch)
		})
		if n != 0 || m.batch.Len() != pipeline.MaxBatch {
			t.Errorf("%s: allocates %v times for %d packets", tc.name, n, m.batch.Len())
		}
	}
}

func FuzzGenerate(f *testing.F) {
	for _, tc := range generated {
		f.Add(tc.options)
	}
	f.Add("rate=3333333333bps layer=l1 burst=7 size=64-70,1518")
	f.Fuzz(func(t *testing.T, options string) {
		if strings.ContainsAny(options, "!;>") || strings.Contains(options, "pcap") {
			return // other stages, and files
		}
		s, err := tryGenerate(options)
		if err != nil {
			return
		}
		m := mintOf(t, s, umem.Options{Frames: 256, FrameSize: 4096, Pages: umem.Pages4K})
		now, due := int64(0), int64(0)
		for range 3 {
			m.at(now)
			m.checkFuzzed(t)
			if due = m.Due(); due == pipeline.Never {
				return
			}
			now = max(now, due) + int64(len(options))*1000
		}
	})
}

// checkFuzzed checks what does not depend on how options are written.
func (m *mint) checkFuzzed(t *testing.T) {
	t.Helper()
	b := m.batch
	b.Parse()
	for i := range b.Len() {
		if b.Meta(i).Flags&pipeline.MetaMalformed != 0 || b.VerifyChecksum(i) != pipeline.ChecksumGood {
			t.Fatalf("%x: %+v", b.Data(i), b.Meta(i))
		}
		if st, ok := stampIn(b, i); ok != (m.template.stamp > 0) || ok && st.id != m.ID {
			t.Fatalf("%x: stamp %+v, %v", b.Data(i), st, ok)
		}
	}
}

// benchMint is a mint as the engine would have it: batches of 64, frames of 2048
// bytes, and no ledger, which costs more than all the rest.
func benchMint(b *testing.B, options string) *mint {
	b.Setenv("XDPIPE_VERIFY", "")
	s, err := tryGenerate(options)
	must(b, err)
	m := mintOf(b, s, umem.Options{Frames: 512, Pages: umem.Pages4K})
	m.batch = pipeline.NewBatch(m.cache, pipeline.DefaultBatch)
	m.empty = *m.batch
	return m
}

func BenchmarkGenerate(b *testing.B) {
	for _, tc := range []struct{ name, options string }{
		{"udp of 64 bytes", ""},
		{"udp of 64 bytes, no stamp", "stamp=false"},
		{"udp of 64 bytes, paced", "rate=1Gpps"},
		{"udp of 128 bytes, a million flows", "size=128 src=10.0.0.0/12"},
		{"udp over ipv6, 128 bytes", "size=128 dst=2001:db8::/96"},
		{"tcp syn of 64 bytes", "protocol=tcp stamp=false size=64 src=10.0.0.0/8 src_port=1024-65535"},
		{"udp imix", "size=imix"},
		{"udp of 1518 bytes", "size=1518"},
	} {
		b.Run(tc.name, func(b *testing.B) {
			if !strings.Contains(tc.options, "rate=") {
				tc.options += " rate=max"
			}
			m := benchMint(b, tc.options)
			b.ReportAllocs()
			var took time.Duration // without giving the frames back
			packets, now := 0, int64(0)
			for b.Loop() {
				m.reset()
				start := time.Now()
				m.make(m.batch, now, now)
				took += time.Since(start)
				packets += m.batch.Len()
				now += 64
			}
			b.ReportMetric(float64(took.Nanoseconds())/float64(packets), "ns/packet")
		})
	}
}
