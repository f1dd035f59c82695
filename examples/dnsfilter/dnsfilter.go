// Package dnsfilter has the stage dnsfilter for xdpipe: it answers queries for
// unwanted names itself, and lets all others pass.
package dnsfilter

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strings"

	"github.com/xdpipe/xdpipe/pipeline"
)

func init() {
	pipeline.Register(pipeline.Module{
		Name:    "dnsfilter",
		Doc:     "answers DNS queries for blocked names, and names below them, with NXDOMAIN",
		Writes:  true,
		Outputs: []pipeline.OutputInfo{{Name: "reply", Doc: "the answers, to the port that the queries come from"}},
		New:     func() pipeline.Stage { return &Stage{} },
	})
}

// Stage looks at queries over UDP to port 53. It wants parse before it.
type Stage struct {
	Block []string `stage:"block" doc:"names that are blocked, with all names below them"`
	File  string   `stage:"file" doc:"file with more of them, one to a line; # begins a comment"`

	blocked      map[string]bool // in lower case, without the last dot
	reply        pipeline.Output
	queries, cut uint64
	answered     uint64
	buf          [256]byte
}

// Provision reads the names.
func (s *Stage) Provision(ctx *pipeline.Context) error {
	s.reply, _ = ctx.Output("reply")
	s.blocked = map[string]bool{}
	names := s.Block
	if s.File != "" {
		text, err := os.ReadFile(s.File)
		if err != nil {
			return &pipeline.OptionError{Option: "file", Err: err}
		}
		for line := range strings.Lines(string(text)) {
			line, _, _ = strings.Cut(line, "#")
			names = append(names, strings.Fields(line)...)
		}
	}
	for _, name := range names {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		if len(name) == 0 || len(name) > 253 {
			return pipeline.BadOption("block", "%q is no name of a domain", name)
		}
		s.blocked[name] = true
	}
	if len(s.blocked) == 0 {
		return fmt.Errorf("no names: give block or file")
	}
	return nil
}

// Process answers in the query's own frame.
func (s *Stage) Process(b *pipeline.Batch) {
	for i := range b.Len() {
		m := b.Meta(i)
		if m.Protocol != pipeline.ProtocolUDP || m.DstPort != 53 || m.Flags&(pipeline.MetaPorts|pipeline.MetaFragment) != pipeline.MetaPorts {
			continue
		}
		s.queries++
		end := s.question(b.Data(i)[m.L4+8 : m.End])
		if end == 0 {
			continue
		}
		s.answer(b, i, int(m.L4)+8+end)
	}
}

// question reads the name asked for, and returns where the question ends if it is
// blocked, else 0. It takes plain queries only: one question, nothing compressed.
func (s *Stage) question(q []byte) (end int) {
	if len(q) < 12 || q[2]&0xf8 != 0 || binary.BigEndian.Uint16(q[4:]) != 1 {
		return 0 // an answer, another operation, or not one question
	}
	n, at := 0, 12
	for {
		if at >= len(q) || q[at]&0xc0 != 0 || at+1+int(q[at]) > len(q) || n+int(q[at])+1 > len(s.buf) {
			s.cut++
			return 0
		}
		length := int(q[at])
		if at++; length == 0 {
			break
		}
		if n > 0 {
			s.buf[n] = '.'
			n++
		}
		for _, c := range q[at : at+length] {
			if c >= 'A' && c <= 'Z' {
				c += 'a' - 'A'
			}
			s.buf[n] = c
			n++
		}
		at += length
	}
	if at+4 > len(q) {
		s.cut++
		return 0
	}
	for name := s.buf[:n]; len(name) > 0; {
		if s.blocked[string(name)] { // no allocation: the compiler knows this form
			return at + 4
		}
		dot := bytes.IndexByte(name, '.')
		if dot < 0 {
			break
		}
		name = name[dot+1:]
	}
	return 0
}

// answer makes an answer of the query: it turns round, keeps the question and
// nothing behind it, and says that there is no such name.
func (s *Stage) answer(b *pipeline.Batch, i, end int) {
	if !b.Trim(i, b.Size(i)-end) {
		return
	}
	b.Reverse(i)
	m, p := b.Meta(i), b.Data(i)
	if ip := p[m.L3:]; m.Flags&pipeline.MetaIPv4 != 0 {
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		ip[8] = 64
	} else {
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-40))
		ip[7] = 64
	}
	udp := p[m.L4:]
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	dns := udp[8:]
	dns[2] = dns[2]&0x01 | 0x80 // an answer; recursion desired as asked
	dns[3] = 0x80 | 3           // recursion available, NXDOMAIN (RFC 1035, 4.1.1)
	clear(dns[6:12])            // no records but the question
	b.CompleteChecksum(i)
	s.answered++
	b.To(i, s.reply)
}

// Report counts queries over UDP, those answered, and those that are not plain.
func (s *Stage) Report() map[string]uint64 {
	return map[string]uint64{"queries": s.queries, "answered": s.answered, "malformed": s.cut}
}

var _ pipeline.Reporter = (*Stage)(nil)
