package man_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var variable = regexp.MustCompile(`"(?:PGAGROAL_)?([A-Z][A-Z_]+)":`)

// TestVariablesOfScriptsAreDocumented compares the environment that the runner
// and the failover give to a script with the contract of the scripts.
func TestVariablesOfScriptsAreDocumented(t *testing.T) {
	var wanted []string
	runner := source(t, "../scriptrunner/hook.go")
	for _, m := range regexp.MustCompile(`"([A-Z]+)=" ?\+`).FindAllStringSubmatch(runner, -1) {
		wanted = append(wanted, m[1])
	}
	for _, m := range regexp.MustCompile(`\w+Variable += variablePrefix \+ "(\w+)"`).FindAllStringSubmatch(runner, -1) {
		wanted = append(wanted, "PGAGROAL_"+m[1])
	}
	machine := source(t, "../supervisor/failover/run.go")
	env := machine[strings.Index(machine, "func (m *Machine) runEnv("):]
	env = env[:strings.Index(env, "\n}\n")]
	for _, m := range variable.FindAllStringSubmatch(env, -1) {
		wanted = append(wanted, "PGAGROAL_"+m[1])
	}
	if len(wanted) < 10 {
		t.Fatalf("only %v found; the source looks different now", wanted)
	}
	var found []string
	for _, it := range items(section(t, page(t, "pgagroal-hooks.7"), "ENVIRONMENT"), "Ev") {
		for name := range strings.FieldsSeq(strings.ReplaceAll(it.name, ",", " ")) {
			found = append(found, name)
		}
	}
	if d := cmp.Diff(unique(wanted), unique(found)); d != "" {
		t.Errorf("variables (-code +page):\n%s", d)
	}
}

// TestHooksAreDocumented has a chapter of arguments for each hook of the runner.
func TestHooksAreDocumented(t *testing.T) {
	arguments := section(t, page(t, "pgagroal-hooks.7"), "ARGUMENTS")
	keys := regexp.MustCompile(`\{hook\w+, h\.c\.(\w+), h\.c\.\w+\}`).FindAllStringSubmatch(source(t, "../scriptrunner/hook.go"), -1)
	if len(keys) < 2 {
		t.Fatal("no hooks found; the source looks different now")
	}
	for _, m := range keys {
		key := strings.TrimPrefix(strings.ToLower(regexp.MustCompile(`([A-Z])`).ReplaceAllString(m[1], "_$1")), "_")
		if !slices.Contains(strings.Split(arguments, "\n"), ".Ss "+key) {
			t.Errorf("the arguments of %s are not documented", key)
		}
	}
}

// TestLimitsOfScriptsAreDocumented compares what the page says with the constants.
func TestLimitsOfScriptsAreDocumented(t *testing.T) {
	text := strings.Join(strings.Fields(page(t, "pgagroal-hooks.7")), " ")
	for _, limit := range []struct{ file, constant, value, says string }{
		{"../scriptrunner/output.go", "maxLine", "4 << 10", "cut at 4096 bytes"},
		{"../scriptrunner/output.go", "maxOutput", "1 << 20", "a run at 1 MiB or"},
		{"../scriptrunner/output.go", "maxLines", "16 << 10", "or 16384 lines"},
		{"../scriptrunner/run.go", "pipeWait", "time.Second", "is delayed by a second"},
		{"../scriptrunner/run.go", "unkillable", "10 * time.Second", "10 seconds at most"},
		{"../scriptrunner/check.go", "declaration", `"# pgagroal: check"`, ".Dl # pgagroal: check"},
		{"../scriptrunner/check.go", "declaredWithin", "4096", "among its first 4096 bytes"},
		{"../scriptrunner/check.go", "checkLimit", "20 * time.Second", "after 20 seconds it gets SIGTERM"},
		{"../scriptrunner/check.go", "checkKillDelay", "time.Second", "and a second later SIGKILL"},
		{"../supervisor/hookcheck.go", "hookCheckLines", "64", "up to 64 lines"},
		{"../supervisor/history.go", "outputLines", "64", "the last 64 lines into the history"},
	} {
		if !regexp.MustCompile(`\b` + limit.constant + ` += ` + regexp.QuoteMeta(limit.value) + `(\n| )`).MatchString(source(t, limit.file)) {
			t.Errorf("%s has no %s = %s any more: correct the page and this test", limit.file, limit.constant, limit.value)
		}
		if !strings.Contains(text, limit.says) {
			t.Errorf("the page doesn't say %q", limit.says)
		}
	}
}
