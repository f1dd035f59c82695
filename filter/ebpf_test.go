package filter

import (
	"errors"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"

	"github.com/xdpipe/xdpipe/internal/filtertest"
)

// needRoot skips a test that loads programs; in CI it must not be skipped.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("loading eBPF programs needs root, and CI must not skip it")
	}
	t.Skip("loading eBPF programs needs root")
}

const (
	xdpDrop = 1
	xdpPass = 2
)

func TestAnOffsetThatWrapsGivesTheSameInTheKernel(t *testing.T) {
	needRoot(t)
	packet := filtertest.Ethernet(2, 1, 0x800, filtertest.IPv4(0, 0, 17, "192.0.2.1", "192.0.2.2", filtertest.UDP(53, 1024)))
	for _, expression := range []string{
		"ip[ip[8] - 65] = 0", "ip[ip[8] - 66:2] = 0x800", "udp[ip[8] - 84:4] = 0x4500001c",
		"ip[ip[8] - 79] = ip[ip[8] - 79]", "ip[ip[8] << ip[9]] = 0x45", "ip[ip[8] << 25] = 0",
	} {
		f := MustCompile(expression)
		verdict, _, err := load(t, f).Test(packet)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := verdict == xdpPass, f.Match(packet); got != want {
			t.Errorf("%s: eBPF gives %v, Match %v", f, got, want)
		}
	}
}

func TestTwoFiltersFitIntoOneProgram(t *testing.T) {
	needRoot(t)
	first, err := MustCompile("udp").EBPF(EBPFOptions{Label: "second", Prefix: "a"})
	if err != nil {
		t.Fatal(err)
	}
	second, err := MustCompile("port 53").EBPF(EBPFOptions{Result: asm.R8, Label: "decide", Prefix: "b", StackOffset: 64})
	if err != nil {
		t.Fatal(err)
	}
	instructions := asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word),
		asm.LoadMem(asm.R3, asm.R1, 4, asm.Word),
	}
	instructions = append(instructions, first...)
	instructions = append(instructions, asm.Mov.Reg(asm.R9, asm.R0).WithSymbol("second"))
	instructions = append(instructions, second...)
	instructions = append(instructions,
		asm.Mov.Imm(asm.R0, xdpDrop).WithSymbol("decide"),
		asm.JEq.Imm(asm.R8, 0, "end"),
		asm.JEq.Imm(asm.R9, 0, "end"),
		asm.Mov.Imm(asm.R0, xdpPass),
		asm.Return().WithSymbol("end"),
	)
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "two_filters", Type: ebpf.XDP, License: "GPL", Instructions: instructions,
	})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	defer program.Close()
	v4 := func(protocol int, body []byte) []byte {
		return filtertest.Ethernet(2, 1, 0x800, filtertest.IPv4(0, 0, protocol, "192.0.2.1", "192.0.2.2", body))
	}
	for _, tt := range []struct {
		name   string
		packet []byte
		want   uint32
	}{
		{"both match", v4(17, filtertest.UDP(1024, 53)), xdpPass},
		{"only the first matches", v4(17, filtertest.UDP(1024, 54)), xdpDrop},
		{"only the second matches", v4(6, filtertest.TCP(1024, 53, 2, "")), xdpDrop},
	} {
		if got, _, err := program.Test(tt.packet); err != nil || got != tt.want {
			t.Errorf("%s: verdict %d (%v), want %d", tt.name, got, err, tt.want)
		}
	}
}

func TestRegistersUsedTwiceAreRefused(t *testing.T) {
	_, err := MustCompile("udp").EBPF(EBPFOptions{Start: asm.R4, End: asm.R3})
	if err == nil {
		t.Error("EBPF took R4 as Start and as Working")
	}
}

// load makes an XDP program that passes the packets f matches and drops others.
func load(t *testing.T, f *Filter) *ebpf.Program {
	t.Helper()
	body, err := f.EBPF(EBPFOptions{})
	if err != nil {
		t.Fatal(err)
	}
	instructions := asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word), // xdp_md.data
		asm.LoadMem(asm.R3, asm.R1, 4, asm.Word), // xdp_md.data_end
	}
	instructions = append(instructions, body...)
	instructions = append(instructions,
		asm.JEq.Imm(asm.R0, 0, "drop").WithSymbol("filter_result"),
		asm.Mov.Imm(asm.R0, xdpPass),
		asm.Return(),
		asm.Mov.Imm(asm.R0, xdpDrop).WithSymbol("drop"),
		asm.Return(),
	)
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "filter_test", Type: ebpf.XDP, License: "GPL", Instructions: instructions,
	})
	if err != nil {
		var verifier *ebpf.VerifierError
		if errors.As(err, &verifier) {
			t.Fatalf("filter %q: %+v", f, verifier)
		}
		t.Fatalf("filter %q: %v", f, err)
	}
	t.Cleanup(func() { program.Close() })
	return program
}

func TestFiltersInTheKernelAgreeWithMatch(t *testing.T) {
	needRoot(t)
	_ = rlimit.RemoveMemlock() // kernels from 5.11 on do without
	var packets [][]byte
	for i, p := range filtertest.Packets() {
		// XDP frames have an Ethernet header at least.
		if i%17 == 0 && len(p) >= 14 {
			packets = append(packets, p)
		}
	}
	loaded, matched := 0, 0
	for _, expression := range filtertest.Expressions() {
		f, err := Compile(expression)
		if err != nil {
			continue
		}
		t.Run(expression, func(t *testing.T) {
			program := load(t, f)
			defer program.Close()
			loaded++
			for i, p := range packets {
				verdict, _, err := program.Test(p)
				if err != nil {
					t.Fatal(err)
				}
				want := f.Match(p)
				if got := verdict == xdpPass; got != want {
					t.Fatalf("packet %d (%x): eBPF gives %v, Match %v\n%v", i, p, got, want, f.Instructions())
				}
				if want {
					matched++
				}
			}
		})
	}
	t.Logf("%d filters on %d packets, %d matches", loaded, len(packets), matched)
	if loaded < 300 || matched < 1000 {
		t.Errorf("%d filters were loaded and %d packets matched, too few", loaded, matched)
	}
}
