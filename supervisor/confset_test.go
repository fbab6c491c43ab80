package supervisor

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// setOutcome is how a conf set has ended.
type setOutcome struct {
	answered bool
	response control.SetResponse
	err      error
}

// set runs conf set, and all workers can use the outcome.
func (w *world) set(key, value string, persist bool) *setOutcome {
	w.t.Helper()
	o := &setOutcome{}
	w.s.confSet(key, value, persist, func(r control.SetResponse, err error) { *o = setOutcome{true, r, err} })
	w.settle()
	w.allPrepared()
	return o
}

// reset runs conf reset likewise.
func (w *world) reset(key string) *outcome {
	w.t.Helper()
	o := &outcome{}
	w.s.confReset(key, func(r control.ReloadResponse, err error) { *o = outcome{true, r, err} })
	w.settle()
	w.allPrepared()
	return o
}

// reloaded runs a reload likewise.
func (w *world) reloaded() *outcome {
	o := w.reload()
	w.allPrepared()
	return o
}

func text(s *string) string {
	if s == nil {
		return "-"
	}
	return *s
}

func TestConfSetIsInEffectUntilTheNextReload(t *testing.T) {
	f := newFiles(t)
	f.write("pgagroal.conf", "blocking_timeout = 7s\n")
	w := f.world()
	f.write("pgagroal.conf", "blocking_timeout = 7s\nmax_retries = 2\n") // nobody has asked to read this yet
	got := w.set("pgagroal.blocking_timeout", "9", false)
	r := got.response
	if got.err != nil || r.Status != control.SetSuccess || r.ConfigKey != "pgagroal.blocking_timeout" || text(r.OldValue) != "7s" ||
		text(r.NewValue) != "9s" || r.RestartRequired || r.Persisted != "" || r.CurrentValue != nil || r.RequestedValue != nil {
		t.Errorf("%+v", got)
	}
	if w.s.cfg.BlockingTimeout.Seconds() != 9 || w.s.cfg.MaxRetries != 5 || w.s.cfg.Origin("blocking_timeout").File != config.SetByCommand {
		t.Errorf("%v, %d, %v", w.s.cfg.BlockingTimeout, w.s.cfg.MaxRetries, w.s.cfg.Origin("blocking_timeout"))
	}
	for _, c := range w.children {
		if all := committed(c); !slices.Equal(all, []uint64{2}) {
			t.Errorf("a worker was told %v", all)
		}
	}
	if o := w.reloaded(); o.err != nil || !slices.Equal(keysOf(o.response.Changed), []string{"blocking_timeout", "max_retries"}) || w.s.cfg.BlockingTimeout.Seconds() != 7 {
		t.Errorf("the reload: %+v, %v", o, w.s.cfg.BlockingTimeout)
	}
	if _, err := os.Stat(filepath.Join(f.dir, config.AutoName)); err == nil {
		t.Error("it was written to a file")
	}
}

func TestConfSetOfAKeyThatNeedsARestart(t *testing.T) {
	w := newFiles(t).world()
	for _, persist := range []bool{false, true} {
		got := w.set("max_connections", "9", persist)
		r := got.response
		if got.err != nil || r.Status != control.SetRestart || !r.RestartRequired || text(r.CurrentValue) != "4" || text(r.RequestedValue) != "9" ||
			r.OldValue != nil || r.NewValue != nil || (r.Persisted != "") != persist {
			t.Errorf("%+v", got)
		}
	}
	if w.s.cfg.MaxConnections != 4 {
		t.Error("it is in effect")
	}
	if c, _, err := w.s.cfg.Again(); err != nil || c.MaxConnections != 9 {
		t.Errorf("the next start: %v", err)
	}
}

func TestConfSetThatIsRefusedChangesNothing(t *testing.T) {
	f := newFiles(t)
	w := f.world()
	auto := filepath.Join(f.dir, config.AutoName)
	for name, tt := range map[string]struct {
		key, value string
		persist    bool
		want       string
	}{
		"no such key":         {"nope", "1", false, "no such key"},
		"no such server":      {"server.three.failover_priority", "1", false, "no such key"},
		"a bad value":         {"max_pools", "many", true, "max_pools"},
		"a contradiction":     {"failover", "on", true, "failover_script"},
		"a hook":              {"failover_script", "/bin/true", false, "the script runner"},
		"a hook, kept":        {"failover_script", "/bin/true", true, "can't be kept in auto.conf"},
		"a path, kept":        {"tls_cert_file", "/x", true, "names a file"},
		"an account, kept":    {"worker_user", "root", true, "names an account"},
		"a way to be let in":  {"allow_unknown_users", "on", true, "who is let in"},
		"a server's host":     {"two.host", "h", false, "the script runner"},
		"the port of clients": {"port", "1", true, "pgagroal-cli"},
	} {
		got := w.set(tt.key, tt.value, tt.persist)
		if !got.answered || got.err == nil || !strings.Contains(got.err.Error(), tt.want) {
			t.Errorf("%s: %+v, want %q", name, got, tt.want)
		}
	}
	if o := w.reset("failover_script"); o.err == nil || !strings.Contains(o.err.Error(), "the script runner") {
		t.Errorf("a hook is read from an edited file: %+v", o)
	}
	if w.s.gen != 1 {
		t.Error("something is in effect")
	}
	if _, err := os.Stat(auto); err == nil {
		t.Error("something was written")
	}
	if told := eventsOf[failover.Reconfigured](w); len(told) != 0 {
		t.Errorf("an alarm about files that are well: %+v", told)
	}
}

func TestWhatCantBeWrittenIsNotInEffect(t *testing.T) {
	f := newFiles(t)
	w := f.world()
	if err := os.Mkdir(filepath.Join(f.dir, config.AutoName+".tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(f.dir, config.AutoName+".tmp", "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := w.set("max_retries", "1", true); got.err == nil || !strings.Contains(got.err.Error(), "write auto.conf") || w.s.cfg.MaxRetries != 5 {
		t.Errorf("%+v, %d", got, w.s.cfg.MaxRetries)
	}
	w.s.dir.Usable = false
	if got := w.set("max_retries", "1", true); got.err == nil || !strings.Contains(got.err.Error(), "state_dir") {
		t.Errorf("%+v", got)
	}
	if got := w.set("max_retries", "1", false); got.err != nil || w.s.cfg.MaxRetries != 1 {
		t.Errorf("without --persist: %+v, %d", got, w.s.cfg.MaxRetries)
	}
}

func TestAFailoverDuringTheWriteIsTold(t *testing.T) {
	f := newFiles(t)
	w := f.world()
	o := &setOutcome{}
	w.s.confSet("max_retries", "1", true, func(r control.SetResponse, err error) { *o = setOutcome{true, r, err} })
	w.settle()
	w.prepared(w.children[0], "")
	w.children[1].message(&ipc.ConfigDone{Gen: 2})
	w.s.dispatch(<-w.s.inbox)
	w.machine.status.Phase = failover.PhaseFencing.String()
	w.settle()
	if !o.answered || o.err == nil || !strings.Contains(o.err.Error(), "auto.conf has the change already") || w.s.cfg.MaxRetries != 5 {
		t.Errorf("%+v, %d", o, w.s.cfg.MaxRetries)
	}
}

func TestAPersistedValueSurvivesAReloadUntilItIsReset(t *testing.T) {
	f := newFiles(t)
	f.write("pgagroal.conf", "blocking_timeout = 7s\n")
	w := f.world()
	auto := filepath.Join(f.dir, config.AutoName)
	if got := w.set("blocking_timeout", "9", true); got.err != nil || got.response.Persisted != auto {
		t.Fatalf("%+v", got)
	}
	if got := w.set("server.two.failover_priority", "3", true); got.err != nil {
		t.Fatalf("%+v", got)
	}
	if got := w.set("max_retries", "1", false); got.err != nil {
		t.Fatalf("%+v", got)
	}
	if o := w.reloaded(); o.err != nil || !slices.Equal(keysOf(o.response.Changed), []string{"max_retries"}) || w.s.cfg.BlockingTimeout.Seconds() != 9 ||
		w.s.cfg.Servers[1].FailoverPriority != 3 || w.s.cfg.Origin("blocking_timeout").String() != auto+":5" {
		t.Fatalf("%+v, %v, %v", o, w.s.cfg.BlockingTimeout, w.s.cfg.Origin("blocking_timeout"))
	}
	if info, err := os.Stat(auto); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if o := w.reset("blocking_timeout"); o.err != nil || len(o.response.Changed) != 1 || o.response.Changed[0] != (control.ConfChange{Key: "blocking_timeout", Old: "9s", New: "7s"}) {
		t.Errorf("%+v", o)
	}
	if got := w.s.cfg.Origin("blocking_timeout").String(); got != filepath.Join(f.dir, "pgagroal.conf")+":8" {
		t.Errorf("it is set at %s", got)
	}
	if o := w.reset("all"); o.err != nil || !slices.Equal(keysOf(o.response.Changed), []string{"server.two.failover_priority"}) {
		t.Errorf("%+v", o)
	}
	if c, _, err := w.s.cfg.Again(); err != nil || c.BlockingTimeout.Seconds() != 7 || c.Servers[1].FailoverPriority != 0 {
		t.Errorf("the next start: %v", err)
	}
	if o := w.reset("nope"); o.err == nil {
		t.Error("a key that isn't there was reset")
	}
}

// The alarm is about the files; a command that changes something else doesn't mend them.
func TestConfSetDoesntEndTheAlarmOfADamagedFile(t *testing.T) {
	f := newFiles(t)
	w := f.world()
	f.write("pgagroal.conf", "max_pools = many\n")
	w.reload()
	if got := w.set("max_retries", "1", false); got.err != nil {
		t.Fatal(got.err)
	}
	if got := w.reset("max_retries"); got.err == nil {
		t.Error("a value was taken from a damaged file")
	}
	f.write("pgagroal.conf", "")
	w.reloaded()
	var problems []bool
	for _, ev := range eventsOf[failover.Reconfigured](w) {
		problems = append(problems, strings.Contains(ev.Problem, "max_pools"))
	}
	if !slices.Equal(problems, []bool{true, true, false}) {
		t.Errorf("the machine was told of a problem: %v", problems)
	}
}

// A change that is reported as not made must not be made later by a disk that was slow.
func TestASlowDiskDoesntWriteAChangeThatWasGivenUp(t *testing.T) {
	f := newFiles(t)
	w := f.world()
	auto := filepath.Join(f.dir, config.AutoName)
	var writes []func() func()
	slow := func() *setOutcome {
		o, was := &setOutcome{}, w.s.env.background
		w.s.confSet("max_retries", "1", true, func(r control.SetResponse, err error) { *o = setOutcome{true, r, err} })
		w.settle()
		w.s.env.background = func(work func() func()) { writes = append(writes, work) }
		w.allPrepared()
		w.s.env.background = was
		if len(writes) == 0 {
			t.Fatal("nothing is written")
		}
		return o
	}
	o := slow()
	w.live(reloadLimit)
	if !o.answered || o.err == nil || strings.Contains(o.err.Error(), "has the change already") {
		t.Errorf("%+v", o)
	}
	writes[0]()()
	if _, err := os.Stat(auto); err == nil || w.s.cfg.MaxRetries != 5 {
		t.Errorf("the change is made later: %v, max_retries %d", err, w.s.cfg.MaxRetries)
	}
	if left, err := filepath.Glob(filepath.Join(f.dir, "*.tmp")); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}

	o = slow()
	done := writes[1]() // the file is in its place, and nobody has heard of that yet
	w.live(reloadLimit)
	if !o.answered || o.err == nil || !strings.Contains(o.err.Error(), "has the change already") {
		t.Errorf("%+v", o)
	}
	done()
	if _, err := os.Stat(auto); err != nil || w.s.cfg.MaxRetries != 5 {
		t.Errorf("%v, max_retries %d", err, w.s.cfg.MaxRetries)
	}
}
