package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/xdpipe/xdpipe/internal/demo"
	"github.com/xdpipe/xdpipe/lab"
)

func TestFlagsThatWouldHaveNoEffectAreRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "no-such.yaml")
	for _, flag := range []string{"--mode=native", "--all", "--rule=udp", "--netns=x", "--zerocopy=never", "--queues=0", "--busy-poll", "--replace", "--insist", "--workers=2", "--pages=4k"} {
		status, _, errOut := cli("run", file, flag)
		name, _, _ := strings.Cut(flag, "=")
		if status != exitUsage || !strings.Contains(errOut, name) || !strings.Contains(errOut, "configuration file") {
			t.Errorf("run FILE %s: status %d, %s", flag, status, errOut)
		}
	}
	if status, _, errOut := cli("attach", "veth-a", "--all", "--mode", "fast"); status != exitUsage || !strings.Contains(errOut, "native, generic or auto") {
		t.Errorf("attach --mode fast: status %d, %s", status, errOut)
	}
}

func TestAReadyFileOfAnEarlierRunDoesNotSayReady(t *testing.T) {
	dir := t.TempDir()
	ready := filepath.Join(dir, "ready")
	must(t, os.WriteFile(ready, nil, 0o600))
	if status, _, _ := cli("run", "--run-dir", dir, "-i", "xdpipe-none", "--all", "--ready-file", ready, "count"); status != exitFailed {
		t.Errorf("status %d", status)
	}
	if _, err := os.Stat(ready); !os.IsNotExist(err) {
		t.Error("the ready file is there, and nothing is ready")
	}
	for _, path := range []string{"/dev/null", dir} {
		must(t, removeReady(path))
		if _, err := os.Stat(path); err != nil {
			t.Errorf("removed %s: %v", path, err)
		}
	}
}

func TestSignalsReachTheCommandInTheLabAndItsEndIsPassedOn(t *testing.T) {
	lab.ForTest(t)
	dir := newRunDir(t)
	name := fmt.Sprintf("xdpsig%d", self())
	t.Cleanup(func() { cli("lab", "down", "--run-dir", dir, "--name", name) })
	cliOK(t, "lab", "up", "--run-dir", dir, "--name", name)
	in := func(script string) []string {
		return []string{"lab", "exec", "--run-dir", dir, "--name", name, "client", "--", "sh", "-c", script}
	}
	if status, _, _ := cli(in("kill -9 $$")...); status != 128+9 {
		t.Errorf("a command that was killed: status %d, want %d", status, 128+9)
	}
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		c := startChild(t, childOptions{}, in("trap 'echo caught; exit 7' INT TERM; echo started; while :; do sleep 0.1; done")...)
		c.await("started", &c.out, func(lines []string) bool { return len(lines) > 0 && lines[0] == "started" })
		if status := c.signal(s); status != 7 || !strings.Contains(c.out.String(), "caught") {
			t.Errorf("%v: status %d, output %q", s, status, c.out.String())
		}
	}
	if status, _, errOut := cli("lab", "exec", "--run-dir", dir, "--name", name, "nowhere", "true"); status != exitFailed || !strings.Contains(errOut, "client, server, xdpipe") {
		t.Errorf("no such namespace: status %d, %s", status, errOut)
	}
}

func TestADemoThatIsStoppedEndsInItsResult(t *testing.T) {
	lab.ForTest(t)
	c := startChild(t, childOptions{}, "demo", "-j", "--run-dir", newRunDir(t))
	eventually(t, "the demo's namespaces", func() bool { return len(demoNamespaces(c.pid())) > 0 })
	status := c.signal(os.Interrupt)
	var r demo.Result
	must(t, json.Unmarshal([]byte(c.out.String()), &r))
	if status != exitFailed || r.OK || len(r.Checks) == 0 || !strings.Contains(r.Checks[len(r.Checks)-1].Detail, "interrupted") {
		t.Errorf("status %d, %+v", status, r)
	}
}

func TestDetachWithNothingToRestoreListsNothing(t *testing.T) {
	s := newSite(t, lab.Topology{})
	status, out, errOut := cli("detach", "-j", "--run-dir", s.runDir, "--netns", s.Xdpipe.Name(), "veth-a")
	if status != exitDone || !strings.Contains(out, `"restored":[]`) {
		t.Errorf("status %d, %s%s", status, out, errOut)
	}
}

func TestThePolicyOfAStatusIsOnItsLine(t *testing.T) {
	s := newSite(t, lab.Topology{})
	c := startReady(t, childOptions{}, s.args("--rule", "protocol=udp", "--rule", "protocol=icmp", "count")...)
	out := cliOK(t, append(s.flags(), "status")...)
	if !strings.Contains(out, "interface veth-a: steer protocol=udp,action=redirect; protocol=icmp,action=redirect; ") || strings.Contains(out, "\n;") {
		t.Error(out)
	}
	c.stop()
}
