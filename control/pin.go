package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const pinKind = "pin"

type pinData struct {
	Path string `json:"path"`
}

func init() { RegisterUndo(pinKind, undoPin) }

// RecordPin journals a pin about to be made on a bpf filesystem, for pins that
// must not outlive the instance. It returns the change's number.
func RecordPin(j *Journal, path string) (int, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return 0, fmt.Errorf("journal pin: %w", err)
	}
	c, err := NewChange(pinKind, nil, pinData{Path: path})
	if err != nil {
		return 0, err
	}
	return j.Record(c)
}

// undoPin removes the pin, and nothing that is not one.
func undoPin(u Undo) (string, error) {
	var data pinData
	if err := json.Unmarshal(u.Data, &data); err != nil {
		return "", err
	}
	if !filepath.IsAbs(data.Path) {
		return "", fmt.Errorf("pin path %q is not absolute", data.Path)
	}
	var fs unix.Statfs_t
	switch err := unix.Statfs(data.Path, &fs); {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return data.Path + " was not there", nil
	case err != nil:
		return "", fmt.Errorf("look at pin %s: %w", data.Path, err)
	case uint32(fs.Type) != unix.BPF_FS_MAGIC:
		return data.Path + " is not on a bpf filesystem any more; left alone", nil
	}
	if err := os.Remove(data.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	return "removed " + data.Path, nil
}
