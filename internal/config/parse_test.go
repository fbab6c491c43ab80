package config

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// parsed is the result of parseMain for one key in the main section.
func parsed(t *testing.T, line string, env map[string]string) (*Config, []Warning, []error) {
	t.Helper()
	return parseMain("f", []byte("[pgagroal]\n"+line+"\n"), func(n string) (string, bool) {
		v, ok := env[n]
		return v, ok
	})
}

func TestDurationsAsInPgagroal(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"10": 10 * time.Second, "10s": 10 * time.Second, "2m": 2 * time.Minute, "1h": time.Hour, "1H": time.Hour,
		"1d": 24 * time.Hour, "1W": 7 * 24 * time.Hour, "0": 0, "": 30 * time.Second,
	} {
		c, _, errs := parsed(t, "blocking_timeout = "+text, nil)
		if len(errs) > 0 || c.BlockingTimeout != want {
			t.Errorf("%q: %v, %v, want %v", text, c.BlockingTimeout, errs, want)
		}
	}
	for _, bad := range []string{"10x", "abc", "-1", "+1", "1.5s", "10ms", "1ss", "s", "99999999999w", "'1 s'"} {
		if _, _, errs := parsed(t, "blocking_timeout = "+bad, nil); len(errs) != 1 {
			t.Errorf("%q: %d errors, want 1", bad, len(errs))
		}
	}
}

func TestFailoverTimesMayBeBelowASecond(t *testing.T) {
	c, _, errs := parsed(t, "failover_probe_interval = 250MS\nfence_timeout=2\nfailover_kill_delay=1m", nil)
	if len(errs) > 0 || c.FailoverProbeInterval != 250*time.Millisecond || c.FenceTimeout != 2*time.Second || c.FailoverKillDelay != time.Minute {
		t.Errorf("%v %v %v %v", c.FailoverProbeInterval, c.FenceTimeout, c.FailoverKillDelay, errs)
	}
	if _, _, errs := parsed(t, "fence_timeout = 1ms", nil); len(errs) != 1 {
		t.Errorf("a fence of 1ms: %v", errs)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{"10": 10, "10B": 10, "1k": 1024, "1KB": 1024, "2M": 2 << 20, "1gb": 1 << 30} {
		c, _, errs := parsed(t, "log_rotation_size = "+text, nil)
		if len(errs) > 0 || c.LogRotationSize != want {
			t.Errorf("%q: %d, %v", text, c.LogRotationSize, errs)
		}
	}
	for _, bad := range []string{"10x", "-1", "1T", "9999999999999G", "k"} {
		if _, _, errs := parsed(t, "log_rotation_size = "+bad, nil); len(errs) != 1 {
			t.Errorf("%q: %d errors", bad, len(errs))
		}
	}
}

func TestEveryWordOfEveryEnumerationIsTaken(t *testing.T) {
	for _, r := range Keys() {
		if r.Kind != Enum || r.Section != MainSection {
			continue
		}
		words := append([]string{}, r.Values...)
		for w := range r.Aliases {
			words = append(words, w)
		}
		for _, w := range words {
			if _, _, errs := parsed(t, r.Name+" = "+strings.ToUpper(w), nil); len(errs) > 0 {
				t.Errorf("%s = %s: %v", r.Name, w, errs)
			}
		}
		c, _, errs := parsed(t, r.Name+" = bogus", nil)
		if got, _ := c.Get(r.Name); len(errs) != 1 || got != r.Default {
			t.Errorf("%s = bogus: %v, value %s", r.Name, errs, got)
		}
	}
}

func TestBooleans(t *testing.T) {
	for text, want := range map[string]bool{"on": true, "YES": true, "true": true, "1": true, "off": false, "No": false, "false": false, "0": false} {
		c, _, errs := parsed(t, "keep_alive = "+text, nil)
		if len(errs) > 0 || c.KeepAlive != want {
			t.Errorf("%q: %v %v", text, c.KeepAlive, errs)
		}
	}
	if _, _, errs := parsed(t, "keep_alive = maybe", nil); len(errs) != 1 {
		t.Errorf("maybe: %v", errs)
	}
}

func TestValuesBeyondTheirBounds(t *testing.T) {
	for _, k := range []struct {
		line     string
		key      string
		want     string
		warnings int
		errs     int
	}{
		{"connection_retry_delay = 0", "connection_retry_delay", "1", 1, 0},
		{"connection_retry_delay = 5000", "connection_retry_delay", "999", 1, 0},
		{"connection_retry_delay = soon", "connection_retry_delay", "250", 0, 1},
		{"max_connections = 20000", "max_connections", "10000", 1, 0},
		{"max_connections = 0", "max_connections", "100", 0, 1},
		{"background_interval = 1", "background_interval", "5s", 1, 0},
		{"authentication_timeout = 0", "authentication_timeout", "5s", 1, 0},
		{"metrics_cache_max_size = 2M", "metrics_cache_max_size", "1048576B", 1, 0},
		{"disconnect_client = -5", "disconnect_client", "0", 0, 0},
		{"backlog = -5", "backlog", "-5", 0, 0},
		{"port = 65536", "port", "0", 0, 1},
		{"workers = 65", "workers", "auto", 0, 1},
		{"workers = 0", "workers", "auto", 0, 1},
		{"rotate_frontend_password_length = 7", "rotate_frontend_password_length", "8", 0, 1},
		{"health_check = on\nhealth_check_period = 0", "health_check", "off", 1, 0},
	} {
		c, warnings, errs := parsed(t, k.line, nil)
		got, _ := c.Get(k.key)
		if got != k.want || len(warnings) != k.warnings || len(errs) != k.errs {
			t.Errorf("%s: %s, warnings %v, errors %v", k.line, got, warnings, errs)
		}
	}
}

func TestPathValues(t *testing.T) {
	env := map[string]string{"HOME": "/home/x", "EMPTY": "", "BAD": "a\nb"}
	for raw, want := range map[string]string{
		`/tmp`:                 "/tmp",
		`$HOME`:                "/home/x", // at the very end
		`$HOME/.s # c`:         "/home/x/.s",
		`/x # comment`:         "/x",
		"/x\t# comment":        "/x",
		`/x#y`:                 "/x#y",
		`/a b/c`:               "/a b/c",
		`"/a # b"/c`:           "/a # b/c",
		`'$HOME'/x`:            "$HOME/x",
		`"$HOME"/x`:            "/home/x/x",
		`'/a '`:                "/a ",
		`/a\$b`:                "/a$b",
		`/x$EMPTY`:             "/x",
		`/srv/größe/漢字 # ½`:    "/srv/größe/漢字",
		`""`:                   "",
		`# only a comment`:     "",
		`"it's"`:               "it's",
		"/tabs\t  ":            "/tabs",
		`$HOME$HOME`:           "/home/x/home/x",
		`"/x ; not a comment"`: "/x ; not a comment",
		`/x;y`:                 "/x;y",
		`"~/x"`:                "~/x",
	} {
		c, _, errs := parsed(t, "unix_socket_dir = "+raw, env)
		if len(errs) > 0 || c.UnixSocketDir != want {
			t.Errorf("%s: %q, %v, want %q", raw, c.UnixSocketDir, errs, want)
		}
	}
	for _, bad := range []string{`$NOPE`, `${HOME}`, `$`, `"open`, `'open`, `$BAD`, `/x ; c`, `; c`, `~/x`, `“/x”`} {
		if _, _, errs := parsed(t, "unix_socket_dir = "+bad, env); len(errs) != 1 {
			t.Errorf("%s: %d errors, want 1", bad, len(errs))
		}
	}
}

func TestOrdinaryValues(t *testing.T) {
	for raw, want := range map[string]string{
		`word`: "word", `word#c`: "word", `word ; c`: "word", `'a b'`: "a b", `"a ' b" # c`: "a ' b",
		"word\t": "word", `"größe"`: "größe", `''`: "", `$HOME`: "$HOME",
	} {
		c, _, errs := parsed(t, "\tserver_reset_query\t=\t"+raw, nil)
		if len(errs) > 0 || c.ServerResetQuery != want {
			t.Errorf("%s: %q, %v, want %q", raw, c.ServerResetQuery, errs, want)
		}
	}
	for _, bad := range []string{`DISCARD ALL`, `"open`, `it's`, `"a" b`} {
		if _, _, errs := parsed(t, "server_reset_query = "+bad, nil); len(errs) != 1 {
			t.Errorf("%s: %d errors, want 1", bad, len(errs))
		}
	}
}

func TestEveryProblemIsReportedWithItsLine(t *testing.T) {
	text := "stray = 1\n[pgagroal]\n; comment\nmax_conections = 5\nport = x\n[a]\nmax_connections = 1\nhost=h\n[a]\n[open\n\x01\n\xff\n" +
		"libev = auto\n[pgagroal]\nprimary = on\n"
	_, warnings, errs := parseMain("pgagroal.conf", []byte(text), noEnv)
	want := []string{
		"pgagroal.conf:1:1: stray: the key stands before",
		"pgagroal.conf:4:1: max_conections: unknown key; did you mean max_connections?",
		`pgagroal.conf:5:8: port: "x" is not a whole number`,
		"pgagroal.conf:7:1: max_connections: the key is not one of a server; move it to [pgagroal]",
		"pgagroal.conf:9:1: the section [a] is there already, at line 6",
		"pgagroal.conf:10:1: a section without its closing bracket",
		"pgagroal.conf:11:1: the line holds the control character 0x01",
		"pgagroal.conf:12:1: the line is not UTF-8",
		"pgagroal.conf:14:1: the section [pgagroal] is there already, at line 2",
		"pgagroal.conf:15:1: primary: the key belongs in the section of a server",
	}
	if len(errs) != len(want) {
		t.Errorf("%d errors, want %d: %v", len(errs), len(want), errs)
	}
	for i := range min(len(errs), len(want)) {
		if !strings.HasPrefix(errs[i].Error(), want[i]) {
			t.Errorf("error %d is %q, want %q", i, errs[i], want[i])
		}
	}
	if len(warnings) != 1 || warnings[0].Line != 13 || warnings[0].Key != "libev" {
		t.Errorf("warnings %v", warnings)
	}
}

// Text that means something in another program's file, and something else or nothing here, is
// refused. The error says what to write instead.
func TestHabitsOfOtherFilesAreRefused(t *testing.T) {
	for line, want := range map[string]string{
		"listen_addr = *":             "f:2:1: listen_addr: a key of PostgreSQL or of another pooler, unknown here; write host",
		"Listen_Port = 6432":          "f:2:1: Listen_Port: a key of PostgreSQL or of another pooler, unknown here; write port",
		"pool_mode = transaction":     "f:2:1: pool_mode: a key of PostgreSQL or of another pooler, unknown here; write pipeline",
		"auth_file = /x":              "f:2:1: auth_file: a key of PostgreSQL or of another pooler, unknown here; add the users with pgagroal-admin",
		"Port = 1":                    "f:2:1: Port: unknown key; did you mean port?",
		"host: x":                     "f:2:1: host:: unknown key; did you mean host?",
		"[a] host = x":                `f:2:5: text behind the section, which would be lost: "host = x"; write it on the next line`,
		"['a']":                       "f:2:1: quotes mean nothing in the name of a section; delete them",
		"[ pgagroal ]":                "f:2:1: the section [pgagroal] is there already",
		"blocking_timeout = 10min":    `f:2:20: blocking_timeout: "10min" is not a duration; write one such as 30 or 30s, 5m`,
		"blocking_timeout = '5 s'":    "f:2:20: blocking_timeout:",
		"blocking_timeout = 5 s":      `f:2:20: blocking_timeout: more text behind the value: "s"`,
		"connection_retry_delay = 1s": `f:2:26: connection_retry_delay: "1s" is not a whole number; write milliseconds as digits without a unit`,
		"max_connections = 1e3":       `f:2:19: max_connections: "1e3" is not a whole number; write digits`,
		"max_connections = 100,":      `f:2:19: max_connections: "100," is not a whole number`,
		"max_connections = 5 // c":    `f:2:19: max_connections: more text behind the value: "// c"`,
		"failover = enabled":          `f:2:12: failover: "enabled" is neither on nor off`,
		"log_rotation_size = 1MiB":    `f:2:21: log_rotation_size: "1MiB" is not a size`,
		"host = “localhost”":          `f:2:8: host: the typographic quote “; write " or '`,
		"host = 'it''s'":              `f:2:8: host: more text behind the value`,
		"failover_script = ~/x":       "f:2:19: failover_script: a ~ is not replaced here; write the whole path",
		"failover_script = /x --now":  `f:2:19: failover_script: more text behind the value`,
		"unix_socket_dir = ${HOME}":   "f:2:19: unix_socket_dir: a $ without the name of a variable",
	} {
		if _, _, errs := parsed(t, line, nil); len(errs) != 1 || !strings.HasPrefix(errs[0].Error(), want) {
			t.Errorf("%s: %v, want %s", line, errs, want)
		}
	}
}

func TestForeignKeysAreNoneOfOurs(t *testing.T) {
	for _, r := range Keys() {
		if foreignKeys[r.Name] != "" {
			t.Errorf("%s is a key of ours", r.Name)
		}
	}
	for key, remedy := range foreignKeys {
		word, ok := strings.CutPrefix(remedy, "write ")
		word, _, _ = strings.Cut(word, " ")
		if word = strings.TrimSuffix(word, ","); !ok || word == "a" || word == "the" {
			continue
		}
		if _, ok := New().Get(word); !ok {
			t.Errorf("%s: %s is no key", key, word)
		}
	}
	for _, key := range []string{"pool_mode", "pool", "pool_size", "pool_ttl", "client_max", "storage_user", "reserve_pool_size", "server_check_query"} {
		if foreignKeys[key] == "" {
			t.Errorf("%s of PgBouncer or Odyssey has no answer", key)
		}
	}
}

// With failover = on the servers are probed by default, often enough to see whether replication was active.
func TestSomeDefaultsDependOnFailover(t *testing.T) {
	for text, want := range map[string]string{
		"":                                     "off 30s",
		"failover = off":                       "off 30s",
		"failover = on":                        "off 5s",
		"failover = on\nhealth_check_user = m": "on 5s",
		"failover = on\nhealth_check = on":     "on 5s",
		"health_check = off\nfailover = on":    "off 5s",
		"failover = on\nhealth_check_user = m\nhealth_check_period = 7": "on 7s",
		"failover = on\nhealth_check_user = m\nhealth_check_period =":   "on 5s",
	} {
		c, _, errs := parseMain("f", []byte("[pgagroal]\n"+text+"\n"), noEnv)
		check, _ := c.Get("health_check")
		period, _ := c.Get("health_check_period")
		if got := check + " " + period; got != want || len(errs) > 0 {
			t.Errorf("%q: %s, want %s; errors %v", text, got, want, errs)
		}
	}
}

// A file of C pgagroal has no failover_probe_timeout.
func TestHealthCheckTimeoutIsThatOfEveryProbe(t *testing.T) {
	for text, want := range map[string]string{
		"":                         "2s",
		"failover = on":            "2s",
		"health_check_timeout = 5": "5s",
		"failover = on\nhealth_check_timeout = 5":                              "5s",
		"failover_probe_timeout = 300ms\nhealth_check_timeout = 5":             "300ms",
		"failover_probe_timeout = 2s\nhealth_check_timeout = 5":                "2s",
		"health_check = on\nhealth_check_user = m\nhealth_check_timeout = 0":   "2s",
		"health_check_timeout = 5\nfailover_probe_timeout = 1s\nfailover = on": "1s",
	} {
		c, _, errs := parseMain("f", []byte("[pgagroal]\n"+text+"\n"), noEnv)
		if got, _ := c.Get("failover_probe_timeout"); got != want || len(errs) > 0 {
			t.Errorf("%q: %s, want %s; errors %v", text, got, want, errs)
		}
	}
}

func TestMissingMainSection(t *testing.T) {
	if _, _, errs := parseMain("f", []byte("[a]\nhost=h\n"), noEnv); len(errs) != 1 {
		t.Errorf("%v", errs)
	}
}

func TestMetricsAndHealthCheckSectionsTakeMainKeys(t *testing.T) {
	c, _, errs := parsed(t, "[prometheus]\nmetrics = 5001\n[health_check]\nhealth_check_user = u", nil)
	if len(errs) > 0 || c.Metrics != 5001 || c.HealthCheckUser != "u" || len(c.Servers) != 0 {
		t.Errorf("%v %d %q %v", errs, c.Metrics, c.HealthCheckUser, c.Servers)
	}
}

func TestPrimaryHintMayComeBeforeHostAndPort(t *testing.T) {
	c := mustParse(t, "[pgagroal]\n[a]\nprimary = on\nhost = h\nport = 5432\n[b]\nport=5433\nhost=i\n")
	if !c.Servers[0].Primary || c.Servers[1].Primary || c.Servers[0].Name != "a" || c.Servers[1].Line != 6 {
		t.Errorf("%+v", c.Servers)
	}
	if !c.Servers[0].FailoverCandidate || c.Servers[0].ChannelBinding != "prefer" {
		t.Error("a server lacks its defaults")
	}
}

func TestLongLines(t *testing.T) {
	long := strings.Repeat("x", 12000)
	c, _, errs := parsed(t, "server_reset_query = '"+long+"'\r\n# größe", nil)
	if len(errs) > 0 || c.ServerResetQuery != long {
		t.Errorf("a line of 12000 bytes: %v", errs)
	}
	if _, _, errs := parsed(t, "server_reset_query = "+strings.Repeat("x", 17000), nil); len(errs) != 1 {
		t.Errorf("a line of 17000 bytes: %d errors", len(errs))
	}
}

func TestKeysNotYetInEffectAreSaid(t *testing.T) {
	for line, want := range map[string]int{
		"auth_query = on": 0, "log_type = file": 0, "log_type = syslog": 0, "log_rotation_age = 1d": 0, "failback = standby": 0,
		"failover_mode = follow": 0, "failover_mode = off": 0, "health_check_timeout = 6": 0, "tracker = on": 0,
		"track_prepared_statements = on": 0, "hugepage = on": 0, "update_process_title = never": 0,
		"idle_timeout = 5": 0, "idle_timeout = 5\nidle_timeout = 6": 1,
	} {
		if _, warnings, errs := parsed(t, line, nil); len(warnings) != want || len(errs) > 0 {
			t.Errorf("%s: %v %v", line, warnings, errs)
		}
	}
}

// FuzzParse: no input causes a panic, and a file that loads is printed as a file that loads with
// the same values.
func FuzzParse(f *testing.F) {
	f.Add([]byte("[pgagroal]\nhost = '*'\nport=1\nunix_socket_dir=\"/a $HOME\" # c\n[a]\nprimary=on\nhost=h\n"))
	f.Add([]byte("[pgagroal]\nlog_line_prefix = \"it's\"\nidle_timeout=1w\nfence_timeout=300ms\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		env := func(n string) (string, bool) { return "/home/x y", n == "HOME" }
		a, _, errs := parseMain("f", data, env)
		if len(errs) > 0 {
			return
		}
		var out bytes.Buffer
		if err := a.WriteMain(&out); err != nil {
			t.Fatal(err)
		}
		b, _, errs := parseMain("f", out.Bytes(), noEnv)
		if len(errs) > 0 {
			t.Fatalf("printed text doesn't load: %v\n%s", errs, out.String())
		}
		if changes := Diff(a, b); len(changes) > 0 {
			t.Fatalf("printed text differs: %v\n%s", changes, out.String())
		}
	})
}
