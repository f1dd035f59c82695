package acl

import (
	"fmt"
	"strconv"
	"strings"
)

// maxQuoted is how many bytes of what was found an error repeats.
const maxQuoted = 40

// maxErrors is how many mistakes of a file are told apart; more help nobody.
const maxErrors = 20

// An Error is a mistake in a rule, with its position.
type Error struct {
	File    string // "" for inline rules
	Line    int    // from 1; of inline rules their rank
	Column  int    // from 1, in bytes
	Message string
}

func (e *Error) Error() string {
	if e.File == "" {
		return fmt.Sprintf("rule %d, column %d: %s", e.Line, e.Column, e.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

// Errors are the mistakes found in rules, in order.
type Errors []*Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// quoted quotes what came from outside, cut so that an error stays readable.
func quoted(text string) string {
	if len(text) > maxQuoted {
		return strconv.Quote(text[:maxQuoted]) + "..."
	}
	return strconv.Quote(text)
}
