// Package filtertest has what tests hold filters against: expressions of the
// pcap-filter language and packets, the same on every run.
package filtertest

import (
	_ "embed" // the expressions
	"strings"
)

//go:embed expressions.txt
var expressions string

// Expressions returns expressions of every kind the language has. Some cannot be
// compiled, and some are wrong.
func Expressions() []string {
	return strings.Split(strings.TrimSuffix(expressions, "\n"), "\n")
}
