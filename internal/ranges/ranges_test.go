package ranges

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// read reads text into a new value of T and returns it.
func read[T any](text string) (T, error) {
	var v T
	err := any(&v).(encoding.TextUnmarshaler).UnmarshalText([]byte(text))
	return v, err
}

func check[T fmt.Stringer](t *testing.T, text, printed string, first any, n uint64) {
	t.Helper()
	v, err := read[T](text)
	if err != nil {
		t.Errorf("%q: %v", text, err)
		return
	}
	f := reflect.ValueOf(v)
	if got := fmt.Sprint(f.Field(0).Interface()); got != fmt.Sprint(first) {
		t.Errorf("%q begins with %v, want %v", text, got, first)
	}
	if got := f.Field(1); got.CanUint() && got.Uint() != n {
		t.Errorf("%q has %d values, want %d", text, got.Uint(), n)
	}
	if v.String() != printed {
		t.Errorf("%q prints as %q, want %q", text, v, printed)
	}
	if again, err := read[T](printed); err != nil || !reflect.DeepEqual(again, v) {
		t.Errorf("%q is %+v after printing, %v; want %+v", text, again, err, v)
	}
}

func TestAddressesAreOneAPrefixOrARange(t *testing.T) {
	check[Addresses](t, "10.0.0.1", "10.0.0.1", "10.0.0.1", 1)
	check[Addresses](t, "10.0.0.7/24", "10.0.0.0-10.0.0.255", "10.0.0.0", 256)
	check[Addresses](t, "10.0.0.7/32", "10.0.0.7", "10.0.0.7", 1)
	check[Addresses](t, "0.0.0.0/0", "0.0.0.0-255.255.255.255", "0.0.0.0", 1<<32)
	check[Addresses](t, "10.0.0.250-10.0.1.5", "10.0.0.250-10.0.1.5", "10.0.0.250", 12)
	check[Addresses](t, "2001:db8::1", "2001:db8::1", "2001:db8::1", 1)
	check[Addresses](t, "2001:db8::/120", "2001:db8::-2001:db8::ff", "2001:db8::", 256)
	check[Addresses](t, "2001:db8::/32", "2001:db8::-2001:db8::ffff:ffff", "2001:db8::", 1<<32)
	check[Addresses](t, "2001:db8::ffff:fffe-2001:db8::1:0:1", "2001:db8::ffff:fffe-2001:db8::1:0:1", "2001:db8::ffff:fffe", 4)
}

func TestPortsAreOneOrARange(t *testing.T) {
	check[Ports](t, "53", "53", 53, 1)
	check[Ports](t, "1024-65535", "1024-65535", 1024, 64512)
	check[Ports](t, "0-65535", "0-65535", 0, 65536)
	check[Ports](t, "9-9", "9", 9, 1)
}

func TestSizesAreAListOfSizesAndRanges(t *testing.T) {
	check[Sizes](t, "64", "64", []int{64}, 0)
	check[Sizes](t, "64-67", "64-67", []int{64, 65, 66, 67}, 0)
	check[Sizes](t, "64, 512,1518", "64,512,1518", []int{64, 512, 1518}, 0)
	check[Sizes](t, "512,64-66,64", "512,64-66,64", []int{512, 64, 65, 66, 64}, 0)
	check[Sizes](t, "imix", "imix", IMIX, 0)
}

func TestIMIXIsSevenFourOne(t *testing.T) {
	n := map[int]int{}
	for _, size := range IMIX {
		n[size]++
	}
	if want := map[int]int{64: 7, 594: 4, 1518: 1}; !reflect.DeepEqual(n, want) {
		t.Errorf("the mix is %v, want %v", n, want)
	}
}

func TestWhatIsNoRangeIsRefused(t *testing.T) {
	refuse := func(text string, _ any, err error, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	for text, want := range map[string]string{
		"":                            "want an address, a prefix",
		"10.0.0":                      "want an address, a prefix",
		"10.0.0.0/33":                 "want an address, a prefix",
		"fe80::1%eth1":                "want an address, a prefix",
		"::ffff:10.0.0.0/120":         "want an address, a prefix",
		"10.0.0.1-":                   "want an address, a prefix",
		"10.0.0.9-10.0.0.1":           "the smaller first",
		"10.0.0.1-2001:db8::1":        "the smaller first",
		"2001:db8::-2001:db9::":       "at most 2^32 addresses",
		"2001:db8::-2001:db8:0:0:1::": "at most 2^32 addresses",
	} {
		v, err := read[Addresses](text)
		refuse(text, v, err, want)
	}
	for _, text := range []string{"", "65536", "-1", "5-", "9-5", "x", "1-2-3"} {
		v, err := read[Ports](text)
		refuse(text, v, err, "want a port such as 53")
	}
	for _, text := range []string{"", "0", "64,", "64-", "9-5", "x", "65536", "IMIX"} {
		v, err := read[Sizes](text)
		refuse(text, v, err, "want a size such as 64")
	}
	v, err := read[Sizes]("1-65535,1-65535")
	refuse("two times all sizes", v, err, "at most 65535 sizes")
}

func FuzzRanges(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8", "2001:db8::1-2001:db8::9", "1-9", "64,512-520", "imix"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		again(t, s, func(a Addresses) bool { return a.N >= 1 && a.N <= MostAddresses && Low(a.First)+a.N-1 >= Low(a.First) })
		again(t, s, func(p Ports) bool { return p.N >= 1 && uint32(p.First)+p.N <= 65536 })
		again(t, s, func(z Sizes) bool { return len(z.List) >= 1 && len(z.List) <= MostSize })
	})
}

// again checks what was read, and that it is the same after printing.
func again[T fmt.Stringer](t *testing.T, s string, valid func(T) bool) {
	v, err := read[T](s)
	if err != nil {
		return
	}
	if !valid(v) {
		t.Errorf("%q is %+v", s, v)
	}
	if w, err := read[T](v.String()); err != nil || !reflect.DeepEqual(v, w) {
		t.Errorf("%q prints as %q, which is %+v, %v", s, v, w, err)
	}
}
