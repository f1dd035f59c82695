package control

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

const (
	journalSuffix  = ".journal"
	damagedSuffix  = ".damaged"
	journalVersion = 1
	// maxJournal bounds what is read; a real journal has a few hundred bytes per change.
	maxJournal = 16 << 20
)

// header is the first line of a journal.
type header struct {
	Version  int    `json:"version"`
	Instance string `json:"instance"`
	PID      int    `json:"pid"`
	Command  string `json:"command"`
	Boot     string `json:"boot"`
}

// line is any line of a journal: exactly one of Header, Change, Amend and
// Undone is set.
type line struct {
	Header *header         `json:"journal,omitempty"`
	Seq    int             `json:"seq,omitempty"`
	Change *Change         `json:"change,omitempty"`
	Amend  int             `json:"amend,omitempty"`
	Data   json.RawMessage `json:"data,omitempty"`
	Undone int             `json:"undone,omitempty"`
}

func newHeader(instance string) *header {
	return &header{Version: journalVersion, Instance: instance, PID: os.Getpid(), Command: strings.Join(os.Args, " "), Boot: bootID()}
}

// bootID changes with every boot; after one there is nothing left to undo.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

// parsedJournal is what could be read of a journal file.
type parsedJournal struct {
	Header  header
	Entries []entry
	Undone  map[int]bool
	Torn    bool     // the last line is incomplete: its change was never made
	Damage  []string // complete lines that make no sense
	Last    int      // the highest sequence number
}

// pending lists the changes not undone, oldest first; none after a reboot.
func (p parsedJournal) pending() []entry {
	if p.Header.Boot != "" && p.Header.Boot != bootID() {
		return nil
	}
	var left []entry
	for _, e := range p.Entries {
		if !p.Undone[e.Seq] {
			left = append(left, e)
		}
	}
	return left
}

// parseJournal reads what it can. A line is complete only with its newline,
// since Record returns, and the change is made, only after that is on disk.
func parseJournal(raw []byte) parsedJournal {
	p := parsedJournal{Undone: map[int]bool{}}
	index := map[int]int{}
	for number := 1; len(raw) > 0; number++ {
		text, rest, complete := bytes.Cut(raw, []byte{'\n'})
		raw = rest
		if !complete {
			p.Torn = true
			break
		}
		var l line
		err := json.Unmarshal(text, &l)
		_, known := index[max(l.Amend, l.Undone)]
		_, again := index[l.Seq]
		switch {
		case err != nil:
			p.Damage = append(p.Damage, fmt.Sprintf("line %d: %v", number, err))
		case l.Header != nil && number == 1 && l.Header.Version == journalVersion:
			p.Header = *l.Header
		case l.Header != nil && number == 1:
			p.Damage = append(p.Damage, fmt.Sprintf("line 1: version %d, this program knows %d", l.Header.Version, journalVersion))
		case l.Change != nil && l.Change.Kind != "" && l.Seq > 0 && !again:
			index[l.Seq] = len(p.Entries)
			p.Entries = append(p.Entries, entry{Seq: l.Seq, Change: *l.Change})
			p.Last = max(p.Last, l.Seq)
		case l.Amend > 0 && known:
			p.Entries[index[l.Amend]].Change.Data = l.Data
		case l.Undone > 0 && known:
			p.Undone[l.Undone] = true
		default:
			p.Damage = append(p.Damage, fmt.Sprintf("line %d: not a journal entry", number))
		}
	}
	return p
}

func readJournalFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxJournal+1))
	if err == nil && len(raw) > maxJournal {
		return nil, fmt.Errorf("journal %s is larger than %d bytes; it is not one", path, maxJournal)
	}
	return raw, err
}
