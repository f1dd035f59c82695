package filter

import (
	"fmt"

	"github.com/cilium/ebpf/asm"
	"github.com/cloudflare/cbpfc"
)

// EBPFOptions says which registers and labels the eBPF form of a filter uses,
// so that it can be put inside of another program.
type EBPFOptions struct {
	// Start and End hold the pointers to the packet's first byte and behind
	// its last one, as xdp_md has them. They are not changed. Both zero
	// means R2 and R3.
	Start, End asm.Register

	// Result receives a number that is not 0 if the packet matches. It may be
	// one of Working. Zero means R0.
	Result asm.Register

	// Working are registers that are overwritten. All zero means R4 to R7.
	Working [4]asm.Register

	// StackOffset is how many bytes of the stack, from its top on, are taken
	// by the program around.
	StackOffset int

	// Label is where the code jumps to in the end; the program around puts
	// it on an instruction. Empty means "filter_result".
	Label string

	// Prefix of the labels inside. Two filters in a program need two of
	// them, as well as two Labels. Empty means "filter".
	Prefix string
}

// EBPF returns the filter as eBPF instructions for an XDP program. They read
// the packet between Start and End, check every access so that the verifier
// accepts them, set Result and jump to Label. A packet in several buffers
// (xdp.frags) is seen as far as its first buffer.
//
// The error names the expression: cbpfc refused its program, or the options.
func (f *Filter) EBPF(options EBPFOptions) (asm.Instructions, error) {
	o := cbpfc.EBPFOpts{
		PacketStart: options.Start,
		PacketEnd:   options.End,
		Result:      options.Result,
		ResultLabel: options.Label,
		Working:     options.Working,
		StackOffset: options.StackOffset,
		LabelPrefix: options.Prefix,
	}
	if o.PacketStart == 0 && o.PacketEnd == 0 {
		o.PacketStart, o.PacketEnd = asm.R2, asm.R3
	}
	if o.Working == ([4]asm.Register{}) {
		o.Working = [4]asm.Register{asm.R4, asm.R5, asm.R6, asm.R7}
	}
	if o.ResultLabel == "" {
		o.ResultLabel = "filter_result"
	}
	if o.LabelPrefix == "" {
		o.LabelPrefix = "filter"
	}
	instructions, err := cbpfc.ToEBPF(f.Instructions(), o)
	if err != nil {
		return nil, fmt.Errorf("translating filter %q to eBPF: %w", f.expression, err)
	}
	return instructions, nil
}
