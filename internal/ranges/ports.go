package ranges

import (
	"fmt"
	"strconv"
	"strings"
)

// Ports are N port numbers from First on. The zero value is none.
type Ports struct {
	First uint16
	N     uint32
}

// UnmarshalText reads PORT or FIRST-LAST.
func (p *Ports) UnmarshalText(text []byte) error {
	s := string(text)
	from, to, isRange := strings.Cut(s, "-")
	first, err := strconv.ParseUint(from, 10, 16)
	last := first
	if err == nil && isRange {
		last, err = strconv.ParseUint(to, 10, 16)
	}
	if err != nil || last < first {
		return fmt.Errorf("found %q, want a port such as 53 or a range such as 1024-65535", s)
	}
	*p = Ports{uint16(first), uint32(last-first) + 1}
	return nil
}

func (p Ports) String() string {
	switch p.N {
	case 0:
		return ""
	case 1:
		return strconv.Itoa(int(p.First))
	}
	return fmt.Sprintf("%d-%d", p.First, uint32(p.First)+p.N-1)
}
