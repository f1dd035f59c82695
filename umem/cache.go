package umem

// A Cache is a stack of free frames owned by one goroutine. Taking and
// returning a frame neither locks nor allocates; only an empty or full cache
// meets the pool, for half of its size at a time. Last in, first out: the
// frame returned last is the one most likely still in the CPU's caches.
type Cache struct {
	mem    *Memory
	frames []uint64 // all slots; the first n hold addresses in free frames
	n      int
}

// DefaultCacheSize is the capacity in frames of a Cache that asks for none:
// eight batches of 64.
const DefaultCacheSize = 512

// NewCache returns an empty cache of the given capacity in frames; 0 means
// DefaultCacheSize. Close it to give its frames back.
func (m *Memory) NewCache(size int) *Cache {
	if size <= 0 {
		size = DefaultCacheSize
	}
	return &Cache{mem: m, frames: make([]uint64, max(size, 2))}
}

// Memory returns the memory whose frames the cache holds.
func (c *Cache) Memory() *Memory { return c.mem }

// Len returns the number of free frames in the cache.
func (c *Cache) Len() int { return c.n }

// Get takes a free frame and returns its start address; false when neither the
// cache nor the pool has one. The caller holds the frame until it gives it to
// Put or to a socket.
func (c *Cache) Get() (addr uint64, ok bool) {
	if c.n == 0 && !c.refill(1) {
		return 0, false
	}
	c.n--
	addr = c.frames[c.n] &^ c.mem.mask
	if c.mem.ledger != nil {
		c.mem.ledger.get(addr)
	}
	return addr, true
}

// GetN takes free frames into dst and returns how many there were. The addresses
// lie somewhere in their frames, which is all the kernel asks of a fill ring;
// Memory.Start and Memory.DataStart make something of them.
func (c *Cache) GetN(dst []uint64) int {
	total := 0
	for {
		n := min(len(dst)-total, c.n)
		copy(dst[total:total+n], c.frames[c.n-n:c.n])
		c.n -= n
		total += n
		if total == len(dst) || !c.refill(len(dst)-total) {
			break
		}
	}
	if c.mem.ledger != nil {
		for _, addr := range dst[:total] {
			c.mem.ledger.get(addr)
		}
	}
	return total
}

// Put gives back the caller's reference to the frame that addr lies in. The
// frame is free when the last reference is given back.
func (c *Cache) Put(addr uint64) {
	if c.n == len(c.frames) {
		c.spill()
	}
	m := c.mem
	if m.ledger != nil {
		m.ledger.put(addr)
	}
	if m.shared.Load() && !m.lastRef(addr) {
		return
	}
	c.frames[c.n] = addr
	c.n++
}

// PutN gives back the caller's references to the frames that addrs lie in.
func (c *Cache) PutN(addrs []uint64) {
	m := c.mem
	if m.ledger != nil || m.shared.Load() {
		for _, addr := range addrs {
			c.Put(addr)
		}
		return
	}
	for len(addrs) > 0 {
		if c.n == len(c.frames) {
			c.spill()
		}
		n := copy(c.frames[c.n:], addrs)
		c.n += n
		addrs = addrs[n:]
	}
}

// Close gives all frames back to the pool. The cache is empty afterwards and
// may be used again.
func (c *Cache) Close() {
	c.mem.pool.give(c.frames[:c.n])
	c.n = 0
}

// refill takes half a cache of frames from the pool, or as many as are wanted
// if that is more and fits, so that a large request is one visit.
func (c *Cache) refill(want int) bool {
	want = min(max(want, len(c.frames)/2), len(c.frames)-c.n)
	got := c.mem.pool.take(c.frames[c.n : c.n+want])
	c.n += got
	return got > 0
}

// spill gives the older half of the cache, the colder frames, to the pool.
func (c *Cache) spill() {
	half := max(c.n/2, 1)
	c.mem.pool.give(c.frames[:half])
	copy(c.frames, c.frames[half:c.n])
	c.n -= half
}
