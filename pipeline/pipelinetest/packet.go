package pipelinetest

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/xdpipe/xdpipe/pipeline"
)

// A Packet is a packet that goes in or came out.
type Packet struct {
	Data []byte
	At   time.Duration // of its arrival, from the beginning of the run
	// Meta is what was known of a packet that came out.
	Meta pipeline.Meta
}

func (p *Packet) at(ns int64) { p.At = time.Duration(ns - start) }

// Packets returns packets of the bytes, which arrive a microsecond apart.
func Packets(data ...[]byte) []Packet {
	var list []Packet
	for i, d := range data {
		list = append(list, Packet{Data: d, At: time.Duration(i) * time.Microsecond})
	}
	return list
}

// ReadFile reads the packets of a pcap or pcapng file of Ethernet frames. They arrive
// at the times that they have there, from that of the first.
func ReadFile(t testing.TB, file string) []Packet {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r interface {
		ReadPacketData() ([]byte, gopacket.CaptureInfo, error)
		LinkType() layers.LinkType
	}
	if r, err = pcapgo.NewNgReader(f, pcapgo.DefaultNgReaderOptions); err != nil {
		if _, err = f.Seek(0, io.SeekStart); err == nil {
			r, err = pcapgo.NewReader(f)
		}
	}
	if err != nil {
		t.Fatalf("%s: neither pcapng nor pcap: %v", file, err)
	}
	if r.LinkType() != layers.LinkTypeEthernet {
		t.Fatalf("%s: link type %v, want Ethernet", file, r.LinkType())
	}
	var list []Packet
	var first time.Time
	for {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatalf("%s: packet %d: %v", file, len(list)+1, err)
		}
		if len(list) == 0 {
			first = info.Timestamp
		}
		list = append(list, Packet{Data: data, At: info.Timestamp.Sub(first)})
	}
}

// WriteFile writes packets to a pcap file with times in nanoseconds, the same bytes
// every time.
func WriteFile(t testing.TB, file string, packets []Packet) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	w := pcapgo.NewWriterNanos(f)
	err = w.WriteFileHeader(65535, layers.LinkTypeEthernet)
	for _, p := range packets {
		if err == nil {
			err = w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(0, 0).Add(p.At), CaptureLength: len(p.Data), Length: len(p.Data)}, p.Data)
		}
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}
