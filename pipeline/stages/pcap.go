package stages

import (
	"bufio"
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
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
		Help: `Packets are copied into a buffer of some megabytes, from which the file is
written beside the worker; those that come while it is full are counted as missed
and go on. Stages that name the same file write to one, each as an interface of
the capture.`,
		Example: "pcap file=dns.pcapng snaplen=128",
		New:     func() pipeline.Stage { return &Pcap{Snaplen: 65535} },
	})
}

// Pcap is a tap. The worker copies each packet into a buffer and a goroutine
// writes full buffers to the file, so that a slow disk costs captured packets
// (counted as missed) and never forwarded ones.
type Pcap struct {
	File    string `stage:"file" required:"true" doc:"pcapng file to write; replaced if it is there"`
	Snaplen int    `stage:"snaplen" unit:"bytes" doc:"keep at most so much of each packet"`

	out      *captureFile
	link     int                          // the stage's interface in the file
	open     atomic.Pointer[captureChunk] // not yet full; whoever swaps it out has it
	captured uint64
	missed   uint64
	written  atomic.Uint64 // by the file's goroutine
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
	// By the file, not by the stage: several stages may tap into one, as those of
	// the two directions do when the command line gives them.
	path, err := filepath.Abs(s.File)
	if err != nil {
		return &pipeline.OptionError{Option: "file", Err: err}
	}
	out, err := ctx.SharedBy("pcap "+path, func() (any, error) {
		return newCaptureFile(s.File, s.Snaplen, ctx.Stage, cmp.Or(ctx.Log, slog.Default()))
	})
	if err != nil {
		return &pipeline.OptionError{Option: "file", Err: err}
	}
	s.out = out.(*captureFile)
	if s.link, err = s.out.addLink(ctx.Stage, s.Snaplen); err != nil {
		return &pipeline.OptionError{Option: "file", Err: err}
	}
	s.out.join(&s.open)
	return nil
}

// Process implements pipeline.Stage.
func (s *Pcap) Process(b *pipeline.Batch) {
	now := time.Now()
	c := s.open.Swap(nil)
	for i := range b.Len() {
		p := b.Data(i)
		keep := p[:min(len(p), s.Snaplen)]
		if c != nil && !c.fits(len(keep)) {
			s.out.full <- c // never waits: it has room for every chunk
			c = nil
		}
		if c == nil {
			if c = s.out.take(); c == nil {
				s.missed++
				continue
			}
			c.from = s
		}
		c.add(now, keep, b.Size(i))
		s.captured++
	}
	// With nothing else to write the file gets what there is, so that a quiet
	// link's packets do not wait for a full buffer.
	if c != nil {
		s.open.Store(c)
		s.out.nudge()
	}
}

// Report implements pipeline.Reporter.
func (s *Pcap) Report() map[string]uint64 {
	return map[string]uint64{"captured": s.captured, "missed": s.missed, "written": s.written.Load()}
}

// Close implements pipeline.Closer. The file is closed after the last instance.
func (s *Pcap) Close() error {
	if c := s.open.Swap(nil); c != nil {
		s.out.full <- c
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
	from    *Pcap
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
// instances of all stages that write to it. Each stage is an interface in it.
type captureFile struct {
	free chan *captureChunk
	full chan *captureChunk
	wake chan struct{} // there may be packets in an open chunk

	mu   sync.Mutex
	open []*atomic.Pointer[captureChunk] // of the instances

	file  *os.File
	buf   *bufio.Writer
	ng    *pcapgo.NgWriter
	links map[string]int // by stage; until the first packet is written
	log   *slog.Logger
	err   error // first failure; nothing is written after it
	done  sync.WaitGroup
}

func newCaptureFile(name string, snaplen int, stage string, log *slog.Logger) (*captureFile, error) {
	// Packets may hold anything that is private.
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	f := &captureFile{
		free:  make(chan *captureChunk, chunkCount),
		full:  make(chan *captureChunk, chunkCount),
		wake:  make(chan struct{}, 1),
		file:  file,
		buf:   bufio.NewWriterSize(file, chunkBytes),
		links: map[string]int{stage: 0},
		log:   log,
	}
	f.ng, err = pcapgo.NewNgWriterInterface(f.buf, captureLink(stage, snaplen), pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{Application: "xdpipe"}})
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

// addLink returns the number of the stage's interface in the file.
func (f *captureFile) addLink(stage string, snaplen int) (int, error) {
	if link, ok := f.links[stage]; ok {
		return link, nil
	}
	link, err := f.ng.AddInterface(captureLink(stage, snaplen))
	f.links[stage] = link
	return link, err
}

func captureLink(stage string, snaplen int) pcapgo.NgInterface {
	return pcapgo.NgInterface{
		Name:                stage,
		LinkType:            layers.LinkTypeEthernet,
		SnapLength:          uint32(snaplen),
		TimestampResolution: 9, // nanoseconds
	}
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

// join makes the writer look after an instance's open chunk.
func (f *captureFile) join(open *atomic.Pointer[captureChunk]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open = append(f.open, open)
}

// nudge tells the writer of an open chunk. It takes it when it has time.
func (f *captureFile) nudge() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *captureFile) write() {
	for {
		select {
		case c, ok := <-f.full:
			if !ok {
				return
			}
			f.writeChunk(c)
		case <-f.wake:
			f.writeOpen()
		}
	}
}

// writeOpen writes what the open chunks have.
func (f *captureFile) writeOpen() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, open := range f.open {
		c := open.Swap(nil)
		if c == nil {
			continue
		}
		// Chunks of the same instance that were full before this one was begun
		// are in the channel by now, and are older.
		for older := len(f.full); older > 0; older-- {
			if full, ok := <-f.full; ok {
				f.writeChunk(full)
			}
		}
		f.writeChunk(c)
	}
}

// writeChunk writes the packets of the chunk, which is free after it.
func (f *captureFile) writeChunk(c *captureChunk) {
	defer func() {
		c.data, c.packets = c.data[:0], c.packets[:0]
		f.free <- c
	}()
	if f.err != nil {
		return
	}
	start := 0
	for _, p := range c.packets {
		data := c.data[start:p.end]
		start = p.end
		info := gopacket.CaptureInfo{Timestamp: p.at, CaptureLength: len(data), Length: p.length, InterfaceIndex: c.from.link}
		if f.err = f.ng.WritePacket(info, data); f.err != nil {
			break
		}
		c.from.written.Add(1)
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

// closeLimit is how long Close waits for whoever reads from a pipe. A regular
// file has no deadline and needs none.
const closeLimit = 2 * time.Second

// Close writes what is left and closes the file.
func (f *captureFile) Close() error {
	_ = f.file.SetWriteDeadline(time.Now().Add(closeLimit))
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
