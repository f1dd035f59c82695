package pipeline

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// within returns where in the file the byte of a scalar's value stands, for
// values with a syntax of their own. It is false where that cannot be told: in
// block scalars, and behind the first line of others.
func (d *decoder) within(n *yaml.Node, offset int) (Pos, bool) {
	raw, ok := d.rest(posOf(n))
	if !ok {
		return Pos{}, false
	}
	column := n.Column
	if n.Anchor != "" { // the node begins with it
		value := strings.TrimLeft(strings.TrimPrefix(raw, "&"+n.Anchor), " \t")
		column += utf8.RuneCountInString(raw[:len(raw)-len(value)])
		raw = value
	}
	var read func(string) (rune, int) // the first character of a text, and its length
	switch n.Style &^ (yaml.TaggedStyle | yaml.FlowStyle) {
	case 0:
		read = utf8.DecodeRuneInString
	case yaml.SingleQuotedStyle:
		read = readSingleQuoted
	case yaml.DoubleQuotedStyle:
		read = readDoubleQuoted
	default:
		return Pos{}, false
	}
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0 {
		if raw == "" || raw[0] != '\'' && raw[0] != '"' {
			return Pos{}, false
		}
		raw, column = raw[1:], column+1
	}
	for i, want := range n.Value {
		if i >= offset {
			break
		}
		r, size := read(raw)
		if size == 0 || r != want { // the value goes on in another line
			return Pos{}, false
		}
		column += utf8.RuneCountInString(raw[:size])
		raw = raw[size:]
	}
	return Pos{n.Line, column}, true
}

// rest returns the line from a position on. Columns are counted in characters.
func (d *decoder) rest(at Pos) (string, bool) {
	source := bytes.TrimPrefix(d.source, []byte("\ufeff"))
	for range at.Line - 1 {
		_, after, found := bytes.Cut(source, []byte("\n"))
		if !found {
			return "", false
		}
		source = after
	}
	line, _, _ := bytes.Cut(source, []byte("\n"))
	for range at.Column - 1 {
		_, size := utf8.DecodeRune(line)
		line = line[size:]
	}
	return string(line), len(line) > 0
}

func readSingleQuoted(raw string) (rune, int) {
	if len(raw) > 1 && raw[0] == '\'' && raw[1] == '\'' {
		return '\'', 2
	}
	return utf8.DecodeRuneInString(raw)
}

// Of YAML's escapes those of one letter; \xNN, \uNNNN and \UNNNNNNNN are read as
// Go does.
var yamlEscapes = map[byte]rune{
	'0': 0, 'a': '\a', 'b': '\b', 't': '\t', '\t': '\t', 'n': '\n', 'v': '\v', 'f': '\f', 'r': '\r', 'e': 0x1b,
	' ': ' ', '"': '"', '/': '/', '\\': '\\', 'N': 0x85, '_': 0xa0, 'L': 0x2028, 'P': 0x2029,
}

func readDoubleQuoted(raw string) (rune, int) {
	if len(raw) < 2 || raw[0] != '\\' {
		return utf8.DecodeRuneInString(raw)
	}
	if r, ok := yamlEscapes[raw[1]]; ok {
		return r, 2
	}
	r, _, tail, err := strconv.UnquoteChar(raw, '"')
	if err != nil {
		return 0, 0
	}
	return r, len(raw) - len(tail)
}
