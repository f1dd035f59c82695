package control

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestAClaimedQueueIsRefusedWithItsHolder(t *testing.T) {
	a, b := newPair(t, VethOptions{Queues: 2})
	dir := runDirFor(t)
	first, err := Claim(dir, "one", a, 0)
	must(t, err)
	_, err = Claim(dir, "two", a, 0)
	var held *HeldError
	if !errors.As(err, &held) || held.Instance != "one" || held.PID != os.Getpid() || held.Queue != 0 {
		t.Fatalf("got %v", err)
	}
	mentions(t, err, "queue 0 of a", "one", "--queues")
	for _, free := range []struct {
		l     *Link
		queue int
	}{{a, 1}, {b, 0}} {
		other, err := Claim(dir, "two", free.l, free.queue)
		must(t, err)
		must(t, other.Close())
	}
	who, err := Holder(dir, a, 0)
	must(t, err)
	if len(who) != 1 || who[0].Instance != "one" || who[0].PID != os.Getpid() || !who[0].Certain {
		t.Errorf("holder: %v", who)
	}
	must(t, first.Close())
	must(t, first.Close())
	if who, err := Holder(dir, a, 0); err != nil || len(who) > 0 && who[0].Instance != "" {
		t.Errorf("holder of a free queue: %v, %v", who, err)
	}
	again, err := Claim(dir, "two", a, 0)
	must(t, err)
	must(t, again.Close())
	if left, _ := filepath.Glob(filepath.Join(dir, claimsDir, "*")); len(left) > 0 {
		t.Errorf("files left: %v", left)
	}
}

func TestClaimsOfEqualIndexesInTwoNamespacesDoNotMeet(t *testing.T) {
	a, b := newPair(t, VethOptions{})
	b.Index = a.Index
	if claimPath("d", a, 0) == claimPath("d", b, 0) {
		t.Error("one file for two interfaces")
	}
}

func TestAClaimWhoseOwnerLeftHalfAFileIsReportedWithoutOne(t *testing.T) {
	a, _ := newPair(t, VethOptions{})
	dir := runDirFor(t)
	c, err := Claim(dir, "one", a, 0)
	must(t, err)
	defer c.Close()
	must(t, os.WriteFile(claimPath(dir, a, 0), []byte(`{"inst`), 0o600))
	_, err = Claim(dir, "two", a, 0)
	var held *HeldError
	if !errors.As(err, &held) || held.PID != 0 {
		t.Errorf("got %v", err)
	}
}
