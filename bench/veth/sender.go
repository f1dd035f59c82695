package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// A sender is the program that the generator has the kernel run on frames of its
// own. It counts a frame and redirects it out of the interface, or drops it: when
// the frame is early, or sending was ended. So the pace is kept inside the
// kernel, where one system call sends for a second or two: to begin and end one
// takes some 20 ms, in which nothing is sent.
type sender struct {
	tally
	control *ebpf.Map // one value: the words below
}

// Words of the control map.
const (
	wordHalt = 0 // bytes from its start: not 0 once sending is to end
	wordNext = 8 // when the next frame is due, in ns of the monotonic clock
	words    = 16
)

// newSender loads the program for an interface of the namespace that the
// generator runs in. gap is the time from one frame to the next; 0 is none.
func newSender(ifindex int, gap time.Duration) (*sender, error) {
	control, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "bench_control", Type: ebpf.Array, KeySize: 4, ValueSize: words, MaxEntries: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("create the sender's control map: %w", err)
	}
	body := asm.Instructions{
		asm.LoadMapValue(asm.R8, control.FD(), 0),
		asm.Mov.Imm(asm.R0, xdpDrop),
		asm.LoadMem(asm.R1, asm.R8, wordHalt, asm.DWord),
		asm.JNE.Imm(asm.R1, 0, "exit"),
	}
	if gap > 0 {
		body = append(body,
			asm.FnKtimeGetNs.Call(),
			asm.Mov.Reg(asm.R1, asm.R0),
			asm.Mov.Imm(asm.R0, xdpDrop),
			asm.LoadMem(asm.R2, asm.R8, wordNext, asm.DWord),
			asm.JGT.Reg(asm.R2, asm.R1, "exit"), // early
			// A sender that was held up by much does not make up for it: the burst
			// would be another load than the one asked for.
			asm.Mov.Reg(asm.R3, asm.R1),
			asm.Sub.Reg(asm.R3, asm.R2),
			asm.JLE.Imm(asm.R3, int32(catchUp), "due"),
			asm.Mov.Reg(asm.R2, asm.R1),
			asm.Add.Imm(asm.R2, int32(gap)).WithSymbol("due"),
			asm.StoreMem(asm.R8, wordNext, asm.R2, asm.DWord),
		)
	}
	body = append(body, asm.Mov.Imm(asm.R6, slotFrames))
	tail := asm.Instructions{
		asm.Mov.Imm(asm.R1, int32(ifindex)),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirect.Call(),
		asm.Return().WithSymbol("exit"),
	}
	t, err := newTally("bench_send", body, tail)
	if err != nil {
		return nil, errors.Join(err, control.Close())
	}
	return &sender{*t, control}, nil
}

// catchUp is how late a paced sender may be and still make up for it.
const catchUp = 100 * time.Microsecond

// end makes the program drop what it is run on from now on.
func (s *sender) end() error {
	var value [words]byte
	value[wordHalt] = 1
	if err := s.control.Put(uint32(0), value); err != nil {
		return fmt.Errorf("end sending: %w", err)
	}
	return nil
}

func (s *sender) Close() error { return errors.Join(s.tally.Close(), s.control.Close()) }
