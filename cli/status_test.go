package cli

import (
	"encoding/json"

	"github.com/xdpipe/xdpipe"
)

// status returns what the instances of the site say of themselves.
func (s *site) status() []xdpipe.Status {
	s.t.Helper()
	out := cliOK(s.t, append(s.flags(), "status", "-j")...)
	var doc struct {
		Instances []xdpipe.Status `json:"instances"`
	}
	must(s.t, json.Unmarshal([]byte(out), &doc))
	return doc.Instances
}
