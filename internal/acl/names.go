package acl

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/xdpipe/xdpipe/internal/edit"
	"github.com/xdpipe/xdpipe/pipeline"
)

type name[N uint8 | uint16] struct {
	text  string
	value N
}

// protocolNames are the protocols that rules can name (IANA numbers). Of several
// names of a number the first is the one that String writes.
var protocolNames = []name[uint8]{
	{"tcp", pipeline.ProtocolTCP},
	{"udp", pipeline.ProtocolUDP},
	{"icmp", pipeline.ProtocolICMP},
	{"icmp6", pipeline.ProtocolICMPv6},
	{"icmpv6", pipeline.ProtocolICMPv6},
	{"sctp", pipeline.ProtocolSCTP},
	{"igmp", 2},
	{"ipip", 4},
	{"gre", 47},
	{"esp", 50},
	{"ah", 51},
	{"ospf", 89},
	{"pim", 103},
	{"vrrp", 112},
}

var etherTypeNames = []name[uint16]{
	{"arp", pipeline.EtherTypeARP},
	{"ipv4", pipeline.EtherTypeIPv4},
	{"ipv6", pipeline.EtherTypeIPv6},
}

// flagWords are the words that are conditions by themselves.
var flagWords = []string{"any", "in", "out", "fragment", "first_fragment", "later_fragment"}

// keys are the conditions that have a value.
var keys = []string{"src", "dst", "src_port", "dst_port", "port", "protocol", "ethertype", "vlan"}

// misnomers are words of other languages of rules, and ours.
var misnomers = map[string]string{
	"allow": "permit", "accept": "permit", "pass": "permit",
	"drop": "deny", "block": "deny", "reject": "deny", "discard": "deny",
	"from": "src", "source": "src", "to": "dst", "dest": "dst", "destination": "dst",
	"sport": "src_port", "dport": "dst_port", "proto": "protocol",
	"ip": "ipv4", "ip6": "ipv6", "fragments": "fragment", "frag": "fragment",
	"inbound": "in", "outbound": "out", "all": "any",
}

func byText[N uint8 | uint16](names []name[N], text string) (N, bool) {
	i := slices.IndexFunc(names, func(n name[N]) bool { return n.text == text })
	if i < 0 {
		return 0, false
	}
	return names[i].value, true
}

func byValue[N uint8 | uint16](names []name[N], value N) string {
	i := slices.IndexFunc(names, func(n name[N]) bool { return n.value == value })
	if i < 0 {
		return ""
	}
	return names[i].text
}

func texts[N uint8 | uint16](names []name[N]) []string {
	var all []string
	for _, n := range names {
		all = append(all, n.text)
	}
	return all
}

func protocolText(protocol uint8) string {
	if text := byValue(protocolNames, protocol); text != "" {
		return text
	}
	return "protocol=" + strconv.Itoa(int(protocol))
}

func etherTypeText(etherType uint16) string {
	if text := byValue(etherTypeNames, etherType); text != "" {
		return text
	}
	return fmt.Sprintf("ethertype=%#04x", etherType)
}

// didYouMean is the end of a message about a word that is none of those known.
func didYouMean(got string, known []string) string {
	got = strings.ToLower(got[:min(len(got), maxQuoted)])
	if ours := misnomers[got]; slices.Contains(known, ours) {
		return fmt.Sprintf("did you mean %q?", ours)
	}
	best, least := "", len(got)/2+1
	for _, word := range known {
		d := edit.Distance(got, word)
		if d == 2 && sameLetters(got, word) {
			d = 1 // two that were swapped
		}
		if d < least {
			best, least = word, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "want one of " + strings.Join(known, ", ")
}

func sameLetters(a, b string) bool {
	return slices.Equal(slices.Sorted(slices.Values([]byte(a))), slices.Sorted(slices.Values([]byte(b))))
}
