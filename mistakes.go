package xdpipe

import (
	"errors"
	"fmt"
	"strings"

	"github.com/xdpipe/xdpipe/pipeline"
)

// A Mistake is one thing that is wrong with a configuration, or why it cannot be
// carried out. Its JSON is an element of "errors" in `xdpipe check -j`.
type Mistake struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"` // from 1; 0 if it is at no place in the file
	Column  int    `json:"column,omitempty"`
	Message string `json:"message"`
}

// String is FILE:LINE:COLUMN: message, or the message alone.
func (m Mistake) String() string {
	if m.Line == 0 {
		return m.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", m.File, m.Line, m.Column, m.Message)
}

// Mistakes takes an error of LoadConfig, NewPlan, Open or Reload apart.
func Mistakes(err error) []Mistake {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []Mistake
		for _, e := range joined.Unwrap() {
			all = append(all, Mistakes(e)...)
		}
		return all
	}
	var list pipeline.ConfigErrors
	if errors.As(err, &list) {
		var all []Mistake
		for _, e := range list {
			all = append(all, Mistakes(e)...)
		}
		return all
	}
	var ce *pipeline.ConfigError
	if errors.As(err, &ce) {
		return []Mistake{{ce.File, ce.Line, ce.Column, ce.Message}}
	}
	var refused *ReloadError
	if errors.As(err, &refused) {
		return refused.Mistakes
	}
	return []Mistake{{Message: err.Error()}}
}

// A ReloadError says why an instance did not take a new configuration; nothing
// about it has changed.
type ReloadError struct {
	Instance string
	Mistakes []Mistake
}

func (e *ReloadError) Error() string {
	var lines []string
	for _, m := range e.Mistakes {
		lines = append(lines, m.String())
	}
	return fmt.Sprintf("instance %s did not reload: %s", e.Instance, strings.Join(lines, "\n"))
}
