package checkup

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/config"
)

// Level says how bad a finding is.
type Level string

// Levels. An Error is what keeps pgagroal from working as it is configured, a Warning what will hurt some day, a Note what
// an operator should know.
const (
	Error   Level = "error"
	Warning Level = "warning"
	Note    Level = "note"
	OK      Level = "ok"
)

var levels = [...]Level{Error, Warning, Note, OK}

// Finding is one thing that was looked at.
type Finding struct {
	Level Level
	About string // files, users, scripts, state_dir, limits, servers, or server NAME
	Where string `json:",omitempty"` // file:line, or an address
	Text  string
	Do    string `json:",omitempty"` // what to do
}

// Report is everything that was found.
type Report struct {
	Findings []Finding // the worst first
	Errors   int
	Warnings int
	Notes    int
}

// findings collects; each goroutine has its own.
type findings []Finding

func (f *findings) add(level Level, about, where, do, format string, args ...any) {
	*f = append(*f, Finding{Level: level, About: about, Where: where, Do: do, Text: fmt.Sprintf(format, args...)})
}

// addError adds a problem whose message says what to do after a semicolon, as those of package config do.
func (f *findings) addError(about string, err error) {
	var where string
	text := err.Error()
	if fe, ok := errors.AsType[*config.FileError](err); ok {
		where, text = placeOf(fe.File, fe.Line), withKey(fe.Key, fe.Msg)
	}
	text, do, _ := strings.Cut(text, "; ")
	f.add(Error, about, where, do, "%s", text)
}

func (f *findings) addWarning(about string, w config.Warning) {
	text, do, _ := strings.Cut(withKey(w.Key, w.Msg), "; ")
	f.add(Warning, about, placeOf(w.File, w.Line), do, "%s", text)
}

func placeOf(file string, line int) string {
	if file == "" || line == 0 {
		return file
	}
	return fmt.Sprintf("%s:%d", file, line)
}

func withKey(key, msg string) string {
	if key == "" {
		return msg
	}
	return key + ": " + msg
}

// report sorts the findings and counts them.
func (f findings) report() Report {
	r := Report{Findings: f}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return slices.Index(levels[:], a.Level) - slices.Index(levels[:], b.Level)
	})
	for _, x := range f {
		switch x.Level {
		case Error:
			r.Errors++
		case Warning:
			r.Warnings++
		case Note:
			r.Notes++
		}
	}
	return r
}

// WriteText prints the report for people: a line for each finding, what to do below it, and a summary.
func (r Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, f := range r.Findings {
		where := f.About
		if f.Where != "" {
			where += " (" + f.Where + ")"
		}
		fmt.Fprintf(&b, "%-8s %s: %s\n", f.Level, where, f.Text)
		if f.Do != "" {
			fmt.Fprintf(&b, "%-8s -> %s\n", "", f.Do)
		}
	}
	fmt.Fprintf(&b, "%s, %s, %s\n", counted(r.Errors, "error"), counted(r.Warnings, "warning"), counted(r.Notes, "note"))
	_, err := io.WriteString(w, b.String())
	return err
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
