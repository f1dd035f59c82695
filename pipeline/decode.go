package pipeline

import (
	"cmp"
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v4"
)

// A ConfigError is one mistake in a configuration, with its position.
type ConfigError struct {
	File    string
	Line    int // from 1
	Column  int // from 1
	Message string
}

func (e *ConfigError) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
}

// ConfigErrors are all mistakes found in a configuration, in order.
type ConfigErrors []*ConfigError

func (e ConfigErrors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// sorted puts the mistakes in the order of the file.
func (e ConfigErrors) sorted() ConfigErrors {
	slices.SortStableFunc(e, func(a, b *ConfigError) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return e
}

// A Pos is a position in a configuration.
type Pos struct {
	Line, Column int
}

func posOf(n *yaml.Node) Pos { return Pos{n.Line, n.Column} }

// A decoder turns YAML nodes into structs with tagged fields. It knows no key
// by itself, rejects those no field has, and collects every mistake with its
// position.
type decoder struct {
	file   string
	source []byte // the text of the file, if there is one
	quick  bool   // the nodes are of the quick form
	errs   ConfigErrors
}

func (d *decoder) errorf(at Pos, format string, args ...any) {
	d.errs = append(d.errs, &ConfigError{d.file, at.Line, at.Column, oneLine(fmt.Sprintf(format, args...))})
}

// oneLine escapes what names from the file could do to a terminal or to whoever
// reads messages by the line.
func oneLine(s string) string {
	if !strings.ContainsFunc(s, unicode.IsControl) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsControl(r) {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// failedAt reports whether a mistake was found at the position.
func (d *decoder) failedAt(at Pos) bool {
	return slices.ContainsFunc(d.errs, func(e *ConfigError) bool { return e.Line == at.Line && e.Column == at.Column })
}

// field is a field of a struct and the key that sets it.
type field struct {
	name  string
	field reflect.StructField
}

// fieldsOf returns the fields of a struct that the tag names.
func fieldsOf(t reflect.Type, tag string) []field {
	var fields []field
	for _, f := range reflect.VisibleFields(t) {
		if name := f.Tag.Get(tag); name != "" && f.IsExported() {
			fields = append(fields, field{name, f})
		}
	}
	return fields
}

// nodeDecoder is implemented by types that read their node themselves.
type nodeDecoder interface {
	decodeNode(d *decoder, n *yaml.Node)
}

// decodeStruct sets the fields of the struct v from the mapping n; nothing in
// its place is a mapping without keys. It returns the positions of the values
// that were there. what names the thing for messages, "" the whole file.
func (d *decoder) decodeStruct(n *yaml.Node, v reflect.Value, tag, what string) map[string]Pos {
	n = resolve(n)
	seen := map[string]Pos{}
	fields := fieldsOf(v.Type(), tag)
	if pos := v.FieldByName("Pos"); pos.IsValid() && pos.Type() == reflect.TypeFor[Pos]() {
		pos.Set(reflect.ValueOf(posOf(n))) // kept for what can only be checked later
	}
	prefix := what + ": "
	if what == "" {
		prefix = ""
	}
	if n.Kind != yaml.MappingNode && !isNull(n) {
		d.errorf(posOf(n), "%sfound %s, want a mapping with %s", prefix, describe(n), keyList(fields))
		return seen
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		f, ok := lookupField(fields, key.Value)
		if !ok {
			d.unknown(posOf(key), what, "key", key.Value, names(fields))
			continue
		}
		if _, twice := seen[f.name]; twice {
			d.errorf(posOf(key), "%skey %q is there twice", prefix, f.name)
			continue
		}
		seen[f.name] = posOf(value)
		fv := v.FieldByIndex(f.field.Index)
		if d.quick && fv.Kind() == reflect.Slice && isPlain(fv.Type().Elem()) {
			value = splitList(value)
			n.Content[i+1] = value // a list from here on, as YAML has it
		}
		before := len(d.errs)
		d.decodeValue(value, fv, tag, prefix+f.name)
		if len(d.errs) > before {
			continue
		}
		d.checkRange(value, fv, f.field.Tag, prefix+f.name)
		if f.field.Tag.Get("required") == "true" && fv.Kind() == reflect.String && fv.Len() == 0 {
			d.errorf(posOf(value), "%s%s is empty%s", prefix, f.name, docSuffix(f))
		}
	}
	for _, f := range fields {
		if _, ok := seen[f.name]; !ok && f.field.Tag.Get("required") == "true" {
			d.errorf(posOf(n), "%s%s is missing%s", prefix, f.name, docSuffix(f))
		}
	}
	return seen
}

// isPlain reports whether values of the type are written without commas; those of
// types that read their text themselves may have some.
func isPlain(t reflect.Type) bool {
	return t.Kind() != reflect.Struct && t.Kind() != reflect.Slice && !reflect.PointerTo(t).Implements(textUnmarshalerType)
}

// splitList makes a list of a value of the quick form, if it has commas. One with
// spaces is a sentence, such as a rule, whose commas are its own.
func splitList(n *yaml.Node) *yaml.Node {
	if !strings.Contains(n.Value, ",") || strings.ContainsAny(n.Value, " \t") {
		return n
	}
	list := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Line: n.Line, Column: n.Column}
	column := n.Column
	for text := range strings.SplitSeq(n.Value, ",") {
		list.Content = append(list.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text, Line: n.Line, Column: column})
		column += len(text) + 1
	}
	return list
}

// checkRange checks numbers against the tags min and max of their field.
func (d *decoder) checkRange(n *yaml.Node, v reflect.Value, tag reflect.StructTag, what string) {
	n = resolve(n)
	switch {
	case v.Kind() == reflect.Slice && n.Kind == yaml.SequenceNode:
		for i, item := range n.Content {
			d.checkRange(item, v.Index(i), tag, what)
		}
	case v.Kind() == reflect.Slice && v.Len() == 1:
		d.checkRange(n, v.Index(0), tag, what)
	case v.CanInt():
		least, err := strconv.ParseInt(tag.Get("min"), 10, 64)
		if err == nil && v.Int() < least {
			d.errorf(posOf(n), "%s: found %s, want %d or more", what, n.Value, least)
		}
		most, err := strconv.ParseInt(tag.Get("max"), 10, 64)
		if err == nil && v.Int() > most {
			d.errorf(posOf(n), "%s: found %s, want at most %d", what, n.Value, most)
		}
	}
}

func docSuffix(f field) string {
	if doc := f.field.Tag.Get("doc"); doc != "" {
		return " (" + doc + ")"
	}
	return ""
}

// unknown reports a name that is none of those known, with the nearest one.
func (d *decoder) unknown(at Pos, what, kind, got string, known []string) {
	if what != "" {
		what += ": "
	}
	hint := ""
	if near := nearest(got, known); near != "" {
		hint = fmt.Sprintf(": did you mean %q?", near)
	} else if len(known) > 0 {
		hint = ": want one of " + strings.Join(known, ", ")
	} else {
		hint = ": it has none"
	}
	d.errorf(at, "%sunknown %s %q%s", what, kind, got, hint)
}

var (
	durationType        = reflect.TypeFor[time.Duration]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
	nodeDecoderType     = reflect.TypeFor[nodeDecoder]()
)

// decodeValue sets v from the node.
func (d *decoder) decodeValue(n *yaml.Node, v reflect.Value, tag, what string) {
	n = resolve(n)
	t := v.Type()
	switch {
	case reflect.PointerTo(t).Implements(nodeDecoderType):
		v.Addr().Interface().(nodeDecoder).decodeNode(d, n)
		return
	case reflect.PointerTo(t).Implements(textUnmarshalerType):
		if n.Kind != yaml.ScalarNode || isNull(n) {
			d.errorf(posOf(n), "%s: found %s, want a single value", what, describe(n))
		} else if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.Value)); err != nil {
			d.errorf(posOf(n), "%s: %v", what, err)
		}
		return
	case t.Kind() == reflect.Struct:
		d.decodeStruct(n, v, tag, what)
		return
	case t.Kind() == reflect.Slice:
		d.decodeSlice(n, v, tag, what)
		return
	}
	if n.Kind != yaml.ScalarNode || isNull(n) {
		d.errorf(posOf(n), "%s: found %s, want one %s", what, describe(n), typeName(t))
		return
	}
	if err := setScalar(v, n.Value); err != nil {
		d.errorf(posOf(n), "%s: found %s, want %v", what, describe(n), err)
	}
}

func (d *decoder) decodeSlice(n *yaml.Node, v reflect.Value, tag, what string) {
	items := []*yaml.Node{n} // a single value stands for a list of one
	switch {
	case n.Kind == yaml.SequenceNode:
		items = n.Content
	case isNull(n):
		items = nil
	}
	list := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		d.decodeValue(item, list.Index(i), tag, what)
	}
	v.Set(list)
}

func resolve(n *yaml.Node) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// describe says what a node is, for "found …".
func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode && len(n.Content) == 0:
		return "an empty mapping"
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode && len(n.Content) == 0:
		return "an empty list"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(n):
		return "nothing"
	}
	return strconv.Quote(n.Value)
}

func lookupField(fields []field, name string) (field, bool) {
	for _, f := range fields {
		if f.name == name {
			return f, true
		}
	}
	return field{}, false
}

func names(fields []field) []string {
	var all []string
	for _, f := range fields {
		all = append(all, f.name)
	}
	return all
}

func keyList(fields []field) string {
	if len(fields) == 0 {
		return "no keys"
	}
	return "keys of " + strings.Join(names(fields), ", ")
}
