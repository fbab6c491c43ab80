package leftovers

import (
	_ "embed"
	"strconv"
	"strings"
)

// builtinNames has a line for each built-in function, of all its argument types, that
// leaves nothing in a session, and for each keyword that looks like a function. A number
// after it is the version of PostgreSQL that it came with, if that is above 13: an
// older server may have a function of a user by this name.
//
// The test of this list compares it with a server, and writes it with -rewrite.
//
//go:embed builtin.txt
var builtinNames string

// builtinOf returns the names on the list that servers of a major version have.
func builtinOf(major int) map[string]bool {
	m := make(map[string]bool, 2200)
	for line := range strings.Lines(builtinNames) {
		name, since, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.Atoi(since); name != "" && (err != nil || n <= major) {
			m[name] = true
		}
	}
	return m
}
