// Package synguard has the stage synguard for xdpipe: it keeps a flood of SYNs with
// forged senders away from a server, and lets clients pass that are there.
//
// The first SYN of an unknown sender is answered by the guard itself, with a number
// acknowledged that the client never sent: a cookie, made of the packet's addresses, ports and
// a secret. A client that is there answers such a thing with a RST that carries the
// cookie (RFC 9293, 3.10.7.3), and sends its SYN again a second later; a forged sender
// never sees it. Who has shown a cookie passes for a while. The guard keeps nothing of
// those who have not.
package synguard

import (
	"encoding/binary"
	"hash/maphash"
	"time"

	"github.com/xdpipe/xdpipe/pipeline"
)

func init() {
	pipeline.Register(pipeline.Module{
		Name:    "synguard",
		Doc:     "lets TCP connections be opened only by clients that answer a challenge",
		Writes:  true,
		Outputs: []pipeline.OutputInfo{{Name: "reply", Doc: "the challenges, to the port that the SYNs come from"}},
		New:     func() pipeline.Stage { return &Stage{TTL: time.Hour, Clients: 1 << 16} },
	})
}

// Stage guards what lies behind it. It wants parse before it. Each worker remembers
// its own clients; one whose next connection meets another worker is asked again.
type Stage struct {
	Ports   []uint16      `stage:"ports" doc:"TCP ports to guard; none: all"`
	TTL     time.Duration `stage:"ttl" doc:"how long a client that has answered passes"`
	Clients int           `stage:"clients" min:"1" max:"16777216" doc:"how many clients are remembered at most; a newer one takes the place of another"`

	reply  pipeline.Output
	seed   maphash.Seed
	known  []client
	guards [1 << 16]bool

	challenged, admitted, forgotten uint64
}

// client is an address that has answered, as a hash, and until when that counts.
type client struct {
	key   uint64
	until int64
}

// Provision makes the secret and the table.
func (s *Stage) Provision(ctx *pipeline.Context) error {
	s.reply, _ = ctx.Output("reply")
	// Shared, since the challenge and its answer may meet different workers.
	seed, err := ctx.Shared(func() (any, error) { return maphash.MakeSeed(), nil })
	if err != nil {
		return err
	}
	s.seed = seed.(maphash.Seed)
	s.known = make([]client, s.Clients)
	for _, port := range s.Ports {
		s.guards[port] = true
	}
	return nil
}

// Inherit keeps the clients over a reload.
func (s *Stage) Inherit(old pipeline.Stage) {
	if o := old.(*Stage); len(o.known) == len(s.known) {
		s.known, s.seed = o.known, o.seed
	}
}

// The flags of a TCP header.
const (
	fin, syn, rst, ack = 1, 2, 4, 16
)

// Process challenges SYNs and takes the answers.
func (s *Stage) Process(b *pipeline.Batch) {
	for i := range b.Len() {
		m := b.Meta(i)
		if m.Protocol != pipeline.ProtocolTCP || m.Flags&(pipeline.MetaPorts|pipeline.MetaFragment) != pipeline.MetaPorts ||
			len(s.Ports) > 0 && !s.guards[m.DstPort] {
			continue
		}
		tcp := b.Data(i)[m.L4:m.End]
		switch flags := tcp[13]; {
		case flags&(syn|ack|rst) == syn:
			if !s.passes(b, i) {
				s.challenge(b, i)
			}
		case flags&rst != 0 && binary.BigEndian.Uint32(tcp[4:]) == s.cookie(b, i):
			s.admit(b, i) // and passes: the server knows nothing of it and ignores it
		}
	}
}

// addresses returns the sender's and the receiver's.
func addresses(b *pipeline.Batch, i int) (src, dst []byte) {
	m, p := b.Meta(i), b.Data(i)
	if m.Flags&pipeline.MetaIPv4 != 0 {
		return p[m.L3+12 : m.L3+16], p[m.L3+16 : m.L3+20]
	}
	return p[m.L3+8 : m.L3+24], p[m.L3+24 : m.L3+40]
}

// cookie is what the client of a packet has to show.
func (s *Stage) cookie(b *pipeline.Batch, i int) uint32 {
	src, dst := addresses(b, i)
	m := b.Meta(i)
	var key [36]byte
	n := copy(key[:], src)
	n += copy(key[n:], dst)
	binary.BigEndian.PutUint32(key[n:], uint32(m.SrcPort)<<16|uint32(m.DstPort))
	return uint32(maphash.Bytes(s.seed, key[:n+4]))
}

// slot is where a sender is remembered.
func (s *Stage) slot(b *pipeline.Batch, i int) (*client, uint64) {
	src, _ := addresses(b, i)
	key := maphash.Bytes(s.seed, src)
	return &s.known[key%uint64(len(s.known))], key
}

func (s *Stage) passes(b *pipeline.Batch, i int) bool {
	c, key := s.slot(b, i)
	return c.key == key && b.Now() < c.until
}

func (s *Stage) admit(b *pipeline.Batch, i int) {
	c, key := s.slot(b, i)
	if c.key != key && b.Now() < c.until {
		s.forgotten++
	}
	*c = client{key, b.Now() + int64(s.TTL)}
	s.admitted++
}

// challenge makes a SYN-ACK of the SYN, in its frame, that acknowledges the cookie.
func (s *Stage) challenge(b *pipeline.Batch, i int) {
	cookie := s.cookie(b, i)
	m := b.Meta(i)
	if !b.Trim(i, b.Size(i)-int(m.L4)-20) { // without options and data
		return
	}
	b.Reverse(i)
	p := b.Data(i)
	ip := p[m.L3:]
	if m.Flags&pipeline.MetaIPv4 != 0 {
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		ip[8] = 64
	} else {
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-40))
		ip[7] = 64
	}
	tcp := p[m.L4:]
	binary.BigEndian.PutUint32(tcp[4:], ^cookie)
	binary.BigEndian.PutUint32(tcp[8:], cookie)
	tcp[12], tcp[13] = 5<<4, syn|ack
	binary.BigEndian.PutUint16(tcp[14:], 0) // no window: nothing is to be sent
	binary.BigEndian.PutUint16(tcp[18:], 0)
	b.CompleteChecksum(i)
	s.challenged++
	b.To(i, s.reply)
}

// Report counts challenges sent, answers that were right, and clients that others
// took the place of.
func (s *Stage) Report() map[string]uint64 {
	return map[string]uint64{"challenged": s.challenged, "admitted": s.admitted, "forgotten": s.forgotten}
}

var (
	_ pipeline.Reporter = (*Stage)(nil)
	_ pipeline.Heir     = (*Stage)(nil)
)
