package config

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// errRange means that a value has the right form but is outside the bounds of its row.
var errRange = errors.New("out of range")

// parse reads text as the type of r. The result is a string, an int64, a bool or a time.Duration.
// With errRange the result is the nearest accepted value.
func (r Row) parse(text string) (any, error) {
	switch r.Kind {
	case Enum:
		return r.parseEnum(text)
	case Bool:
		return parseBool(text)
	case Int, Port:
		return r.parseInt(text)
	case Workers:
		if strings.EqualFold(text, "auto") {
			return int64(0), nil
		}
		return r.parseInt(text)
	case Size:
		return r.parseSize(text)
	case Duration, DurationMS:
		return r.parseDuration(text)
	case Seconds, Millis:
		return r.parseCount(text)
	default:
		return text, nil
	}
}

func (r Row) parseEnum(text string) (any, error) {
	word := strings.ToLower(text)
	if w, ok := r.Aliases[word]; ok {
		word = w
	}
	if !slices.Contains(r.Values, word) {
		return nil, fmt.Errorf("%q is not known; write one of %s", text, strings.Join(r.Values, ", "))
	}
	return word, nil
}

func parseBool(text string) (any, error) {
	switch strings.ToLower(text) {
	case "on", "yes", "true", "1":
		return true, nil
	case "off", "no", "false", "0":
		return false, nil
	}
	return nil, fmt.Errorf("%q is neither on nor off; write one of them", text)
}

func (r Row) parseInt(text string) (any, error) {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("%q is not a whole number; write digits", text)
	}
	return r.bound(n, strconv.FormatInt)
}

// bound checks n against the bounds of r; show formats a bound for the message.
func (r Row) bound(n int64, show func(int64, int) string) (any, error) {
	upper := r.upper()
	switch {
	case n < r.Min:
		return r.Min, fmt.Errorf("%s is %w; the least is %s", show(n, 10), errRange, show(r.Min, 10))
	case n > upper:
		return upper, fmt.Errorf("%s is %w; the most is %s", show(n, 10), errRange, show(upper, 10))
	}
	return n, nil
}

// upper is the greatest accepted value of a numeric row.
func (r Row) upper() int64 {
	switch {
	case r.Max != 0:
		return r.Max
	case r.Kind == Port:
		return 65535
	case r.Kind == Int:
		return math.MaxInt32
	}
	return math.MaxInt64
}

// parseSize reads digits with an optional unit: B, K, M, G, KB, MB or GB.
func (r Row) parseSize(text string) (any, error) {
	digits, unit := splitUnit(text)
	factor, ok := map[string]int64{
		"": 1, "b": 1, "k": 1 << 10, "kb": 1 << 10, "m": 1 << 20, "mb": 1 << 20, "g": 1 << 30, "gb": 1 << 30,
	}[unit]
	n, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || n > math.MaxInt64/factor {
		return nil, fmt.Errorf("%q is not a size; write one such as 1048576, 1024K or 1M", text)
	}
	return r.bound(n*factor, strconv.FormatInt)
}

// parseDuration reads digits with an optional s, m, h, d or w, and ms where the row allows it.
func (r Row) parseDuration(text string) (any, error) {
	digits, letter := splitUnit(text)
	unit, ok := map[string]time.Duration{
		"": time.Second, "s": time.Second, "m": time.Minute, "h": time.Hour,
		"d": 24 * time.Hour, "w": 7 * 24 * time.Hour, "ms": time.Millisecond,
	}[letter]
	if letter == "ms" && r.Kind != DurationMS {
		ok = false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || n > math.MaxInt64/int64(unit) {
		return nil, fmt.Errorf("%q is not a duration; write one such as %s", text, r.exampleDuration())
	}
	d := time.Duration(n) * unit
	if least := time.Duration(r.Min) * time.Millisecond; d < least {
		return least, fmt.Errorf("%s is %w; the least is %s", text, errRange, formatDuration(least))
	}
	if most := time.Duration(r.Max) * time.Millisecond; r.Max != 0 && d > most {
		return most, fmt.Errorf("%s is %w; the most is %s", text, errRange, formatDuration(most))
	}
	return d, nil
}

func (r Row) exampleDuration() string {
	if r.Kind == DurationMS {
		return "300ms, 30 or 30s, 5m, 1h"
	}
	return "30 or 30s, 5m, 1h, 2d, 1w"
}

// parseCount reads a number of seconds or milliseconds without a unit, as C pgagroal's older keys
// have it. A negative number of seconds means 0, which is off.
func (r Row) parseCount(text string) (any, error) {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("%q is not a whole number; write %s as digits without a unit", text, map[bool]string{true: "seconds", false: "milliseconds"}[r.Kind == Seconds])
	}
	if r.Kind == Seconds {
		return time.Duration(max(n, 0)) * time.Second, nil
	}
	v, err := r.bound(n, strconv.FormatInt)
	return time.Duration(v.(int64)) * time.Millisecond, err
}

// splitUnit cuts text after its leading digits, and returns the unit in lower case. If text doesn't
// begin with a digit, digits is empty, which is no number.
func splitUnit(text string) (digits, unit string) {
	i := 0
	for i < len(text) && text[i] >= '0' && text[i] <= '9' {
		i++
	}
	return text[:i], strings.ToLower(text[i:])
}

// formatDuration prints d so that parseDuration reads it back: in seconds, or in milliseconds
// if d isn't a whole number of seconds.
func formatDuration(d time.Duration) string {
	if d%time.Second != 0 {
		return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
	}
	return strconv.FormatInt(int64(d/time.Second), 10) + "s"
}

// format prints the value behind field in the syntax of the file, unquoted.
func (r Row) format(field any) string {
	switch p := field.(type) {
	case *string:
		return *p
	case *int:
		if r.Kind == Workers && *p == 0 {
			return "auto"
		}
		return strconv.Itoa(*p)
	case *int64:
		return strconv.FormatInt(*p, 10) + "B"
	case *bool:
		if *p {
			return "on"
		}
		return "off"
	case *time.Duration:
		switch r.Kind {
		case Seconds:
			return strconv.FormatInt(int64(*p/time.Second), 10)
		case Millis:
			return strconv.FormatInt(p.Milliseconds(), 10)
		}
		return formatDuration(*p)
	}
	panic("config: no format for the field of " + r.Name)
}
