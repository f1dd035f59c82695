package stages

import (
	"bytes"
	"fmt"
	"testing"
)

func TestMACSwapSwapsTheAddressesAndNothingElse(t *testing.T) {
	for length := 14; length < 80; length++ {
		p := make([]byte, length)
		for i := range p {
			p[i] = byte(i + 1)
		}
		b := newBatch(t, p)
		(&MACSwap{}).Process(b)
		want := append(append(append([]byte(nil), p[6:12]...), p[:6]...), p[12:]...)
		if got := b.Data(0); !bytes.Equal(got, want) || b.Dropped(0) {
			t.Fatalf("%d bytes: became %x, want %x", length, got, want)
		}
	}
}

func TestMACSwapTwiceIsTheOriginal(t *testing.T) {
	b := newBatch(t, udpPacket(), ethernet("\x08\x06"))
	s := &MACSwap{}
	s.Process(b)
	s.Process(b)
	if !bytes.Equal(b.Data(0), udpPacket()) || !bytes.Equal(b.Data(1), ethernet("\x08\x06")) {
		t.Errorf("became %x and %x", b.Data(0), b.Data(1))
	}
}

func TestMACSwapDropsWhatHasNoAddresses(t *testing.T) {
	for length := 1; length < 14; length++ {
		b := newBatch(t, bytes.Repeat([]byte{0xaa}, length), udpPacket())
		(&MACSwap{}).Process(b)
		if !b.Dropped(0) || b.Dropped(1) {
			t.Errorf("%d bytes: dropped %v, want only the short packet", length, b.Dropped(0))
		}
	}
	r := newRig(t, 1, "macswap")
	if left := r.pass(0, []byte(macs), udpPacket()); len(left) != 1 {
		t.Errorf("%d packets left, want 1", len(left))
	}
	if d := fmt.Sprint(r.Snapshot().Stages[0].Drops); d != "map[too_short:1]" {
		t.Errorf("drops %s", d)
	}
	must(t, r.stop())
}

func TestMACSwapDoesNotAllocate(t *testing.T) { noAllocations(t, &MACSwap{}) }

func BenchmarkMACSwap(b *testing.B) { benchmark(b, &MACSwap{}) }
