package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// The kind "test" notes what is undone, and fails where its data says so.
var undone struct {
	mu   sync.Mutex
	data []string
}

func init() {
	RegisterUndo("test", func(u Undo) (string, error) {
		var data string
		if err := json.Unmarshal(u.Data, &data); err != nil {
			return "", err
		}
		undone.mu.Lock()
		defer undone.mu.Unlock()
		undone.data = append(undone.data, data)
		if strings.HasPrefix(data, "fail") {
			return "", errors.New("told to fail")
		}
		return "noted", nil
	})
}

func takeUndone() string {
	undone.mu.Lock()
	defer undone.mu.Unlock()
	s := strings.Join(undone.data, " ")
	undone.data = nil
	return s
}

func record(t testing.TB, j *Journal, data string) int {
	t.Helper()
	c, err := NewChange("test", nil, data)
	must(t, err)
	seq, err := j.Record(c)
	must(t, err)
	return seq
}

func openJournal(t testing.TB, dir, instance string) *Journal {
	t.Helper()
	j, err := OpenJournal(dir, instance)
	must(t, err)
	t.Cleanup(func() { j.Close() })
	return j
}

func runDirFor(t testing.TB) string { return filepath.Join(t.TempDir(), "run") }

func TestRestoreUndoesInReverseAndRemovesTheJournal(t *testing.T) {
	dir := runDirFor(t)
	j := openJournal(t, dir, "one")
	record(t, j, "a")
	early := record(t, j, "b")
	amended := record(t, j, "c")
	must(t, j.Amend(amended, "c2"))
	must(t, j.Undo(early))
	must(t, j.Undo(early))
	done, err := j.Restore()
	must(t, err)
	if got := takeUndone(); got != "b c2 a" || len(done) != 2 {
		t.Errorf("undone %q, reported %v", got, done)
	}
	if _, err := os.Stat(filepath.Join(dir, "one.journal")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the journal is still there: %v", err)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("run directory: %v, %v", st.Mode(), err)
	}
}

func TestAChangeThatCannotBeUndoneStaysForTheNextTime(t *testing.T) {
	dir := runDirFor(t)
	j := openJournal(t, dir, "one")
	record(t, j, "a")
	failing := record(t, j, "fail")
	record(t, j, "c")
	if _, err := j.Restore(); err == nil {
		t.Error("no error though one undo failed")
	}
	if got := takeUndone(); got != "c fail a" {
		t.Errorf("undone %q", got)
	}
	if _, err := OpenJournal(dir, "one"); !errors.Is(err, ErrStaleJournal) {
		t.Errorf("opened a journal with changes pending: %v", err)
	}
	if _, err := RestoreStale(dir); err == nil {
		t.Error("no error though it failed again")
	}
	if got := takeUndone(); got != "fail" {
		t.Errorf("change %d alone is pending, undone: %q", failing, got)
	}
}

func TestALiveInstanceIsLeftAloneAndItsNameRefused(t *testing.T) {
	dir := runDirFor(t)
	j := openJournal(t, dir, "one")
	record(t, j, "a")
	done, err := RestoreStale(dir)
	must(t, err)
	if len(done) != 0 || takeUndone() != "" {
		t.Errorf("undid the changes of a live instance: %v", done)
	}
	_, err = OpenJournal(dir, "one")
	var busy *InstanceBusyError
	if !errors.As(err, &busy) || busy.PID != os.Getpid() {
		t.Errorf("second owner: %v", err)
	}
	must(t, j.Close()) // as if it had died
	done, err = RestoreStale(dir)
	must(t, err)
	if len(done) != 1 || done[0].Instance != "one" || takeUndone() != "a" {
		t.Errorf("stale journal: %v", done)
	}
}

func TestNamesAndQueuesAreFreeWhileOthersLookForTheDead(t *testing.T) {
	a, _ := newPair(t, VethOptions{})
	dir := runDirFor(t)
	must(t, os.Mkdir(dir, 0o700))
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := RestoreStale(dir); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	for range 200 {
		j, err := OpenJournal(dir, "one")
		must(t, err)
		must(t, j.Close())
		c, err := Claim(dir, "one", a, 0)
		must(t, err)
		must(t, c.Close())
	}
	close(stop)
	<-stopped
}

func TestJournalsThatAreTornOrDamagedAreRestoredAsFarAsTheyGo(t *testing.T) {
	whole := func(t *testing.T, dir string) (string, []byte) {
		j := openJournal(t, dir, "one")
		record(t, j, "a")
		record(t, j, "b")
		must(t, j.Close())
		path := filepath.Join(dir, "one.journal")
		raw, err := os.ReadFile(path)
		must(t, err)
		return path, raw
	}
	for _, c := range []struct {
		name   string
		change func(raw []byte) []byte
		undone string
		damage bool
	}{
		{"whole", func(raw []byte) []byte { return raw }, "b a", false},
		{"empty", func([]byte) []byte { return nil }, "", false},
		{"the last line lacks its end", func(raw []byte) []byte { return raw[:len(raw)-3] }, "a", false},
		{"the last line lacks its newline, so its change was never made", func(raw []byte) []byte { return raw[:len(raw)-1] }, "a", false},
		{"garbage between lines", func(raw []byte) []byte {
			at := bytes.LastIndexByte(raw[:len(raw)-1], '\n') + 1
			return append(append(bytes.Clone(raw[:at]), "\x00garbage{\n"...), raw[at:]...)
		}, "b a", true},
		{"all garbage", func([]byte) []byte { return []byte("x\ny\n\xff\xfe\n") }, "", true},
		{"of an earlier boot", func(raw []byte) []byte { return bytes.Replace(raw, []byte(bootID()), []byte("another"), 1) }, "", false},
		{"undone twice, amended unknown", func(raw []byte) []byte {
			return append(bytes.Clone(raw), "{\"undone\":1}\n{\"undone\":1}\n{\"amend\":7,\"data\":1}\n"...)
		}, "b", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := runDirFor(t)
			path, raw := whole(t, dir)
			must(t, os.WriteFile(path, c.change(raw), 0o600))
			_, err := RestoreStale(dir)
			if (err != nil) != c.damage {
				t.Errorf("error: %v", err)
			}
			if got := takeUndone(); got != c.undone {
				t.Errorf("undone %q, want %q", got, c.undone)
			}
			if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the journal is still there: %v", err)
			}
			if _, err := os.Stat(path + damagedSuffix); (err == nil) != c.damage {
				t.Errorf("damaged copy: %v", err)
			}
		})
	}
}

func TestATornLineIsCutBeforeMarksAreAppended(t *testing.T) {
	dir := runDirFor(t)
	j := openJournal(t, dir, "one")
	record(t, j, "a")
	record(t, j, "fail")
	must(t, j.Close())
	f, err := os.OpenFile(filepath.Join(dir, "one.journal"), os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString(`{"seq":3,"chan`)
	must(t, err)
	must(t, f.Close())
	for _, want := range []string{"fail a", "fail"} {
		if _, err := RestoreStale(dir); err == nil || strings.Contains(err.Error(), "cannot be read") {
			t.Errorf("error: %v", err)
		}
		if got := takeUndone(); got != want {
			t.Errorf("undone %q, want %q", got, want)
		}
	}
}

func TestUnknownKindsAndBadNamesAreRefused(t *testing.T) {
	dir := runDirFor(t)
	for _, name := range []string{"", ".x", "a/b", "-x", strings.Repeat("n", 65)} {
		if _, err := OpenJournal(dir, name); err == nil {
			t.Errorf("instance name %q was taken", name)
		}
	}
	j := openJournal(t, dir, "one")
	_, err := j.Record(Change{Kind: "no such"})
	mentions(t, err, "no such")
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a second undo function of one kind did not panic")
			}
		}()
		RegisterUndo("test", func(Undo) (string, error) { return "", nil })
	}()
}

func TestARunDirectoryOthersMayWriteToIsRefused(t *testing.T) {
	dir := runDirFor(t)
	must(t, os.Mkdir(dir, 0o700))
	must(t, os.Chmod(dir, 0o777))
	_, err := OpenJournal(dir, "one")
	mentions(t, err, dir, "0777", "chmod")
	_, err = RestoreStale(dir)
	mentions(t, err, dir)
	must(t, os.Chmod(dir, 0o700))
	if done, err := RestoreStale(filepath.Join(dir, "missing")); err != nil || done != nil {
		t.Errorf("missing directory: %v, %v", done, err)
	}
}

func TestAnInterfaceIsFoundAgainAfterARenameAndMissedAfterItsEnd(t *testing.T) {
	a, _ := newPair(t, VethOptions{})
	id := a.ID()
	id.Path = "/nowhere" // its namespace is found by its cookie then
	must(t, a.SetUp(false))
	must(t, rename(a, "other"))
	found, release, err := id.find()
	must(t, err)
	if found.Name != "other" || found.Index != a.Index {
		t.Errorf("found %+v", found)
	}
	release()
	swapped := id
	swapped.MAC = "02:00:00:00:00:99"
	if _, _, err := swapped.find(); !errors.Is(err, errInterfaceGone) {
		t.Errorf("another interface with that index was taken for it: %v", err)
	}
	elsewhere := id
	elsewhere.Cookie++
	if _, _, err := elsewhere.find(); !errors.Is(err, errInterfaceGone) {
		t.Errorf("found in another namespace: %v", err)
	}
	must(t, a.Delete())
	if _, _, err := id.find(); !errors.Is(err, errInterfaceGone) {
		t.Errorf("a deleted interface: %v", err)
	}
}

func FuzzAJournalOfAnyBytesIsParsedWithoutPanicAndItsWholeLinesCount(f *testing.F) {
	f.Add([]byte(`{"journal":{"version":1}}` + "\n" + `{"seq":1,"change":{"kind":"test"}}` + "\n" + `{"undone":1}` + "\n"))
	f.Add([]byte(`{"seq":1,"change":{"kind":"test","data":"x"}}` + "\n" + `{"amend":1,"data":2}` + "\n" + `{"seq":2,`))
	f.Add([]byte("\n\n\x00\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p := parseJournal(raw)
		if p.Torn != (len(raw) > 0 && raw[len(raw)-1] != '\n') {
			t.Errorf("torn: %v", p.Torn)
		}
		seen := map[int]bool{}
		for _, e := range p.pending() {
			if seen[e.Seq] || e.Seq <= 0 || e.Seq > p.Last || e.Change.Kind == "" {
				t.Errorf("bad entry %+v", e)
			}
			seen[e.Seq] = true
		}
		// A valid change after anything at all must be found.
		if p.Header.Boot == "" || p.Header.Boot == bootID() {
			next := fmt.Sprintf("\n{\"seq\":%d,\"change\":{\"kind\":\"test\"}}\n", p.Last+1)
			if p.Last < 1<<40 && len(raw) > 0 && parseJournal(append(bytes.Clone(raw), next...)).Last != p.Last+1 {
				t.Error("a valid change after it is not found")
			}
		}
	})
}
