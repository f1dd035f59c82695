package acl_test

import (
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
	"github.com/xdpipe/xdpipe/umem"
)

func newCache(t testing.TB, frames int) *umem.Cache {
	t.Helper()
	mem, err := umem.New(umem.Options{Frames: frames, FrameSize: 2048, Pages: umem.Pages4K})
	must(t, err)
	cache := mem.NewCache(0)
	t.Cleanup(func() {
		cache.Close()
		must(t, mem.Close())
	})
	return cache
}

func fill(t testing.TB, b *pipeline.Batch, packets ...[]byte) {
	t.Helper()
	for _, p := range packets {
		room := b.Alloc(len(p))
		if room == nil {
			t.Fatalf("no room for a packet of %d bytes", len(p))
		}
		copy(room, p)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
