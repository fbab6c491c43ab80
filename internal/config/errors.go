package config

import (
	"fmt"
	"strings"
)

// FileError is one problem of one file. Msg says what is wrong and, after a semicolon, what to do.
type FileError struct {
	File string
	Line int    // 0 when the problem concerns no single line
	Key  string // empty when it concerns no key
	Msg  string

	Column int // in characters from 1; 0 when the problem concerns the whole line or the key
}

// Error returns file:line:column: key: message.
func (e *FileError) Error() string { return place(e.File, e.Line, e.Column, e.Key, e.Msg) }

// inFile adds file and line to a problem. A problem of the whole line gets the column at which its text begins.
func inFile(file string, l textLine, e *FileError) *FileError {
	e.File, e.Line = file, l.no
	if e.Column == 0 {
		e.Column = l.indent + 1
	}
	return e
}

// Warning is a problem that doesn't prevent a start.
type Warning struct {
	File string
	Line int
	Key  string
	Msg  string
}

// String returns file:line: key: message.
func (w Warning) String() string { return place(w.File, w.Line, 0, w.Key, w.Msg) }

func place(file string, line, column int, key, msg string) string {
	var b strings.Builder
	if file != "" {
		b.WriteString(file)
		if line > 0 {
			fmt.Fprintf(&b, ":%d", line)
		}
		if column > 0 {
			fmt.Fprintf(&b, ":%d", column)
		}
		b.WriteString(": ")
	}
	if key != "" {
		b.WriteString(key + ": ")
	}
	b.WriteString(msg)
	return b.String()
}

// nearest returns the word of known that is most like word, or "" if none is like it.
func nearest(word string, known []string) string {
	best, least := "", max(2, len(word)/3)+1
	for _, k := range known {
		if d := distance(word, k); d < least {
			best, least = k, d
		}
	}
	return best
}

// distance is the number of single-byte edits between a and b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)]
}
