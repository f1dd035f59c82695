package xdpipe

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/xdpipe/xdpipe/internal/printable"
	"github.com/xdpipe/xdpipe/pipeline"
)

// TraceText describes a packet that was followed: a line that says what it is and
// where it came in, and one for each step of its path. It is fit for a terminal,
// whatever the packet holds.
func TraceText(p pipeline.TracedPacket) string {
	return fmt.Sprintf("#%d %s %s queue %d worker %d: %s\n%s",
		p.Number, p.At.Format("15:04:05.000000"), printable.Text(p.Port), p.Queue, p.Worker, packetLine(p), pathText(p.Path))
}

// pathText has a line for each step: the time since arrival, the stage, the worker
// if it is another than before, the verdict, and what was changed.
func pathText(path []pipeline.TraceStep) string {
	stages, verdicts := 0, 0
	for _, s := range path {
		stages = max(stages, len([]rune(printable.Text(s.Stage))))
		verdicts = max(verdicts, len([]rune(verdictText(s))))
	}
	var b strings.Builder
	for i, s := range path {
		stage, verdict := printable.Text(s.Stage), verdictText(s)
		line := fmt.Sprintf("  %10s  %-*s  %-*s", elapsed(s.After), stages, stage, verdicts, verdict)
		if i > 0 && s.Worker != path[i-1].Worker {
			line += fmt.Sprintf("  on worker %d", s.Worker)
		}
		if len(s.Changed) > 0 {
			line += "  " + printable.Text(strings.Join(s.Changed, "; "))
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	if len(path) == 0 {
		b.WriteString("  its path had not begun when the trace ended\n")
	}
	return b.String()
}

func verdictText(s pipeline.TraceStep) string {
	text := s.Verdict
	if s.To != "" && s.To != s.Stage {
		text += " " + s.To
	}
	if s.Reason != "" {
		text += ": " + s.Reason
	}
	return printable.Text(text)
}

// elapsed writes nanoseconds with three digits behind the point, of microseconds
// as long as that is readable.
func elapsed(ns int64) string {
	if d := time.Duration(ns); d >= 10*time.Millisecond {
		return d.Round(time.Microsecond).String()
	}
	return fmt.Sprintf("%.3fµs", float64(ns)/1e3)
}

// packetLine says in a few words what a packet is.
func packetLine(p pipeline.TracedPacket) string {
	packet := gopacket.NewPacket(p.Data, layers.LayerTypeEthernet, gopacket.DecodeOptions{NoCopy: true})
	var words []string
	for _, l := range packet.Layers() {
		if tag, ok := l.(*layers.Dot1Q); ok {
			words = append(words, fmt.Sprintf("vlan %d", tag.VLANIdentifier))
		}
	}
	words = append(words, networkWords(packet)...)
	return fmt.Sprintf("%s, %d bytes", printable.Text(strings.Join(words, " ")), p.Length)
}

func networkWords(packet gopacket.Packet) []string {
	switch l := packet.NetworkLayer().(type) {
	case *layers.IPv4:
		words := transportWords(packet, l.SrcIP, l.DstIP, l.Protocol)
		if l.Flags&layers.IPv4MoreFragments != 0 || l.FragOffset > 0 {
			words = append(words, fmt.Sprintf("fragment at %d", 8*int(l.FragOffset)))
		}
		return words
	case *layers.IPv6:
		return transportWords(packet, l.SrcIP, l.DstIP, l.NextHeader)
	}
	if arp, ok := packet.Layer(layers.LayerTypeARP).(*layers.ARP); ok {
		from, _ := netip.AddrFromSlice(arp.SourceProtAddress)
		to, _ := netip.AddrFromSlice(arp.DstProtAddress)
		if arp.Operation == layers.ARPReply {
			return []string{"arp", from.String(), "is at", net.HardwareAddr(arp.SourceHwAddress).String()}
		}
		return []string{"arp who has", to.String(), "tell", from.String()}
	}
	if eth, ok := packet.LinkLayer().(*layers.Ethernet); ok {
		kind := eth.EthernetType
		for _, l := range packet.Layers() {
			if tag, ok := l.(*layers.Dot1Q); ok {
				kind = tag.Type
			}
		}
		return []string{eth.SrcMAC.String(), ">", eth.DstMAC.String(), fmt.Sprintf("ethertype %#04x", uint16(kind))}
	}
	return []string{"no Ethernet header"}
}

func transportWords(packet gopacket.Packet, src, dst net.IP, protocol layers.IPProtocol) []string {
	ends := func(from, to uint16, more ...string) []string {
		a, _ := netip.AddrFromSlice(src)
		b, _ := netip.AddrFromSlice(dst)
		return append([]string{netip.AddrPortFrom(a, from).String(), ">", netip.AddrPortFrom(b, to).String()}, more...)
	}
	switch l := packet.TransportLayer().(type) {
	case *layers.TCP:
		return ends(uint16(l.SrcPort), uint16(l.DstPort), "tcp", tcpFlags(l))
	case *layers.UDP:
		return ends(uint16(l.SrcPort), uint16(l.DstPort), "udp")
	}
	words := []string{src.String(), ">", dst.String()}
	if l, ok := packet.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok {
		return append(words, "icmp", l.TypeCode.String())
	}
	if l, ok := packet.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok {
		return append(words, "icmp6", l.TypeCode.String())
	}
	return append(words, strings.ToLower(protocol.String()))
}

// tcpFlags writes the flags as tcpdump does.
func tcpFlags(l *layers.TCP) string {
	text := ""
	for _, f := range []struct {
		set  bool
		name string
	}{{l.SYN, "S"}, {l.FIN, "F"}, {l.RST, "R"}, {l.PSH, "P"}, {l.ACK, "."}, {l.URG, "U"}} {
		if f.set {
			text += f.name
		}
	}
	return "[" + text + "]"
}
