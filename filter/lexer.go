package filter

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// tokenKind is a kind of token; a keyword and an operator is a kind of its own.
type tokenKind uint8

const (
	tokenEnd tokenKind = iota
	tokenNumber
	tokenID   // a name, or a word after a backslash
	tokenIPv4 // two to four numbers with dots between
	tokenIPv6
	tokenMAC
	tokenARCNET // $ and a byte
	tokenProto  // a protocol's keyword; token.proto says which

	tokenSrc
	tokenDst
	tokenHost
	tokenNet
	tokenMask
	tokenPort
	tokenPortRange
	tokenProtoWord // the word "proto"
	tokenProtoChain
	tokenGateway
	tokenLess
	tokenGreater
	tokenByte
	tokenBroadcast
	tokenMulticast
	tokenAnd
	tokenOr
	tokenNot
	tokenLen
	tokenVLAN
	tokenMPLS
	tokenPPPoED
	tokenPPPoES
	tokenLLC
	tokenRNR // "rnr" is a frame type of llc too
	tokenUnsupported

	tokenLeftParen
	tokenRightParen
	tokenLeftBracket
	tokenRightBracket
	tokenColon
	tokenPlus
	tokenMinus
	tokenStar
	tokenSlash
	tokenPercent
	tokenAmpersand
	tokenPipe
	tokenCaret
	tokenShiftLeft
	tokenShiftRight
	tokenGT
	tokenGE
	tokenEQ
	tokenLE
	tokenLT
	tokenNE
)

type token struct {
	kind   tokenKind
	proto  proto
	number uint32
	text   string // as written, without the backslash
	pos    int    // bytes from the start of the expression
}

var (
	macPattern = longest(`^(?:[0-9A-Fa-f]{1,2}(?::[0-9A-Fa-f]{1,2}){5}` +
		`|[0-9A-Fa-f]{1,2}(?:-[0-9A-Fa-f]{1,2}){5}` +
		`|[0-9A-Fa-f]{1,2}(?:\.[0-9A-Fa-f]{1,2}){5}` +
		`|[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}|[0-9A-Fa-f]{12})`)
	numberPattern = longest(`^(?:[0-9]+|0[xX][0-9A-Fa-f]+)`)
	ipv4Pattern   = longest(`^(?:[0-9]+|0[xX][0-9A-Fa-f]+)(?:\.(?:[0-9]+|0[xX][0-9A-Fa-f]+)){1,3}`)
	namePattern   = longest(`^[A-Za-z0-9](?:[-_.A-Za-z0-9]*[.A-Za-z0-9])?`)
	badMACPattern = longest(`^[0-9A-Fa-f]{1,2}:+(?:[0-9A-Fa-f]{1,2}:+)+`)
)

func longest(pattern string) *regexp.Regexp {
	re := regexp.MustCompile(pattern)
	re.Longest()
	return re
}

// lex splits an expression into tokens; the last one is a tokenEnd. Where two
// kinds of token fit, the longer one wins, and of two as long the earlier in
// the order MAC, number, IPv4, IPv6, keyword, name.
func lex(expression string) []token {
	var tokens []token
	for i := 0; i < len(expression); {
		switch c := expression[i]; {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			i++
		case c == '\\':
			n := strings.IndexAny(expression[i:], " !()\n\t")
			if n < 0 {
				n = len(expression) - i
			}
			if n == 1 {
				fail(i, "nothing after the backslash; it quotes a word, as in \\tcp")
			}
			tokens = append(tokens, token{kind: tokenID, text: expression[i+1 : i+n], pos: i})
			i += n
		case c == '$':
			refuse(i, "an ARCNET address")
		default:
			t := lexOperator(expression[i:])
			if t.kind == tokenEnd {
				t = lexWord(expression[i:], i)
			}
			t.pos = i
			i += len(t.text)
			tokens = append(tokens, t)
		}
	}
	return append(tokens, token{kind: tokenEnd, pos: len(expression)})
}

var operators = []struct {
	text string
	kind tokenKind
}{ // the longer first
	{"&&", tokenAnd}, {"||", tokenOr}, {">=", tokenGE}, {"<=", tokenLE}, {"!=", tokenNE},
	{"==", tokenEQ}, {"<<", tokenShiftLeft}, {">>", tokenShiftRight},
	{"+", tokenPlus}, {"-", tokenMinus}, {"*", tokenStar}, {"/", tokenSlash}, {"%", tokenPercent},
	{"&", tokenAmpersand}, {"|", tokenPipe}, {"^", tokenCaret}, {"!", tokenNot},
	{"(", tokenLeftParen}, {")", tokenRightParen}, {"[", tokenLeftBracket}, {"]", tokenRightBracket},
	{"<", tokenLT}, {">", tokenGT}, {"=", tokenEQ},
}

func lexOperator(s string) token {
	for _, op := range operators {
		if strings.HasPrefix(s, op.text) {
			return token{kind: op.kind, text: op.text}
		}
	}
	if s[0] == ':' && ipv6Length(s) == 0 {
		return token{kind: tokenColon, text: ":"}
	}
	return token{}
}

// lexWord reads a token that starts with a letter, a digit or a colon.
func lexWord(s string, at int) token {
	name := namePattern.FindString(s)
	best := token{kind: tokenEnd}
	consider := func(kind tokenKind, text string) {
		if len(text) > len(best.text) {
			best = token{kind: kind, text: text}
		}
	}
	consider(tokenMAC, macPattern.FindString(s))
	consider(tokenNumber, numberPattern.FindString(s))
	consider(tokenIPv4, ipv4Pattern.FindString(s))
	consider(tokenIPv6, s[:ipv6Length(s)])
	if bad := badMACPattern.FindString(s); len(bad) > len(best.text) && len(bad) >= len(name) {
		fail(at, "%q is not an Ethernet address: six bytes are expected", bad)
	}
	consider(tokenID, name)
	switch best.kind {
	case tokenEnd:
		fail(at, "unexpected character %q", []rune(s)[0])
	case tokenNumber:
		best.number = lexNumber(best.text, at)
	case tokenID:
		if word, ok := keywords[best.text]; ok {
			best.kind, best.proto = word.kind, word.proto
		} else if value, ok := constants[best.text]; ok {
			best.kind, best.number = tokenNumber, value
		}
	}
	return best
}

// lexNumber reads decimal, 0x… hexadecimal and 0… octal, as C does.
func lexNumber(text string, at int) uint32 {
	digits, base := text, 10
	switch {
	case len(text) > 2 && (text[1] == 'x' || text[1] == 'X'):
		digits, base = text[2:], 16
	case len(text) > 1 && text[0] == '0':
		digits, base = text[1:], 8
	}
	value, err := strconv.ParseUint(digits, base, 32)
	if err != nil {
		if base == 8 && strings.ContainsAny(digits, "89") {
			fail(at, "number %s starts with 0, so it is octal, but has a digit that is not", text)
		}
		fail(at, "number %s does not fit 32 bits", text)
	}
	return uint32(value)
}

// ipv6Length returns the length of the longest IPv6 address s starts with, or 0.
func ipv6Length(s string) int {
	n := 0
	for n < len(s) && n < len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255") &&
		(s[n] == ':' || s[n] == '.' || isHex(s[n])) {
		n++
	}
	if strings.IndexByte(s[:n], ':') < 0 {
		return 0
	}
	for ; n >= 2; n-- {
		if addr, err := netip.ParseAddr(s[:n]); err == nil && addr.Is6() {
			return n
		}
	}
	return 0
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}
