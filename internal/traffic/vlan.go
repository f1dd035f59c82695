package traffic

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"
)

// VLAN sends Count tagged Ethernet frames each way at once from packet sockets
// on the two interfaces and compares them whole. VLAN ids, priorities and the
// drop-eligible bit vary from frame to frame, and so do sizes, up to the
// largest that fits the MTU; the payload is in turn a local experimental
// protocol, UDP over IPv4 and UDP over IPv6. Every sixteenth frame has two
// tags, 802.1ad outside and 802.1Q inside.
func VLAN(ctx context.Context, client, server Peer, o Options) (Result, error) {
	r := Result{Check: "vlan"}
	o, err := o.fill(defaultCount, defaultRate, defaultIdle)
	for _, v6 := range []bool{false, true} {
		if err == nil {
			err = client.validate("client", v6, true)
		}
		if err == nil {
			err = server.validate("server", v6, true)
		}
	}
	var mtu int
	if err == nil {
		mtu, err = o.mtu(client, server)
	}
	if err == nil && mtu < smallestTagged {
		err = fmt.Errorf("the MTU of %d is below %d, what tagged frames with IPv6 in them need", mtu, smallestTagged)
	}
	if err != nil {
		return r, fmt.Errorf("vlan: %w", err)
	}
	ctx, cancel := o.bound(ctx, expected(o))
	defer cancel()
	c, err := openPacketSocket(client)
	if err != nil {
		return r, fmt.Errorf("vlan: client: %w", err)
	}
	defer c.Close()
	s, err := openPacketSocket(server)
	if err != nil {
		return r, fmt.Errorf("vlan: server: %w", err)
	}
	defer s.Close()
	var m meter
	defer m.start(o.Progress)()
	r, err = runBoth(ctx,
		newVLANFlow("client", "server", client, server, c, s, mtu, o, &m),
		newVLANFlow("server", "client", server, client, s, c, mtu, o, &m))
	r.Check = "vlan"
	if err != nil {
		return r, err
	}
	doubled := (o.Count + doubleTagEvery - 1) / doubleTagEvery
	r.Detail = fmt.Sprintf("%s tagged frames each way, %s of them with two tags, every one as sent, none lost, none twice, in order", thousands(o.Count), thousands(doubled))
	return r, nil
}

const (
	// etherTypeExperimental is IEEE 802's first local experimental EtherType.
	etherTypeExperimental = 0x88B5

	// discardPort is RFC 863's, to which nobody answers.
	discardPort = 9

	doubleTagEvery = 16

	// The body of a frame begins with a mark of its flow and its number.
	bodyMark   = 8
	bodyHeader = bodyMark + sequenceSize

	// smallestTagged is the smallest MTU, in bytes: all that may come between
	// an untagged Ethernet header and the body, and the body's header.
	smallestTagged = 2*vlanTag + ipv6Header + udpHeader + bodyHeader
)

// vlanFrames builds the frames of one direction, and recognises them.
type vlanFrames struct {
	src, dst Peer
	mark     [bodyMark]byte // tells this flow's frames from all others
	pat      pattern
	mtu      int
	built    []byte
	wanted   []byte
}

func newVLANFlow(from, to string, src, dst Peer, out, in *packetSocket, mtu int, o Options, m *meter) *flow {
	v := &vlanFrames{src: src, dst: dst, mtu: mtu}
	binary.BigEndian.PutUint64(v.mark[:], rand.Uint64())
	v.pat.seed = uint64(v.mark[0])
	return &flow{
		check: "vlan", path: path(from, to, src, dst, false), units: "frames",
		count: uint64(o.Count), rate: o.Rate, idle: o.Idle, meter: m,
		out: vlanSender{out, v}, in: in, judge: v.judge, explain: in.explain,
	}
}

// vlanSender numbers and sends frames.
type vlanSender struct {
	socket *packetSocket
	frames *vlanFrames
}

func (s vlanSender) SetWriteDeadline(t time.Time) error { return s.socket.SetWriteDeadline(t) }

func (s vlanSender) write(seq uint64, _ int) (int, error) {
	s.frames.built = s.frames.build(s.frames.built[:0], seq)
	if err := s.socket.send(s.frames.built); err != nil {
		return 0, fmt.Errorf("a frame of %d bytes: %w", len(s.frames.built), err)
	}
	return 1, nil
}

// build appends frame seq to b.
func (v *vlanFrames) build(b []byte, seq uint64) []byte {
	begin := len(b)
	b = append(b, v.dst.MAC...)
	b = append(b, v.src.MAC...)
	// A tag does not count against the MTU, except that packet sockets let no
	// other than an 802.1Q tag go uncounted, and that only once.
	largest := ethernetHeader + vlanTag + v.mtu
	if seq%doubleTagEvery == 0 {
		b = appendTag(b, unix.ETH_P_8021AD, seq+1)
		largest -= vlanTag
	}
	b = appendTag(b, unix.ETH_P_8021Q, seq)

	// The first frame is of the largest size, the others are spread between.
	smallest := ethernetHeader + smallestTagged
	size := begin + largest - int(seq*977%uint64(largest-smallest+1))
	switch seq % 3 {
	case 0:
		b = binary.BigEndian.AppendUint16(b, etherTypeExperimental)
		return v.appendBody(b, seq, size-len(b))
	case 1:
		return v.appendIPv4(binary.BigEndian.AppendUint16(b, unix.ETH_P_IP), seq, size)
	}
	return v.appendIPv6(binary.BigEndian.AppendUint16(b, unix.ETH_P_IPV6), seq, size)
}

// appendTag appends a tag whose 16 bits of control information vary with n:
// priorities 0 to 7, both drop-eligible values, VLAN ids 1 to 4094.
func appendTag(b []byte, tpid uint16, n uint64) []byte {
	b = binary.BigEndian.AppendUint16(b, tpid)
	return binary.BigEndian.AppendUint16(b, uint16(n%8<<13|n/8%2<<12|(1+n*7%4094)))
}

// appendIPv4 appends an IPv4 packet with a UDP datagram, up to size bytes of b.
func (v *vlanFrames) appendIPv4(b []byte, seq uint64, size int) []byte {
	ip := len(b)
	b = append(b, 0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, unix.IPPROTO_UDP, 0, 0)
	b = append(b, v.src.IPv4.AsSlice()...)
	b = append(b, v.dst.IPv4.AsSlice()...)
	binary.BigEndian.PutUint16(b[ip+2:], uint16(size-ip))
	binary.BigEndian.PutUint16(b[ip+10:], checksum(sum16(0, b[ip:])))
	return v.appendUDP(b, b[ip+12:ip+20], seq, size)
}

// appendIPv6 appends an IPv6 packet with a UDP datagram, up to size bytes of b.
func (v *vlanFrames) appendIPv6(b []byte, seq uint64, size int) []byte {
	ip := len(b)
	b = append(b, 0x60, 0, 0, 0, 0, 0, unix.IPPROTO_UDP, 64)
	b = append(b, v.src.IPv6.AsSlice()...)
	b = append(b, v.dst.IPv6.AsSlice()...)
	binary.BigEndian.PutUint16(b[ip+4:], uint16(size-ip-ipv6Header))
	return v.appendUDP(b, b[ip+8:ip+40], seq, size)
}

// appendUDP appends a datagram with its checksum, addresses being both of the
// IP header's.
func (v *vlanFrames) appendUDP(b, addresses []byte, seq uint64, size int) []byte {
	udp := len(b)
	length := uint16(size - udp)
	b = binary.BigEndian.AppendUint16(b, discardPort)
	b = binary.BigEndian.AppendUint16(b, discardPort)
	b = binary.BigEndian.AppendUint16(b, length)
	b = append(b, 0, 0)
	sum := sum16(unix.IPPROTO_UDP+uint32(length), addresses)
	b = v.appendBody(b, seq, size-len(b))
	sum = sum16(sum, b[udp:])
	if c := checksum(sum); c != 0 {
		binary.BigEndian.PutUint16(b[udp+6:], c)
	} else {
		binary.BigEndian.PutUint16(b[udp+6:], 0xffff) // zero means none (RFC 768)
	}
	return b
}

// appendBody appends n bytes, n at least bodyHeader.
func (v *vlanFrames) appendBody(b []byte, seq uint64, n int) []byte {
	b = append(b, v.mark[:]...)
	b = binary.BigEndian.AppendUint64(b, seq)
	return append(b, v.pat.cut(seq, n-bodyHeader)...)
}

// judge passes over the frames of others.
func (v *vlanFrames) judge(t *tracker, frame []byte) {
	// The mark is looked for wherever it is, so that a frame whose tags or
	// headers were damaged is recognised and told from one that was lost.
	at := bytes.Index(frame, v.mark[:])
	if at < 0 || len(frame) < at+bodyHeader {
		return
	}
	seq := binary.BigEndian.Uint64(frame[at+bodyMark:])
	if seq >= t.count {
		t.corrupt("a frame of %d bytes with number %d, which was never sent", len(frame), seq)
		return
	}
	t.arrive(seq, len(frame))
	v.wanted = v.build(v.wanted[:0], seq)
	if !bytes.Equal(frame, v.wanted) {
		t.corrupt("number %d: %s", seq, compareFrames(v.wanted, frame))
	}
}

// compareFrames says how two frames differ, tags first.
func compareFrames(want, got []byte) string {
	wantTags, gotTags := describeTags(want), describeTags(got)
	if wantTags != gotTags {
		return fmt.Sprintf("sent with %s, arrived with %s", wantTags, gotTags)
	}
	return fmt.Sprintf("%d bytes sent, %d arrived, different from byte %d on", len(want), len(got), firstDifference(want, got))
}

// describeTags lists a frame's VLAN tags from the outside in.
func describeTags(frame []byte) string {
	var text string
	for at := vlanTagOffset; len(frame) >= at+vlanTag; at += vlanTag {
		tpid := binary.BigEndian.Uint16(frame[at:])
		if tpid != unix.ETH_P_8021Q && tpid != unix.ETH_P_8021AD {
			break
		}
		tci := binary.BigEndian.Uint16(frame[at+2:])
		if text != "" {
			text += " and "
		}
		text += fmt.Sprintf("tag %#04x id %d priority %d drop-eligible %d", tpid, tci&0xfff, tci>>13, tci>>12&1)
	}
	if text == "" {
		return "no tag"
	}
	return text
}
