package stages

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
	"github.com/xdpipe/xdpipe/umem"
	"github.com/xdpipe/xdpipe/xsk"
)

// checkWrites runs the stage on a batch of the packet alone and fails if it
// changes memory that is not the packet's, before or after, or loses its frame.
func checkWrites(t testing.TB, p []byte, run func(b *pipeline.Batch)) {
	t.Helper()
	mem, err := umem.New(umem.Options{Frames: 16, Pages: umem.Pages4K})
	must(t, err)
	cache := mem.NewCache(0)
	b := pipeline.NewBatch(cache, 1)
	copy(b.Alloc(len(p)), p)
	was := b.Descs()[0]
	before := bytes.Clone(mem.Region())
	run(b)
	is := b.Descs()[0]
	from, to := min(was.Addr, is.Addr), max(was.Addr+uint64(was.Len), is.Addr+uint64(is.Len))
	if after := mem.Region(); !bytes.Equal(after[:from], before[:from]) || !bytes.Equal(after[to:], before[to:]) {
		t.Fatalf("%x: memory outside of the packet, %#x to %#x, was written to", p, from, to)
	}
	if mem.Frame(is.Addr) != mem.Frame(was.Addr) || !mem.Contains(is.Addr, is.Len) {
		t.Fatalf("%x: the packet moved from %#x to %#x, %d bytes", p, was.Addr, is.Addr, is.Len)
	}
	cache.Put(is.Addr)
	cache.Close()
	must(t, mem.Close()) // with the ledger on, of all frames
}

// newTail makes the batch's last packet go on in a second frame of n bytes.
func newTail(t testing.TB, b *pipeline.Batch, n int) []byte {
	t.Helper()
	mem := b.Cache().Memory()
	addr, ok := b.Cache().Get()
	if !ok {
		t.Fatal("no free frame")
	}
	t.Cleanup(func() { b.Cache().Put(addr) })
	d := xsk.Desc{Addr: mem.DataStart(addr), Len: uint32(n)}
	b.AppendSegment(d)
	tail := mem.Bytes(d.Addr, d.Len)
	for i := range tail {
		tail[i] = byte(i)
	}
	return tail
}

// provisioned validates and provisions a stage as the engine does, with the
// outputs connected.
func provisioned(t testing.TB, s pipeline.Stage, outputs ...string) *pipeline.Context {
	t.Helper()
	if v, ok := s.(pipeline.Validator); ok {
		must(t, v.Validate())
	}
	ctx := &pipeline.Context{}
	ctx.Connect(outputs...)
	if p, ok := s.(pipeline.Provisioner); ok {
		must(t, p.Provision(ctx))
	}
	return ctx
}

// checkMeta fails if the packet's metadata is not what a parse of it finds.
func checkMeta(t testing.TB, b *pipeline.Batch, i int) {
	t.Helper()
	f := *b.Meta(i)
	f.Parse(b.Data(i))
	f.Checksum = b.Meta(i).Checksum
	if got, want := metaText(*b.Meta(i)), metaText(f); got != want {
		t.Fatalf("%x has metadata\n%s, a parse of it finds\n%s", b.Data(i), got, want)
	}
}

// metaText shows all exported fields but those of the packet's way.
func metaText(m pipeline.Meta) string {
	return fmt.Sprintf("flags %#x ethertype %#x L3 %d L4 %d end %d vlan %#x/%#x of %d ports %d %d protocol %d checksum %d",
		m.Flags&^pipeline.MetaHash, m.EtherType, m.L3, m.L4, m.End, m.VLAN[0], m.VLAN[1], m.VLANs, m.SrcPort, m.DstPort, m.Protocol, m.Checksum)
}
