package buildinfo

import (
	"runtime/debug"
	"testing"
)

func TestAPackageIsOfTheModuleWithTheLongestPath(t *testing.T) {
	modules := []Module{{Path: "xdpipe.build/custom"}, {Path: XDPipe}, {Path: "example.com/a"}, {Path: "example.com/a/b"}}
	for _, tt := range []struct{ pkg, want string }{
		{"main", "xdpipe.build/custom"},
		{XDPipe + "/pipeline/stages", XDPipe},
		{"example.com/a", "example.com/a"},
		{"example.com/a/c", "example.com/a"},
		{"example.com/a/b/c", "example.com/a/b"},
		{"example.com/ab", ""},
	} {
		m, ok := find(modules, tt.pkg)
		if m.Path != tt.want || ok != (tt.want != "") {
			t.Errorf("%s is of %q, want %q", tt.pkg, m.Path, tt.want)
		}
	}
}

func TestAReplacedModuleHasTheVersionOfWhatIsInside(t *testing.T) {
	for _, tt := range []struct {
		module debug.Module
		want   string
	}{
		{debug.Module{Path: "p", Version: "v1.2.0"}, "p v1.2.0"},
		{debug.Module{Path: "p"}, "p (devel)"},
		{debug.Module{Path: "p", Version: "v0.0.0", Replace: &debug.Module{Path: "../p", Version: "(devel)"}}, "p (devel) => ../p"},
		{debug.Module{Path: "p", Version: "v1.2.0", Replace: &debug.Module{Path: "q", Version: "v1.3.0"}}, "p v1.2.0 => q@v1.3.0"},
	} {
		if got := of(&tt.module).String(); got != tt.want {
			t.Errorf("%+v is %q, want %q", tt.module, got, tt.want)
		}
	}
}

func TestThisBinaryHasXdpipeInside(t *testing.T) {
	if m := Self(); m.Path != XDPipe || m.Version == "" {
		t.Errorf("%+v", m)
	}
}
