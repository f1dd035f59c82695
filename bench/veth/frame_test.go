package main

import (
	"encoding/binary"
	"testing"
)

func TestTheFrameIsAUDPPacketWhoseLengthsAndChecksumAreRight(t *testing.T) {
	for _, size := range []int{minFrame, 64, 1000, maxFrame} {
		f := testFrame(size)
		if len(f) != size {
			t.Errorf("frame of %d bytes has %d", size, len(f))
		}
		if got := binary.BigEndian.Uint16(f[16:]); int(got) != size-14 {
			t.Errorf("frame of %d bytes: IP length is %d", size, got)
		}
		if got := binary.BigEndian.Uint16(f[38:]); int(got) != size-34 {
			t.Errorf("frame of %d bytes: UDP length is %d", size, got)
		}
		// RFC 791: the sum over the header, checksum included, is all ones.
		if sum := onesSum(f[14:34]); sum != 0xffff {
			t.Errorf("frame of %d bytes: the IP header sums up to %#x", size, sum)
		}
	}
}

func TestSwappingTwiceGivesTheFrameBack(t *testing.T) {
	f := testFrame(64)
	swapMACs(f)
	if [6]byte(f) != [6]byte(nearMAC) || [6]byte(f[6:]) != [6]byte(farMAC) {
		t.Errorf("swapped frame begins with % x", f[:12])
	}
	swapMACs(f)
	if string(f) != string(testFrame(64)) {
		t.Errorf("swapped twice, the frame begins with % x", f[:12])
	}
	swapMACs(f[:13]) // no header: left alone, without a panic
}
