package stages

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/xdpipe/xdpipe/pipeline"
)

func init() {
	pipeline.Register(pipeline.Module{
		Name: "respond",
		Doc:  "answers ARP, IPv6 neighbour solicitations and pings for addresses that no host has",
		Help: `The answer is the request with its ends exchanged. It keeps the VLAN tags; that
to a ping also its length, data, IP identification, traffic class and flow label,
and has a TTL or hop limit of 64. Neighbour advertisements are solicited and
override, and go to all nodes if the solicitation looked for a duplicate.

Without mac a request is answered from the MAC address it was sent to, and one
that was sent to all from 02:00 and the last four bytes of the first address.
The interface has to take frames for that address: promiscuous is the default.

Requests for one of the addresses that are not answered go on as they are and are
counted: ignored_malformed (a field or length that no request has),
ignored_checksum, ignored_hop_limit (a solicitation that crossed a router),
ignored_source (an address that no answer can be sent to, or the one asked for),
ignored_destination (pings to broadcast and multicast MAC addresses, and
solicitations to groups that the address is not in), ignored_mac (sent to another
host), ignored_fragment, ignored_options (IPv4 options and IPv6 extension
headers), ignored_multi (in several frames) and ignored_announcement (ARP by
which a host tells that it has the address). All else goes on uncounted.

Packets that are not parsed yet it parses.`,
		Example: "parse ! respond addresses=192.0.2.1 reply->back ! count",
		Writes:  true,
		Outputs: []pipeline.OutputInfo{{
			Name: "reply", Optional: true,
			Doc: "the answers, to go back out of the port their requests came by; if it is not connected they go on with the next stage, which is right where the pipeline leads back to that port",
		}},
		New: func() pipeline.Stage { return &Respond{ARP: true, ND: true, Echo: true} },
	})
}

// Respond makes answers out of requests, in place.
type Respond struct {
	Addresses []string `stage:"addresses" required:"true" doc:"IPv4 and IPv6 addresses to answer for, or prefixes: then for all addresses in them"`
	MAC       string   `stage:"mac" doc:"the MAC address to answer with; requests sent to another are left alone; empty: see above"`
	ARP       bool     `stage:"arp" doc:"answer ARP requests"`
	ND        bool     `stage:"nd" doc:"answer IPv6 neighbour solicitations, of duplicate address detection too"`
	Echo      bool     `stage:"echo" doc:"answer ICMP and ICMPv6 echo requests (ping)"`
	Router    bool     `stage:"router" doc:"set the router flag in neighbour advertisements"`

	ours   addressSet
	mac    [6]byte
	anyMAC bool // answer whatever unicast MAC address a request was sent to

	reply    pipeline.Output
	answered [answerKinds]uint64
	ignored  [ignoreReasons]uint64
}

// What is answered.
const (
	answerARP = iota
	answerND
	answerICMP
	answerICMPv6
	answerKinds
)

// Why a request for one of the addresses is not answered.
const (
	ignoreMalformed    = iota // a field or length that no request has
	ignoreChecksum            // wrong
	ignoreHopLimit            // not 255: it has crossed a router
	ignoreSource              // one that no answer can be sent to
	ignoreDestination         // one that requests to this address are not sent to
	ignoreMAC                 // sent to the MAC address of another host
	ignoreFragment            // would have to be reassembled
	ignoreOptions             // IPv4 options, IPv6 extension headers
	ignoreMulti               // in several frames
	ignoreAnnouncement        // ARP in which a host tells that it has the address
	ignoreReasons
)

// Validate implements pipeline.Validator.
func (s *Respond) Validate() error {
	if len(s.Addresses) == 0 {
		return pipeline.BadOption("addresses", "none; give at least one")
	}
	s.ours = addressSet{}
	for i, text := range s.Addresses {
		p, err := parseAddress(text)
		if err != nil {
			return &pipeline.OptionError{Option: "addresses", Err: err}
		}
		s.ours.add(p)
		if i == 0 {
			s.mac = localMAC(p.Addr())
		}
	}
	s.anyMAC = s.MAC == ""
	if s.anyMAC {
		return nil
	}
	mac, err := net.ParseMAC(s.MAC)
	if err != nil || len(mac) != 6 || !unicastMAC(mac) {
		return pipeline.BadOption("mac", "found %q, want the MAC address of one host, such as 02:00:00:00:00:01", s.MAC)
	}
	copy(s.mac[:], mac)
	return nil
}

// localMAC makes a locally administered MAC address of the last bytes of an IP
// address: what is unique among the hosts of a link stays so.
func localMAC(a netip.Addr) [6]byte {
	mac := [6]byte{0x02}
	b := a.AsSlice()
	copy(mac[2:], b[len(b)-4:])
	return mac
}

// Provision implements pipeline.Provisioner.
func (s *Respond) Provision(ctx *pipeline.Context) error {
	s.reply = pipeline.Next
	if out, connected := ctx.Output("reply"); connected {
		s.reply = out
	}
	return nil
}

// Process implements pipeline.Stage.
func (s *Respond) Process(b *pipeline.Batch) {
	for i := range b.Len() {
		m := b.Meta(i)
		if m.Flags&pipeline.MetaParsed == 0 {
			m.Parse(b.Data(i))
		}
		switch {
		case m.Flags&pipeline.MetaARP != 0:
			if s.ARP {
				s.arp(b, i, m)
			}
		case m.Flags&(pipeline.MetaIPv4|pipeline.MetaMalformed) == pipeline.MetaIPv4 && m.Protocol != pipeline.ProtocolICMP,
			m.Flags&(pipeline.MetaIPv6|pipeline.MetaMalformed) == pipeline.MetaIPv6 && m.Protocol != pipeline.ProtocolICMPv6:
			// Most packets: neither.
		case m.Flags&pipeline.MetaIPv4 != 0:
			if s.Echo {
				s.icmp(b, i, m)
			}
		case m.Flags&pipeline.MetaIPv6 != 0:
			s.icmpv6(b, i, m)
		}
	}
}

// ignore leaves a request alone and counts why.
func (s *Respond) ignore(why int) { s.ignored[why]++ }

// answer sends what has become of the request.
func (s *Respond) answer(b *pipeline.Batch, i, kind int) {
	s.answered[kind]++
	b.To(i, s.reply)
}

// arp answers a request of RFC 826.
func (s *Respond) arp(b *pipeline.Batch, i int, m *pipeline.Meta) {
	p := b.Data(i)
	if len(p) < int(m.L3)+28 {
		return
	}
	a := p[m.L3 : m.L3+28]
	operation, sender, senderIP, target := a[6:8], a[8:14], a[14:18], a[24:28]
	if binary.BigEndian.Uint16(operation) != 1 || !s.ours.has4(target) {
		return
	}
	from, ok := s.macFor(p)
	switch {
	case binary.BigEndian.Uint64(a)>>16 != 0x0001_0800_0604: // Ethernet, IPv4, and their lengths
		s.ignore(ignoreMalformed)
		return
	case m.Flags&pipeline.MetaMulti != 0:
		s.ignore(ignoreMulti)
		return
	case !ok:
		s.ignore(ignoreMAC)
		return
	case [4]byte(senderIP) == [4]byte(target):
		s.ignore(ignoreAnnouncement) // an answer would tell the host of a conflict
		return
	case !unicastMAC(sender), !unicast4(senderIP) && [4]byte(senderIP) != [4]byte{}: // 0.0.0.0 probes (RFC 5227)
		s.ignore(ignoreSource)
		return
	}
	ours := [4]byte(target)
	a[7] = 2 // reply
	copy(a[18:24], sender)
	copy(a[24:28], senderIP)
	copy(sender, from[:])
	copy(senderIP, ours[:])
	copy(p, a[18:24])
	copy(p[6:], from[:])
	m.Flags &^= pipeline.MetaHash
	s.answer(b, i, answerARP)
}

// icmp answers an echo request of RFC 792 by the rules of RFC 1122, 3.2.2.6.
func (s *Respond) icmp(b *pipeline.Batch, i int, m *pipeline.Meta) {
	p := b.Data(i)
	ip := p[m.L3:]
	if ip[9] != pipeline.ProtocolICMP || !s.ours.has4(ip[16:20]) {
		return
	}
	if m.Flags&pipeline.MetaL4 != 0 && m.Flags&pipeline.MetaFragment == 0 && p[m.L4] != 8 {
		return // not an echo request
	}
	source := ip[12:16]
	ok := unicast4(source) && source[0] != 127 && [4]byte(source) != [4]byte(ip[16:20])
	if !s.echoable(b, i, m, 20, ok) {
		return
	}
	l4 := p[m.L4:m.End]
	var t [4]byte
	copy(t[:], source)
	copy(source, ip[16:20])
	copy(ip[16:20], t[:])
	ip[8] = 64
	ip[10], ip[11] = 0, 0
	binary.BigEndian.PutUint16(ip[10:], pipeline.FoldSum(pipeline.SumBytes(0, ip[:20])))
	l4[0] = 0
	sum := pipeline.UpdateChecksum(binary.BigEndian.Uint16(l4[2:]), 8<<8, 0)
	if sum == 0 { // of zeros alone, which an update cannot tell from others, it is 0xffff
		l4[2], l4[3] = 0, 0
		sum = pipeline.FoldSum(pipeline.SumBytes(0, l4))
	}
	binary.BigEndian.PutUint16(l4[2:], sum)
	s.answer(b, i, answerICMP)
}

// echoable reports whether an echo request to one of our addresses is one to
// answer, and exchanges its MAC addresses if so. Headers of other than the given
// length have options, which would have to be answered too.
func (s *Respond) echoable(b *pipeline.Batch, i int, m *pipeline.Meta, header uint16, sourceOK bool) bool {
	p := b.Data(i)
	from, macOK := s.macFor(p)
	why := 0
	switch {
	case m.Flags&pipeline.MetaFragment != 0:
		why = ignoreFragment
	case m.Flags&pipeline.MetaMulti != 0:
		why = ignoreMulti
	case m.Flags&(pipeline.MetaMalformed|pipeline.MetaL4) != pipeline.MetaL4, p[m.L4+1] != 0: // the code
		why = ignoreMalformed
	case m.L4-m.L3 != header:
		why = ignoreOptions
	case p[0]&1 != 0:
		why = ignoreDestination // to all, which RFC 1122 lets a host ignore
	case !macOK:
		why = ignoreMAC
	case !sourceOK, !unicastMAC(p[6:12]):
		why = ignoreSource
	case b.VerifyChecksum(i) != pipeline.ChecksumGood:
		why = ignoreChecksum
	default:
		copy(p, p[6:12])
		copy(p[6:], from[:])
		return true
	}
	s.ignore(why)
	return false
}

// macFor returns the MAC address to answer the packet with; false if it was sent
// to that of another host.
func (s *Respond) macFor(p []byte) ([6]byte, bool) {
	to := [6]byte(p)
	switch {
	case to[0]&1 != 0 || to == s.mac:
		return s.mac, true
	case s.anyMAC && unicastMAC(to[:]):
		return to, true
	}
	return s.mac, false
}

// unicastMAC reports whether the address is that of one interface.
func unicastMAC(a []byte) bool { return a[0]&1 == 0 && [6]byte(a) != [6]byte{} }

// Report implements pipeline.Reporter.
func (s *Respond) Report() map[string]uint64 {
	return map[string]uint64{
		"arp": s.answered[answerARP], "nd": s.answered[answerND],
		"icmp": s.answered[answerICMP], "icmpv6": s.answered[answerICMPv6],
		"ignored_malformed": s.ignored[ignoreMalformed], "ignored_checksum": s.ignored[ignoreChecksum],
		"ignored_hop_limit": s.ignored[ignoreHopLimit], "ignored_source": s.ignored[ignoreSource],
		"ignored_destination": s.ignored[ignoreDestination], "ignored_mac": s.ignored[ignoreMAC],
		"ignored_fragment": s.ignored[ignoreFragment], "ignored_options": s.ignored[ignoreOptions],
		"ignored_multi": s.ignored[ignoreMulti], "ignored_announcement": s.ignored[ignoreAnnouncement],
	}
}
