package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// layered writes a main file with include_dir = conf.d and state_dir, the files of conf.d, and auto.conf.
func layered(t *testing.T, mainKeys string, included map[string]string, auto string) Paths {
	t.Helper()
	dir, state := t.TempDir(), t.TempDir()
	text := strings.Replace(minimalMain, "[pgagroal]\n", "[pgagroal]\ninclude_dir=conf.d\nstate_dir="+state+"\n"+mainKeys, 1)
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(dir, FileConfig), text)
	write(filepath.Join(dir, FileHBA), "host all all all trust\n")
	if err := os.Mkdir(filepath.Join(dir, "conf.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range included {
		write(filepath.Join(dir, "conf.d", name), text)
	}
	if auto != "" {
		write(filepath.Join(state, AutoName), auto)
	}
	return mustFind(t, Flags{Directory: dir}, dir)
}

func TestALaterFileCountsAndIsNamed(t *testing.T) {
	p := layered(t, "idle_timeout=1\nmax_retries=1\nblocking_timeout=1\n", map[string]string{
		"20.conf":  "[pgagroal]\nidle_timeout=3\nmax_retries=3\n[b]\nhost=b\nport=1\n[a]\nfailover_priority=7\n",
		"10.conf":  "[pgagroal]\nidle_timeout=2\nblocking_timeout=2\nnodelay=\n",
		".30.conf": "nonsense", "README": "nonsense", "40.conf~": "nonsense",
	}, "[pgagroal]\nmax_retries=4\n[a]\nfailover_priority=8\n")
	c, warnings, err := Load(p)
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	dir, auto := filepath.Dir(p.Config), filepath.Join(c.StateDir, AutoName)
	for name, want := range map[string][2]string{
		"idle_timeout":               {"3s", dir + "/conf.d/20.conf:2"},
		"blocking_timeout":           {"2s", dir + "/conf.d/10.conf:3"},
		"max_retries":                {"4", auto + ":2"},
		"server.a.failover_priority": {"8", auto + ":4"},
		"server.a.host":              {"a", p.Config + ":11"},
		"server.b.host":              {"b", dir + "/conf.d/20.conf:5"},
		"nodelay":                    {"on", "default"},
	} {
		if text, ok := c.Get(name); !ok || text != want[0] || c.Origin(name).String() != want[1] {
			t.Errorf("%s = %s, of %s, want %v", name, text, c.Origin(name), want)
		}
	}
	if got := c.Paths.Included; !slices.Equal(got, []string{dir + "/conf.d/10.conf", dir + "/conf.d/20.conf"}) || c.Paths.Auto != auto {
		t.Errorf("read: %v, %s", got, c.Paths.Auto)
	}
	if got := c.Place("max_retries"); got != auto+":2" {
		t.Errorf("messages say %s", got)
	}
}

// The runner executes what it reads, and the account that pgagroal runs as can write auto.conf.
func TestTheRunnerReadsTheFilesOfTheAdministratorAlone(t *testing.T) {
	p := layered(t, "", map[string]string{"1.conf": "[pgagroal]\nfailover_script=/etc/promote\n"}, "[pgagroal]\nmax_retries=4\n")
	c, err := LoadMain(p.Config)
	if err != nil || c.FailoverScript != "/etc/promote" || c.MaxRetries != 5 || c.Paths.Auto != "" {
		t.Errorf("%v, %v, %v, %q", err, c.FailoverScript, c.MaxRetries, c.Paths.Auto)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(p.Config), "conf.d", "2.conf"), []byte("[pgagroal]\nuser=somebody\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if who, err := UserOf(p.Config); who != "somebody" || err != nil {
		t.Errorf("the account is %q, %v", who, err)
	}
}

func TestKeysThatAreRefusedInAutoConf(t *testing.T) {
	values := map[Kind]string{String: "x", Path: "/x", File: "/x", Bool: "on", Int: "1", Port: "1", Duration: "1", DurationMS: "1"}
	refused := map[string]bool{}
	for _, r := range Keys() {
		section := "pgagroal"
		if r.Section == ServerSection {
			section = "a"
		}
		value := values[r.Kind]
		if r.Kind == Path || r.Kind == File || r.FilesOnly() != "" {
			refused[section+" "+r.Name] = true
		} else {
			continue
		}
		_, _, err := Load(layered(t, "", nil, "["+section+"]\n"+r.Name+"="+value+"\n"))
		if err == nil || !strings.Contains(err.Error(), AutoName+":2") || !strings.Contains(err.Error(), r.Name) {
			t.Errorf("%s is taken: %v", r.Name, err)
		}
	}
	for _, key := range []string{
		"pgagroal failover_script", "pgagroal failover_notify_script", "pgagroal failover_fence_script", "pgagroal failover_script_timeout",
		"pgagroal user", "pgagroal worker_user", "pgagroal state_dir", "pgagroal include_dir", "pgagroal unix_socket_dir", "pgagroal log_path",
		"pgagroal proxy_protocol", "pgagroal server_reset_query", "pgagroal tls", "pgagroal md5", "pgagroal host", "pgagroal console",
		"a require_auth", "a channel_binding", "a tls",
		"pgagroal scriptrunner_socket", "pgagroal tls_key_file", "pgagroal port", "pgagroal auth_query", "pgagroal auth_query_statement",
		"a host", "a port", "a tls_ca_file",
	} {
		if !refused[key] {
			t.Errorf("%s is taken", key)
		}
	}
}

// harmless are the keys that auto.conf may set: limits, times, logs and the rules of the failover. None lets anybody in, opens
// a port, weakens TLS, runs SQL or names a file.
const harmless = `
	workers metrics_cache_max_age metrics_cache_max_size metrics_max_series metrics_detail
	log_type log_level log_format log_rotation_age log_rotation_size log_line_prefix log_mode log_connections log_disconnections
	blocking_timeout connection_retry_delay idle_timeout max_connection_age flush_timeout shutdown_mode shutdown_delay pause_timeout upgrade_timeout
	validation background_interval max_retries max_connections max_clients max_clients_per_user max_clients_per_database
	reserved_connections max_pools orphan_grace authentication_timeout pipeline track_prepared_statements query_timeout
	idle_in_transaction_timeout disconnect_client disconnect_client_force ev_backend keep_alive nodelay backlog
	application_name_add_host hugepage tracker update_process_title
	health_check health_check_period health_check_timeout health_check_user startup_validation
	primary failover_candidate failover_priority
	failover failover_mode failover_start_timeout failover_probe_count failover_probe_interval failover_probe_timeout
	failover_restart_grace failover_silence_time failover_min_standbys failover_startup_grace failover_veto_streaming
	failover_veto_max fence_timeout failover_client_wait failover_keep_sessions failover_keep_functions failover_max_lag failover_verify failover_verify_timeout
	failover_notify_retries failover_settle failback failback_quarantine failover_max failover_window`

// A new key must be decided: either FilesOnly refuses it, or it is on the list.
func TestEachKeyIsRefusedInAutoConfOrHarmless(t *testing.T) {
	for _, r := range Keys() {
		if listed, refused := slices.Contains(strings.Fields(harmless), r.Name), r.FilesOnly() != ""; listed == refused {
			t.Errorf("%s: on the list of harmless keys: %t, refused: %t", r.Name, listed, refused)
		}
	}
}

func TestAnAutoConfThatCantBeTrustedIsRefused(t *testing.T) {
	for what, spoil := range map[string]func(path string) error{
		"others may write": func(path string) error { return os.Chmod(path, 0o620) },
		"symbolic": func(path string) error {
			if err := os.Rename(path, path+".x"); err != nil {
				return err
			}
			return os.Symlink(path+".x", path)
		},
		"regular file": func(path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return os.Mkdir(path, 0o700)
		},
		"doesn't belong": func(path string) error { return os.Chown(path, os.Geteuid()+1, -1) },
		"larger than":    func(path string) error { return os.Truncate(path, maxAuto+1) },
	} {
		if what == "doesn't belong" && os.Geteuid() != 0 {
			continue // nobody else can give a file away
		}
		p := layered(t, "", nil, "[pgagroal]\nmax_retries=4\n")
		c, _, err := Load(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := spoil(c.Paths.Auto); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Load(p); err == nil || !strings.Contains(err.Error(), what) || !strings.Contains(err.Error(), c.Paths.Auto) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestProblemsOfFurtherFiles(t *testing.T) {
	for text, want := range map[string]string{
		"[pgagroal]\ninclude_dir=x\n": "only the main file",
		"max_retries=1\n":             "before any section",
		"[pgagroal]\nmax_retry=1\n":   "did you mean max_retries",
		"[a]\n[a]\n":                  "is there already",
	} {
		_, _, err := Load(layered(t, "", map[string]string{"x.conf": text}, ""))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "conf.d/x.conf:") {
			t.Errorf("%q: %v", text, err)
		}
	}
	_, warnings, err := Load(layered(t, "", nil, "[gone]\nfailover_priority=1\n[pgagroal]\nmax_retries=4\n"))
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0].String(), "no server [gone]") {
		t.Errorf("a server that is gone: %v, %v", warnings, err)
	}
	p := layered(t, "", nil, "")
	if err := os.Remove(filepath.Join(filepath.Dir(p.Config), "conf.d")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Load(p); err == nil || !strings.Contains(err.Error(), FileConfig+":2: include_dir") {
		t.Errorf("a missing directory: %v", err)
	}
}

func TestWhatIsPersistedIsReadBack(t *testing.T) {
	p := layered(t, "", nil, "# by hand\n[a]\nfailover_priority=8\n")
	c, _, err := Load(p)
	if err != nil {
		t.Fatal(err)
	}
	persist := func(name, text string, remove bool) *Config {
		t.Helper()
		if !remove {
			if err := c.Set(name, text); err != nil {
				t.Fatal(err)
			}
		}
		content, err := c.PersistedText(name, remove)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(c.Paths.Auto, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		again, _, err := c.Again()
		if err != nil {
			t.Fatalf("%v:\n%s", err, content)
		}
		return again
	}
	again := persist("log_line_prefix", `select 'a;b' # c`, false)
	if again.LogLinePrefix != `select 'a;b' # c` || again.Servers[0].FailoverPriority != 8 {
		t.Errorf("%q, %d", again.LogLinePrefix, again.Servers[0].FailoverPriority)
	}
	if o := again.Origin("log_line_prefix"); o.File != c.Paths.Auto || o.Line == 0 || c.Origin("log_line_prefix").String() != SetByCommand {
		t.Errorf("%v", o)
	}
	if again = persist("idle_timeout", "90", false); again.IdleTimeout.Seconds() != 90 || again.LogLinePrefix == "%Y-%m-%d %H:%M:%S" {
		t.Errorf("%v, %v", again.IdleTimeout, again.LogLinePrefix)
	}
	if again = persist("server.a.failover_priority", "", true); again.Servers[0].FailoverPriority != 0 || again.IdleTimeout.Seconds() != 90 {
		t.Errorf("%v, %v", again.Servers[0], again.IdleTimeout)
	}
	if again = persist("", "", true); again.IdleTimeout != 0 || again.LogLinePrefix != "%Y-%m-%d %H:%M:%S" {
		t.Errorf("%v, %v", again.IdleTimeout, again.LogLinePrefix)
	}
}

// The defaults that failover = on has are those of the sample, however it was set.
func TestAKeyThatIsSetChangesTheDefaultsOfOthers(t *testing.T) {
	c := mustParse(t, "[pgagroal]\nhost=*\nport=2345\nunix_socket_dir=/tmp\nhealth_check_user=u\n")
	before := c.HealthCheckPeriod
	if err := c.Set("failover", "on"); err != nil || c.HealthCheckPeriod == before || !c.HealthCheck {
		t.Errorf("%v: %v, %v", err, c.HealthCheckPeriod, c.HealthCheck)
	}
	if err := c.Set("failover", "off"); err != nil || c.HealthCheckPeriod != before || c.HealthCheck {
		t.Errorf("%v: %v, %v", err, c.HealthCheckPeriod, c.HealthCheck)
	}
}
