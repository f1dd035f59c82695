package stages

import (
	"fmt"
	"testing"
)

func TestBucketTableEvictsOnlyWhatIsNearestToFull(t *testing.T) {
	table := newBucketTable(1) // one set
	if len(table.sets) != 1 {
		t.Fatalf("%d sets for one key", len(table.sets))
	}
	set := &table.sets[0]
	for key := bucketKey(1); key <= setSize; key++ {
		set.full[table.place(set, key, 100)] = 100 + int64(key)*10
	}
	if table.used != setSize || table.recycled+table.evicted != 0 {
		t.Fatalf("%+v after the first keys", table)
	}
	at := table.place(set, 100, 110) // key 1 is full exactly now
	if table.recycled != 1 || table.evicted != 0 || at != 0 || set.full[0] != 110 {
		t.Errorf("recycled %d, evicted %d, want the full bucket of key 1 recycled", table.recycled, table.evicted)
	}
	set.full[at] = 1000
	if at := table.place(set, 101, 111); table.evicted != 1 || at != 1 || set.full[at] != 111 {
		t.Errorf("evicted %d, want key 2, which is nearest to full, and a full bucket in its place", table.evicted)
	}
	if at := table.place(set, 8, 111); set.full[at] != 180 {
		t.Errorf("key 8 is full at %d, want 180 as before", set.full[at])
	}
}

func TestBucketTableHashesEverythingThatTellsBucketsApart(t *testing.T) {
	table := newBucketTable(8)
	words := []uint64{0, 1, 1 << 31, 1 << 32, 1 << 55, 1 << 63, mappedIPv4, 0x24 << 56, 0x2c << 56}
	seen := map[bucketKey]string{}
	for _, a := range words {
		for _, b := range words {
			for limit := range uint64(maxRules + 1) {
				key, what := table.key(a, b, limit), fmt.Sprintf("%x %x %d", a, b, limit)
				if other, twice := seen[key]; twice || uint32(key) == 0 {
					t.Fatalf("%s has the key %x, and so has %q", what, key, other)
				}
				seen[key] = what
			}
		}
	}
	// As good as random: the sets have about as many keys each.
	wide := newBucketTable(64 * setSize)
	counts := map[*bucketSet]int{}
	for i := range uint64(64 * 1000) {
		counts[wide.set(wide.key(0, mappedIPv4|i, 0))]++
	}
	for _, n := range counts {
		if n < 800 || n > 1200 { // six standard deviations
			t.Errorf("a set has %d of 64,000 keys, want about 1000", n)
		}
	}
	if len(counts) != 64 {
		t.Errorf("%d of 64 sets have keys", len(counts))
	}
}
