package cli

import (
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xdpipe/xdpipe/internal/traffic"
	"github.com/xdpipe/xdpipe/lab"
)

// scrape is what Prometheus gets.
func scrape(t *testing.T, addr string) string {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Get("http://" + addr + "/metrics")
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	return string(body)
}

func TestARunAnswersPrometheusWhereItWasToldTo(t *testing.T) {
	s := newSite(t, lab.Topology{})
	free, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	addr := free.Addr().String()
	must(t, free.Close())
	c := s.forward("--metrics", addr, "parse ! count")
	s.check(traffic.ICMP, traffic.Options{Count: 100})
	text := scrape(t, addr)
	mentions(t, text, `xdpipe_build_info{`, `xdpipe_stage_packets_total{name="xdpipe",stage="veth-a-veth-b/1:parse",type="parse",worker="0"} `,
		`xdpipe_steering_packets_total{interface="veth-a",name="xdpipe",port="veth-a",reason="redirect",verdict="redirect"} `)
	if strings.Contains(text, `xdpipe_port_receive_packets_total{interface="veth-a",name="xdpipe",port="veth-a",queue="0"} 0`) {
		t.Error("no packets counted")
	}
	// As the documentation has it, for those that have curl.
	if _, err := exec.LookPath("curl"); err == nil {
		out, err := exec.Command("curl", "-sS", "--unix-socket", filepath.Join(s.runDir, "xdpipe.sock"), "http://xdpipe/metrics").Output()
		must(t, err)
		mentions(t, string(out), "xdpipe_frames{", "xdpipe_port_drops_total{")
	}
	c.stop()
}

func TestABadAddressForMetricsIsWrongUsage(t *testing.T) {
	s := newSite(t, lab.Topology{})
	status, _, errOut := cli(s.args("--all", "--metrics", "9100", "count")...)
	if status != exitUsage {
		t.Errorf("status %d, want 2", status)
	}
	mentions(t, errOut, `--metrics`, `"9100"`, "127.0.0.1:9100")
}
