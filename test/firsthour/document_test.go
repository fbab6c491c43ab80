package firsthour

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const guide = "../../doc/GETTING-STARTED.md"

// step is a block of commands with the promise that may follow it.
type step struct {
	section  string
	way      string // how pgagroal is installed where the step is of one way alone: a package, a checkout
	commands string
	promise  []string // lines that are printed, in this order, among others
	// settles says that the text lets a few seconds pass before the promise holds.
	settles bool
}

// readSteps returns the steps of the guide in the order in which they are pasted.
func readSteps(t *testing.T) []step {
	t.Helper()
	var steps []step
	var section, way, prose string
	lines := strings.Split(readGuide(t), "\n")
	for i := 0; i < len(lines); i++ {
		title, isTitle := strings.CutPrefix(lines[i], "## ")
		part, isPart := strings.CutPrefix(lines[i], "### ")
		kind, isFence := strings.CutPrefix(lines[i], "```")
		switch {
		case isTitle:
			section, way, prose = title, "", ""
		case isPart:
			way, prose = part[strings.LastIndex(part, " ")+1:], ""
		case isFence:
			var body []string
			for i++; lines[i] != "```"; i++ {
				body = append(body, lines[i])
			}
			switch {
			case kind == "sh":
				steps = append(steps, step{section: section, way: way, commands: strings.Join(body, "\n"), settles: strings.Contains(strings.ToLower(prose), "a few seconds later")})
			case kind == "text" && len(steps) > 0 && strings.TrimSpace(prose) == "":
				steps[len(steps)-1].promise = body
			default:
				t.Fatalf("line %d of the guide: a block %q that belongs to no command", i, kind)
			}
			prose = ""
		default:
			prose += " " + lines[i]
		}
	}
	return steps
}

func readGuide(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(guide)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// missing returns the first line of a promise that the output doesn't have, or nothing.
// Other lines may stand between, and blanks don't count. A promise with … is about the
// texts around it.
func missing(promise []string, output string) string {
	lines := strings.Split(output, "\n")
	for _, want := range promise {
		want = squeezed(want)
		kept := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(want), "…", ".*") + "$")
		at := slices.IndexFunc(lines, func(line string) bool { return kept.MatchString(squeezed(line)) })
		if at < 0 {
			return want
		}
		lines = lines[at+1:]
	}
	return ""
}

// squeezed is a line with one blank between its words.
func squeezed(line string) string { return strings.Join(strings.Fields(line), " ") }

func TestAPromiseThatIsNotKeptIsSeen(t *testing.T) {
	const output = "SERVER  STATE    HEALTH\nn1      Primary  UP\nn2      Failed   UP\n    back as a standby\n"
	for want, promise := range map[string][]string{
		"":              {"n1 Primary …", "n2   Failed  UP", "back as a standby"},
		"n2 Replica …":  {"n1  Primary  UP", "n2  Replica  …"},
		"n1 Primary UP": {"n2 Failed UP", "n1 Primary UP"}, // it stands above
		"n1":            {"n1"},                            // no part of a line
	} {
		if got := missing(promise, output); got != want {
			t.Errorf("%q lacks %q, want %q", promise, got, want)
		}
	}
}

// mistake is a row of the guide's table.
type mistake struct {
	what, foundBy string
	words         []string // what stands in code quotes in the last column
}

var (
	rows   = regexp.MustCompile(`(?s)<!-- mistakes:begin -->\n.*?\|---\|---\|---\|\n(.*?)<!-- mistakes:end -->`)
	quoted = regexp.MustCompile("`([^`]+)`")
)

func readMistakes(t *testing.T) []mistake {
	t.Helper()
	m := rows.FindStringSubmatch(readGuide(t))
	if m == nil {
		t.Fatal("the guide has no table of mistakes")
	}
	var list []mistake
	for line := range strings.Lines(m[1]) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) != 3 {
			t.Fatalf("%d columns in %s", len(cells), line)
		}
		x := mistake{what: strings.TrimSpace(cells[0])}
		if q := quoted.FindStringSubmatch(cells[1]); q != nil {
			x.foundBy = q[1]
		}
		for _, q := range quoted.FindAllStringSubmatch(cells[2], -1) {
			x.words = append(x.words, q[1])
		}
		if x.foundBy == "" || len(x.words) == 0 {
			t.Fatalf("no command or no words in %s", line)
		}
		list = append(list, x)
	}
	return list
}
