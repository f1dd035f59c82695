package filter

import (
	"slices"

	"golang.org/x/net/bpf"
)

// maxInstructions is BPF_MAXINSNS of linux/bpf_common.h.
const maxInstructions = 4096

func failTooLong() {
	fail(0, "the expression needs more than %d instructions", maxInstructions)
}

// acceptLength is what a program returns for a packet that matches: more bytes
// than any frame has, and the number tcpdump uses.
const acceptLength = 262144

// maxJump is how far a conditional jump reaches; its distances are bytes.
const maxJump = 255

// assemble lays the graph out as a program. Nodes stand before their
// followers, as classic BPF only jumps forward.
func assemble(g *graph, root *node) ([]bpf.RawInstruction, bool) {
	var order []*node
	for _, n := range slices.Backward(g.nodes) {
		if n.reached {
			order = append(order, n)
		}
	}
	// Far jumps need a second instruction, which may make others far: place
	// until nothing changes. Jumps only grow, so this ends.
	farYes, farNo := map[*node]bool{}, map[*node]bool{}
	total := 0
	for changed := true; changed; {
		changed = false
		total = 0
		for _, n := range order {
			n.position = total
			total += len(n.code) + 1
			if farYes[n] {
				total++
			}
			if farNo[n] {
				total++
			}
		}
		if total+2 > maxInstructions {
			return nil, false
		}
		g.accept.position, g.reject.position = total, total+1
		for _, n := range order {
			after := n.position + len(n.code) + 1
			if !farYes[n] && n.yes.position-after > maxJump {
				farYes[n], changed = true, true
			}
			if !farNo[n] && n.no.position-after > maxJump {
				farNo[n], changed = true, true
			}
		}
	}
	program := make([]bpf.RawInstruction, 0, total+2)
	for _, n := range order {
		program = append(program, n.code...)
		after := n.position + len(n.code) + 1
		jump := bpf.RawInstruction{Op: n.test.jump, K: n.test.k}
		var far code
		branch := func(isFar bool, target *node) uint8 {
			if !isFar {
				return uint8(target.position - after)
			}
			far = append(far, ins(opJump, uint32(target.position-(after+len(far)+1))))
			return uint8(len(far) - 1)
		}
		jump.Jt = branch(farYes[n], n.yes)
		jump.Jf = branch(farNo[n], n.no)
		program = append(append(program, jump), far...)
	}
	if root == g.reject {
		return code{ins(opReturn, 0)}, true
	}
	if root == g.accept {
		return code{ins(opReturn, acceptLength)}, true
	}
	return append(program, ins(opReturn, acceptLength), ins(opReturn, 0)), true
}
