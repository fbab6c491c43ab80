package man_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// literal is what a page shows as it is.
var literal = regexp.MustCompile(`(?s)\n\.Bd -literal[^\n]*\n(.*?)\n\.Ed`)

// examples returns the literal blocks of a page's examples, as they are printed.
func examples(t *testing.T, name string) []string {
	t.Helper()
	var list []string
	for _, m := range literal.FindAllStringSubmatch("\n"+section(t, page(t, name), "EXAMPLES"), -1) {
		list = append(list, strings.NewReplacer(`\e`, `\`, `\&`, "").Replace(m[1])+"\n")
	}
	if len(list) == 0 {
		t.Fatalf("%s has no examples", name)
	}
	return list
}

func TestExampleOfMainFileLoads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pgagroal.conf")
	if err := os.WriteFile(path, []byte(examples(t, "pgagroal.conf.5")[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.LoadMain(path)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Failover || len(c.Servers) != 3 {
		t.Errorf("failover %v with %d servers", c.Failover, len(c.Servers))
	}
}

func TestExamplesOfOtherFilesParse(t *testing.T) {
	rules, errs := config.ParseHBA("example", []byte(examples(t, "pgagroal_hba.conf.5")[0]))
	if len(errs) > 0 || len(rules) == 0 {
		t.Errorf("hba: %d rules, %v", len(rules), errs)
	}
	maps, errs := config.ParseIdent("example", []byte(examples(t, "pgagroal_ident.conf.5")[0]))
	if len(errs) > 0 || len(maps) == 0 {
		t.Errorf("ident: %d lines, %v", len(maps), errs)
	}
	limits, warnings, errs := config.ParseLimits("example", []byte(examples(t, "pgagroal_databases.conf.5")[0]), 100)
	if len(errs)+len(warnings) > 0 || len(limits) == 0 {
		t.Errorf("limits: %d, %v, %v", len(limits), warnings, errs)
	}
}

// TestExamplesOfScriptsAreShell has a shell read the examples without running them.
func TestExamplesOfScriptsAreShell(t *testing.T) {
	for _, name := range []string{"pgagroal-hooks.7", "pgagroal-admin.1", "pgagroal_users.conf.5", "pgagroal-failover.7"} {
		for _, text := range examples(t, name) {
			if strings.HasPrefix(text, "[pgagroal]") {
				continue // another test loads it
			}
			cmd := exec.Command("sh", "-n")
			cmd.Stdin = strings.NewReader(text)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s\n%s", name, err, out, text)
			}
		}
	}
}

// TestExampleScriptsDoWhatTheySay runs the notify example with the least and
// with several arguments, and notes what it would do on the other machines.
func TestExampleScriptsDoWhatTheySay(t *testing.T) {
	dir := t.TempDir()
	ssh := "#!/bin/sh\necho \"$@\" >> " + dir + "/calls\ncase $* in *bad*) exit 1;; esac\n"
	if err := os.WriteFile(filepath.Join(dir, "ssh"), []byte(ssh), 0o700); err != nil {
		t.Fatal(err)
	}
	follow := filepath.Join(dir, "follow")
	if err := os.WriteFile(follow, []byte(examples(t, "pgagroal-hooks.7")[1]), 0o700); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) error {
		cmd := exec.Command(follow, append([]string{"old", "5432", "2001:db8::12", "5433"}, args...)...)
		cmd.Env = []string{"PATH=" + dir + ":/usr/bin:/bin"}
		return cmd.Run()
	}
	if err := run(); err != nil {
		t.Errorf("with four arguments: %v", err)
	}
	if err := run("bad", "5432", "192.0.2.13", "5432"); err == nil {
		t.Error("a standby that can't follow is no failure")
	}
	calls, err := os.ReadFile(filepath.Join(dir, "calls"))
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSpace(string(calls)), "\n")
	if len(got) != 2 || !strings.HasSuffix(got[1], "postgres@192.0.2.13 /usr/local/sbin/follow-primary 2001:db8::12 5433") {
		t.Errorf("ssh was called with %q", got)
	}
}

// TestGuideNamesEveryState looks for each state in the operator's guide and in its page.
func TestGuideNamesEveryState(t *testing.T) {
	states := []string{
		failover.Display(failover.Primary, failover.NotWritable), failover.Display(failover.Replica, failover.Detached),
		failover.Display(failover.Failed, failover.SplitBrain),
	}
	for s := failover.NotInit; s <= failover.Failed; s++ {
		states = append(states, s.String())
	}
	guide, manual := page(t, "../doc/FAILOVER.md"), page(t, "pgagroal-failover.7")
	for _, s := range states {
		if !strings.Contains(guide, "\n| "+s+" | ") {
			t.Errorf("FAILOVER.md: the state %s is missing", s)
		}
		if !strings.Contains(manual, "\n.It Li "+s+"\n") {
			t.Errorf("pgagroal-failover.7: the state %s is missing", s)
		}
	}
}
