package traffic

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

func TestASizeWalkVisitsEverySizeOncePerCycleAndBeginsWithTheLargest(t *testing.T) {
	for _, largest := range []int{0, 1, 2, 7, 8, 40, 1452, 1472, 8972, 65507} {
		w := newSizeWalk(largest)
		if w.at(0) != largest {
			t.Errorf("max %d: begins with %d", largest, w.at(0))
		}
		seen := make([]bool, largest+1)
		for seq := range uint64(largest + 1) {
			size := w.at(seq)
			if size < 0 || size > largest || seen[size] {
				t.Fatalf("max %d: size %d at %d is out of range or comes twice", largest, size, seq)
			}
			seen[size] = true
			if again := w.at(seq + w.cycle); again != size {
				t.Fatalf("max %d: size %d at %d, %d a cycle later", largest, size, seq, again)
			}
		}
	}
}

func TestADatagramWithoutANumberIsRecognisedByItsSizeNearWhatIsExpected(t *testing.T) {
	const count = 10_000
	v := newVariedSizes(1472)
	for seq := range uint64(count) {
		size := v.size(seq)
		if size >= sequenceSize {
			continue
		}
		// In order, doubled, and after losses or ahead of its turn by less
		// than half a cycle.
		for _, shift := range []int64{0, 1, 2, -1, -2, 700, -700} {
			expected := int64(seq) + shift
			if expected < 0 || expected > count {
				continue
			}
			if got, ok := v.short(size, uint64(expected), count); !ok || got != seq {
				t.Errorf("size %d with %d expected: got %d, %t, want %d", size, expected, got, ok, seq)
			}
		}
	}
	if seq, ok := newVariedSizes(4).short(5, 0, count); ok {
		t.Errorf("a size above the largest is taken for number %d", seq)
	}
	if seq, ok := v.short(0, 0, 1); ok {
		t.Errorf("a size that comes after the last datagram is taken for number %d", seq)
	}
}

func TestCutsDifferFromTheirNeighboursAndBetweenSeeds(t *testing.T) {
	p := pattern{seed: 1}
	seen := map[[16]byte]uint64{}
	for seq := range uint64(10_000) {
		cut := [16]byte(p.cut(seq, 16))
		if other, ok := seen[cut]; ok {
			t.Fatalf("numbers %d and %d begin alike", other, seq)
		}
		seen[cut] = seq
	}
	if bytes.Equal(p.cut(0, 64), pattern{seed: 2}.cut(0, 64)) {
		t.Error("two seeds make the same payload")
	}
	if len(p.cut(1<<40, largestCut)) != largestCut {
		t.Error("a large number's cut is short")
	}
}

func TestTheTrackerCountsAndNamesEachFault(t *testing.T) {
	for _, c := range []struct {
		name     string
		sent     uint64
		arrivals []uint64
		causes   []error
		text     string
	}{
		{"nothing wrong", 4, []uint64{0, 1, 2, 3}, nil, ""},
		{"nothing sent", 0, nil, nil, ""},
		{"lost at both ends and between", 10, []uint64{1, 2, 5, 8}, []error{ErrLost}, "6 of 10 packets lost (number 0, 3-4, 6-7, 9)"},
		{"more gaps than are listed", 10, []uint64{1, 3, 5, 7, 9}, []error{ErrLost}, "5 of 10 packets lost (number 0, 2, 4, 6, …)"},
		{"all lost", 100, nil, []error{ErrLost}, "100 of 100 packets lost (number 0-99)"},
		{"twice and thrice", 3, []uint64{0, 1, 1, 1, 2}, []error{ErrDuplicated}, "2 packets arrived more than once (first: number 1)"},
		{"late", 4, []uint64{0, 2, 3, 1}, []error{ErrReordered}, "1 packets out of order (first: number 1)"},
		{"lost, late and twice", 5, []uint64{0, 3, 1, 3}, []error{ErrLost, ErrDuplicated, ErrReordered}, "2 of 5 packets lost (number 2, 4); 1 packets arrived more than once (first: number 3); 1 packets out of order (first: number 1)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := newTracker(100)
			for _, seq := range c.arrivals {
				tr.arrive(seq, 1)
			}
			causes, text := tr.verdict(c.sent, "packets")
			if text != c.text {
				t.Errorf("got %q, want %q", text, c.text)
			}
			if len(causes) != len(c.causes) {
				t.Fatalf("causes %v, want %v", causes, c.causes)
			}
			for i := range causes {
				if causes[i] != c.causes[i] {
					t.Errorf("causes %v, want %v", causes, c.causes)
				}
			}
		})
	}
}

func TestTheUDPJudgeSeesEveryKindOfDamage(t *testing.T) {
	plan := newVariedSizes(100)
	j := udpJudge{plan, pattern{seed: 3}}
	whole := append([]byte{0, 0, 0, 0, 0, 0, 0, 0}, j.pat.cut(0, plan.size(0)-sequenceSize)...)
	change := func(at int) []byte {
		b := bytes.Clone(whole)
		b[at] ^= 1
		return b
	}
	for _, c := range []struct {
		name     string
		datagram []byte
		arrived  uint64
		text     string
	}{
		{"sound", whole, 1, ""},
		{"payload changed", change(50), 1, "number 0 of 100 bytes differs at byte 50"},
		{"number of another size", change(7), 0, "number 1 has 100 bytes instead of"},
		{"number never sent", change(0), 0, "which was never sent"},
		{"cut", whole[:99], 0, "number 0 has 99 bytes instead of 100"},
		{"longer", append(bytes.Clone(whole), 0), 0, "number 0 has 101 bytes instead of 100"},
		{"short and changed", []byte{0xff, 0xfe, 0xfd}, 1, "of 3 bytes differs at byte"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := newTracker(1000)
			j.judge(tr, c.datagram)
			if tr.received != c.arrived || !strings.Contains(tr.firstCorrupted, c.text) || (c.text == "") != (tr.corrupted == 0) {
				t.Errorf("received %d, corrupted %d (%s), want %d and %q", tr.received, tr.corrupted, tr.firstCorrupted, c.arrived, c.text)
			}
		})
	}
}

// The frames are decoded by another implementation, so that a mistake in ours
// does not cancel itself out.
func TestTaggedFramesAreWellFormed(t *testing.T) {
	v := &vlanFrames{
		src: Peer{MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, IPv4: netip.MustParseAddr("192.0.2.1"), IPv6: netip.MustParseAddr("2001:db8::1")},
		dst: Peer{MAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, IPv4: netip.MustParseAddr("192.0.2.2"), IPv6: netip.MustParseAddr("2001:db8::2")},
		mtu: 1500,
	}
	sizes, ids, priorities := map[int]bool{}, map[uint16]bool{}, map[uint8]bool{}
	for seq := range uint64(2000) {
		frame := v.build(nil, seq)
		sizes[len(frame)] = true
		doubled := seq%doubleTagEvery == 0
		if limit := 1518; len(frame) > limit || doubled && len(frame) > limit-vlanTag || len(frame) < 60 {
			t.Fatalf("number %d has %d bytes", seq, len(frame))
		}
		packet := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
		if seq%3 != 0 { // the experimental protocol is nobody's to decode
			if e := packet.ErrorLayer(); e != nil {
				t.Fatalf("number %d: %v", seq, e.Error())
			}
			udp, ok := packet.Layer(layers.LayerTypeUDP).(*layers.UDP)
			if !ok {
				t.Fatalf("number %d has no UDP: %v", seq, packet)
			}
			must(t, udp.SetNetworkLayerForChecksum(packet.NetworkLayer()))
			if err, mismatches := packet.VerifyChecksums(); err != nil || len(mismatches) > 0 {
				t.Fatalf("number %d: checksums %v, %v", seq, mismatches, err)
			}
		}
		tags := 0
		for _, l := range packet.Layers() {
			if tag, ok := l.(*layers.Dot1Q); ok {
				tags++
				ids[tag.VLANIdentifier], priorities[tag.Priority] = true, true
				if tag.VLANIdentifier == 0 || tag.VLANIdentifier == 4095 {
					t.Fatalf("number %d has the reserved VLAN id %d", seq, tag.VLANIdentifier)
				}
			}
		}
		if want := 1 + map[bool]int{true: 1}[doubled]; tags != want {
			t.Fatalf("number %d has %d tags, want %d", seq, tags, want)
		}
	}
	if !sizes[1518] || len(sizes) < 1000 || len(ids) < 1000 || len(priorities) != 8 {
		t.Errorf("%d sizes, %d VLAN ids, %d priorities", len(sizes), len(ids), len(priorities))
	}
}

func TestASenderThatWasHeldUpMakesUpForOneBurstOnly(t *testing.T) {
	checkLeaks(t)
	p, err := newPace(10_000_000)
	must(t, err)
	defer p.Close()
	time.Sleep(10 * time.Millisecond) // some 3,000 bursts
	must(t, p.wait(t.Context()))      // the first one never waits
	must(t, p.wait(t.Context()))
	if p.due >= mostArrears {
		t.Errorf("%d bursts are still due", p.due)
	}
}

func TestABurstIsAMillisecondsPacketsWithinBounds(t *testing.T) {
	for rate, want := range map[int]int{1: 1, 999: 1, 5000: 5, 32_000: 32, 60_000: 32, 10_000_000: 32} {
		p, err := newPace(rate)
		must(t, err)
		if p.burst != want {
			t.Errorf("rate %d: bursts of %d, want %d", rate, p.burst, want)
		}
		p.Close()
	}
}

func TestPacingEndsWithItsContext(t *testing.T) {
	checkLeaks(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	p, err := newPace(1)
	must(t, err)
	defer p.Close()
	must(t, p.wait(ctx))
	cause := errors.New("enough")
	context.AfterFunc(ctx, p.stop)
	cancel(cause)
	if err := p.wait(ctx); err != cause {
		t.Errorf("got %v", err)
	}
}

func TestTheKernelsCountersAreFoundInItsTables(t *testing.T) {
	const table = `   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
   12: 010200C0:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 777 2 0000000000000000 5
   13: 010200C0:0036 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 778 2 0000000000000000 42
`
	if got := socketDrops([]byte(table), 778); got != 42 {
		t.Errorf("%d drops, want 42", got)
	}
	if got := socketDrops([]byte(table), 42); got != 0 {
		t.Errorf("%d drops of a socket that is not there", got)
	}
	const v4 = `Ip: Forwarding DefaultTTL
Ip: 1 64
Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors
Udp: 10 1 5 11 3 0 2
UdpLite: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors
UdpLite: 0 0 0 0 9 0 9
`
	const v6 = "Ip6InReceives   1\nUdp6RcvbufErrors                 \t3\nUdp6InCsumErrors  2\nUdpLite6InCsumErrors 9\n"
	for _, text := range []string{v4, v6} {
		if got, want := parseCounters([]byte(text)), (udpCounters{bufferFull: 3, badChecksum: 2}); got != want {
			t.Errorf("got %+v, want %+v from\n%s", got, want, text)
		}
	}
}

func TestDatagramsDroppedByTheReceivingSocketAreTold(t *testing.T) {
	checkLeaks(t)
	n := newTestNet(t, true, 1500)
	for _, v6 := range []bool{false, true} {
		in, err := listenUDP(n.server, v6, 1400)
		must(t, err)
		defer in.Close()
		must(t, in.SetReadBuffer(0)) // the kernel's minimum
		out, err := dialUDP(n.client, n.server, in.port, v6, fixedSize(1400), pattern{})
		must(t, err)
		defer out.Close()
		for sent := 0; sent < 100; {
			n, err := out.write(uint64(sent), min(32, 100-sent))
			must(t, err)
			sent += n
		}
		// Delivery on a veth pair happens before or shortly after the send
		// returns.
		var text string
		for range 200 {
			if text = in.explain(100); strings.Contains(text, "buffer full: ") {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if !strings.Contains(text, "the receiving socket dropped") || strings.Contains(text, "buffer full: 0") {
			t.Errorf("IPv6 %t: %s", v6, text)
		}
		t.Log(text)
	}
}

func TestTheRatesOfAResult(t *testing.T) {
	r := Result{Received: 500, Bytes: 1000, Elapsed: 2 * time.Second}
	if r.BitsPerSecond() != 4000 || r.PacketsPerSecond() != 250 {
		t.Errorf("%v bit/s, %v packets/s", r.BitsPerSecond(), r.PacketsPerSecond())
	}
	if (Result{Bytes: 1}).BitsPerSecond() != 0 || (Result{Received: 1}).PacketsPerSecond() != 0 {
		t.Error("a rate without a time")
	}
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 200_000: "200,000", 268_435_456: "268,435,456"} {
		if got := thousands(n); got != want {
			t.Errorf("%d is written %s", n, got)
		}
	}
}
