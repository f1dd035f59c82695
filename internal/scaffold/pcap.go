package scaffold

import (
	"bytes"
	"net"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// captures returns the two capture files of the test: what goes in, and of it what
// is not shorter than the stage's default, 60 bytes.
func captures() (in, out []byte, err error) {
	var all [][]byte
	for _, payload := range []int{0, 17, 18, 458, 1} { // of packets of 42, 59, 60, 500 and 43 bytes
		p, err := udp(payload)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, p)
	}
	if in, err = capture(all, 0); err != nil {
		return nil, nil, err
	}
	out, err = capture(all, 60)
	return in, out, err
}

// udp returns a datagram of so many bytes of payload, in its Ethernet frame.
func udp(payload int) ([]byte, error) {
	ethernet := []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0} // gopacket would fill the frame up to 60 bytes
	ip := layers.IPv4{
		Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP,
		SrcIP: net.IPv4(198, 51, 100, 1), DstIP: net.IPv4(198, 51, 100, 2),
	}
	datagram := layers.UDP{SrcPort: 1024, DstPort: 9}
	if err := datagram.SetNetworkLayerForChecksum(&ip); err != nil {
		return nil, err
	}
	data := make([]byte, payload)
	for i := range data {
		data[i] = byte(i)
	}
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&ip, &datagram, gopacket.Payload(data))
	return append(ethernet, b.Bytes()...), err
}

// capture returns a capture file of the packets of at least shortest bytes. Each has
// arrived a millisecond after the one before.
func capture(packets [][]byte, shortest int) ([]byte, error) {
	var file bytes.Buffer
	w := pcapgo.NewWriterNanos(&file) // as package pipelinetest writes them
	if err := w.WriteFileHeader(65535, layers.LinkTypeEthernet); err != nil {
		return nil, err
	}
	for i, p := range packets {
		if len(p) < shortest {
			continue
		}
		info := gopacket.CaptureInfo{Timestamp: time.UnixMilli(int64(i)), CaptureLength: len(p), Length: len(p)}
		if err := w.WritePacket(info, p); err != nil {
			return nil, err
		}
	}
	return file.Bytes(), nil
}
