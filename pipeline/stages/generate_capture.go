package stages

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// Limits of a capture to be sent, which is in memory as a whole.
const (
	captureBytes   = 256 << 20
	capturePackets = 4 << 20
)

// A captureReader reads either format.
type captureReader interface {
	gopacket.PacketDataSource
	LinkType() layers.LinkType
}

// loadCapture reads the packets of a pcap or pcapng file that one is to send.
func loadCapture(name string) ([]genSize, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	packets, err := readPackets(file, captureBytes, capturePackets)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return packets, nil
}

// pcapngStart is how a pcapng file begins, with the type of a section header.
var pcapngStart = []byte{0x0a, 0x0d, 0x0d, 0x0a}

func readPackets(file io.Reader, mostBytes, mostPackets int) ([]genSize, error) {
	buffered := bufio.NewReaderSize(file, 1<<20)
	start, _ := buffered.Peek(4)
	var r captureReader
	var err error
	if bytes.Equal(start, pcapngStart) {
		r, err = pcapgo.NewNgReader(buffered, pcapgo.DefaultNgReaderOptions)
	} else {
		r, err = pcapgo.NewReader(buffered)
	}
	if err != nil {
		return nil, fmt.Errorf("not a pcap or pcapng file: %w", err)
	}
	if r.LinkType() != layers.LinkTypeEthernet {
		return nil, fmt.Errorf("its packets are %v, want Ethernet", r.LinkType())
	}
	var packets []genSize
	total := 0
	for {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			break
		}
		number := len(packets) + 1
		total += len(data)
		switch {
		case err != nil:
			return nil, fmt.Errorf("packet %d: %w", number, err)
		case info.Length > len(data):
			return nil, fmt.Errorf("packet %d: only %d of its %d bytes were captured; capture whole packets", number, len(data), info.Length)
		case len(data) < 14 || len(data) > longestPacket:
			return nil, fmt.Errorf("packet %d has %d bytes, want from 14 to %d, which a frame holds", number, len(data), longestPacket)
		case total > mostBytes || number > mostPackets:
			return nil, fmt.Errorf("more than %d packets or %d MiB, which are kept in memory; cut it into files", mostPackets, mostBytes>>20)
		}
		packets = append(packets, genSize{n: len(data), inCapture: data})
	}
	if len(packets) == 0 {
		return nil, errors.New("no packets in it")
	}
	return packets, nil
}
