package pipeline

import (
	"math/rand/v2"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

func TestTheEndOfThePacketIsWhereGopacketSaysThatIPEnds(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 1))
	padded := 0
	for range 20000 {
		data := randomPacket(rng)
		for range rng.IntN(3) * 20 {
			data = append(data, byte(rng.Uint32()))
		}
		var m Meta
		m.Parse(data)
		p := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.NoCopy)
		want := len(data)
		switch l := p.NetworkLayer().(type) {
		case *layers.IPv4:
			want = int(m.L3) + int(l.Length)
		case *layers.IPv6:
			want = int(m.L3) + 40 + int(l.Length)
		}
		if want < len(data) {
			padded++
		}
		if int(m.End) != want {
			t.Fatalf("%x ends at %d, want %d of %d", data, m.End, want, len(data))
		}
	}
	if padded < 5000 {
		t.Errorf("only %d packets were padded", padded)
	}
}

func TestTheEndOfAPacketLongerThanItCanSayIsTheMostThatItCan(t *testing.T) {
	for name, data := range map[string][]byte{
		"IPv4":   []byte(testMACs + "\x08\x00" + ip4(17, 0, "", udp+string(make([]byte, 65535-20-len(udp))))),
		"IPv6":   []byte(testMACs + "\x86\xdd" + ip6(17, udp+string(make([]byte, 65535-len(udp))))),
		"no IP":  append([]byte(testMACs+"\x88\xb5"), make([]byte, 1<<17)...),
		"tagged": []byte(testMACs + "\x81\x00\x00\x07\x08\x00" + ip4(17, 0, "", udp+string(make([]byte, 65535-20-len(udp))))),
	} {
		var m Meta
		m.Parse(data)
		if m.End != 0xffff || m.Flags&MetaMalformed != 0 {
			t.Errorf("%s: is %+v", name, m)
		}
		m.shift(4)
		if m.End != 0xffff {
			t.Errorf("%s: pushed it ends at %d", name, m.End)
		}
		m.verify(data)
		m.complete(data)
		m.flowHash(data)
	}
}
