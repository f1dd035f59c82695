package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xdpipe/xdpipe"
	"github.com/xdpipe/xdpipe/lab"
)

func TestCheckPrintsThePlanAndChangesNothing(t *testing.T) {
	s := newSite(t, lab.Topology{})
	path := writeConfig(t, s.config("name: plan", "", "[parse, count]"))
	unchanged := s.before()
	out := cliOK(t, append(s.flags(), "check", path)...)
	mentions(t, out, "instance plan", "memory: 16384 frames of 2048 bytes, 32 MiB", "port a: interface veth-a, driver veth, MTU 1500, queues [0] of 1",
		"steer: all", "pipeline a-b: a → parse → count → b")
	var doc struct {
		OK   bool
		Plan xdpipe.PlanSummary
	}
	must(t, json.Unmarshal([]byte(cliOK(t, append(s.flags(), "check", "-j", path)...)), &doc))
	if !doc.OK || doc.Plan.Name != "plan" || len(doc.Plan.Ports) != 2 || doc.Plan.Ports[1].Interface != "veth-b" || len(doc.Plan.Pipelines) != 2 {
		t.Errorf("%+v", doc)
	}
	if dot := cliOK(t, append(s.flags(), "check", "--dot", path)...); !strings.HasPrefix(dot, "digraph xdpipe {") {
		t.Errorf("check --dot prints %s", dot)
	}
	unchanged("after check")
	if entries, err := os.ReadDir(s.runDir); err != nil || len(entries) > 0 {
		t.Errorf("check wrote to the run directory: %v, %v", entries, err)
	}
}

func TestCheckPrintsEveryMistakeWithItsPosition(t *testing.T) {
	path := writeConfig(t, "memory: {frames: many}\nports:\n  a: {interface: veth-a, steer: all, mode: fast}\npipelines:\n  - {from: a, stages: [cuont], to: b}\n")
	status, out, errOut := cli("check", "--offline", path)
	if status != exitFailed || out != "" {
		t.Errorf("status %d, standard output %q", status, out)
	}
	mentions(t, errOut, path+":1:18: ", path+":3:44: ", path+":5:24: ", path+":5:36: ")
	for line := range strings.Lines(errOut) {
		if !strings.HasPrefix(line, path+":") {
			t.Errorf("a line without a position: %s", line)
		}
	}
	status, out, _ = cli("check", "--offline", "-j", path)
	var doc struct {
		OK     bool
		Errors []struct {
			File         string
			Line, Column int
			Message      string
		}
	}
	must(t, json.Unmarshal([]byte(out), &doc))
	if status != exitFailed || doc.OK || len(doc.Errors) != 4 || doc.Errors[0].File != path || doc.Errors[0].Line != 1 || doc.Errors[0].Column != 18 || doc.Errors[0].Message == "" {
		t.Errorf("status %d, %+v", status, doc)
	}
}

func TestCheckHoldsTheFileAgainstTheMachine(t *testing.T) {
	s := newSite(t, lab.Topology{})
	path := writeConfig(t, strings.Replace(s.config("", "", "[count]"), "interface: veth-a", "interface: veth-x", 1))
	cliOK(t, "check", "--offline", path)
	status, _, errOut := cli("check", path)
	if status != exitFailed {
		t.Errorf("status %d, want 1", status)
	}
	mentions(t, errOut, path+":3:3: port a: no interface veth-x")
}

func TestStagesAreListedAndDocumented(t *testing.T) {
	out := cliOK(t, "stages")
	mentions(t, out, "parse", "count", "drop", "macswap", "pcap")
	out = cliOK(t, "stages", "pcap")
	mentions(t, out, "pcap: copies packets", "Options:", "file", "required", "snaplen", "in bytes", "default 65535")
	mentions(t, cliOK(t, "stages", "count"), "no options", "does not change them", "Example: parse ! count")
	mentions(t, cliOK(t, "stages", "respond"), "It changes packets.", "Outputs", "reply", "optional", "ignored_hop_limit")

	type option struct {
		Name, Type, Default, Doc string
		Required                 bool
	}
	var all []struct {
		Name, Doc, Kind string
		Writes          *bool
		Outputs         []struct{ Name, Doc string }
		Options         []option
	}
	must(t, json.Unmarshal([]byte(cliOK(t, "stages", "-j")), &all))
	if len(all) < 5 {
		t.Errorf("%d stages", len(all))
	}
	for _, m := range all {
		if m.Name == "" || m.Doc == "" || m.Kind == "" || m.Writes == nil || m.Outputs == nil || m.Options == nil {
			t.Errorf("stage %+v", m)
		}
		for _, o := range m.Outputs {
			if o.Name == "" || o.Doc == "" {
				t.Errorf("stage %s: output %+v", m.Name, o)
			}
		}
		for _, o := range m.Options {
			if o.Name == "" || o.Type == "" || o.Doc == "" {
				t.Errorf("stage %s: option %+v", m.Name, o)
			}
		}
	}
	status, _, errOut := cli("stages", "no-such")
	if status != exitFailed {
		t.Errorf("status %d, want 1", status)
	}
	mentions(t, errOut, `"no-such"`, "xdpipe stages")
	if status, _, _ := cli("stages", "pcap", "count"); status != exitUsage {
		t.Errorf("two names: status %d, want 2", status)
	}
}

func TestFeaturesHasEveryFieldOfTheContract(t *testing.T) {
	s := newSite(t, lab.Topology{Queues: 2})
	ns := s.Xdpipe.Name()
	var doc any
	must(t, json.Unmarshal([]byte(cliOK(t, "features", "-j", "--netns", ns, "veth-a")), &doc))
	f := hasFields(t, "features", doc)
	q := hasFields(t, "queues", f["queues"])
	x := hasFields(t, "xdp_features", f["xdp"])
	if f["interface"] != "veth-a" || f["driver"] != "veth" || f["mtu"] != 1500.0 || q["rx"] != 2.0 || x["native"] != true || x["generic"] != true {
		t.Errorf("%v", f)
	}
	for _, list := range []string{"rx_metadata", "tx_metadata"} {
		if _, ok := f[list].([]any); !ok {
			t.Errorf("%s is %v, want a list", list, f[list])
		}
	}
	mentions(t, cliOK(t, "features", "--netns", ns, "veth-a"), "driver veth", "MTU 1500", "rx 2", "native true")
	status, _, errOut := cli("features", "--netns", ns, "veth-x")
	if status != exitFailed {
		t.Errorf("status %d, want 1", status)
	}
	mentions(t, errOut, "no interface veth-x")
}

func TestVersionSaysWhatIsInside(t *testing.T) {
	mentions(t, cliOK(t, "version"), "xdpipe ", "stage API 1", "go1.", "stages of github.com/xdpipe/xdpipe (devel): ", "count, drop")
	var v struct {
		Version, Go, OS, Arch string
		Modules               map[string]string
		Stages, Refused       []struct {
			Name, Package string
			Module        struct{ Path, Version string }
		}
	}
	must(t, json.Unmarshal([]byte(cliOK(t, "version", "-j")), &v))
	if len(v.Stages) < 5 || v.Stages[0].Module.Path != "github.com/xdpipe/xdpipe" ||
		v.Stages[0].Package != "github.com/xdpipe/xdpipe/pipeline/stages" || v.Refused == nil || len(v.Refused) > 0 {
		t.Errorf("stages %+v, refused %+v", v.Stages, v.Refused)
	}
	if v.Version == "" || !strings.HasPrefix(v.Go, "go1.") || v.OS != "linux" || v.Arch == "" || v.Modules == nil {
		t.Errorf("%+v", v)
	}
}

func TestALabGoesUpPassesExitStatusesOnAndGoesDown(t *testing.T) {
	lab.ForTest(t)
	dir := newRunDir(t)
	name := fmt.Sprintf("xdpit%d", self())
	with := func(args ...string) []string {
		return append([]string{"--run-dir", dir, "lab", args[0], "--name", name}, args[1:]...)
	}
	t.Cleanup(func() { cli(with("down")...) })

	out := cliOK(t, with("up")...)
	mentions(t, out, name+"-client", name+"-xdpipe", name+"-server", "veth-a", "veth-b", "198.51.100.1/24", "2001:db8:1::2/64")
	status, _, errOut := cli(with("up")...)
	if status != exitFailed {
		t.Errorf("up twice: status %d, want 1", status)
	}
	mentions(t, errOut, name, "up already", "xdpipe lab down --name "+name)

	for _, tt := range []struct {
		command []string
		status  int
		out     string
	}{
		{[]string{"cat", "/sys/class/net/client0/mtu"}, 0, "1500\n"},
		{[]string{"sh", "-c", "echo to the end; exit 7"}, 7, "to the end\n"},
		{[]string{"sh", "-c", "exit 1"}, 1, ""},
		{[]string{"printf", "%s", "--name"}, 0, "--name"},
	} {
		status, out, errOut := cli(with(append([]string{"exec", "client", "--"}, tt.command...)...)...)
		if status != tt.status || out != tt.out {
			t.Errorf("%v: status %d, output %q %q; want %d, %q", tt.command, status, out, errOut, tt.status, tt.out)
		}
	}
	for _, tt := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"exec", "nowhere", "--", "true"}, exitFailed, "nowhere"},
		{[]string{"exec", "client", "--", "/xdpipe-no-such"}, exitFailed, "/xdpipe-no-such"},
		{[]string{"exec", "client"}, exitUsage, "a command"},
		{[]string{"exec", "client", "--"}, exitUsage, "a command"},
	} {
		status, _, errOut := cli(with(tt.args...)...)
		if status != tt.status {
			t.Errorf("%v: status %d, want %d", tt.args, status, tt.status)
		}
		mentions(t, errOut, tt.want)
	}

	// What the lab is for, as its help shows it.
	c := startReady(t, childOptions{}, "run", "--run-dir", dir, "-i", "veth-a,veth-b", "--netns", name+"-xdpipe", "--all", "parse ! count")
	loaded, err := lab.Load(dir, name)
	must(t, err)
	client, err := loaded.Namespace("client")
	must(t, err)
	if !newPinger(t, client, lab.DefaultTopology().Server[0].Addr()).ping(5 * time.Second) {
		t.Error("no echo across the lab")
	}
	must(t, loaded.Close())
	c.stop()

	cliOK(t, with("down")...)
	status, _, errOut = cli(with("down")...)
	if status != exitFailed {
		t.Errorf("down twice: status %d, want 1", status)
	}
	mentions(t, errOut, name, "no such lab is up")
	if left, _ := filepath.Glob("/run/netns/" + name + "-*"); len(left) > 0 {
		t.Errorf("namespaces left: %v", left)
	}

	var doc struct {
		Name       string
		Interfaces []struct {
			NetNS, Interface string
			Addresses        []string
		}
	}
	must(t, json.Unmarshal([]byte(cliOK(t, with("up", "-j", "--queues", "2", "--mtu", "2000")...)), &doc))
	if doc.Name != name || len(doc.Interfaces) != 4 || doc.Interfaces[1].Interface != "veth-a" {
		t.Errorf("%+v", doc)
	}
	mentions(t, cliOK(t, with("exec", "xdpipe", "--", "cat", "/sys/class/net/veth-a/mtu")...), "2000")
	mentions(t, cliOK(t, with("down", "-j")...), `"down":true`)
}

func TestStatusOfNoInstanceIsAnEmptyList(t *testing.T) {
	dir := newRunDir(t)
	mentions(t, cliOK(t, "status", "--run-dir", dir), "no instance is running")
	if out := cliOK(t, "status", "-j", "--run-dir", dir); out != "{\"instances\":[]}\n" {
		t.Errorf("status -j: %s", out)
	}
}

func TestAttachIsToldWhichPackets(t *testing.T) {
	for _, args := range [][]string{{"veth-a"}, {"veth-a", "--all", "--rule", "protocol=udp"}, {"veth-a", "--rule", "protocol=udpx"}, {}, {"veth-a", "veth-b", "--all"}} {
		if status, _, errOut := cli(append([]string{"attach"}, args...)...); status != exitUsage || errOut == "" {
			t.Errorf("attach %v: status %d, want 2: %s", args, status, errOut)
		}
	}
}
