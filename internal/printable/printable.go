// Package printable makes text from outside fit for a terminal: names in
// configurations, of interfaces and drop reasons, what packets hold.
package printable

import (
	"strings"
	"unicode"
)

// Text is s with a question mark for each character that could move the cursor,
// change colours or turn the writing round: all that are not printed.
func Text(s string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) { // of spaces, only the plain one is
			return '?'
		}
		return r
	}, s)
}

// Word is Text without spaces, for columns that programs take apart; of nothing it
// is "-".
func Word(s string) string {
	s = strings.Join(strings.Fields(Text(s)), "_")
	if s == "" {
		return "-"
	}
	return s
}
