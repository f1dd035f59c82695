package stages

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xdpipe/xdpipe/internal/acl"
	"github.com/xdpipe/xdpipe/pipeline"
)

// aclFile is a stage whose file of rules is looked at when the test says so.
type aclFile struct {
	*ACL
	t    *testing.T
	ctx  *pipeline.Context
	name string
	log  bytes.Buffer
}

func newACLFile(t *testing.T, text string) *aclFile {
	f := &aclFile{t: t, name: filepath.Join(t.TempDir(), "rules.txt")}
	f.write(text)
	f.ctx = &pipeline.Context{Log: slog.New(slog.NewTextHandler(&f.log, nil))}
	f.ACL = newACL(t, &ACL{File: f.name, Top: 20}, f.ctx)
	return f
}

func (f *aclFile) write(text string) {
	f.t.Helper()
	must(f.t, os.WriteFile(f.name, []byte(text), 0o600))
}

// look looks at the file as often as it takes for a change to be seen and settled.
func (f *aclFile) look() {
	f.source.look()
	f.source.look()
}

// want checks what becomes of a UDP packet, and the counters.
func (f *aclFile) want(fate string, reloads, failed uint64) {
	f.t.Helper()
	if got := fates(f.t, f.ACL, f.ctx, aclUDP)[0]; got != fate {
		f.t.Errorf("%s, want %s", got, fate)
	}
	if v := f.Report(); v["reloads"] != reloads || v["reload_errors"] != failed {
		f.t.Errorf("%d reloads, %d with errors, want %d and %d; log:\n%s", v["reloads"], v["reload_errors"], reloads, failed, &f.log)
	}
}

func TestACLFileThatChangesIsTakenAgain(t *testing.T) {
	f := newACLFile(t, "permit udp\n")
	f.look()
	f.want("pass", 0, 0)
	f.write("deny udp\n")
	f.look()
	f.want("acl_denied", 1, 0)
	// As editors do it.
	must(t, os.WriteFile(f.name+".new", []byte("permit udp\n"), 0o600))
	must(t, os.Rename(f.name+".new", f.name))
	f.look()
	f.want("pass", 2, 0)
}

func TestACLFileOfTheSameLengthAndTimeIsTakenAgain(t *testing.T) {
	f := newACLFile(t, "permit udp dst_port=53")
	info, err := os.Stat(f.name)
	must(t, err)
	f.write("permit udp dst_port=54")
	must(t, os.Chtimes(f.name, info.ModTime(), info.ModTime()))
	f.look()
	f.want("acl_denied", 1, 0)
}

func TestACLFileIsNotTakenWhileItIsBeingWritten(t *testing.T) {
	f := newACLFile(t, "permit udp")
	f.write("deny arp\n")
	f.source.look() // sees a change
	f.write("deny arp\npermit udp\n")
	f.source.look() // and another
	f.want("pass", 0, 0)
	f.source.look()
	f.want("pass", 1, 0)
}

func TestACLFileWithMistakesChangesNothingAndIsLoggedOnce(t *testing.T) {
	f := newACLFile(t, "permit udp\n")
	f.write("permit udp\npermti tcp\n")
	for range 5 {
		f.look()
	}
	f.want("pass", 0, 1)
	if n := strings.Count(f.log.String(), "rules.txt:2:1: found"); n != 1 {
		t.Errorf("the mistake is in the log %d times:\n%s", n, &f.log)
	}
	f.write("deny udp\n")
	f.look()
	f.want("acl_denied", 1, 1)
}

func TestACLFileThatGoesAwayAndComesBackChangesNothing(t *testing.T) {
	f := newACLFile(t, "permit udp\n")
	must(t, os.Rename(f.name, f.name+".away"))
	for range 3 {
		f.look()
	}
	f.want("pass", 0, 1)
	must(t, os.Rename(f.name+".away", f.name))
	f.look()
	f.want("pass", 0, 1)
	must(t, os.Remove(f.name))
	f.look()
	f.want("pass", 0, 2) // it is said again
}

func TestACLRulesThatAreTheSameKeepTheirHitsWhenTheFileChanges(t *testing.T) {
	f := newACLFile(t, "permit udp\npermit tcp\n")
	fates(t, f.ACL, f.ctx, aclUDP, aclUDP, aclTCP)
	f.write("# more\ndeny arp\n\npermit  udp # here\n")
	f.look()
	fates(t, f.ACL, f.ctx, aclUDP, aclTCP)
	v := f.Report()
	if v["rule_4"] != 3 || v["rule_1"] != 0 || v["permitted"] != 4 || v["denied"] != 1 || v["rules"] != 2 {
		t.Errorf("values %v, want 3 hits of the rule in line 4", v)
	}
}

func TestACLInlineRulesComeBeforeThoseOfTheFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "rules.txt")
	must(t, os.WriteFile(name, []byte("permit any\n"), 0o600))
	ctx := &pipeline.Context{}
	s := newACL(t, &ACL{File: name, Top: 20}, ctx, "deny udp")
	if got := fates(t, s, ctx, aclUDP, aclTCP); got[0] != "acl_denied" || got[1] != "pass" {
		t.Error(got)
	}
	if v := s.Report(); v["inline_1"] != 1 || v["rule_1"] != 1 {
		t.Errorf("values %v", v)
	}
}

func TestACLRefusesAFileThatIsTooLong(t *testing.T) {
	name := filepath.Join(t.TempDir(), "rules.txt")
	must(t, os.WriteFile(name, nil, 0o600))
	must(t, os.Truncate(name, maxACLFile+1))
	_, err := newACLSource(name, nil, acl.Options{}, acl.NoDirection, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Error(err)
	}
}

// The real thing: packets flow on two workers, and the file changes.
func TestACLFileChangesWhilePacketsFlow(t *testing.T) {
	name := filepath.Join(t.TempDir(), "rules.txt")
	must(t, os.WriteFile(name, []byte("permit udp\n"), 0o600))
	r := newRig(t, 2, "parse ! acl file="+name)
	passes := func(w int) bool { return len(r.pass(w, aclUDP)) == 1 }
	if !passes(0) || !passes(1) {
		t.Fatal("a packet that is permitted does not pass")
	}
	must(t, os.WriteFile(name, []byte("deny udp\n"), 0o600))
	for w := range 2 {
		for deadline := time.Now().Add(20 * time.Second); passes(w); {
			if time.Now().After(deadline) {
				t.Fatal("the file is not taken again")
			}
		}
	}
	for _, st := range r.Snapshot().Stages {
		if st.Type == "acl" && (st.Values["reloads"] != 1 || st.Drops["acl_denied"] == 0) {
			t.Errorf("worker %d: %v %v", st.Worker, st.Values, st.Drops)
		}
	}
	must(t, r.stop())
}
