package pipeline

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

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

// A Pos is a position in a configuration.
type Pos struct {
	Line, Column int
}

func posOf(n *yaml.Node) Pos { return Pos{n.Line, n.Column} }

// A decoder turns YAML nodes into structs with tagged fields. It knows no key
// by itself, rejects those no field has, and collects every mistake with its
// position.
type decoder struct {
	file string
	errs ConfigErrors
}

func (d *decoder) errorf(at Pos, format string, args ...any) {
	d.errs = append(d.errs, &ConfigError{d.file, at.Line, at.Column, fmt.Sprintf(format, args...)})
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

// decodeStruct sets the fields of the struct v from the mapping n. It returns
// the positions of the keys that were there. what names the thing for messages.
func (d *decoder) decodeStruct(n *yaml.Node, v reflect.Value, tag, what string) map[string]Pos {
	n = resolve(n)
	seen := map[string]Pos{}
	fields := fieldsOf(v.Type(), tag)
	if pos := v.FieldByName("Pos"); n != nil && pos.IsValid() && pos.Type() == reflect.TypeFor[Pos]() {
		pos.Set(reflect.ValueOf(posOf(n))) // kept for what can only be checked later
	}
	if n != nil && n.Kind != yaml.MappingNode {
		if !isNull(n) {
			d.errorf(posOf(n), "%s: found %s, want a mapping with %s", what, describe(n), keyList(fields))
		}
		n = nil
	}
	if n != nil {
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			f, ok := lookupField(fields, key.Value)
			if !ok {
				d.unknown(posOf(key), what, "key", key.Value, names(fields))
				continue
			}
			if _, twice := seen[f.name]; twice {
				d.errorf(posOf(key), "%s: key %q is there twice", what, f.name)
				continue
			}
			seen[f.name] = posOf(value)
			d.decodeValue(value, v.FieldByIndex(f.field.Index), tag, what+": "+f.name)
		}
	}
	for _, f := range fields {
		if _, ok := seen[f.name]; !ok && f.field.Tag.Get("required") == "true" {
			at := Pos{1, 1}
			if n != nil {
				at = posOf(n)
			}
			d.errorf(at, "%s: %s is missing%s", what, f.name, docSuffix(f))
		}
	}
	return seen
}

func docSuffix(f field) string {
	if doc := f.field.Tag.Get("doc"); doc != "" {
		return " (" + doc + ")"
	}
	return ""
}

// unknown reports a name that is none of those known, with the nearest one.
func (d *decoder) unknown(at Pos, what, kind, got string, known []string) {
	hint := ""
	if near := nearest(got, known); near != "" {
		hint = fmt.Sprintf(": did you mean %q?", near)
	} else if len(known) > 0 {
		hint = ": want one of " + strings.Join(known, ", ")
	} else {
		hint = ": it has none"
	}
	d.errorf(at, "%s: unknown %s %q%s", what, kind, got, hint)
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
		if n.Kind != yaml.ScalarNode {
			d.errorf(posOf(n), "%s: found %s, want %s", what, describe(n), typeName(t))
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
		d.errorf(posOf(n), "%s: found %s, want %s", what, describe(n), typeName(t))
		return
	}
	if err := setScalar(v, n.Value); err != nil {
		d.errorf(posOf(n), "%s: found %s, want %v", what, describe(n), err)
	}
}

func (d *decoder) decodeSlice(n *yaml.Node, v reflect.Value, tag, what string) {
	items := []*yaml.Node{n} // a single value stands for a list of one
	if n.Kind == yaml.SequenceNode {
		items = n.Content
	}
	list := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		d.decodeValue(item, list.Index(i), tag, what)
	}
	v.Set(list)
}

// setScalar sets v from its text; the error says what was wanted.
func setScalar(v reflect.Value, s string) error {
	t := v.Type()
	switch {
	case t == durationType:
		dur, err := time.ParseDuration(s)
		if err != nil {
			return fmt.Errorf("a duration such as 10s or 250ms")
		}
		v.SetInt(int64(dur))
		return nil
	case t.Kind() == reflect.String:
		v.SetString(s)
		return nil
	case t.Kind() == reflect.Bool:
		switch strings.ToLower(s) {
		case "true", "yes", "on":
			v.SetBool(true)
		case "false", "no", "off":
			v.SetBool(false)
		default:
			return fmt.Errorf("true or false")
		}
		return nil
	case v.CanInt():
		n, err := strconv.ParseInt(strings.ReplaceAll(s, "_", ""), 0, t.Bits())
		if err != nil {
			return fmt.Errorf("a whole number of at most %d bits", t.Bits())
		}
		v.SetInt(n)
		return nil
	case v.CanUint():
		n, err := strconv.ParseUint(strings.ReplaceAll(s, "_", ""), 0, t.Bits())
		if err != nil {
			return fmt.Errorf("a whole number from 0 of at most %d bits", t.Bits())
		}
		v.SetUint(n)
		return nil
	case v.CanFloat():
		f, err := strconv.ParseFloat(s, t.Bits())
		if err != nil {
			return fmt.Errorf("a number")
		}
		v.SetFloat(f)
		return nil
	}
	return fmt.Errorf("a type that options can have; %v is not one", t)
}

// typeName names a type as documentation does.
func typeName(t reflect.Type) string {
	switch {
	case t == durationType:
		return "duration"
	case t.Kind() == reflect.Slice:
		return "list of " + typeName(t.Elem())
	case t.Kind() == reflect.Bool:
		return "bool"
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64:
		if reflect.PointerTo(t).Implements(textUnmarshalerType) {
			return strings.ToLower(t.Name())
		}
		return "integer"
	case t.Kind() == reflect.Float32 || t.Kind() == reflect.Float64:
		return "number"
	case t.Kind() == reflect.String:
		return "string"
	}
	return strings.ToLower(t.Name())
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
	case n.Kind == yaml.MappingNode:
		return "a mapping"
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
