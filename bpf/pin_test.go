package bpf

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// bpffs mounts a BPF file system for the test.
func bpffs(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("bpf", dir, "bpf", 0, ""); err != nil {
		t.Fatalf("mount a BPF file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

func TestPinnedSteeringIsFoundAgain(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(bpffs(t), "xdpipe", "veth0")
	s := loadWithSocket(t)
	policy := Policy{All: true, Rules: rules(t, "udp dst_port=53 src=192.0.2.0/24 action=drop", "vlan=7 action=pass")}
	setPolicy(t, s, policy)
	if err := s.Pin(dir); err != nil {
		t.Fatal(err)
	}
	dns := packet{src: "192.0.2.1", dst: "192.0.2.2", protocol: ProtocolUDP, dstPort: 53}.bytes()
	verdict(t, s, dns)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	found, err := LoadPinned(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	if got := found.Policy(); got.String() != policy.String() {
		t.Errorf("policy %q, want %q", got, policy)
	}
	if found.Queues() != 4 {
		t.Errorf("%d queues, want 4", found.Queues())
	}
	verdict(t, found, dns)
	if c := counters(t, found); c.DropRule.Packets != 2 || c.Rules[0] != 2 {
		t.Errorf("counters %+v, want 2 packets dropped by rule 0", c)
	}
	setPolicy(t, found, Policy{Rules: rules(t, "udp src=192.0.2.0/25 action=pass")})
	verdict(t, found, dns)
	if c := counters(t, found); c.PassRule.Packets != 1 || c.Rules[0] != 1 {
		t.Errorf("counters %+v, want 1 packet passed by rule 0", c)
	}

	if err := Unpin(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory after Unpin: %v, want it gone", err)
	}
	if err := Unpin(dir); err != nil {
		t.Errorf("second Unpin: %v", err)
	}
	if err := found.Pin(dir); err != nil {
		t.Errorf("pin again where it was pinned: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, programPin)); err != nil {
		t.Errorf("pinned again: %v", err)
	}
	if err := Unpin(dir); err != nil {
		t.Error(err)
	}
}

// An update that ended between its steps: the record and a prefix are written, the
// bank is not active.
func TestAnUpdateCutShortIsUndoneWhenThePinsAreLoaded(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(bpffs(t), "xdpipe")
	s := load(t)
	setPolicy(t, s, Policy{Rules: rules(t, "src=192.0.2.0/24 action=drop")})
	if err := s.Pin(dir); err != nil {
		t.Fatal(err)
	}
	next := Policy{Rules: rules(t, "src=198.51.100.0/24")}
	half := compile(next, s.generation+1)
	if err := s.record(s.maps.Hits, next, s.generation+1); err != nil { // any map that is not the active bank
		t.Fatal(err)
	}
	for key, left := range half.prefixes4 {
		if err := s.maps.Prefixes4.Put(key, left); err != nil {
			t.Fatal(err)
		}
	}
	found, err := LoadPinned(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	if got := found.Policy().String(); got != s.Policy().String() {
		t.Errorf("policy %q, want the one in force, %q", got, s.Policy())
	}
	var key steerPrefix4
	var left uint64
	for entries := found.maps.Prefixes4.Iterate(); entries.Next(&key, &left); {
		if key.Generation != found.generation {
			t.Errorf("a prefix of generation %d is left; %d is in force", key.Generation, found.generation)
		}
	}
	if got := verdict(t, found, packet{src: "192.0.2.1", dst: "192.0.2.2"}.bytes()); got != xdpDrop {
		t.Errorf("verdict %d, want drop", got)
	}
	if err := Unpin(dir); err != nil {
		t.Error(err)
	}
}

func TestPinsThatCannotBeMadeOrLoaded(t *testing.T) {
	needRoot(t)
	root := bpffs(t)
	s := load(t)

	elsewhere := filepath.Join(t.TempDir(), "a", "b")
	if err := s.Pin(elsewhere); err == nil || !strings.Contains(err.Error(), "mount -t bpf") {
		t.Errorf("pin outside of a BPF file system: %v, want advice to mount one", err)
	}
	if _, err := os.Stat(filepath.Dir(elsewhere)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directories made for a failed Pin: %v, want them gone", err)
	}

	dir := filepath.Join(root, "pins")
	if _, err := LoadPinned(dir); !errors.Is(err, ErrNotPinned) {
		t.Errorf("load pins that do not exist: %v, want %v", err, ErrNotPinned)
	}
	if err := s.Pin(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Pin(dir); !errors.Is(err, os.ErrExist) {
		t.Errorf("pin where pins are: %v, want %v", err, os.ErrExist)
	}
	if again, err := LoadPinned(dir); err != nil {
		t.Errorf("the first pins after a second Pin: %v", err)
	} else {
		again.Close()
	}
	if err := os.Remove(filepath.Join(dir, steerMapHits)); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadPinned(dir); !errors.Is(err, ErrNotPinned) {
		t.Errorf("load pins of which one is missing: %v, want %v", err, ErrNotPinned)
	}
	other, err := s.maps.Counters.Clone()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := other.Pin(filepath.Join(dir, steerMapHits)); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadPinned(dir); !errors.Is(err, ErrIncompatible) {
		t.Errorf("load pins of which one is another map: %v, want %v", err, ErrIncompatible)
	}
	if err := Unpin(dir); err != nil {
		t.Error(err)
	}
}
