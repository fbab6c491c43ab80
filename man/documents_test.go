package man_test

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// code is a piece of a document that is shown as it is typed or printed.
type code struct {
	file string
	text string
	// inText says that it stands within a sentence, where a command may lack arguments.
	inText bool
}

// documents returns the names of all documents and pages.
func documents(t *testing.T) []string {
	t.Helper()
	docs, err := filepath.Glob("../doc/*.md")
	if err != nil || len(docs) < 5 {
		t.Fatalf("only %d documents: %v", len(docs), err)
	}
	return append(append(docs, "../README.md", "../CHANGELOG.md"), pages...)
}

var (
	fenced = regexp.MustCompile("(?ms)^ *```[a-z]*\n(.*?)^ *```$")
	inline = regexp.MustCompile("(?s)`([^`]+)`")
	// macros show their arguments as they are typed.
	macros  = regexp.MustCompile(`(?m)^\.(?:Dl|Ql) (.+)$`)
	escapes = strings.NewReplacer(`\e`, `\`, `\-`, "-", `\&`, "", `\\`, `\`)
)

// codeOf returns the lines of code of a document or page. A line that ends in a
// backslash has the next one with it.
func codeOf(t *testing.T, name string) []code {
	t.Helper()
	text := page(t, name)
	var list []code
	block := func(body string) {
		for line := range strings.SplitSeq(strings.ReplaceAll(body, "\\\n", " "), "\n") {
			list = append(list, code{file: name, text: strings.TrimSpace(line)})
		}
	}
	if filepath.Ext(name) == ".md" {
		for _, m := range fenced.FindAllStringSubmatch(text, -1) {
			block(m[1])
		}
		for _, m := range inline.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
			list = append(list, code{name, strings.Join(strings.Fields(m[1]), " "), true})
		}
		return list
	}
	for _, m := range literal.FindAllStringSubmatch(text, -1) {
		block(strings.ReplaceAll(escapes.Replace(m[1]), "\\\n", " "))
	}
	for _, m := range macros.FindAllStringSubmatch(text, -1) {
		list = append(list, code{name, strings.TrimRight(escapes.Replace(m[1]), " .,"), true})
	}
	return list
}

// ours is a command line that begins with one of our programs, perhaps under another
// user or with a variable before it.
var ours = regexp.MustCompile(`^(?:sudo (?:-u \w+ )?)?(?:[A-Z_]+=\S+ )*(?:bin/)?(pgagroal(?:-cli|-admin|-scriptrunner|-console)?)((?: .*)?)$`)

// shellEnds is where the arguments of a command end.
var shellEnds = regexp.MustCompile(`\s(?:#|[0-9]?>|&&|\|\||\||&$|;).*$`)

// TestCommandsInDocumentsParse has each command of ours in the documents and pages
// parsed: that of pgagroal-cli by the program itself, and of the others the options and
// the commands.
func TestCommandsInDocumentsParse(t *testing.T) {
	seen := map[string]int{}
	for _, name := range documents(t) {
		for _, c := range codeOf(t, name) {
			for _, part := range strings.Split(c.text, " && ") {
				m := ours.FindStringSubmatch(part)
				if m == nil {
					continue
				}
				args := strings.Fields(shellEnds.ReplaceAllString(m[2], ""))
				if err := parses(t, m[1], args, c.inText); err != nil {
					t.Errorf("%s: %s: %v", c.file, part, err)
				}
				seen[m[1]]++
			}
		}
	}
	for name := range programs {
		if least := map[string]int{"pgagroal-cli": 30, "pgagroal": 10, "pgagroal-admin": 8}[name]; seen[name] < least {
			t.Errorf("only %d commands of %s found; the documents look different now", seen[name], name)
		}
	}
}

// parses returns what is wrong with a command.
func parses(t *testing.T, program string, args []string, inText bool) error {
	t.Helper()
	known := helpOptions(help(t, program))
	for _, a := range args {
		if option, _, _ := strings.Cut(a, "="); strings.HasPrefix(a, "-") && !slices.Contains(known, option) {
			return fmt.Errorf("there is no option %s", option)
		}
	}
	switch {
	case len(args) == 0:
		return nil
	case program == "pgagroal-cli":
		return parsedByCLI(args, inText)
	case program == "pgagroal-admin":
		return knownToAdmin(t, args)
	}
	return nil
}

// parsedByCLI runs the command for a socket that isn't there: exit code 2 says that the
// command was understood.
func parsedByCLI(args []string, inText bool) error {
	for _, option := range []string{"-c", "--socket"} {
		if i := slices.Index(args, option); i >= 0 {
			args = slices.Delete(slices.Clone(args), i, i+2)
		}
	}
	out, err := exec.Command(filepath.Join(binaries, "pgagroal-cli"), append([]string{"--socket", "/no/such/socket"}, args...)...).CombinedOutput()
	exit := (*exec.ExitError)(nil)
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == 2:
		return nil
	case strings.Contains(string(out), "not available in this version"):
		return nil
	case inText: // a sentence may be about the command, and leave its argument away
		return parsedByCLI(append(slices.Clone(args), "NAME"), false)
	}
	return fmt.Errorf("%w: %s", err, out)
}

// knownToAdmin looks for the command in the program's help.
func knownToAdmin(t *testing.T, args []string) error {
	t.Helper()
	var words []string
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "-g", args[i] == "--generate":
		case strings.HasPrefix(args[i], "-"):
			i++ // its value
		default:
			words = append(words, args[i])
		}
	}
	if len(words) == 0 || !slices.Contains(helpCommands(help(t, "pgagroal-admin")), words[0]) {
		return fmt.Errorf("there is no command %v", words)
	}
	if words[0] == "user" && (len(words) < 2 || !slices.Contains(helpCommands(help(t, "pgagroal-admin", "user")), words[1])) {
		return fmt.Errorf("there is no command %v", words)
	}
	return nil
}

func TestWrongCommandsInDocumentsAreSeen(t *testing.T) {
	for _, line := range []string{
		"pgagroal-cli failover rehears", "pgagroal-cli clear", "pgagroal-cli status --fast", "pgagroal --check",
		"sudo -u pgagroal pgagroal-admin user make -U app", "X=y bin/pgagroal-admin users", "pgagroal-scriptrunner -d",
	} {
		m := ours.FindStringSubmatch(line)
		if m == nil || parses(t, m[1], strings.Fields(m[2]), false) == nil {
			t.Errorf("%s passes", line)
		}
	}
}

var (
	target  = regexp.MustCompile(`^(?:\$ )?make ([a-z0-9-]+)((?: [A-Z]+=.*)?)`)
	goTest  = regexp.MustCompile(`go test (.*)`)
	setting = regexp.MustCompile(`([A-Z]+)=`)
)

// TestTargetsAndTestsInDocumentsExist looks up each make target with its variables, and
// each go test with its packages, the tests that it names and the options of the package.
func TestTargetsAndTestsInDocumentsExist(t *testing.T) {
	makefile := page(t, "../Makefile")
	targets, tests := 0, 0
	for _, name := range documents(t) {
		for _, c := range codeOf(t, name) {
			if m := target.FindStringSubmatch(c.text); m != nil {
				targets++
				if !strings.Contains(makefile, "\n"+m[1]+":") {
					t.Errorf("%s: the Makefile has no target %s", name, m[1])
				}
				for _, v := range setting.FindAllStringSubmatch(m[2], -1) {
					if !strings.Contains(makefile, "$("+v[1]+")") {
						t.Errorf("%s: the Makefile doesn't use %s", name, v[1])
					}
				}
			}
			if m := goTest.FindStringSubmatch(c.text); m != nil {
				tests++
				if err := goTestExists(t, strings.Fields(shellEnds.ReplaceAllString(m[1], ""))); err != nil {
					t.Errorf("%s: %s: %v", name, c.text, err)
				}
			}
		}
	}
	if targets < 20 || tests < 6 {
		t.Errorf("only %d targets and %d tests found; the documents look different now", targets, tests)
	}
}

// standard are the options of go test itself.
var standard = []string{"-race", "-run", "-v", "-timeout", "-parallel", "-count", "-bench", "-shuffle"}

func goTestExists(t *testing.T, args []string) error {
	t.Helper()
	text, run := "", "."
	for _, a := range args {
		if dir, ok := strings.CutPrefix(a, "./"); ok {
			files, _ := filepath.Glob(filepath.Join("..", strings.TrimSuffix(dir, "/..."), "*_test.go"))
			if len(files) == 0 {
				return fmt.Errorf("%s has no tests", a)
			}
			for _, f := range files {
				text += page(t, f)
			}
		}
	}
	for i, a := range args {
		if a == "-run" && args[i+1] != "-" {
			run = strings.Trim(args[i+1], "'\"")
		}
		if name, ok := strings.CutPrefix(a, "-"); ok && len(name) > 0 && !slices.Contains(standard, a) && !strings.Contains(text, `("`+name+`"`) {
			return fmt.Errorf("there is no option %s", a)
		}
	}
	wanted, err := regexp.Compile(strings.Split(run, "/")[0])
	if err != nil {
		return err
	}
	for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(text, -1) {
		if wanted.MatchString(m[1]) {
			return nil
		}
	}
	return fmt.Errorf("no test is called %s", run)
}

// ourTree is a path in the checkout.
var ourTree = regexp.MustCompile("(?m)(?:^|[\\s(`])((?:\\./)?(?:cmd|console|contrib|doc|internal|ipc|man|prober|scriptrunner|supervisor|test|worker|\\.ci)/[\\w./*-]*[\\w*])")

// TestPathsInDocumentsExist looks up each path of the checkout that a document names.
func TestPathsInDocumentsExist(t *testing.T) {
	found := 0
	for _, name := range documents(t) {
		for _, m := range ourTree.FindAllStringSubmatch(page(t, name), -1) {
			found++
			path := strings.TrimSuffix(m[1], "/...")
			if files, err := filepath.Glob(filepath.Join("..", path)); err == nil && len(files) > 0 {
				continue
			}
			// The target of a link is relative to its document.
			if linked, err := filepath.Glob(filepath.Join(filepath.Dir(name), path)); err == nil && len(linked) > 0 && strings.Contains(page(t, name), "]("+m[1]+")") {
				continue
			}
			t.Errorf("%s names %s, which isn't there", name, m[1])
		}
	}
	if found < 80 {
		t.Errorf("only %d paths found; the documents look different now", found)
	}
}

// TestTestsNamedInDocumentsExist looks for each name of a test.
func TestTestsNamedInDocumentsExist(t *testing.T) {
	for _, name := range documents(t) {
		for _, m := range regexp.MustCompile(`\bTest[A-Z]\w+`).FindAllString(page(t, name), -1) {
			out, err := exec.Command("grep", "-rql", "--include=*_test.go", "^func "+m, "..").CombinedOutput()
			if err != nil {
				t.Errorf("%s names %s: %v %s", name, m, err, out)
			}
		}
	}
}
