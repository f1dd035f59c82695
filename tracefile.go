package xdpipe

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/xdpipe/xdpipe/pipeline"
)

// A TraceWriter writes followed packets as a pcapng file, as they arrived, each
// with its path as its comment. Each port is an interface in it.
type TraceWriter struct {
	out   io.Writer
	ng    *pcapgo.NgWriter
	ports map[string]int // by name: the number of the interface
}

// NewTraceWriter returns a writer to out, which stays the caller's.
func NewTraceWriter(out io.Writer) *TraceWriter {
	return &TraceWriter{out: out, ports: map[string]int{}}
}

// Write writes a packet, all of it: what is written so far is a whole file.
func (t *TraceWriter) Write(p pipeline.TracedPacket) error {
	port, err := t.port(p.Port)
	if err != nil {
		return fmt.Errorf("write trace: %w", err)
	}
	queue := uint32(p.Queue)
	err = t.ng.WritePacketWithOptions(
		gopacket.CaptureInfo{Timestamp: p.At, CaptureLength: len(p.Data), Length: max(p.Length, len(p.Data)), InterfaceIndex: port},
		p.Data, pcapgo.NgPacketOptions{Comments: []string{comment(p)}, Queue: &queue})
	if err := errors.Join(err, t.ng.Flush()); err != nil {
		return fmt.Errorf("write trace: %w", err)
	}
	return nil
}

// Close ends the file, which is one also if no packet was written.
func (t *TraceWriter) Close() error {
	if t.ng != nil {
		return nil
	}
	_, err := t.port("none")
	if err == nil {
		err = t.ng.Flush()
	}
	return err
}

// port returns the number of the port's interface, which it makes if it is new.
func (t *TraceWriter) port(name string) (number int, err error) {
	if number, ok := t.ports[name]; ok {
		return number, nil
	}
	link := pcapgo.NgInterface{Name: name, LinkType: layers.LinkTypeEthernet, TimestampResolution: 9}
	if t.ng == nil {
		// The file's first interface comes with its head.
		t.ng, err = pcapgo.NewNgWriterInterface(t.out, link, pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{Application: "xdpipe"}})
	} else {
		number, err = t.ng.AddInterface(link)
	}
	if err == nil {
		t.ports[name] = number
	}
	return number, err
}

// maxComment is what the length of an option in a pcapng file can say, less the
// padding to four bytes.
const maxComment = 1<<16 - 4

// comment is the packet's path.
func comment(p pipeline.TracedPacket) string {
	text := strings.TrimRight(fmt.Sprintf("worker %d\n%s", p.Worker, pathText(p.Path)), "\n")
	if len(text) <= maxComment {
		return text
	}
	const more = "\n…"
	text = text[:maxComment-len(more)]
	for !utf8.ValidString(text) {
		text = text[:len(text)-1]
	}
	return text + more
}
