package printable

import "testing"

func TestWhatATerminalWouldObeyIsReplaced(t *testing.T) {
	for _, tt := range []struct{ in, text, word string }{
		{"", "", "-"},
		{"wan-lan/1:parse", "wan-lan/1:parse", "wan-lan/1:parse"},
		{"two words", "two words", "two_words"},
		{"naïve 網", "naïve 網", "naïve_網"},
		{"a\x1b[2Jb\x07\r\nc", "a?[2Jb???c", "a?[2Jb???c"},
		{"\u009b31m", "?31m", "?31m"},                    // CSI of eight bits
		{"a\u202eb\u2066c\u200bd", "a?b?c?d", "a?b?c?d"}, // writing turned round, nothing to see
		{"tab\there\u00a0x", "tab?here?x", "tab?here?x"},
		{"\xff\xfe", "??", "??"},
		{"   ", "   ", "-"},
	} {
		if got := Text(tt.in); got != tt.text {
			t.Errorf("Text(%q) = %q, want %q", tt.in, got, tt.text)
		}
		if got := Word(tt.in); got != tt.word {
			t.Errorf("Word(%q) = %q, want %q", tt.in, got, tt.word)
		}
	}
}
