package config

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The files that C pgagroal's own tests run with, as far as they differ from one another. fault is empty, or what is
// wrong with them, there and here.
var profilesOfC = map[string]struct {
	main, servers, limits string
	fault                 string
}{
	"01": {main: "pipeline = transaction\nallow_unknown_users = false\nev_backend = io_uring\nmax_connections = 100\n", limits: limitsOfC},
	"02": {main: "pipeline = transaction\nallow_unknown_users = false\nev_backend = epoll\nmax_connections = 200\n", limits: limitsOfC},
	"03": {main: "pipeline = performance\nev_backend = io_uring\nmax_connections = 100\n"},
	"04": {main: "pipeline = performance\nev_backend = epoll\nmax_connections = 200\n"},
	"05": {main: "pipeline = session\nev_backend = io_uring\nmax_connections = 100\n"},
	"06": {main: "pipeline = session\nev_backend = epoll\nmax_connections = 200\n"},
	"07": {servers: "[a]\nhost = 127.0.0.1\nport = 5432\n[b]\nhost = localhost\nport = 5432\n", fault: "same"},
	"08": {servers: "[test]\nhost = 127.0.0.1\nport = 5432\n[test]\nhost = 127.0.0.2\nport = 5432\n", fault: "the section [test] is there already"},
	"09": {servers: "[a]\nhost = 127.0.0.1\nport = 5432\nprimary = on\n[b]\nhost = 127.0.0.2\nport = 5432\nprimary = on\n", fault: "primary"},
	"10": {servers: "[a]\nhost = 127.0.0.1\nport = 5432\nprimary = on\n[b]\nhost = 127.0.0.2\nport = 5432\n"},
	"11": {main: "startup_validation = off\nhealth_check_user = health\n"},
	"12": {main: "startup_validation = try\n"},
	"13": {main: "startup_validation = on\n", fault: "health_check_user"},
	"14": {main: "startup_validation = on\nhealth_check_user = health\n"},
	"15": {main: "startup_validation = on\nhealth_check_user = health\n", servers: "[a]\nhost = 127.0.0.1\nport = 5432\nprimary = on\n[b]\nhost = 127.0.0.1\nport = 5433\n"},
	"17": {main: "pipeline = performance\nmax_connections = 8\nblocking_timeout = 10\n"},
	"18": {main: "pipeline = performance\nmax_connections = 24\nmetrics = 2346\n", limits: "mydb=pgalias1,pgalias2 myuser 10 0 0\nutf8db utf8user 2 2 1\n"},
}

const limitsOfC = "mydb=pgalias1,pgalias2 myuser 8 0 0\nutf8db utf8user 2 0 0\n"

// ofC writes the files of one profile and loads them.
func ofC(t *testing.T, main, servers, limits, hba string) (*Config, []Warning, []error) {
	t.Helper()
	if servers == "" {
		servers = "[primary]\nhost = localhost\nport = 5432\n"
	}
	files := map[string]string{
		FileConfig: "[pgagroal]\nhost = localhost\nport = 2345\nlog_type = file\nlog_level = debug5\nlog_path = /tmp/pgagroal-logfile.log\n" +
			"idle_timeout = 600\nvalidation = off\nunix_socket_dir = /tmp/\n" + main + "\n" + servers,
		FileHBA: "#\n# TYPE  DATABASE USER  ADDRESS  METHOD\n#\n" + hba, FileLimits: limits,
	}
	if limits != "" {
		lines := strings.SplitAfter(vectorUsers, "\n")
		files[FileUsers] = "myuser" + strings.TrimPrefix(lines[0], "alice") + "utf8user" + strings.TrimPrefix(lines[2], "utf8")
	}
	dir := directory(t, files)
	p := mustFind(t, Flags{Directory: dir}, dir)
	p.MasterKey = keyFile(t, vectorKey, 0o700, 0o600)
	c, warnings, err := Load(p)
	if err != nil {
		return c, warnings, []error{err}
	}
	resolve := func(host string) ([]netip.Addr, error) {
		if host == "localhost" {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		}
		return nil, errors.New("no such host")
	}
	return c, warnings, c.Check(CheckEnv{Resolve: resolve})
}

func TestFilesOfCPgagroalLoadUnchanged(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(profilesOfC)) {
		x := profilesOfC[name]
		c, _, errs := ofC(t, x.main, x.servers, x.limits, "host all all all trust\n")
		if x.fault != "" {
			if len(errs) != 1 || !strings.Contains(errs[0].Error(), x.fault) {
				t.Errorf("%s: %v, want %q", name, errs, x.fault)
			}
			continue
		}
		if len(errs) > 0 {
			t.Errorf("%s: %v", name, errs)
			continue
		}
		if c.Port != 2345 || c.LogLevel != "debug5" || c.IdleTimeout != 600*time.Second || len(c.HBA) != 1 {
			t.Errorf("%s: %+v", name, c)
		}
		if want := strings.Count(x.limits, "\n"); len(c.Limits) != want || len(c.Users) != want {
			t.Errorf("%s: %d limits and %d users, want %d of each", name, len(c.Limits), len(c.Users), want)
		}
	}
}

// keysOfC are all keys of C pgagroal's main section, with values that its parser takes.
const keysOfC = `metrics = 2346
metrics_cache_max_age = 30
metrics_cache_max_size = 128K
management = 2347
log_line_prefix = "%Y-%m-%d %H:%M:%S"   # a comment
log_mode = append
log_rotation_age = 1d
log_rotation_size = 10M
log_connections = yes
log_disconnections = 1
blocking_timeout = 30
connection_retry_delay = 100
max_connection_age = 2h
rotate_frontend_password_length = 12
flush_timeout = 60
background_interval = 300
max_retries = 5
max_connections = 100
allow_unknown_users = true
authentication_timeout = 5
pipeline = 'session'
auth_query = off
failover = no
tls = off
ev_backend = auto
keep_alive = on
nodelay = on
backlog = 16
hugepage = try
tracker = off
track_prepared_statements = off
server_reset_query = 'DISCARD ALL'
server_reset_query_always = off
server_reset_query_behavior_on_failure = discard
pidfile = /tmp/pgagroal.pid
update_process_title = verbose
disconnect_client = 0
disconnect_client_force = off
libev = auto
buffer_size = 65536
non_blocking = on
[health_check]
health_check = on
health_check_period = 30
health_check_timeout = 5
health_check_user = health
startup_validation = try
[prometheus]
console = 2348
`

// rulesOfC are lines as its documentation has them.
const rulesOfC = `host  all  all  all  all
HOST    mydb     myuser  192.168.0.0/16   SCRAM-SHA-256
host    mydb     all     ::0/0            password
hostssl all      bob     10.0.0.0/8       scram-sha-256
; another comment
host    all      all     0.0.0.0/0        reject
`

func TestEveryKeyAndRuleOfCPgagroalIsUnderstood(t *testing.T) {
	servers := "[primary]\nhost = localhost\nport = 5432\nprimary = on\ntls = off\nchannel_binding = prefer\n\n[replica]\nhost = 127.0.0.2\nport = 5432\n"
	c, warnings, errs := ofC(t, keysOfC, servers, "mydb=one, two myuser 10 5 2\nall all all 0 0\n", rulesOfC)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	var ignored []string
	for _, w := range warnings {
		ignored = append(ignored, w.Key)
	}
	for _, key := range []string{"libev", "buffer_size", "non_blocking"} {
		if !slices.Contains(ignored, key) {
			t.Errorf("nothing is said about %s: %v", key, warnings)
		}
	}
	got := fmt.Sprintln(c.Pipeline, c.HealthCheckUser, c.BlockingTimeout, c.MaxConnectionAge, len(c.HBA), c.HBA[1].Method, len(c.Limits), c.Limits[0].Aliases, c.Servers[0].Primary)
	if d := cmp.Diff("session health 30s 2h0m0s 5 scram-sha-256 2 [one two] true\n", got); d != "" {
		t.Error(d)
	}
	if name := filepath.Base(c.PIDFile); name != "pgagroal.pid" {
		t.Errorf("pid file %s", name)
	}
}
