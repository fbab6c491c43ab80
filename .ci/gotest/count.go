package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// event is one line of go test -json; see go doc test2json.
type event struct {
	Action     string
	Package    string
	ImportPath string // of build-output and build-fail
	Test       string
	Output     string
	Elapsed    float64 // seconds
}

// id names a test, or with an empty test its package.
type id struct{ pkg, test string }

// count is what the events so far say.
type count struct {
	passed, failed int
	skipped        []string

	out    io.Writer
	state  map[id]string // last action, of tests and packages that have started
	output map[id]*bytes.Buffer
	parent map[id]bool // has subtests, which are counted instead
	red    map[string]bool
}

func newCount(out io.Writer) *count {
	return &count{
		out: out, state: map[id]string{}, output: map[id]*bytes.Buffer{}, parent: map[id]bool{}, red: map[string]bool{},
	}
}

// read takes events to the end of r.
func (c *count) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			var e event
			if err := json.Unmarshal(line, &e); err != nil {
				return fmt.Errorf("read its output: %w: %q", err, line)
			}
			c.take(e)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read its output: %w", err)
		}
	}
}

func (c *count) take(e event) {
	k := id{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(c.out, e.Output)
	case "start", "run":
		c.state[k] = e.Action
		if i := strings.LastIndexByte(e.Test, '/'); i > 0 {
			c.parent[id{e.Package, e.Test[:i]}] = true
		}
	case "output":
		if c.output[k] == nil {
			c.output[k] = &bytes.Buffer{}
		}
		c.output[k].WriteString(e.Output)
	case "pass", "fail", "skip":
		c.state[k] = e.Action
		c.end(k, e)
	}
}

// end shows the output of what failed, and one line a package.
func (c *count) end(k id, e event) {
	text := c.output[k]
	delete(c.output, k)
	if e.Action == "fail" && text != nil {
		fmt.Fprint(c.out, text)
	}
	if k.test != "" {
		c.tally(k, e.Action)
		return
	}
	if e.Action == "fail" && !c.red[k.pkg] && !c.openBelow(k.pkg) {
		c.failed++ // it doesn't build, or TestMain, a race or a leak after the tests failed it
	}
	if e.Action != "skip" {
		fmt.Fprintf(c.out, "%-4s  %s  %.1fs\n", e.Action, k.pkg, e.Elapsed)
	}
}

func (c *count) tally(k id, action string) {
	switch {
	case action == "skip":
		c.skipped = append(c.skipped, k.pkg+" "+k.test)
	case action == "fail" && (!c.parent[k] || !c.redBelow(k)):
		c.failed++
		c.red[k.pkg] = true
	case action == "pass" && !c.parent[k]:
		c.passed++
	}
}

// redBelow says whether a subtest failed, which is counted already.
func (c *count) redBelow(k id) bool {
	for other, state := range c.state {
		if other.pkg == k.pkg && state == "fail" && strings.HasPrefix(other.test, k.test+"/") {
			return true
		}
	}
	return false
}

// openBelow says whether a test of the package has no end, which finish counts.
func (c *count) openBelow(pkg string) bool {
	for k, state := range c.state {
		if k.pkg == pkg && k.test != "" && state == "run" {
			return true
		}
	}
	return false
}

// finish counts what has started and never ended as failed, and names what was
// skipped.
func (c *count) finish() {
	var open []string
	for k, state := range c.state {
		if state != "run" && state != "start" {
			continue
		}
		if k.test == "" && c.red[k.pkg] {
			continue
		}
		open = append(open, strings.TrimSpace(k.pkg+" "+k.test))
		if text := c.output[k]; text != nil {
			fmt.Fprint(c.out, text)
		}
		c.failed++
	}
	slices.Sort(open)
	for _, name := range open {
		fmt.Fprintln(c.out, "no end:", name)
	}
	slices.Sort(c.skipped)
	for _, name := range c.skipped {
		fmt.Fprintln(c.out, "skipped:", name)
	}
}
