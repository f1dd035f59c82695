package pipeline

import (
	"bytes"
	"testing"

	"github.com/xdpipe/xdpipe/umem"
)

func TestReverseTwiceIsTheOriginalAndOnceIsWhatAFreshParseFinds(t *testing.T) {
	mem, err := umem.New(umem.Options{Frames: 16, Pages: umem.Pages4K})
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	cache := mem.NewCache(0)
	defer cache.Close()
	for _, tc := range metaCases {
		data := append([]byte("\x02\x00\x00\x00\x00\x0b\x02\x00\x00\x00\x00\x0a"), tc.data...)
		b := NewBatch(cache, 1)
		copy(b.Alloc(len(data)), data)
		b.Parse()
		is := b.Meta(0).Flags&(MetaIPv4|MetaIPv6) != 0
		if got := b.Reverse(0); got != is {
			t.Fatalf("%s: reversed %v, want %v", tc.name, got, is)
		}
		if is == bytes.Equal(b.Data(0), data) {
			t.Errorf("%s: changed %v, want %v", tc.name, !is, is)
		}
		if is && !bytes.Equal(b.Data(0)[:6], data[6:12]) {
			t.Errorf("%s: goes to %x", tc.name, b.Data(0)[:6])
		}
		fresh := Meta{arrival: b.meta[0].arrival}
		fresh.Parse(b.Data(0))
		if fresh != b.meta[0] {
			t.Errorf("%s: the metadata says\n%+v, a fresh parse\n%+v", tc.name, b.meta[0], fresh)
		}
		if is && (!b.Reverse(0) || !bytes.Equal(b.Data(0), data)) {
			t.Errorf("%s: twice is %x, want %x", tc.name, b.Data(0), data)
		}
		b.release(0)
	}
	b := NewBatch(cache, 1)
	copy(b.Alloc(60), make([]byte, 60))
	if b.Reverse(0) {
		t.Error("a packet that nobody parsed was reversed")
	}
	b.release(0)
}
