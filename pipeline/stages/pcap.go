package stages

import (
	"bufio"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/xdpipe/xdpipe/pipeline"
)

func init() {
	pipeline.Register(pipeline.Module{
		Name: "pcap",
		Doc:  "copies packets that pass to a pcapng file; never delays or drops one",
		New:  func() pipeline.Stage { return &Pcap{Snaplen: 65535} },
	})
}

// Pcap is a tap. The worker copies each packet into a buffer and a goroutine
// writes full buffers to the file, so that a slow disk costs captured packets
// (counted as missed) and never forwarded ones.
type Pcap struct {
	File    string `stage:"file" required:"true" doc:"pcapng file to write; replaced if it is there"`
	Snaplen int    `stage:"snaplen" unit:"bytes" doc:"keep at most so much of each packet"`

	out      *captureFile
	chunk    *captureChunk
	captured uint64
	missed   uint64
}

// Validate implements pipeline.Validator.
func (s *Pcap) Validate() error {
	if s.Snaplen < 1 || s.Snaplen > 65535 {
		return pipeline.BadOption("snaplen", "found %d, want 1 to 65535 bytes", s.Snaplen)
	}
	return nil
}

// Provision implements pipeline.Provisioner.
func (s *Pcap) Provision(ctx *pipeline.Context) error {
	out, err := ctx.Shared(func() (any, error) { return newCaptureFile(s.File, s.Snaplen, ctx.Stage, ctx.Log) })
	if err != nil {
		return &pipeline.OptionError{Option: "file", Err: err}
	}
	s.out = out.(*captureFile)
	return nil
}

// Process implements pipeline.Stage.
func (s *Pcap) Process(b *pipeline.Batch) {
	now := time.Now()
	for i := range b.Len() {
		p := b.Data(i)
		keep := p[:min(len(p), s.Snaplen)]
		if s.chunk != nil && !s.chunk.fits(len(keep)) {
			s.out.full <- s.chunk // never waits: it has room for every chunk
			s.chunk = nil
		}
		if s.chunk == nil {
			if s.chunk = s.out.take(); s.chunk == nil {
				s.missed++
				continue
			}
		}
		s.chunk.add(now, keep, len(p))
		s.captured++
	}
	// With nothing else to write, what there is goes to the file now, so that a
	// quiet link's packets do not wait for a full buffer.
	if s.chunk != nil && len(s.out.full) == 0 {
		s.out.full <- s.chunk
		s.chunk = nil
	}
}

// Report implements pipeline.Reporter.
func (s *Pcap) Report() map[string]uint64 {
	return map[string]uint64{"captured": s.captured, "missed": s.missed, "written": s.out.written.Load()}
}

// Close implements pipeline.Closer. The file is closed after the last instance.
func (s *Pcap) Close() error {
	if s.chunk != nil {
		s.out.full <- s.chunk
		s.chunk = nil
	}
	return nil
}

const (
	chunkBytes  = 256 << 10
	chunkCount  = 16   // 4 MiB between the workers and the disk
	chunkPacket = 2048 // packets a chunk holds at most
)

// A captureChunk is packets on their way to the file.
type captureChunk struct {
	data    []byte
	packets []capturedPacket
}

type capturedPacket struct {
	at     time.Time
	end    int // of its bytes in data; they start where the one before ends
	length int // on the wire
}

func (c *captureChunk) fits(n int) bool {
	return len(c.data)+n <= cap(c.data) && len(c.packets) < cap(c.packets)
}

func (c *captureChunk) add(at time.Time, p []byte, length int) {
	c.data = append(c.data, p...)
	c.packets = append(c.packets, capturedPacket{at, len(c.data), length})
}

// A captureFile is the file and the goroutine that writes to it, shared by the
// instances of a stage.
type captureFile struct {
	free    chan *captureChunk
	full    chan *captureChunk
	written atomic.Uint64 // packets

	file *os.File
	buf  *bufio.Writer
	ng   *pcapgo.NgWriter
	log  *slog.Logger
	err  error // first failure; nothing is written after it
	done sync.WaitGroup
}

func newCaptureFile(name string, snaplen int, stage string, log *slog.Logger) (*captureFile, error) {
	// Packets may hold anything that is private.
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	f := &captureFile{
		free: make(chan *captureChunk, chunkCount),
		full: make(chan *captureChunk, chunkCount),
		file: file,
		buf:  bufio.NewWriterSize(file, chunkBytes),
		log:  log,
	}
	f.ng, err = pcapgo.NewNgWriterInterface(f.buf, pcapgo.NgInterface{
		Name:                stage,
		LinkType:            layers.LinkTypeEthernet,
		SnapLength:          uint32(snaplen),
		TimestampResolution: 9, // nanoseconds
	}, pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{Application: "xdpipe"}})
	if err != nil {
		file.Close()
		return nil, err
	}
	for range chunkCount {
		f.free <- &captureChunk{data: make([]byte, 0, chunkBytes), packets: make([]capturedPacket, 0, chunkPacket)}
	}
	f.done.Go(f.write)
	return f, nil
}

// take returns an empty chunk, or nil if the disk is behind by all of them.
func (f *captureFile) take() *captureChunk {
	select {
	case c := <-f.free:
		return c
	default:
		return nil
	}
}

func (f *captureFile) write() {
	for c := range f.full {
		f.writeChunk(c)
		c.data, c.packets = c.data[:0], c.packets[:0]
		f.free <- c
	}
}

func (f *captureFile) writeChunk(c *captureChunk) {
	if f.err != nil {
		return
	}
	start := 0
	for _, p := range c.packets {
		data := c.data[start:p.end]
		start = p.end
		info := gopacket.CaptureInfo{Timestamp: p.at, CaptureLength: len(data), Length: p.length}
		if f.err = f.ng.WritePacket(info, data); f.err != nil {
			break
		}
		f.written.Add(1)
	}
	if f.err == nil {
		if f.err = f.ng.Flush(); f.err == nil {
			f.err = f.buf.Flush()
		}
	}
	if f.err != nil {
		f.log.Error("capture ended early: cannot write", "file", f.file.Name(), "error", f.err)
	}
}

// Close writes what is left and closes the file.
func (f *captureFile) Close() error {
	close(f.full)
	f.done.Wait()
	if err := f.file.Close(); f.err == nil {
		f.err = err
	}
	if f.err != nil {
		return fmt.Errorf("capture file %s: %w", f.file.Name(), f.err)
	}
	return nil
}
