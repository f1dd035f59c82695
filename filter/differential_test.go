package filter

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/bpf"

	"github.com/xdpipe/xdpipe/internal/filtertest"
)

var update = flag.Bool("update", false, "rewrite testdata/tcpdump.golden with what tcpdump compiles")

const goldenFile = "testdata/tcpdump.golden"

// refused are the expressions tcpdump compiles and this package does not, each
// with a part of the error.
var refused = map[string]string{
	"protochain 6":        "in a loop",
	"ip protochain 6":     "in a loop",
	"ip6 protochain 17":   "in a loop",
	`ip6 protochain \tcp`: "in a loop",
	"geneve":              "other link types",
	"geneve 5 and ip":     "other link types",
	"inbound":             "live capture",
	"outbound":            "live capture",
	"ifindex 1":           "live capture",
	"byte 0 & 1":          "loads no byte",
	"byte 0 | 1":          "loads no byte",
	"ether[70000] = 0":    "outside of any frame",
	"ip[0xfffff000] = 0":  "outside of any frame",
	"ether[-1] = 0":       "outside of any frame",
	"ip[-1] = 0":          "outside of any frame",
	"ip[-2:2] = 0x800":    "outside of any frame",
	"tcp[-1] = 0":         "outside of any frame",
	"tcp[-20:4] != 0":     "outside of any frame",
	"decnet host 10.123":  "DECnet address",
	"decnet src 10.123":   "DECnet address",
	"net loopback":        "looked up",
	"net link-local":      "looked up",
}

// reference is what tcpdump's compiler makes of an expression, with and without
// its optimiser; nil where it refuses. The optimiser refuses what can match no
// packet. The two do not always agree: the optimiser reorders tests, and with
// them which load a packet that is cut short fails at.
type reference struct {
	optimised, plain []bpf.RawInstruction
}

// tcpdumpCompile returns the program as one line: the words of each instruction
// with commas between instructions, or "refused".
func tcpdumpCompile(expression string, options ...string) string {
	arguments := append(slices.Clone(options), "-y", "EN10MB", "-ddd", "--", expression)
	out, err := exec.Command("tcpdump", arguments...).Output()
	if err != nil {
		return "refused"
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.Join(lines[1:], ",")
}

func parseProgram(t *testing.T, line string) []bpf.RawInstruction {
	if line == "refused" {
		return nil
	}
	var program []bpf.RawInstruction
	for word := range strings.SplitSeq(line, ",") {
		fields := strings.Fields(word)
		if len(fields) != 4 {
			t.Fatalf("instruction %q has %d fields, want 4", word, len(fields))
		}
		var n [4]uint64
		for i, f := range fields {
			var err error
			if n[i], err = strconv.ParseUint(f, 10, 32); err != nil {
				t.Fatal(err)
			}
		}
		if n[0] == 0x84 { // negation, which bpf.VM lacks: multiply by -1
			n[0], n[3] = opALU|aluMul, 0xffffffff
		}
		program = append(program, bpf.RawInstruction{Op: uint16(n[0]), Jt: uint8(n[1]), Jf: uint8(n[2]), K: uint32(n[3])})
	}
	return program
}

// golden returns tcpdump's programs of each expression: the stored ones, checked
// against tcpdump where that is installed.
func golden(t *testing.T) map[string]reference {
	expressions := filtertest.Expressions()
	if _, err := exec.LookPath("tcpdump"); err == nil {
		var fresh bytes.Buffer
		for _, e := range expressions {
			fmt.Fprintf(&fresh, "%s\t%s\t%s\n", e, tcpdumpCompile(e), tcpdumpCompile(e, "-O"))
		}
		if *update {
			if err := os.WriteFile(goldenFile, fresh.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		stored, err := os.ReadFile(goldenFile)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(stored, fresh.Bytes()) {
			t.Errorf("%s is not what the tcpdump installed here compiles; if its programs are right, run with -update", goldenFile)
		}
	} else if *update {
		t.Fatal("-update needs tcpdump")
	}
	stored, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	programs := map[string]reference{}
	for line := range strings.Lines(string(stored)) {
		columns := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(columns) != 3 {
			t.Fatalf("%s: %d columns, want 3: %s", goldenFile, len(columns), line)
		}
		programs[columns[0]] = reference{parseProgram(t, columns[1]), parseProgram(t, columns[2])}
	}
	if len(programs) != len(expressions) {
		t.Fatalf("%s has %d expressions, want %d", goldenFile, len(programs), len(expressions))
	}
	return programs
}

func newVM(t testing.TB, program []bpf.RawInstruction) *bpf.VM {
	t.Helper()
	instructions, ok := bpf.Disassemble(program)
	if !ok {
		t.Fatalf("%v cannot be disassembled", program)
	}
	vm, err := bpf.NewVM(instructions)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

func vmMatches(t testing.TB, vm *bpf.VM, packet []byte) bool {
	t.Helper()
	n, err := vm.Run(packet)
	if err != nil {
		t.Fatal(err)
	}
	return n != 0
}

func TestFiltersAgreeWithTcpdumpOnEveryPacket(t *testing.T) {
	packets := filtertest.Packets()
	programs := golden(t)
	expressions := filtertest.Expressions()
	if len(expressions) < 300 || len(packets) < 2000 {
		t.Fatalf("%d expressions and %d packets; 300 and 2000 are the least", len(expressions), len(packets))
	}
	compared, matched, disputed := 0, 0, 0
	for _, expression := range expressions {
		t.Run(expression, func(t *testing.T) {
			program := programs[expression]
			f, err := Compile(expression)
			if want, listed := refused[expression]; listed {
				if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), want) {
					t.Fatalf("Compile gave %v, want ErrUnsupported with %q", err, want)
				}
				if program.plain == nil {
					t.Fatal("is listed as compiled by tcpdump, which refuses it too")
				}
				return
			}
			if (err == nil) != (program.plain != nil) {
				t.Fatalf("Compile gave %v, tcpdump's program has %d instructions", err, len(program.plain))
			}
			if err != nil {
				return
			}
			plain := newVM(t, program.plain)
			optimised := plain
			if program.optimised != nil {
				optimised = newVM(t, program.optimised)
			}
			ours := newVM(t, f.Raw())
			compared++
			for i, p := range packets {
				want, other := vmMatches(t, plain, p), vmMatches(t, optimised, p)
				got := vmMatches(t, ours, p)
				switch {
				case want != other:
					disputed++
					// Tests are made in the order written, as tcpdump's plain
					// program does. But like its optimiser, what a network's
					// mask leaves nothing of is not loaded.
					if got != want && !strings.Contains(expression, "net ") {
						t.Fatalf("packet %d (%x): classic BPF gives %v, tcpdump -O %v", i, p, got, want)
					}
				case got != want:
					t.Fatalf("packet %d (%x): classic BPF gives %v, tcpdump %v\n%v", i, p, got, want, f.Instructions())
				}
				if fast := f.Match(p); fast != got {
					t.Fatalf("packet %d (%x): Match gives %v, classic BPF %v", i, p, fast, got)
				}
				if got {
					matched++
				}
			}
		})
	}
	t.Logf("%d expressions on %d packets, %d matches, %d times tcpdump disagrees with itself",
		compared, len(packets), matched, disputed)
	if compared < 300 {
		t.Errorf("only %d expressions were compared, want 300", compared)
	}
	if total := compared * len(packets); disputed > total/1000 {
		t.Errorf("tcpdump disagrees with itself %d times in %d, so the test compares too little", disputed, total)
	}
}

func TestCombinationsOfExpressionsAgreeWithTcpdump(t *testing.T) {
	if _, err := exec.LookPath("tcpdump"); err != nil {
		t.Skip("combinations are compiled by tcpdump, which is not installed")
	}
	var parts []string
	for _, e := range filtertest.Expressions() {
		// Networks are left out: see the test above.
		if _, err := Compile(e); err == nil && len(e) < 40 && !strings.Contains(e, "net ") {
			parts = append(parts, e)
		}
	}
	random := rand.New(rand.NewPCG(3, 4))
	packets := filtertest.Packets()
	compared := 0
	for range 100 {
		expression := ""
		for i := range 2 + random.IntN(4) {
			part := fmt.Sprintf([]string{"%s", "(%s)", "not %s", "not (%s)"}[random.IntN(4)], parts[random.IntN(len(parts))])
			if i > 0 {
				part = expression + []string{" and ", " or "}[random.IntN(2)] + part
			}
			if expression = part; random.IntN(4) == 0 {
				expression = "(" + part + ")"
			}
		}
		program := parseProgram(t, tcpdumpCompile(expression, "-O"))
		f, err := Compile(expression)
		if (err == nil) != (program != nil) {
			t.Fatalf("Compile gave %v, tcpdump's program has %d instructions", err, len(program))
		}
		if err != nil {
			continue
		}
		compared++
		vm := newVM(t, program)
		for i := random.IntN(5); i < len(packets); i += 5 {
			if got, want := f.Match(packets[i]), vmMatches(t, vm, packets[i]); got != want {
				t.Fatalf("%s\npacket %d (%x): Match gives %v, tcpdump -O %v", expression, i, packets[i], got, want)
			}
		}
	}
	if compared < 50 {
		t.Errorf("%d combinations were compared, want 50", compared)
	}
}
