package config

import "strings"

// strftimes has the conversions of strftime that log_line_prefix may contain.
const strftimes = "ABabCcDdeFfGgHhIjkLlMmNnPpQrRSsTtUuVvWwXxYyZz+%"

// refusePrefix returns a warning if log_line_prefix has conversions of PostgreSQL's key with this name, otherwise "". Most
// of them mean something else in strftime.
func refusePrefix(prefix string) string {
	const remedy = "; write conversions of strftime such as '%Y-%m-%d %H:%M:%S': level, process and its id follow of themselves"
	letters, unknown := conversions(prefix)
	has := func(any string) bool { return strings.ContainsAny(letters, any) }
	switch {
	case unknown != "":
		return unknown + " is no conversion here" + remedy
	case has("pP") && !has("Il"):
		return "%p is AM or PM here, and no process id" + remedy
	case letters != "" && !has("HIklTRrXcsQ+YyFDxvCGg"):
		return "no time and no year: these are the conversions of PostgreSQL" + remedy
	}
	return ""
}

// conversions returns the letters of a format's conversions, except %%, up to the first unknown conversion, and this one.
func conversions(format string) (letters, unknown string) {
	for {
		_, rest, found := strings.Cut(format, "%")
		if !found {
			return letters, ""
		}
		format = strings.TrimLeft(rest, "-:EO")
		if format == "" || strings.IndexByte(strftimes, format[0]) < 0 {
			return letters, "%" + rest[:len(rest)-len(format)] + format[:min(1, len(format))]
		}
		if format[0] != '%' {
			letters += format[:1]
		}
		format = format[1:]
	}
}
