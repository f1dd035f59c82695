package pipeline_test

import (
	"encoding/binary"
	"testing"

	"github.com/xdpipe/xdpipe/umem"
)

// BenchmarkBareLoop is the yardstick for BenchmarkEngineLoop: the same work on
// one packet after the other (receive, read the headers of an IPv4 UDP packet,
// swap MAC addresses, count, transmit, complete, fill) in plain loops over plain
// arrays, with no checks of packets or frames, no stages and no statistics. It is
// what the machine of the moment takes at the least; compare in the same run.
func BenchmarkBareLoop(b *testing.B) {
	const (
		frames, size = 8192, 2048
		ring, batch  = 512, 64
		mask         = ring - 1
	)
	type desc struct {
		addr    uint64
		len     uint32
		options uint32
	}
	mem, err := umem.New(umem.Options{Frames: frames})
	if err != nil {
		b.Fatal(err)
	}
	defer mem.Close()
	data := mem.Region()
	udp := udpPacket()
	for i := range frames {
		copy(data[i*size+256:], udp)
	}
	var (
		fill, done         [ring]uint64
		rx, tx             [ring]desc
		free               [frames]uint64
		nfree              = frames
		fillProd, fillCons uint32
		rxProd, rxCons     uint32
		txProd, txCons     uint32
		doneProd, doneCons uint32
		packets, bytes     uint64
		protocols          [256]uint64
		meta               [batch]struct{ etherType, l3, l4, src, dst uint16 }
		proto              [batch]uint8
		work               [batch]desc
	)
	for i := range free {
		free[i] = uint64(i) * size
	}
	b.ReportAllocs()
	for b.Loop() {
		for fillProd-fillCons < ring && nfree > 0 { // fill
			nfree--
			fill[fillProd&mask] = free[nfree]
			fillProd++
		}
		for range batch { // the kernel receives
			rx[rxProd&mask] = desc{fill[fillCons&mask] + 256, 64, 0}
			rxProd++
			fillCons++
		}
		for i := range work { // receive
			work[i] = rx[rxCons&mask]
			rxCons++
		}
		for i := range work { // parse
			p := data[work[i].addr:][:64]
			m := &meta[i]
			m.etherType = binary.BigEndian.Uint16(p[12:])
			m.l3, m.l4 = 14, 14+uint16(p[14]&15)*4
			proto[i] = p[23]
			m.src, m.dst = binary.BigEndian.Uint16(p[m.l4:]), binary.BigEndian.Uint16(p[m.l4+2:])
		}
		for i := range work { // swap
			p := data[work[i].addr:][:12]
			d, s := binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint32(p[8:])
			binary.LittleEndian.PutUint64(p, d>>48|uint64(s)<<16|d<<48)
			binary.LittleEndian.PutUint32(p[8:], uint32(d>>16))
		}
		for i := range work { // count
			packets++
			bytes += uint64(work[i].len)
			protocols[proto[i]]++
		}
		for i := range work { // transmit
			tx[txProd&mask] = work[i]
			txProd++
		}
		for range batch { // the kernel transmits
			done[doneProd&mask] = tx[txCons&mask].addr
			txCons++
			doneProd++
		}
		for doneCons != doneProd { // complete
			free[nfree] = done[doneCons&mask] &^ (size - 1)
			nfree++
			doneCons++
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch, "ns/packet")
	if packets == 0 || protocols[17] != packets || bytes != packets*64 {
		b.Fatalf("%d packets, %d of them UDP, %d bytes", packets, protocols[17], bytes)
	}
}
