package main

import (
	"encoding/binary"
	"net"
)

// The generator's and the forwarder's addresses are for documentation
// (RFC 5737); port 9 is discard (RFC 863), should a frame ever reach a stack.
var (
	nearMAC = net.HardwareAddr{0x02, 0, 0x5e, 0, 0x53, 0x01}
	farMAC  = net.HardwareAddr{0x02, 0, 0x5e, 0, 0x53, 0x02}
	nearIP  = [4]byte{192, 0, 2, 1}
	farIP   = [4]byte{192, 0, 2, 2}
)

const (
	discardPort = 9
	headers     = 14 + 20 + 8 // Ethernet, IPv4, UDP

	// minFrame is the shortest Ethernet frame without its check sequence, which
	// no socket sees; maxFrame fits an MTU of 1500.
	minFrame = 60
	maxFrame = 1514
)

// testFrame returns a UDP/IPv4 frame of size bytes, without the frame check
// sequence, from the near end to the far one. The UDP checksum is 0: none.
func testFrame(size int) []byte {
	f := make([]byte, size)
	copy(f[0:], farMAC)
	copy(f[6:], nearMAC)
	binary.BigEndian.PutUint16(f[12:], 0x0800)

	ip := f[14:]
	ip[0] = 0x45
	binary.BigEndian.PutUint16(ip[2:], uint16(size-14))
	ip[8], ip[9] = 64, 17
	copy(ip[12:], nearIP[:])
	copy(ip[16:], farIP[:])
	binary.BigEndian.PutUint16(ip[10:], ^onesSum(ip[:20]))

	udp := ip[20:]
	binary.BigEndian.PutUint16(udp[0:], discardPort)
	binary.BigEndian.PutUint16(udp[2:], discardPort)
	binary.BigEndian.PutUint16(udp[4:], uint16(size-14-20))
	return f
}

// onesSum is the ones'-complement sum of 16-bit words (RFC 1071).
func onesSum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}
