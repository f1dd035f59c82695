package bpf

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// filtersLeft returns the slots that have a program.
func filtersLeft(t testing.TB, s *Steering) (slots []uint32) {
	t.Helper()
	for slot := range s.maps.Filters.MaxEntries() {
		var id uint32
		switch err := s.maps.Filters.Lookup(slot, &id); {
		case err == nil:
			slots = append(slots, slot)
		case !errors.Is(err, ebpf.ErrKeyNotExist):
			t.Fatal(err)
		}
	}
	return slots
}

func TestRulesAreTriedBeforeTheFilter(t *testing.T) {
	s := loadWithSocket(t)
	setPolicy(t, s, Policy{
		Rules:  rules(t, "udp dst_port=53 src=192.0.2.1 action=pass", "udp dst_port=53 src=192.0.2.2 action=drop", "tcp dst_port=80"),
		Filter: "udp port 53",
	})
	from := func(src string, protocol uint8, port uint16) []byte {
		return packet{src: src, dst: "198.51.100.1", protocol: protocol, dstPort: port}.bytes()
	}
	for _, test := range []struct {
		name   string
		packet []byte
		want   uint32
	}{
		{"passed by a rule, though the filter matches", from("192.0.2.1", ProtocolUDP, 53), xdpPass},
		{"dropped by a rule, though the filter matches", from("192.0.2.2", ProtocolUDP, 53), xdpDrop},
		{"redirected by a rule, though the filter does not match", from("192.0.2.1", ProtocolTCP, 80), xdpRedirect},
		{"redirected by the filter, since no rule matches", from("192.0.2.3", ProtocolUDP, 53), xdpRedirect},
		{"matched by neither", from("192.0.2.3", ProtocolUDP, 54), xdpPass},
	} {
		if got := verdict(t, s, test.packet); got != test.want {
			t.Errorf("%s: verdict %d, want %d", test.name, got, test.want)
		}
	}
	c := counters(t, s)
	if c.Redirect.Packets != 2 || c.PassRule.Packets != 1 || c.DropRule.Packets != 1 || c.PassNoMatch.Packets != 1 || c.Filter.Packets != 1 || c.PassNoFilter.Packets != 0 {
		t.Errorf("counters %+v", c)
	}
}

// Each policy decides the packet in a way no other does with its tables or its
// filter taken from another: then it would pass.
func TestAPacketSeesTheFilterOfItsPolicyWhileTheyAreSwapped(t *testing.T) {
	s := loadWithSocket(t)
	policies := []Policy{
		{Filter: "vlan 5 and udp port 53"},
		{Rules: rules(t, "vlan=5 udp action=drop"), Filter: "tcp"},
		{Filter: "vlan 5"},
		{Rules: rules(t, "vlan=6"), Filter: "vlan 5 and ip"},
		{Rules: rules(t, "vlan=5 dst_port=53 action=drop")},
	}
	setPolicy(t, s, policies[0])
	b := packet{tags: []uint16{5}, src: "192.0.2.1", dst: "203.0.113.1", protocol: ProtocolUDP, dstPort: 53}.bytes()

	stop := make(chan struct{})
	var flowing sync.WaitGroup
	var packets uint64
	flowing.Go(func() {
		for ; ; packets++ {
			select {
			case <-stop:
				return
			default:
			}
			got, err := s.Program().Run(&ebpf.RunOptions{Data: b})
			if err != nil || got != xdpRedirect && got != xdpDrop {
				t.Errorf("packet %d: verdict %d, error %v", packets, got, err)
				return
			}
		}
	})
	const swaps = 100
	for i := range swaps {
		if err := s.SetPolicy(policies[(i+1)%len(policies)]); err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	flowing.Wait()
	c := counters(t, s)
	if got := c.Redirect.Packets + c.DropRule.Packets; got != packets || c.Total().Packets != packets {
		t.Errorf("%d packets under the policies' verdicts, want %d: %+v", got, packets, c)
	}
	if c.Filter.Packets == 0 || c.Filter.Packets != c.Redirect.Packets || c.DropRule.Packets == 0 {
		t.Errorf("policies with and without filter were not both in force while packets flowed: %+v", c)
	}
	t.Logf("%d swaps while %d packets flowed", swaps, packets)
}

func TestFiltersThatAreNotInForceAreUnloaded(t *testing.T) {
	s := load(t)
	for i := range uint32(4) {
		setPolicy(t, s, Policy{Filter: "udp"})
		if got := filtersLeft(t, s); len(got) != 1 || got[0] != (i+1)%2 {
			t.Fatalf("programs in slots %v, want one in %d", got, (i+1)%2)
		}
	}
	setPolicy(t, s, Policy{All: true})
	if got := filtersLeft(t, s); len(got) != 0 {
		t.Errorf("programs in slots %v under a policy without filter, want none", got)
	}
}

func TestARefusedFilterChangesNothing(t *testing.T) {
	s := loadWithSocket(t)
	before := Policy{Rules: rules(t, "vlan=7 action=drop"), Filter: "udp port 53"}
	setPolicy(t, s, before)
	for _, test := range []struct {
		name   string
		policy Policy
		want   []string
	}{
		{"wrong", Policy{Filter: "udp prot 53"}, []string{`"udp prot 53"`, "column 5"}},
		{"not possible", Policy{Filter: "host www.example.com"}, []string{"column 6", "looked up"}},
		{"blank", Policy{Filter: " \n"}, []string{"empty"}},
		{"beside all", Policy{All: true, Filter: "udp"}, []string{"all", "take out one of the two"}},
		{"after a rule that is wrong", Policy{Rules: []Rule{{VLAN: 4095}}, Filter: "udp"}, []string{"rule 0: vlan"}},
	} {
		t.Run(test.name, func(t *testing.T) { stillInForce(t, s, before, s.SetPolicy(test.policy), test.want...) })
	}
	t.Run("by the verifier", func(t *testing.T) {
		// Every expression that compiles has been accepted so far: the program
		// around this one reads a register that nothing was written to.
		good := s.filter
		defer func() { s.filter = good }()
		bad := s.filter.Copy()
		first := asm.Mov.Reg(asm.R6, asm.R9)
		first.Metadata = bad.Instructions[0].Metadata
		bad.Instructions[0].Metadata = asm.Metadata{}
		bad.Instructions = append(asm.Instructions{first}, bad.Instructions...)
		s.filter = bad
		err := s.SetPolicy(Policy{Filter: "tcp port 80"})
		var refused *FilterError
		if !errors.As(err, &refused) || refused.Expr != "tcp port 80" || errors.Is(err, ErrNotPermitted) {
			t.Errorf("error %v, want a *FilterError of the expression", err)
		}
		stillInForce(t, s, before, err, `"tcp port 80"`, "verifier refuses", "R9 !read_ok", "shorter expression")
	})
	setPolicy(t, s, Policy{Filter: "tcp port 80"})
}

// stillInForce checks a refusal after which the policy is what it was.
func stillInForce(t *testing.T, s *Steering, before Policy, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("the policy was taken")
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not say %q", err, word)
		}
	}
	if got := s.Policy().String(); got != before.String() {
		t.Errorf("policy %q, want %q", got, before)
	}
	dns := packet{src: "192.0.2.1", dst: "192.0.2.2", protocol: ProtocolUDP, dstPort: 53}
	if got := verdict(t, s, dns.bytes()); got != xdpRedirect {
		t.Errorf("verdict %d of the old policy's filter, want redirect", got)
	}
	dns.tags = []uint16{7}
	if got := verdict(t, s, dns.bytes()); got != xdpDrop {
		t.Errorf("verdict %d of the old policy's rule, want drop", got)
	}
	if got := filtersLeft(t, s); len(got) != 1 {
		t.Errorf("programs in slots %v, want that of the old policy", got)
	}
}

func TestAPinnedFilterWorksOnAndIsFoundAgain(t *testing.T) {
	needRoot(t)
	noLeaks(t)
	dir := filepath.Join(bpffs(t), "xdpipe")
	s := loadWithSocket(t)
	policy := Policy{Rules: rules(t, "vlan=7 action=pass"), Filter: "udp port 53\r\n\tand not host 10.0.0.1"}
	setPolicy(t, s, policy)
	if err := s.Pin(dir); err != nil {
		t.Fatal(err)
	}
	program, err := s.Program().Clone() // as a link would hold it
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	dns := packet{src: "192.0.2.1", dst: "192.0.2.2", protocol: ProtocolUDP, dstPort: 53}.bytes()
	if got, err := program.Run(&ebpf.RunOptions{Data: dns}); err != nil || got != xdpRedirect {
		t.Errorf("verdict %d while no process holds the pins (%v), want redirect", got, err)
	}

	for i, next := range []Policy{{Filter: "tcp port 80"}, {All: true}, policy} {
		found, err := LoadPinned(dir)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 && found.Policy().String() != "vlan=7,action=pass\nfilter udp port 53  \tand not host 10.0.0.1\n" {
			t.Errorf("policy %q, want %q", found.Policy(), policy)
		}
		setPolicy(t, found, next)
		if err := found.Close(); err != nil {
			t.Fatal(err)
		}
		want := uint32(xdpRedirect)
		if i == 0 {
			want = xdpPass
		}
		if got, err := program.Run(&ebpf.RunOptions{Data: dns}); err != nil || got != want {
			t.Errorf("verdict %d after policy %d (%v), want %d", got, i, err, want)
		}
	}
	if err := Unpin(dir); err != nil {
		t.Error(err)
	}
}

// An update that ended after the filter was put in its slot, before the swap.
func TestAFilterOfAnUpdateCutShortIsUnloadedWhenThePinsAreLoaded(t *testing.T) {
	needRoot(t)
	dir := filepath.Join(bpffs(t), "xdpipe")
	s := loadWithSocket(t)
	setPolicy(t, s, Policy{Filter: "udp"})
	if err := s.Pin(dir); err != nil {
		t.Fatal(err)
	}
	next, err := s.loadFilter("tcp")
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if err := s.putFilter(s.generation+1, next); err != nil {
		t.Fatal(err)
	}
	found, err := LoadPinned(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	if got := filtersLeft(t, found); len(got) != 1 || got[0] != found.generation%2 {
		t.Errorf("programs in slots %v, want one in %d", got, found.generation%2)
	}
	if got := verdict(t, found, packet{src: "192.0.2.1", dst: "192.0.2.2", protocol: ProtocolUDP}.bytes()); got != xdpRedirect {
		t.Errorf("verdict %d, want redirect", got)
	}
	if err := Unpin(dir); err != nil {
		t.Error(err)
	}
}

func TestPacketsOfAFilterThatIsGonePassAndAreCounted(t *testing.T) {
	needRoot(t)
	noLeaks(t)
	s, err := Load(Options{Queues: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	setPolicy(t, s, Policy{Filter: "udp"})
	if err := s.maps.Filters.Delete(s.generation % 2); err != nil {
		t.Fatal(err)
	}
	if got := verdict(t, s, packet{src: "192.0.2.1", dst: "192.0.2.2", protocol: ProtocolUDP}.bytes()); got != xdpPass {
		t.Errorf("verdict %d, want pass", got)
	}
	if c := counters(t, s); c.PassNoFilter.Packets != 1 || c.Total().Packets != 1 {
		t.Errorf("counters %+v, want one packet passed for want of a filter", c)
	}
}

func TestKernelsWithoutTailCallsBesideFunctionsSteerByRules(t *testing.T) {
	needRoot(t)
	noLeaks(t)
	spec, err := loadSteer()
	if err != nil {
		t.Fatal(err)
	}
	withoutFilters(spec.Programs[steerProgXdpipeSteer])
	for _, ins := range spec.Programs[steerProgXdpipeSteer].Instructions {
		if ins.IsBuiltinCall() && ins.Constant == int64(asm.FnTailCall) {
			t.Error("a tail call is left")
		}
	}
	s, err := newSteering(spec)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	setPolicy(t, s, Policy{Rules: rules(t, "udp action=drop")})
	if got := verdict(t, s, packet{src: "192.0.2.1", dst: "192.0.2.2", protocol: ProtocolUDP}.bytes()); got != xdpDrop {
		t.Errorf("verdict %d, want drop", got)
	}
	err = s.SetPolicy(Policy{Filter: "udp"})
	var refused *FilterError
	if !errors.As(err, &refused) || !errors.Is(err, ErrKernelTooOld) || !strings.Contains(err.Error(), "choose packets by rules") {
		t.Errorf("a filter: %v, want a *FilterError that wraps %v", err, ErrKernelTooOld)
	}
	if got := s.Policy().String(); got != "protocol=udp,action=drop\n" {
		t.Errorf("policy %q, want the old one", got)
	}

	if refusesTailCalls(nil) || refusesTailCalls(errors.New("tail_call")) {
		t.Error("errors that are not the verifier's are taken for a refusal of tail calls")
	}
	if log := "tail_calls are not allowed in non-JITed programs with bpf-to-bpf calls"; !refusesTailCalls(fmt.Errorf("load: %w", &ebpf.VerifierError{Cause: errors.New("invalid argument"), Log: []string{"0: R1=ctx", log}})) {
		t.Error("the verifier's refusal of tail calls is not recognised")
	}
}
