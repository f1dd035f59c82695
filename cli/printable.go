package cli

import (
	"strings"
	"unicode"
)

// printable is text from outside (names in configurations, of interfaces, of drop
// reasons, what packets hold) made fit for a terminal: what could move the
// cursor, change colours or turn the writing round becomes a question mark.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) { // of spaces, only the plain one is
			return '?'
		}
		return r
	}, s)
}

// word is printable text without spaces, for columns that programs take apart.
func word(s string) string {
	s = strings.Join(strings.Fields(printable(s)), "_")
	if s == "" {
		return "-"
	}
	return s
}
