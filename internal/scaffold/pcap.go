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
	var all, long [][]byte
	for _, payload := range []int{0, 17, 18, 458, 1} { // of packets of 42, 59, 60, 500 and 43 bytes
		p, err := udp(payload)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, p)
		if len(p) >= 60 {
			long = append(long, p)
		}
	}
	if in, err = capture(all); err != nil {
		return nil, nil, err
	}
	out, err = capture(long)
	return in, out, err
}

// udp returns a datagram of so many bytes of payload, in its Ethernet frame.
func udp(payload int) ([]byte, error) {
	eth := layers.Ethernet{
		SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2},
		EthernetType: layers.EthernetTypeIPv4,
	}
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
		&eth, &ip, &datagram, gopacket.Payload(data))
	return bytes.Clone(b.Bytes()), err
}

// capture returns a capture file of the packets, a millisecond apart.
func capture(packets [][]byte) ([]byte, error) {
	var file bytes.Buffer
	w := pcapgo.NewWriter(&file)
	if err := w.WriteFileHeader(65535, layers.LinkTypeEthernet); err != nil {
		return nil, err
	}
	for i, p := range packets {
		info := gopacket.CaptureInfo{Timestamp: time.UnixMilli(int64(i)), CaptureLength: len(p), Length: len(p)}
		if err := w.WritePacket(info, p); err != nil {
			return nil, err
		}
	}
	return file.Bytes(), nil
}
