package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// noEnv is an environment without variables.
func noEnv(string) (string, bool) { return "", false }

// mustParse reads a main file that has neither problems nor warnings.
func mustParse(t *testing.T, text string) *Config {
	t.Helper()
	c, warnings, errs := parseMain("f", []byte(text), noEnv)
	if len(errs)+len(warnings) > 0 {
		t.Fatalf("errors %v, warnings %v", errs, warnings)
	}
	return c
}

func TestNewHoldsTheDefaultOfEveryKey(t *testing.T) {
	c := New()
	for e := range c.Rows() {
		want := e.Row.Default
		switch e.Row.Kind {
		case Port, Int, Duration, DurationMS, Size:
			if want == "" {
				want = "0"
			}
			v, err := e.Row.parse(want)
			if want != "0" && err != nil {
				t.Fatalf("%s: %v", e.Row.Name, err)
			}
			if e.Text != "0" && fmt.Sprint(v) != fmt.Sprint(e.Value) {
				t.Errorf("%s = %v, want %v", e.Row.Name, e.Value, v)
			}
		default:
			if e.Text != want {
				t.Errorf("%s = %q, want %q", e.Row.Name, e.Text, want)
			}
		}
	}
	if c.FenceTimeout != 500*time.Millisecond || c.MaxConnections != 100 || !c.FailoverVetoStreaming {
		t.Errorf("defaults are missing: %v %v %v", c.FenceTimeout, c.MaxConnections, c.FailoverVetoStreaming)
	}
}

func TestTableIsConsistent(t *testing.T) {
	seen := map[string]bool{}
	fields := map[any]string{}
	c, s := New(), newServer("s", "f", 1)
	for _, r := range Keys() {
		id := fmt.Sprint(r.Section, r.Name)
		if seen[id] || r.Help == "" {
			t.Errorf("%s: twice in the table, or without help", r.Name)
		}
		seen[id] = true
		var field any
		if r.Section == MainSection {
			field = r.main(c)
		} else {
			field = r.server(&s)
		}
		if other, taken := fields[field]; taken {
			t.Errorf("%s and %s have the same field", r.Name, other)
		}
		fields[field] = r.Name
		if r.Kind == Enum && len(r.Values) < 2 {
			t.Errorf("%s: an enumeration with %d values", r.Name, len(r.Values))
		}
	}
}

var (
	sampleKey     = regexp.MustCompile(`(?m)^#?([a-z0-9_]+) =(.*)$`)
	sampleComment = regexp.MustCompile(`(?m)^#((?:[a-z0-9_]+ =|\[).*)$`)
)

func sample(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "pgagroal.conf.sample"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestSampleLoadsAndPassesTheCheck(t *testing.T) {
	c := mustParse(t, sample(t))
	c.HBA = []HBARule{{}}
	c.UnixSocketDir = t.TempDir()
	if errs := c.Check(CheckEnv{}); len(errs) > 0 {
		t.Errorf("Check: %v", errs)
	}
}

func TestSampleNamesEveryKeyWithItsDefault(t *testing.T) {
	text := sample(t)
	main, server, _ := strings.Cut(text, "\n[primary]\n")
	for _, r := range Keys() {
		part := main
		if r.Section == ServerSection {
			part = server
		}
		found := false
		for _, m := range sampleKey.FindAllStringSubmatch(part, -1) {
			if m[1] != r.Name {
				continue
			}
			found = true
			if r.Default != "" && strings.TrimSpace(m[2]) != r.quoted(r.Default) {
				t.Errorf("%s: the sample says %q, the table %q", r.Name, m[2], r.Default)
			}
		}
		if !found {
			t.Errorf("%s is not in the sample", r.Name)
		}
	}
}

func TestSampleWithEveryLineInUseChangesNothing(t *testing.T) {
	bare := mustParse(t, sample(t))
	full := mustParse(t, sampleComment.ReplaceAllString(sample(t), "$1"))
	full.Servers = full.Servers[:1] // the sample shows a standby in comments
	if changes := Diff(bare, full); len(changes) > 0 {
		t.Errorf("defaults of the sample differ from the table: %v", changes)
	}
}

func TestPrintedConfigurationReadsBackTheSame(t *testing.T) {
	text := `[pgagroal]
host = *
port = 2345
unix_socket_dir = '/tmp/a b#c\$x'
server_reset_query = ''
log_line_prefix = "it's %H"
failover_probe_interval = 250ms
blocking_timeout = 90
connection_retry_delay = 100
failover_max_lag = 16M
workers = 3
[one.two]
host = ::1
port = 5432
primary = on
`
	a := mustParse(t, text)
	var b bytes.Buffer
	if err := a.WriteMain(&b); err != nil {
		t.Fatal(err)
	}
	again := mustParse(t, b.String())
	if changes := Diff(a, again); len(changes) > 0 {
		t.Errorf("after printing: %v\n%s", changes, b.String())
	}
	if a.UnixSocketDir != "/tmp/a b#c$x" || a.LogLinePrefix != "it's %H" || a.ServerResetQuery != "" || a.FailoverMaxLag != 16<<20 {
		t.Errorf("read wrongly: %q %q %q %d", a.UnixSocketDir, a.LogLinePrefix, a.ServerResetQuery, a.FailoverMaxLag)
	}
}

func TestGetReadsBackWhatSetWrote(t *testing.T) {
	c := mustParse(t, "[pgagroal]\n[p]\nhost=h\nport=1\n")
	c.HBA = []HBARule{{Type: "host", User: Named("a.b"), Method: "trust"}}
	c.Limits = []Limit{{Database: Named("d"), Aliases: []string{"x", "y"}, MaxSize: 7}}
	for _, k := range []struct{ key, value string }{
		{"log_level", "debug"},
		{"pgagroal.idle_timeout", "90s"},
		{"health_check.health_check_period", "45s"},
		{"server.p.port", "5433"},
		{"max_connections", "42"},
		{"pipeline", "session"},
	} {
		if err := c.Set(k.key, k.value); err != nil {
			t.Errorf("Set(%s): %v", k.key, err)
		}
		if got, ok := c.Get(k.key); !ok || got != k.value {
			t.Errorf("Get(%s) = %q, %v, want %q", k.key, got, ok, k.value)
		}
	}
	for key, want := range map[string]string{"hba.a.b.method": "trust", "limit.d.max_size": "7", "limit.d.aliases": "x,y"} {
		if got, ok := c.Get(key); !ok || got != want {
			t.Errorf("Get(%s) = %q, %v, want %q", key, got, ok, want)
		}
	}
	for _, key := range []string{"nosuch", "server.q.port", "server.p.nosuch", "hba.z.method", "other.port", "server.p"} {
		if got, ok := c.Get(key); ok {
			t.Errorf("Get(%s) = %q for a key that isn't there", key, got)
		}
		if err := c.Set(key, "1"); err == nil {
			t.Errorf("Set(%s) took a key that isn't there", key)
		}
	}
	for key, bad := range map[string]string{"pipeline": "fast", "port": "0", "idle_timeout": "1y", "log_line_prefix": `'"`, "user": "a\nb"} {
		before, _ := c.Get(key)
		if err := c.Set(key, bad); err == nil {
			t.Errorf("Set(%s) took %q", key, bad)
		}
		if after, _ := c.Get(key); after != before {
			t.Errorf("a refused Set changed %s", key)
		}
	}
}

func TestDiffSaysWhatNeedsARestart(t *testing.T) {
	base := "[pgagroal]\nport = %s\npipeline = %s\nidle_timeout = %s\n[a]\nhost=a\nport=1\n%s"
	was := mustParse(t, fmt.Sprintf(base, "1", "auto", "0", ""))
	is := mustParse(t, fmt.Sprintf(base, "2", "performance", "5", "failover_candidate=off\n[b]\nhost=b\nport=1\n"))
	is.Users = []Credential{{"u", "secret"}}
	want := []Change{
		{"port", "1", "2", Live},
		{"pidfile", "pgagroal.1.pid", "pgagroal.2.pid", Restart},
		{"idle_timeout", "0s", "5s", Live},
		{"server.a.failover_candidate", "on", "off", Live},
		{"server.b", "", "b", Live},
		{"users", "", "", Live},
	}
	if d := cmp.Diff(want, Diff(was, is)); d != "" {
		t.Error(d)
	}
}

func TestHooksDigestFollowsWhatTheRunnerRuns(t *testing.T) {
	base := mustParse(t, "[pgagroal]\nfailover_script=/s\n[a]\nhost=a\nport=1\n")
	digest := base.HooksDigest()
	if len(digest) != 64 {
		t.Fatalf("digest %q is not SHA-256 in hex", digest)
	}
	for _, key := range []string{
		"failover_script", "failover_notify_script", "failover_fence_script",
		"failover_script_timeout", "failover_notify_timeout", "failover_kill_delay", "server.a.host", "server.a.port",
	} {
		c := base.Clone()
		if err := c.Set(key, "7"); err != nil {
			t.Fatal(err)
		}
		if c.HooksDigest() == digest {
			t.Errorf("the digest doesn't follow %s", key)
		}
	}
	c := base.Clone()
	c.MaxConnections, c.LogLevel = 7, "debug"
	if c.HooksDigest() != digest {
		t.Error("the digest follows keys that the runner has no use for")
	}
	if base.Servers[0].Host != "a" {
		t.Error("Clone shares its servers")
	}
}

func TestSecretShowsItselfToNobody(t *testing.T) {
	s := Secret("hunter2")
	c := struct{ C Credential }{Credential{"alice", s}}
	encoded, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", s, "all", c)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", s, "all", c)
	all := fmt.Sprintf("%s %v %+v %#v %q %s %s", s, c, c, c, s, encoded, log.String())
	key := &MasterKey{root: s}
	all += fmt.Sprintf("%v %+v %#v %s", key, key, key, key)
	if strings.Contains(all, "hunter2") {
		t.Errorf("the secret is in %s", all)
	}
	if s.Reveal() != "hunter2" {
		t.Error("Reveal doesn't")
	}
}

func TestEffectiveValues(t *testing.T) {
	c := New()
	c.Port, c.UnixSocketDir = 2345, "/run/x"
	if c.ResolvedPipeline() != PipelinePerformance || c.EffectivePIDFile() != "/run/x/pgagroal.2345.pid" {
		t.Errorf("%s %s", c.ResolvedPipeline(), c.EffectivePIDFile())
	}
	c.Failover, c.MaxConnections, c.PIDFile, c.Workers = true, 8, "/p", 5
	if c.ResolvedPipeline() != PipelineSession || c.EffectivePIDFile() != "/p" || c.EffectiveWorkers() != 5 {
		t.Errorf("%s %s %d", c.ResolvedPipeline(), c.EffectivePIDFile(), c.EffectiveWorkers())
	}
	c.Workers = 0
	for key, want := range map[string][2]string{"auto": {"off", "known"}, "off": {"off", "off"}, "known": {"known", "known"}, "on": {"on", "on"}} {
		for i, failover := range []bool{false, true} {
			if c.FailoverKeepSessions, c.Failover = key, failover; c.ResolvedKeepSessions() != want[i] {
				t.Errorf("failover_keep_sessions = %s with failover %t is %s, want %s", key, failover, c.ResolvedKeepSessions(), want[i])
			}
		}
	}
	if New().FailoverKeepSessions != KeepAuto {
		t.Error("failover_keep_sessions isn't auto by default")
	}
	if n := c.EffectiveWorkers(); n < 1 || n > 64 {
		t.Errorf("%d workers", n)
	}
}
