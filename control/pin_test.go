package control

import (
	"os"
	"path/filepath"
	"testing"
)

func TestOnlyPinsAreRemovedAsPins(t *testing.T) {
	dir := mountBPF(t)
	plain := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(plain, nil, 0o600))
	pin := filepath.Join(dir, "program")
	must(t, newProgram(t, "mine", false).Pin(pin))
	j := openJournal(t, runDirFor(t), "one")
	for _, path := range []string{plain, pin, filepath.Join(dir, "never-made"), filepath.Join(plain, "below-a-file")} {
		_, err := RecordPin(j, path)
		must(t, err)
	}
	_, err := j.Restore()
	must(t, err)
	if _, err := os.Stat(plain); err != nil {
		t.Errorf("a file that is no pin was removed: %v", err)
	}
	if _, err := os.Stat(pin); err == nil {
		t.Error("the pin is still there")
	}
}
