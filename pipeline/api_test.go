package pipeline_test

import (
	"strings"
	"testing"

	"github.com/xdpipe/xdpipe/pipeline"
)

func init() {
	stage := func() pipeline.Stage { return &empty{} }
	pipeline.Register(pipeline.Module{Name: "test-newer-api", API: pipeline.APIVersion + 1, New: stage})
	pipeline.Register(pipeline.Module{Name: "test-older-api", API: pipeline.APIVersion - 2, New: stage})
	pipeline.Register(pipeline.Module{Name: "test-this-api", API: pipeline.APIVersion, New: stage})
}

func TestAModuleForAnotherAPIVersionIsRefusedByName(t *testing.T) {
	var names []string
	for _, e := range pipeline.Refused() {
		names = append(names, e.Stage)
	}
	if got := strings.Join(names, " "); got != "test-newer-api test-older-api" {
		t.Errorf("refused are %s", got)
	}
	for _, m := range pipeline.Modules() {
		if strings.HasSuffix(m.Name, "er-api") {
			t.Errorf("%s is there all the same", m.Name)
		}
	}
	if _, ok := pipeline.Lookup("test-this-api"); !ok {
		t.Error("the module for this version is not there")
	}
	for _, tt := range []struct{ stages, want string }{
		{"test-newer-api", `stage "test-newer-api" of github.com/xdpipe/xdpipe`},
		{"test-newer-api", "is for stage API 2 and this xdpipe has 1: build with a version of it for API 1, or with a newer xdpipe"},
		{"test-older-api", "is for stage API -1 and this xdpipe has 1: build with a version of it for API 1, or with an older xdpipe"},
		{"parse ! test-newer-api", "stages:1:9: "},
	} {
		_, err := pipeline.ParseQuick("stages", tt.stages)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.stages, err, tt.want)
		}
	}
}
