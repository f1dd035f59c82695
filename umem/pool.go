package umem

import "sync"

// pool is the stack of free frames that all caches draw from. Workers meet
// here only in bulk, some tens of frames at a time.
type pool struct {
	mu   sync.Mutex
	free []uint64 // addresses in free frames; the top is the warmest
}

func (p *pool) init(frames int, shift uint) {
	p.free = make([]uint64, frames)
	for i := range p.free {
		// Lowest address on top, so that a lightly loaded program stays on few pages.
		p.free[i] = uint64(frames-1-i) << shift
	}
}

// take moves up to len(dst) frames into dst and returns how many.
func (p *pool) take(dst []uint64) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(len(dst), len(p.free))
	copy(dst, p.free[len(p.free)-n:])
	p.free = p.free[:len(p.free)-n]
	return n
}

// give takes the frames back. The slice was made for all frames, so that this
// never allocates.
func (p *pool) give(src []uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, src...)
}

func (p *pool) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.free)
}
