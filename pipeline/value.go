package pipeline

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// setScalar sets v from its text; the error says what was wanted.
func setScalar(v reflect.Value, s string) error {
	t := v.Type()
	switch {
	case t == durationType:
		dur, err := time.ParseDuration(s)
		if err != nil {
			return fmt.Errorf("a duration such as 10s or 250ms")
		}
		v.SetInt(int64(dur))
		return nil
	case t.Kind() == reflect.String:
		v.SetString(s)
		return nil
	case t.Kind() == reflect.Bool:
		switch strings.ToLower(s) {
		case "true", "yes", "on":
			v.SetBool(true)
		case "false", "no", "off":
			v.SetBool(false)
		default:
			return fmt.Errorf("true or false")
		}
		return nil
	case v.CanInt():
		n, err := strconv.ParseInt(plainDigits(s), 0, t.Bits())
		if err != nil {
			return wholeNumber(err, "", t)
		}
		v.SetInt(n)
		return nil
	case v.CanUint():
		n, err := strconv.ParseUint(plainDigits(s), 0, t.Bits())
		if err != nil {
			return wholeNumber(err, " from 0", t)
		}
		v.SetUint(n)
		return nil
	case v.CanFloat():
		f, err := strconv.ParseFloat(s, t.Bits())
		if err != nil {
			return fmt.Errorf("a number")
		}
		v.SetFloat(f)
		return nil
	}
	return fmt.Errorf("a type that options can have; %v is not one", t)
}

func wholeNumber(err error, from string, t reflect.Type) error {
	if errors.Is(err, strconv.ErrRange) {
		return fmt.Errorf("a whole number%s of at most %d bits", from, t.Bits())
	}
	return fmt.Errorf("a whole number%s", from)
}

// plainDigits takes the underscores out of a number, and leading zeros, which do
// not make it octal (0o does, as in YAML 1.2).
func plainDigits(s string) string {
	s = strings.ReplaceAll(s, "_", "")
	for len(s) > 1 && s[0] == '0' && s[1] >= '0' && s[1] <= '9' {
		s = s[1:]
	}
	return s
}

// typeName names a type as documentation does.
func typeName(t reflect.Type) string {
	switch {
	case t == durationType:
		return "duration"
	case t.Kind() == reflect.Slice:
		return "list of " + typeName(t.Elem())
	case t.Kind() == reflect.Bool:
		return "bool"
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64:
		if reflect.PointerTo(t).Implements(textUnmarshalerType) {
			return strings.ToLower(t.Name())
		}
		return "integer"
	case t.Kind() == reflect.Float32 || t.Kind() == reflect.Float64:
		return "number"
	case t.Kind() == reflect.String:
		return "string"
	}
	return strings.ToLower(t.Name())
}
