package pipeline

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// parseYAML parses a file of one document and rejects the parts of YAML that
// configurations do without. The node is nil if the file has nothing in it.
func parseYAML(file string, data []byte) (*yaml.Node, ConfigErrors) {
	d := &decoder{file: file}
	if !d.checkText(data) {
		return nil, d.errs
	}
	in := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	if err := in.Decode(&doc); err != nil && err != io.EOF {
		return nil, ConfigErrors{yamlError(file, data, err)}
	}
	if err := in.Decode(&second); err == nil {
		d.errorf(posOf(&second), "a second document begins here; a configuration is one document")
	} else if err != io.EOF {
		d.errs = append(d.errs, yamlError(file, data, err))
	}
	if len(doc.Content) == 0 {
		return nil, d.errs
	}
	d.checkNode(doc.Content[0], nil)
	return doc.Content[0], d.errs
}

// checkText looks for what YAML cannot be written in, since its parser does not
// say where that is.
func (d *decoder) checkText(data []byte) bool {
	at := Pos{1, 1}
	for rest := data; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		switch {
		case r == utf8.RuneError && size == 1:
			d.errorf(at, "byte %#02x is not UTF-8; save the file as UTF-8 text", rest[0])
			return false
		case r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0x7f:
			d.errorf(at, "control character %#02x; take it out, or write it as an escape in double quotes", r)
			return false
		}
		at.Column++
		if r == '\n' {
			at = Pos{at.Line + 1, 1}
		}
		rest = rest[size:]
	}
	return true
}

// checkNode reports merge keys, explicit tags, keys that are not words, and
// aliases of what they are in. inside are the nodes that n is in.
func (d *decoder) checkNode(n *yaml.Node, inside []*yaml.Node) {
	if n.Kind == yaml.AliasNode {
		if slices.Contains(inside, n.Alias) {
			d.errorf(posOf(n), "*%s is an alias of what it is in", n.Value)
		}
		return // what it stands for is checked where it is
	}
	if n.Style&yaml.TaggedStyle != 0 {
		d.errorf(posOf(n), "tag %s: configurations have no tags; write the value alone", n.Tag)
	}
	inside = append(inside, n)
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			switch {
			case child.Kind == yaml.ScalarNode && child.Value == "<<" && child.Style == 0:
				d.errorf(posOf(child), "merge keys (<<) are not supported; repeat the keys, or use an alias for the whole value")
				continue
			case child.Kind != yaml.ScalarNode || isNull(child) || child.Value == "":
				d.errorf(posOf(child), "found %s as a key, want a name", describe(child))
				continue
			}
		}
		d.checkNode(child, inside)
	}
}

// yamlError keeps the position of an error of the YAML parser.
func yamlError(file string, data []byte, err error) *ConfigError {
	e := &ConfigError{File: file, Line: 1, Column: 1, Message: strings.TrimPrefix(err.Error(), "yaml: ")}
	var le *yaml.LoadError
	if errors.As(err, &le) {
		e.Message = le.Message
		e.Line, e.Column = max(le.Mark.Line, 1), max(le.Mark.Column, 1)
	}
	lines := bytes.Split(data, []byte("\n"))
	if e.Line > len(lines) { // the end of the file is where the last line ends
		e.Line, e.Column = len(lines), len(lines[len(lines)-1])+1
	}
	line := lines[e.Line-1]
	if indent := line[:len(line)-len(bytes.TrimLeft(line, " \t"))]; bytes.Contains(indent, []byte("\t")) {
		e.Message += "; indent with spaces, not tabs"
	}
	e.Message = "not YAML: " + oneLine(e.Message)
	return e
}
