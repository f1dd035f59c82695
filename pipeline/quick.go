package pipeline

import (
	"strings"

	"go.yaml.in/yaml/v4"
)

// ParseQuick reads the quick form of a graph of stages, as the command line has
// it: stages with their options, in order, with ! between them.
//
//	parse ! pcap file=out.pcapng snaplen=96 ! count
//
// An output is connected by OUTPUT->TARGET among the options, where TARGET is a port
// or a stage with that label before it. A chain of stages ends at ; or the end, and
// leads to where the pipeline ends, or to -> TARGET:
//
//	parse ! match expr='udp port 53' else->rest ! count; rest: sample every=100 sampled->tap -> lan; tap: pcap file=x.pcapng
//
// It means the same stages as YAML's stages and branches. Values with spaces, ; or !
// are put in single or double quotes. Lists of numbers and of words have commas. The error, if any, is ConfigErrors whose columns
// are those of text; file names it in messages.
func ParseQuick(file, text string) ([]StageSpec, error) {
	d := &decoder{file: file, quick: true}
	words := splitQuick(d, text)
	if len(d.errs) > 0 {
		return nil, d.errs.sorted()
	}
	q := &quickParser{d: d}
	for i := 0; i < len(words); i++ {
		w := words[i]
		if q.arrow.Line > 0 { // the word after ->
			q.lead(w)
			continue
		}
		q.word(w)
	}
	if q.stage != nil || strings.TrimSpace(text) != "" && !q.ended {
		q.finish(Pos{1, len(text) + 1}, true)
	}
	if len(d.errs) > 0 {
		return nil, d.errs.sorted()
	}
	return q.specs, nil
}

// quickParser is what is read of the stage at hand.
type quickParser struct {
	d     *decoder
	specs []StageSpec

	label          string
	labelPos       Pos
	stage, options *yaml.Node
	outputs        []OutputSpec
	end            NameConfig
	arrow          Pos  // of an -> whose target comes next
	orphan         bool // an option was found where a stage was wanted
	ended          bool // the last thing was a ; with nothing behind it
}

func (q *quickParser) word(w quickWord) {
	at := Pos{1, w.column}
	q.ended = false
	equals, arrow := strings.Index(w.text, "="), strings.Index(w.text, "->")
	leads := arrow >= 0 && (equals < 0 || arrow < equals)
	switch {
	case !w.quoted && (w.text == "!" || w.text == ";"):
		q.finish(at, w.text == ";")
		q.ended = w.text == ";"
	case leads && q.stage == nil:
		q.d.errorf(at, "found %q, want a stage before it", w.text)
		q.orphan = true
	case q.end.Name != "":
		q.d.errorf(at, "stage %s: found %q behind the end of the chain, want ; before the next", q.stage.Value, w.text)
	case leads && arrow == 0 && len(w.text) == 2:
		q.arrow = at
	case leads && arrow == 0:
		q.end = NameConfig{w.text[2:], Pos{1, w.column + 2}}
	case leads && arrow+2 == len(w.text):
		q.d.errorf(at, "stage %s: output %s leads nowhere; want %sTARGET without spaces", q.stage.Value, w.text[:arrow], w.text)
	case leads:
		q.outputs = append(q.outputs, OutputSpec{w.text[:arrow], at, NameConfig{w.text[arrow+2:], Pos{1, w.column + arrow + 2}}})
	case q.stage == nil && equals < 0 && !w.quoted && len(w.text) > 1 && strings.HasSuffix(w.text, ":"):
		q.setLabel(w.text[:len(w.text)-1], at)
	case q.stage == nil && equals >= 0:
		q.d.errorf(at, "found the option %q, want a stage before it: NAME option=value", w.text)
		q.orphan = true
	case q.stage == nil:
		q.stage = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: w.text, Line: 1, Column: w.column}
		q.options = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: 1, Column: w.column}
	case equals < 0:
		q.d.errorf(at, "stage %s: found %q, want option=value, or ! before the next stage", q.stage.Value, w.text)
	default:
		q.options.Content = append(q.options.Content,
			&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: w.text[:equals], Line: 1, Column: w.column},
			&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: w.text[equals+1:], Line: 1, Column: w.column + equals + 1})
	}
}

func (q *quickParser) setLabel(label string, at Pos) {
	switch {
	case q.label != "":
		q.d.errorf(at, "found a second label, %q, want a stage behind %q", label, q.label)
	case !isName(label):
		q.d.errorf(at, "found %q, want a label of lower-case letters, digits, _ and -", label)
	}
	q.label, q.labelPos = label, at
}

// lead reads the target behind ->.
func (q *quickParser) lead(w quickWord) {
	if !w.quoted && (w.text == "!" || w.text == ";") {
		q.d.errorf(q.arrow, "stage %s: -> leads nowhere; want a label or port behind it", q.stage.Value)
		q.arrow = Pos{}
		q.word(w)
		return
	}
	if w.text == "" {
		q.d.errorf(Pos{1, w.column}, "stage %s: found \"\" behind ->, want a label or port", q.stage.Value)
	}
	q.end, q.arrow = NameConfig{w.text, Pos{1, w.column}}, Pos{}
}

// finish ends a stage, and with last the chain.
func (q *quickParser) finish(at Pos, last bool) {
	if q.arrow.Line > 0 {
		q.d.errorf(q.arrow, "stage %s: -> leads nowhere; want a label or port behind it", q.stage.Value)
		q.arrow = Pos{}
	}
	switch {
	case q.stage == nil && q.orphan: // its stage is what is missing, which was said
		q.orphan = false
		return
	case q.stage == nil:
		q.d.errorf(at, "a stage is missing here; want NAME or NAME option=value, with ! between stages")
		q.label = ""
		return
	case !last && q.end.Name != "":
		q.d.errorf(at, "stage %s: found ! behind the end of the chain, want ; before the next", q.stage.Value)
	}
	n := q.stage
	if len(q.options.Content) > 0 {
		n = &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{q.stage, q.options}}
	}
	s := StageSpec{Label: q.label, LabelPos: q.labelPos, Outputs: q.outputs, Last: last, To: q.end}
	s.decodeNode(q.d, n)
	q.specs = append(q.specs, s)
	q.label, q.stage, q.outputs, q.end = "", nil, nil, NameConfig{}
}

// A word of the quick form, and the column it starts in, from 1.
type quickWord struct {
	text   string
	column int
	quoted bool
}

// splitQuick splits at spaces, and at ! and ;, which are words of their own,
// except inside quotes.
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
		case c == '!' || c == ';':
			flush()
			words = append(words, quickWord{string(c), i + 1, false})
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
