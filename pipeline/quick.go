package pipeline

import (
	"strings"

	"go.yaml.in/yaml/v4"
)

// ParseQuick reads the quick form of a list of stages, as the command line has
// it: stages with their options, in order, with ! between them.
//
//	parse ! pcap file=out.pcapng snaplen=96 ! count
//
// It means the same stages as the YAML list. Values with spaces or ! are put in
// single or double quotes. The error, if any, is ConfigErrors whose columns are
// those of text; file names it in messages.
func ParseQuick(file, text string) ([]StageSpec, error) {
	d := &decoder{file: file, quick: true}
	words := splitQuick(d, text)
	if len(d.errs) > 0 {
		return nil, d.errs
	}
	var specs []StageSpec
	var stage, options *yaml.Node
	orphan := false // an option was found where a stage was wanted
	finish := func(at Pos) {
		if stage == nil {
			if orphan { // its stage is what is missing, which was said
				orphan = false
				return
			}
			d.errorf(at, "a stage is missing here; want NAME or NAME option=value, with ! between stages")
			return
		}
		n := stage
		if len(options.Content) > 0 {
			n = &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{stage, options}}
		}
		var s StageSpec
		s.decodeNode(d, n)
		specs = append(specs, s)
		stage = nil
	}
	for _, w := range words {
		at := Pos{1, w.column}
		switch key, value, isOption := strings.Cut(w.text, "="); {
		case w.text == "!" && !w.quoted:
			finish(at)
		case stage == nil && isOption:
			d.errorf(at, "found the option %q, want a stage before it: NAME option=value", w.text)
			orphan = true
		case stage == nil:
			stage = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: w.text, Line: 1, Column: w.column}
			options = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: 1, Column: w.column}
		case !isOption:
			d.errorf(at, "stage %s: found %q, want option=value, or ! before the next stage", stage.Value, w.text)
		default:
			options.Content = append(options.Content,
				&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key, Line: 1, Column: w.column},
				&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value, Line: 1, Column: w.column + len(key) + 1})
		}
	}
	if stage != nil || strings.TrimSpace(text) != "" {
		finish(Pos{1, len(text) + 1})
	}
	if len(d.errs) > 0 {
		return nil, d.errs.sorted()
	}
	return specs, nil
}

// A word of the quick form, and the column it starts in, from 1.
type quickWord struct {
	text   string
	column int
	quoted bool
}

// splitQuick splits at spaces and at !, which is a word of its own, except
// inside quotes.
func splitQuick(d *decoder, text string) []quickWord {
	var words []quickWord
	var b strings.Builder
	start, quoted := -1, false
	var quote byte
	flush := func() {
		if start >= 0 {
			words = append(words, quickWord{b.String(), start + 1, quoted})
		}
		b.Reset()
		start, quoted = -1, false
	}
	for i := range len(text) {
		c := text[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			b.WriteByte(c)
		case c == '"' || c == '\'':
			if start < 0 {
				start = i
			}
			quote, quoted = c, true
		case c == ' ' || c == '\t' || c == '\n':
			flush()
		case c == '!':
			flush()
			words = append(words, quickWord{"!", i + 1, false})
		default:
			if start < 0 {
				start = i
			}
			b.WriteByte(c)
		}
	}
	if quote != 0 {
		d.errorf(Pos{1, start + 1}, "a quote is not closed")
	}
	flush()
	return words
}

// stageKeys are the keys that may stand beside a stage's name in YAML, and so are
// no names of modules.
var stageKeys = []string{"as", "outputs"}
