package stages

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"strings"
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
	"github.com/xdpipe/xdpipe/umem"
	"github.com/xdpipe/xdpipe/xsk"
)

// The first byte of what a fuzz target of stages is given says how its batch is
// made. The rest are the packets: two bytes of length each, then their bytes.
const (
	fuzzParsed    = 1 << iota // the packets were parsed before
	fuzzConnected             // the stage's optional outputs are connected too
	fuzzMulti                 // every second packet has two descriptors
	fuzzTwice                 // the stage is called a second time with what is left
)

// fuzzStage fuzzes a stage with packets of any bytes, in batches with and without
// metadata, and with its optional outputs connected or not. newStage makes a stage
// with its options set, which is then validated and provisioned; one that is ready
// already is wrapped in ready. Whatever the bytes, the stage does not panic, gives
// each packet a verdict that leads somewhere, changes no byte unless its module
// Writes, and loses no frame.
func fuzzStage(f *testing.F, newStage func() pipeline.Stage) {
	mem, err := umem.New(umem.Options{Frames: 1024, Pages: umem.Pages4K})
	must(f, err)
	cache := mem.NewCache(0)
	f.Cleanup(func() {
		cache.Close()
		must(f, mem.Close())
	})
	addFuzzSeeds(f)
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) == 0 {
			return
		}
		how, packets := input[0], fuzzPackets(input[1:], mem.MaxPacket())
		stage := newStage()
		module := moduleOf(stage)
		outputs := provisionFuzzed(t, stage, module, how&fuzzConnected != 0)
		if c, ok := stage.(pipeline.Closer); ok {
			defer func() { must(t, c.Close()) }()
		}
		b := pipeline.NewBatch(cache, pipeline.MaxBatch)
		tails := fillFuzzed(t, b, packets, how&fuzzMulti != 0)
		defer func() {
			for _, d := range b.Descs() {
				tails = append(tails, d.Addr)
			}
			for _, addr := range tails {
				for range mem.Refs(addr) { // one more for each Tee
					cache.Put(addr)
				}
			}
			if free := cache.Len() + mem.Free(); free != mem.Frames() && !t.Failed() {
				t.Errorf("%d of %d frames are free after the batch", free, mem.Frames())
			}
		}()
		if how&fuzzParsed != 0 {
			b.Parse()
		}
		before := bytesOf(b)
		for range 1 + how&fuzzTwice/fuzzTwice {
			stage.Process(b)
			checkVerdicts(t, b, outputs)
		}
		if !module.Writes {
			for i, was := range before {
				if is := b.Data(i); !bytes.Contains(was, is) {
					t.Errorf("packet %d was %x and is %x, though the stage does not write", i, was, is)
				}
			}
		}
	})
}

// addFuzzSeeds adds what fuzzing starts from: the kinds of packets that Parse
// tells apart, whole and cut short, in each kind of batch.
func addFuzzSeeds(f *testing.F) {
	udp := udpPacket()
	udp6 := ethernet("\x86\xdd", "\x60\x00\x00\x00\x00\x0c\x11\x40", "\x20\x01\x0d\xb8", string(make([]byte, 28)), ports, "\x00\x0c\x00\x00", "data")
	packets := [][]byte{
		udp,
		udp6,
		append([]byte(macs+"\x81\x00\x00\x07\x08\x00"), udp[14:]...),
		append([]byte(macs+"\x88\xa8\x00\x07\x81\x00\x00\x08\x86\xdd"), udp6[14:]...),
		ipv4Packet(6, whole, ports, string(make([]byte, 20))),
		ipv4Packet(1, whole, "\x08\x00\x00\x00\x00\x01\x00\x01"),
		ipv4Packet(17, first, ports),
		ipv4Packet(17, later),
		ethernet("\x08\x06", "\x00\x01\x08\x00\x06\x04\x00\x01", macs[6:], "\xc0\x00\x02\x01", macs[:6], "\xc0\x00\x02\x02"),
		ethernet("\x88\xb5"),
		ethernet("\x08\x00", "\x4f"),
		[]byte("short"),
		udp[:13], udp[:30], udp6[:53],
		bytes.Repeat([]byte{0xff}, 1500),
	}
	for how := range byte(fuzzTwice << 1) {
		input := []byte{how}
		for _, p := range packets {
			input = append(binary.BigEndian.AppendUint16(input, uint16(len(p))), p...)
		}
		f.Add(input)
	}
	f.Add([]byte{0})
}

// fuzzPackets splits the input into packets of 1 to longest bytes. One that goes
// beyond the end of the input is filled up with zeros.
func fuzzPackets(input []byte, longest int) [][]byte {
	var packets [][]byte
	for len(input) >= 2 && len(packets) < pipeline.MaxBatch {
		p := make([]byte, max(1, int(binary.BigEndian.Uint16(input))%(longest+1)))
		input = input[2:]
		input = input[copy(p, input):]
		packets = append(packets, p)
	}
	return packets
}

// fillFuzzed puts the packets into the batch. Each arrives a little after the one
// before it. It returns the frames that are not the first of their packet.
func fillFuzzed(t *testing.T, b *pipeline.Batch, packets [][]byte, multi bool) (tails []uint64) {
	for i, p := range packets {
		whole := len(p)
		if multi && i%2 == 1 {
			whole = (len(p) + 1) / 2
		}
		room := b.Alloc(whole)
		if room == nil {
			t.Fatalf("no room for packet %d of %d bytes", i, whole)
		}
		copy(room, p)
		if whole < len(p) {
			mem := b.Cache().Memory()
			addr, ok := b.Cache().Get()
			if !ok {
				t.Fatal("no free frame")
			}
			tail := xsk.Desc{Addr: mem.DataStart(addr), Len: uint32(len(p) - whole)}
			copy(mem.Packet(tail.Addr, tail.Len), p[whole:])
			b.AppendSegment(tail)
			tails = append(tails, addr)
		}
		b.SetArrival(i, 1+int64(i)*1000)
	}
	return tails
}

// moduleOf returns the module that makes such stages; the zero Module if none
// does.
func moduleOf(stage pipeline.Stage) pipeline.Module {
	for _, m := range pipeline.Modules() {
		if reflect.TypeOf(m.New()) == reflect.TypeOf(stage) {
			return m
		}
	}
	return pipeline.Module{}
}

// provisionFuzzed does what the engine does before the first batch, and returns
// the ways that packets may take.
func provisionFuzzed(t *testing.T, stage pipeline.Stage, m pipeline.Module, connect bool) fuzzOutputs {
	ctx := &pipeline.Context{Stage: "fuzz", Workers: 3}
	var names []string
	for _, o := range m.Outputs {
		if connect || !o.Optional {
			names = append(names, o.Name)
		}
	}
	ctx.Connect(names...)
	if v, ok := stage.(pipeline.Validator); ok {
		must(t, v.Validate())
	}
	if p, ok := stage.(pipeline.Provisioner); ok {
		must(t, p.Provision(ctx))
	}
	return fuzzOutputs{ctx, len(names)}
}

// fuzzOutputs are the ways that packets may take after a fuzzed stage.
type fuzzOutputs struct {
	*pipeline.Context
	outputs int
}

func checkVerdicts(t *testing.T, b *pipeline.Batch, ways fuzzOutputs) {
	t.Helper()
	for i := range b.Len() {
		to, dropped, why := b.Verdict(i)
		switch {
		case dropped && (why == 0 || strings.HasPrefix(ways.ReasonName(why), "reason_")):
			t.Errorf("packet %d is dropped for a reason that the stage did not make: %d", i, why)
		case !dropped && int(to) > ways.outputs:
			t.Errorf("packet %d is sent to output %d, which is not connected", i, to)
		}
		if len(b.Data(i)) == 0 {
			t.Errorf("packet %d has no bytes left", i)
		}
	}
}

func bytesOf(b *pipeline.Batch) [][]byte {
	all := make([][]byte, b.Len())
	for i := range all {
		all[i] = bytes.Clone(b.Data(i))
	}
	return all
}

// ready hides all of a stage but Process, so that fuzzStage takes it as it is.
type ready struct{ pipeline.Stage }

func FuzzParse(f *testing.F) {
	fuzzStage(f, func() pipeline.Stage { return &Parse{DropMalformed: true, DropBad: true} })
}

func FuzzCount(f *testing.F) { fuzzStage(f, func() pipeline.Stage { return &Count{} }) }

func FuzzDrop(f *testing.F) { fuzzStage(f, func() pipeline.Stage { return &Drop{Every: 2} }) }

func FuzzMACSwap(f *testing.F) { fuzzStage(f, func() pipeline.Stage { return &MACSwap{} }) }

func FuzzPcap(f *testing.F) {
	tap := newTap(f)
	fuzzStage(f, func() pipeline.Stage { return ready{tap} })
}
