package control

import (
	"maps"
	"slices"
	"testing"
)

func on(t testing.TB, l *Link, name string) bool {
	t.Helper()
	state, err := OffloadState(l)
	must(t, err)
	if _, ok := state[name]; !ok {
		t.Fatalf("%v has no feature %s", l, name)
	}
	return state[name]
}

func TestOffloadsAreTurnedOffAndPutBack(t *testing.T) {
	a, _ := newPair(t, VethOptions{})
	before, err := OffloadState(a)
	must(t, err)
	j := openJournal(t, runDirFor(t), "one")
	o, err := DisableOffloads(a, j, append(PortOffloads(ModeNative), "no-such-feature"))
	must(t, err)
	if !slices.Equal(o.Disabled, []string{"rx-vlan-hw-parse", "rx-vlan-stag-hw-parse"}) || len(o.Stuck) > 0 {
		t.Errorf("disabled %v, stuck %v", o.Disabled, o.Stuck)
	}
	if on(t, a, "rx-vlan-hw-parse") {
		t.Error("rx-vlan-hw-parse is still on")
	}
	must(t, a.SetUp(false))
	must(t, rename(a, "renamed"))
	must(t, o.Restore())
	must(t, o.Restore())
	must(t, a.Refresh())
	after, err := OffloadState(a)
	must(t, err)
	if !maps.Equal(before, after) {
		t.Errorf("before %v\nafter %v", before, after)
	}
}

func TestWhatAnotherInstanceNeedsOffIsPutBackByTheLastOfThem(t *testing.T) {
	a, _ := newPair(t, VethOptions{})
	dir := runDirFor(t)
	const name = "rx-vlan-hw-parse"
	one, two := openJournal(t, dir, "one"), openJournal(t, dir, "two")
	_, err := DisableOffloads(a, one, []string{name})
	must(t, err)
	_, err = DisableOffloads(a, two, []string{name})
	must(t, err)
	_, err = one.Restore()
	must(t, err)
	if on(t, a, name) {
		t.Error("the first to end took it from the second")
	}
	_, err = two.Restore()
	must(t, err)
	if !on(t, a, name) {
		t.Error("the last to end did not put it back")
	}
}

func TestTheHostEndLosesWhatCannotCrossAFXDP(t *testing.T) {
	a, _ := newPair(t, VethOptions{})
	o, err := DisableHostOffloads(a)
	must(t, err)
	for _, name := range []string{"tx-checksum-ip-generic", "tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-udp-segmentation", "tx-vlan-hw-insert"} {
		if on(t, a, name) {
			t.Errorf("%s is still on", name)
		}
	}
	must(t, o.Restore())
	if !on(t, a, "tx-checksum-ip-generic") || !on(t, a, "tx-tcp-segmentation") {
		t.Error("not restored")
	}
}

func TestAnInterfaceThatWentAwayNeedsNoUndo(t *testing.T) {
	a, _ := newPair(t, VethOptions{})
	j := openJournal(t, runDirFor(t), "one")
	_, err := DisableOffloads(a, j, PortOffloads(ModeGeneric))
	must(t, err)
	must(t, a.Delete())
	done, err := j.Restore()
	must(t, err)
	if len(done) != 1 || done[0].Err != nil {
		t.Fatalf("%v", done)
	}
	mentions(t, errorString(done[0].Note), "interface a is gone")
}

type errorString string

func (e errorString) Error() string { return string(e) }
