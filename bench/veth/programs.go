package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// xdpDrop is XDP_DROP (enum xdp_action, linux/bpf.h).
const xdpDrop = 1

// A tally is a program that counts, with its counters. Per-CPU, so that
// counting costs both sides of a run the same few nanoseconds.
type tally struct {
	program *ebpf.Program
	counts  *ebpf.Map
}

// Slots of a tally's counters.
const (
	slotFrames = iota // those that were looked for
	slotOther         // anything else
	slots
)

// read returns the count of a slot over all CPUs.
func (t *tally) read(slot uint32) (uint64, error) {
	var perCPU []uint64
	if err := t.counts.Lookup(slot, &perCPU); err != nil {
		return 0, fmt.Errorf("read counter %d: %w", slot, err)
	}
	var sum uint64
	for _, n := range perCPU {
		sum += n
	}
	return sum, nil
}

func (t *tally) Close() error {
	return errors.Join(t.program.Close(), t.counts.Close())
}

// newTally loads a program that sets R6 to a slot in body, counts there and
// goes on at tail. A body finds the context in R7, and may jump to count, past
// it to tail, or return.
func newTally(name string, body, tail asm.Instructions) (*tally, error) {
	counts, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: name, Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 8, MaxEntries: slots,
	})
	if err != nil {
		return nil, fmt.Errorf("create the counters of %s: %w", name, err)
	}
	insns := asm.Instructions{asm.Mov.Reg(asm.R7, asm.R1)}
	insns = append(insns, body...)
	insns = append(insns,
		asm.StoreMem(asm.RFP, -4, asm.R6, asm.Word).WithSymbol("count"),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, counts.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "tail"), // the verifier cannot know that the slot exists
		asm.LoadMem(asm.R1, asm.R0, 0, asm.DWord),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
	)
	tail[0] = tail[0].WithSymbol("tail")
	insns = append(insns, tail...)
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: name, Type: ebpf.XDP, Instructions: insns, License: "Dual BSD/GPL",
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("load %s: %w", name, err), counts.Close())
	}
	return &tally{program, counts}, nil
}

// newCounter returns the program of the near end: it counts the frames whose
// destination and source are dst and src, and others apart, and drops all.
func newCounter(dst, src net.HardwareAddr) (*tally, error) {
	// struct xdp_md: data at 0, data_end at 4.
	body := asm.Instructions{
		asm.Mov.Imm(asm.R6, slotOther),
		asm.LoadMem(asm.R2, asm.R7, 0, asm.Word),
		asm.LoadMem(asm.R3, asm.R7, 4, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R2),
		asm.Add.Imm(asm.R4, headers),
		asm.JGT.Reg(asm.R4, asm.R3, "count"),
	}
	// Both addresses as three words, in the order of this machine.
	addrs := slices.Concat(dst, src)
	for at := 0; at < len(addrs); at += 4 {
		body = append(body,
			asm.LoadMem(asm.R4, asm.R2, int16(at), asm.Word),
			asm.JNE.Imm32(asm.R4, int32(binary.NativeEndian.Uint32(addrs[at:])), "count"))
	}
	body = append(body, asm.Mov.Imm(asm.R6, slotFrames))
	return newTally("bench_count", body, asm.Instructions{asm.Mov.Imm(asm.R0, xdpDrop), asm.Return()})
}
