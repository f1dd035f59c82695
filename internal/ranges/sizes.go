package ranges

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// MostSize bounds sizes in bytes, so that a list of them is not a mistake.
const MostSize = 65535

// IMIX is the simple Internet mix, 7:4:1 of Ethernet frames of 64, 594 and 1518
// bytes with their FCS, which are IP packets of 40, 576 and 1500 bytes. The kinds
// are spread over the cycle.
var IMIX = []int{64, 594, 64, 64, 594, 64, 1518, 64, 594, 64, 64, 594}

// Sizes are sizes in bytes, in the order they are to be used, over and over.
type Sizes struct {
	List []int
	// Mix says that they are IMIX, which may be fitted to what the headers need.
	Mix bool
}

// UnmarshalText reads SIZE, FIRST-LAST (each once) or several with commas between;
// or imix.
func (z *Sizes) UnmarshalText(text []byte) error {
	s := string(text)
	if s == "imix" {
		*z = Sizes{slices.Clone(IMIX), true}
		return nil
	}
	var list []int
	for item := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(item), "-")
		first, err := strconv.ParseUint(from, 10, 16)
		last := first
		if err == nil && isRange {
			last, err = strconv.ParseUint(to, 10, 16)
		}
		if err != nil || last < first || first == 0 {
			return fmt.Errorf("found %q, want a size such as 64, a range such as 64-1518, a list such as 64,512,1518, or imix", s)
		}
		if len(list)+int(last-first) >= MostSize {
			return fmt.Errorf("found %q, want at most %d sizes", s, MostSize)
		}
		for n := first; n <= last; n++ {
			list = append(list, int(n))
		}
	}
	*z = Sizes{List: list}
	return nil
}

func (z Sizes) String() string {
	if z.Mix {
		return "imix"
	}
	var b strings.Builder
	for i := 0; i < len(z.List); {
		end := i
		for end+1 < len(z.List) && z.List[end+1] == z.List[end]+1 {
			end++
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(z.List[i]))
		if end > i {
			fmt.Fprintf(&b, "-%d", z.List[end])
		}
		i = end + 1
	}
	return b.String()
}
