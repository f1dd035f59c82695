package pipeline

import (
	"fmt"
	"strings"
)

// changes says what a stage did to a packet, in words.
func changes(s watched, b *Batch) []string {
	var list []string
	d, m := b.desc[s.index], &b.meta[s.index]
	if s.copied {
		list = append(list, "copied, since others hold it too")
	}
	switch front := int64(s.desc.Addr - d.Addr); {
	case front > 0:
		list = append(list, fmt.Sprintf("pushed %d bytes", front))
	case front < 0:
		list = append(list, fmt.Sprintf("pulled %d bytes", -front))
	}
	was, is := frameOffset(b, s.desc.Addr), frameOffset(b, d.Addr)
	if end := is + int(d.Len) - was - int(s.desc.Len); end > 0 {
		list = append(list, fmt.Sprintf("extended by %d bytes", end))
	} else if end < 0 {
		list = append(list, fmt.Sprintf("trimmed by %d bytes", -end))
	}
	list = append(list, changedBytes(s.data, b.Data(s.index), is-was)...)
	if m.Flags&MetaParsed != 0 && s.meta.Flags&MetaParsed == 0 {
		list = append(list, "parsed: "+m.summary())
	} else if m.Checksum != s.meta.Checksum && m.Checksum != ChecksumUnknown {
		list = append(list, "checksum "+m.Checksum.String())
	}
	return list
}

func frameOffset(b *Batch, addr uint64) int { return int(addr - b.mem.Start(addr)) }

// changedBytes compares what a packet was and is; the new one begins shift bytes
// later in the frame. Offsets are those of the new packet.
func changedBytes(was, is []byte, shift int) []string {
	var ranges []string
	start := -1
	for i := 0; i <= len(is); i++ {
		j := i + shift
		differs := i < len(is) && j >= 0 && j < len(was) && is[i] != was[j]
		switch {
		case differs && start < 0:
			start = i
		case !differs && start >= 0:
			if start == i-1 {
				ranges = append(ranges, fmt.Sprint(start))
			} else {
				ranges = append(ranges, fmt.Sprintf("%d-%d", start, i-1))
			}
			start = -1
		}
	}
	if len(ranges) == 0 {
		return nil
	}
	const most = 8
	if more := len(ranges) - most; more > 0 {
		ranges = append(ranges[:most], fmt.Sprintf("and %d more ranges", more))
	}
	return []string{"bytes " + strings.Join(ranges, ", ")}
}

var checksumNames = []string{"unknown", "good", "bad", "partial"}

func (c Checksum) String() string {
	if int(c) < len(checksumNames) {
		return checksumNames[c]
	}
	return fmt.Sprintf("checksum_%d", uint8(c))
}

// summary says what the metadata knows of the headers.
func (m *Meta) summary() string {
	var parts []string
	add := func(flag MetaFlags, text string) {
		if m.Flags&flag != 0 {
			parts = append(parts, text)
		}
	}
	if m.Flags&MetaVLAN != 0 {
		parts = append(parts, fmt.Sprintf("vlan %d", m.VLAN[0]&0xfff))
	}
	add(MetaARP, "arp")
	add(MetaIPv4, "ipv4")
	add(MetaIPv6, "ipv6")
	if m.Flags&(MetaIPv4|MetaIPv6) != 0 {
		switch m.Protocol {
		case ProtocolTCP:
			parts = append(parts, "tcp")
		case ProtocolUDP:
			parts = append(parts, "udp")
		case ProtocolICMP, ProtocolICMPv6:
			parts = append(parts, "icmp")
		default:
			parts = append(parts, fmt.Sprintf("protocol %d", m.Protocol))
		}
	} else if m.Flags&(MetaARP|MetaMalformed) == 0 {
		parts = append(parts, fmt.Sprintf("ethertype %#04x", m.EtherType))
	}
	if m.Flags&MetaPorts != 0 {
		parts = append(parts, fmt.Sprintf("%d > %d", m.SrcPort, m.DstPort))
	}
	add(MetaFragment, "fragment")
	add(MetaMulti, "several frames")
	add(MetaMalformed, "malformed")
	return strings.Join(parts, " ")
}
