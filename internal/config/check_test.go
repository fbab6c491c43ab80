package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// script writes an executable script in a new directory.
func script(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "script.sh")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexit 0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Dir(path), filepath.Dir(filepath.Dir(path))} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

var everybody = Names{All: true}

func selfEnv() CheckEnv {
	return CheckEnv{UID: uint32(os.Geteuid()), GIDs: []uint32{uint32(os.Getegid())}}
}

// checked calls change on a valid configuration, and then Check.
func checked(t *testing.T, env CheckEnv, change func(*Config)) []error {
	t.Helper()
	c := mustParse(t, "[pgagroal]\nhost=*\nport=2345\n[a]\nhost=127.0.0.1\nport=5432\n[b]\nhost=127.0.0.2\nport=5432\n")
	c.UnixSocketDir = t.TempDir()
	c.HBA = []HBARule{{Type: "host", Database: everybody, User: everybody, Address: All, Method: "trust", Line: 1}}
	change(c)
	return c.Check(env)
}

func TestCheckAcceptsAFailoverThatIsComplete(t *testing.T) {
	promote, notify := script(t), script(t)
	if errs := checked(t, selfEnv(), func(c *Config) {
		c.Failover, c.FailoverScript, c.FailoverNotifyScript = true, promote, notify
		c.Servers[0].Primary = true
	}); len(errs) > 0 {
		t.Error(errs)
	}
}

func TestAProbeUserWithoutAnEntryIsAnErrorWhenAnOperatorAsks(t *testing.T) {
	for name, k := range map[string]struct {
		change func(*Config)
		want   string // of the error, "" for none
	}{
		"no file": {func(c *Config) {
			c.Paths.Tried = map[string][]string{FileUsers: {"/d/pgagroal_users.conf", "/etc/pgagroal/pgagroal_users.conf"}}
		}, "m has no entry in /d/pgagroal_users.conf"},
		"no entry":      {func(c *Config) { c.Paths.Users, c.Users = "/u", []Credential{{"n", "p"}} }, "pgagroal-admin -f /u user add -U m"},
		"entry":         {func(c *Config) { c.Users = []Credential{{"n", "p"}, {"m", "p"}} }, ""},
		"the superuser": {func(c *Config) { c.Superuser = &Credential{"m", "p"} }, ""},
		"nobody":        {func(c *Config) { c.HealthCheckUser = "" }, ""},
	} {
		change := func(c *Config) { c.HealthCheckUser = "m"; k.change(c) }
		asked := selfEnv()
		asked.Asked = true
		switch errs := checked(t, asked, change); {
		case k.want == "" && len(errs) > 0:
			t.Errorf("%s: %v", name, errs)
		case k.want != "" && (len(errs) != 1 || !strings.Contains(errs[0].Error(), "health_check_user: ") || !strings.Contains(errs[0].Error(), k.want)):
			t.Errorf("%s: %v", name, errs)
		}
		if errs := checked(t, selfEnv(), change); len(errs) > 0 {
			t.Errorf("%s: a start is refused: %v", name, errs)
		}
	}
}

func TestFollowModeNeedsNoScript(t *testing.T) {
	if errs := checked(t, selfEnv(), func(c *Config) {
		c.Failover, c.FailoverMode, c.FailoverFenceScript = true, ModeFollow, "/nowhere/fence"
	}); len(errs) > 0 {
		t.Error(errs)
	}
}

func TestCheckRefusals(t *testing.T) {
	promote, other := script(t), script(t)
	for name, k := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no host":               {func(c *Config) { c.Host = "" }, "host: not set"},
		"no port":               {func(c *Config) { c.Port = 0 }, "port: not set"},
		"one port for two keys": {func(c *Config) { c.Console = c.Port }, "console: 2345 is that of the key port, too; choose another one"},
		"a management port of another key": {
			func(c *Config) { c.Metrics, c.Management, c.Admins = 9000, 9000, []Credential{{"a", "p"}} },
			"management: 9000 is that of the key metrics, too",
		},
		"no socket directory":      {func(c *Config) { c.UnixSocketDir = "" }, "unix_socket_dir: not set"},
		"socket directory is none": {func(c *Config) { c.UnixSocketDir = promote }, "is not a directory"},
		"socket directory too long": {func(c *Config) {
			c.UnixSocketDir = filepath.Join(c.UnixSocketDir, strings.Repeat("x", 100))
			if err := os.Mkdir(c.UnixSocketDir, 0o700); err != nil {
				panic(err)
			}
		}, "the system allows 107; name a shorter one"},
		"host is a path":         {func(c *Config) { c.Host = "/run" }, "is a path"},
		"empty entry of host":    {func(c *Config) { c.Host = "127.0.0.1,,::1" }, "an entry of \"127.0.0.1,,::1\" is empty"},
		"host without comma":     {func(c *Config) { c.Host = "127.0.0.1 ::1" }, "write a comma between two addresses"},
		"host with port":         {func(c *Config) { c.Host = "::1, 127.0.0.1:2345" }, "127.0.0.1:2345 is not an address; write it without brackets and port"},
		"host with brackets":     {func(c *Config) { c.Host = "[::1]" }, "[::1] is not an address"},
		"host with a pattern":    {func(c *Config) { c.Host = "10.0.*" }, "write * for all addresses"},
		"server's socket":        {func(c *Config) { c.Servers[0].Host = "/run/pg/.s.PGSQL.5433" }, "host = /run/pg, port = 5433"},
		"server's file":          {func(c *Config) { c.Servers[0].Host = promote }, "write the directory of the server's socket"},
		"server's relative path": {func(c *Config) { c.Servers[0].Host = "run/pg" }, "neither a name nor an absolute path"},
		"server's path too long": {func(c *Config) { c.Servers[0].Host = "/" + strings.Repeat("x", 100) }, "have the server use a shorter directory"},
		"no entry in hba":        {func(c *Config) { c.HBA = nil }, "nobody could connect"},
		"auth_query alone":       {func(c *Config) { c.AuthQuery = true }, "auth_query: on without anybody who may ask"},
		"auth_query of a stranger": {func(c *Config) {
			c.AuthQuery, c.Superuser, c.AuthQueryUser = true, &Credential{"s", ""}, "u"
		}, "auth_query_user: u has no entry"},
		"auth_query without a name": {func(c *Config) {
			c.AuthQuery, c.Superuser, c.AuthQueryStatement = true, &Credential{}, "SELECT 1"
		}, "it doesn't say $1"},
		"auth_query too long": {func(c *Config) {
			c.AuthQuery, c.Superuser, c.AuthQueryStatement = true, &Credential{}, "SELECT $1"+strings.Repeat(" ", maxAuthQuery)
		}, "the most is 4096"},
		"auth_query nowhere": {func(c *Config) {
			c.AuthQuery, c.Superuser, c.AuthQueryDatabase = true, &Credential{}, ""
		}, "auth_query_database: it is empty"},
		"superuser's long password": {func(c *Config) {
			c.Superuser = &Credential{"s", Secret(strings.Repeat("x", MaxOwnPassword+1))}
		}, "the password of s, as whom pgagroal itself logs in, is longer than 8191 bytes"},
		"prober's long password": {func(c *Config) {
			c.Users, c.HealthCheckUser = []Credential{{"h", Secret(strings.Repeat("x", MaxOwnPassword+1))}}, "h"
		}, "the password of h, as whom"},
		"long password for auth_query": {func(c *Config) {
			c.Users, c.AuthQuery, c.AuthQueryUser = []Credential{{"q", Secret(strings.Repeat("x", MaxOwnPassword+1))}}, true, "q"
		}, "the password of q, as whom"},
		"rotation without a vault":  {func(c *Config) { c.RotateFrontendPasswordTimeout = 1 }, "passwords of 8 characters would be known to pgagroal-vault alone"},
		"frontend user is no user":  {func(c *Config) { c.FrontendUsers = []Credential{{"u", ""}} }, "frontend user u is not in the users file"},
		"health check without user": {func(c *Config) { c.HealthCheck = true }, "health_check: on without health_check_user"},
		"validation without user":   {func(c *Config) { c.StartupValidation = StartupOn }, "startup_validation: on without"},
		"no server":                 {func(c *Config) { c.Servers = nil }, "there is no server"},
		"server without host":       {func(c *Config) { c.Servers[0].Host = "" }, "[a] has no host"},
		"server without port":       {func(c *Config) { c.Servers[1].Port = 0 }, "[b] has no port"},
		"two primaries":             {func(c *Config) { c.Servers[0].Primary, c.Servers[1].Primary = true, true }, "both say primary"},
		"same address":              {func(c *Config) { c.Servers[1].Host = "127.0.0.1" }, "[b] is the same server as [a]"},
		"same mapped address":       {func(c *Config) { c.Servers[1].Host = "::ffff:127.0.0.1" }, "is the same server"},
		"performance and failover": {func(c *Config) {
			c.Pipeline, c.Failover, c.FailoverScript = PipelinePerformance, true, promote
		}, "knows no failover"},
		"tls without certificate": {func(c *Config) { c.TLS = TLSAllow; c.TLSKeyFile = "/k" }, "tls_cert_file: tls = allow needs a certificate"},
		"tls without key":         {func(c *Config) { c.TLS = TLSRequire; c.TLSCertFile = "/c" }, "tls_key_file: tls = require needs the certificate's private key"},
		"tls with a key too few": {
			func(c *Config) { c.TLS, c.TLSCertFile, c.TLSKeyFile = TLSAllow, "/a, /b", "/a" },
			"tls_key_file: 1 files, and tls_cert_file has 2",
		},
		"tls, unknown curve": {func(c *Config) { c.TLSCurves = "prime256v1:P-224" }, `tls_curves: unknown curve "P-224"`},
		"tls, cipher of 1.3": {
			func(c *Config) { c.TLSCiphers = "TLS_AES_128_GCM_SHA256" },
			"tls_ciphers: TLS_AES_128_GCM_SHA256 is a cipher of TLS 1.3, all of which are always on",
		},
		"tls, ciphers by groups": {func(c *Config) { c.TLSCiphers = "HIGH:!aNULL" }, `tls_ciphers: unknown cipher "HIGH" for TLS 1.2; name each`},
		"tls, ciphers without effect": {
			func(c *Config) { c.TLSMinVersion, c.TLSCiphers = "TLSv1.3", "ECDHE-RSA-AES128-GCM-SHA256" },
			"tls_ciphers: they are for TLS 1.2, and tls_min_protocol_version excludes that",
		},
		"tls to a server, unknown curve":    {func(c *Config) { c.Servers[1].TLSCurves = "x" }, `[b]: tls_curves: unknown curve "x"`},
		"tls to a server without authority": {func(c *Config) { c.Servers[1].TLS = TLSVerifyCA }, "[b]: tls = verify-ca: root certificate file is needed"},
		"tls to a server, no such file": {func(c *Config) {
			c.Servers[1].TLS, c.Servers[1].TLSCAFile = TLSVerifyFull, "/nowhere/ca.pem"
		}, "[b]: tls: could not open root certificate file: open /nowhere/ca.pem"},
		"tls to a server, half a pair": {func(c *Config) {
			c.Servers[1].TLS, c.Servers[1].TLSCertFile = TLSRequire, "/dev/null"
		}, "[b]: tls: certificate file /dev/null is not a regular file"},
		"certificate without authority": {func(c *Config) {
			c.HBA = []HBARule{{Type: "hostssl", Method: "cert", File: "hba", Line: 3}}
		}, "the rule asks for a client certificate, which needs tls and tls_ca_file"},
		"clientcert without authority": {func(c *Config) {
			c.HBA = []HBARule{{Type: "hostssl", Method: "trust", ClientCert: "verify-ca", File: "hba", Line: 3}}
		}, "the rule asks for a client certificate, which needs tls and tls_ca_file"},
		"tls to a Unix socket":          {func(c *Config) { c.Servers[1].TLS, c.Servers[1].Host = TLSRequire, "/run/x" }, "[b]: tls = require on a Unix socket"},
		"direct and prefer":             {func(c *Config) { c.Servers[1].TLS, c.Servers[1].TLSNegotiation = TLSPrefer, "direct" }, "[b]: tls_negotiation = direct needs tls = require"},
		"authority without tls":         {func(c *Config) { c.Servers[1].TLSCAFile = "/ca.pem" }, "[b]: tls_* and channel_binding do nothing without tls"},
		"binding without tls":           {func(c *Config) { c.Servers[1].ChannelBinding = "require" }, "[b]: tls_* and channel_binding do nothing without tls"},
		"keep functions with arguments": {func(c *Config) { c.FailoverKeepFunctions = "app.f, g(int)" }, "failover_keep_functions: behind g there is neither a comma nor the end"},
		"failover without script":       {func(c *Config) { c.Failover = true }, "without failover_script"},
		"failover with one server": {func(c *Config) {
			c.Failover, c.FailoverScript, c.Servers = true, promote, c.Servers[:1]
		}, "fewer than two servers"},
		"failover script missing": {func(c *Config) { c.Failover, c.FailoverScript = true, promote+"x" }, "failover_script: the script can't be used"},
		"notify without script":   {func(c *Config) { c.FailoverNotifyScript = promote }, "set without failover_script"},
		"notify is the script": {func(c *Config) {
			c.FailoverScript, c.FailoverNotifyScript = promote, promote
		}, "the same file as failover_script"},
		"fence is the script": {func(c *Config) {
			c.FailoverScript, c.FailoverFenceScript = promote, promote
		}, "failover_fence_script: the same file as another script"},
		"fence is notify": {func(c *Config) {
			c.FailoverScript, c.FailoverNotifyScript, c.FailoverFenceScript = promote, other, other
		}, "failover_fence_script: the same file as another script"},
		"fence script missing": {func(c *Config) {
			c.Failover, c.FailoverScript, c.FailoverFenceScript = true, promote, promote+"x"
		}, "failover_fence_script: the script can't be used"},
		"notify missing though failover is off": {func(c *Config) {
			c.FailoverScript, c.FailoverNotifyScript = promote, promote+"x"
		}, "failover_notify_script: the script can't be used"},
		"limits above max_connections": {func(c *Config) {
			c.Limits = []Limit{{Database: Named("d"), User: everybody, MaxSize: 60}, {Database: Named("e"), User: everybody, MaxSize: 60}, {Database: Named("f"), User: everybody, MaxSize: 1}}
		}, "add up to 120"},
		"prefill for an unknown user": {func(c *Config) {
			c.Limits = []Limit{{Database: Named("d"), User: everybody, MaxSize: 6, MinSize: 1}}
		}, "only for users of the users file"},
	} {
		errs := checked(t, selfEnv(), k.change)
		if len(errs) != 1 || !strings.Contains(errs[0].Error(), k.want) {
			t.Errorf("%s: %v, want %q", name, errs, k.want)
		}
	}
}

func TestHostsOfServersAreNamesOrAddresses(t *testing.T) {
	for host, want := range map[string]string{
		"10.0.0.1:5432": "holds the port; write host = 10.0.0.1 and port = 5432", "[::1]": "has brackets; write", "[::1]:5432": "has brackets; write",
		"postgres://db/x": "is a connection string; write", "host=db": "is a connection string; write", "a,b": "is a list; write a section for each",
		"me@db": "is neither a name nor an address; write", "*": "is neither a name nor an address", "db.example.com": "", "::1": "", "fe80::1%eth0": "",
		"db_1": "", "größe.example": "", "/tmp": "",
	} {
		errs := checked(t, selfEnv(), func(c *Config) { c.Servers[1].Host = host })
		if want == "" && len(errs) > 0 || want != "" && (len(errs) != 1 || !strings.Contains(errs[0].Error(), want)) {
			t.Errorf("%s: %v, want %q", host, errs, want)
		}
	}
}

func TestCheckNamesTheLineOfTheKey(t *testing.T) {
	c := mustParse(t, minimalMain+"\n[b]\nhost=b\nport=1\nprimary=on\n[c]\nhost=c\nport=1\nprimary=on\n")
	c.Paths.Config, c.HBA, c.MaxConnections = "pgagroal.conf", []HBARule{{}}, 2000
	errs := c.Check(CheckEnv{FileLimit: 1024})
	var fe *FileError
	if len(errs) != 2 || !errors.As(errs[1], &fe) || fe.Line != 13 || fe.File != "f" {
		t.Errorf("%v", errs)
	}
}

func TestSocketsOfTheServiceManagerReplaceHostPortAndDirectory(t *testing.T) {
	env := selfEnv()
	env.TCPPassed, env.UnixPassed = true, true
	if errs := checked(t, env, func(c *Config) { c.Host, c.Port, c.UnixSocketDir = "", 0, "" }); len(errs) > 0 {
		t.Error(errs)
	}
}

func TestWhatCannotBeListenedOnIsRefused(t *testing.T) {
	env := selfEnv()
	var asked []string
	env.Listen = func(hosts []string) error {
		asked = hosts
		return errors.New("192.0.2.1 can't be listened on")
	}
	errs := checked(t, env, func(c *Config) { c.Host = "localhost , 192.0.2.1" })
	if len(errs) != 1 || !strings.Contains(errs[0].Error(), "host: 192.0.2.1 can't be listened on") || !slices.Equal(asked, []string{"localhost", "192.0.2.1"}) {
		t.Errorf("%v, asked for %q", errs, asked)
	}
	env.TCPPassed = true
	if errs := checked(t, env, func(c *Config) { c.Host = "localhost , 192.0.2.1" }); len(errs) > 0 {
		t.Errorf("with a socket of the service manager: %v", errs)
	}
}

func TestServersAreTheSameWhenTheirNamesResolveAlike(t *testing.T) {
	same := func(c *Config) { c.Servers[1].Host = "localhost" }
	if errs := checked(t, selfEnv(), same); len(errs) > 0 {
		t.Errorf("names are resolved although nothing resolves: %v", errs)
	}
	env := selfEnv()
	env.Resolve = func(host string) ([]netip.Addr, error) {
		if host != "localhost" {
			return nil, errors.New("no such host")
		}
		return []netip.Addr{netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.1")}, nil
	}
	if errs := checked(t, env, same); len(errs) != 1 {
		t.Errorf("127.0.0.1:5432 and localhost:5432: %v", errs)
	}
	if errs := checked(t, env, func(c *Config) { c.Servers[1].Host, c.Servers[1].Port = "localhost", 5433 }); len(errs) > 0 {
		t.Errorf("another port: %v", errs)
	}
	if errs := checked(t, env, func(c *Config) { c.Servers[1].Host = "nosuch" }); len(errs) > 0 {
		t.Errorf("a name that doesn't resolve now: %v", errs)
	}
}

func TestScriptsOfAnotherUserAreLeftToTheRunner(t *testing.T) {
	if errs := checked(t, selfEnv(), func(c *Config) {
		c.Failover, c.FailoverScript, c.ScriptrunnerSocket = true, "/nonexistent", "/run/x.sock"
	}); len(errs) > 0 {
		t.Error(errs)
	}
}

func TestFollowingNeedsNoScript(t *testing.T) {
	if errs := checked(t, selfEnv(), func(c *Config) { c.Failover, c.FailoverMode = true, ModeFollow }); len(errs) > 0 {
		t.Error(errs)
	}
}

// TestANameIsLookedUpOnceInACheck: a name service that doesn't answer costs its time-out each time.
func TestANameIsLookedUpOnceInACheck(t *testing.T) {
	for _, fails := range []error{nil, errors.New("no answer")} {
		asked := map[string]int{}
		c := New()
		for i := range 4 {
			c.Servers = append(c.Servers, Server{Name: fmt.Sprint("n", i), Host: fmt.Sprint("host", i), Port: 5432})
		}
		c.Check(CheckEnv{Resolve: func(host string) ([]netip.Addr, error) {
			asked[host]++
			return nil, fails
		}})
		if d := cmp.Diff(map[string]int{"host1": 1, "host2": 1, "host3": 1}, asked); d != "" { // without an answer nobody compares with host0
			t.Errorf("with error %v (-want +have)\n%s", fails, d)
		}
	}
}
