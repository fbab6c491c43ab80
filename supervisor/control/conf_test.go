package control

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/control"
)

func sampleConfig() *config.Config {
	c := config.New()
	c.Host, c.Port, c.UnixSocketDir = "*", 2345, "/run/pgagroal"
	c.BlockingTimeout, c.FailoverProbeInterval = 30*time.Second, 300*time.Millisecond
	c.MaxConnectionAge = 90 * time.Second
	c.Servers = []config.Server{{Name: "one", Host: "h1", Port: 5432}, {Name: "a.b", Host: "h2", Port: 5433}}
	c.HBA = []config.HBARule{{Type: "host", Database: config.Names{All: true}, User: config.Named("my.user"), Address: "all", Method: "trust"}}
	c.Limits = []config.Limit{{Database: config.Named("db"), User: config.Names{All: true}, MaxSize: 5}}
	c.Users = []config.Credential{{Name: "u", Password: "s3cret"}}
	c.Superuser = &config.Credential{Name: "su", Password: "s3cret"}
	return c
}

func TestConfValueFindsTheSectionsOfTheFile(t *testing.T) {
	for key, want := range map[string]map[string]any{
		"one": {"host": "h1", "port": 5432}, "a.b": {"host": "h2", "port": 5433}, "pgagroal": {"port": 2345, "workers": "auto"},
	} {
		got, err := ConfValue(sampleConfig(), key)
		if err != nil {
			t.Errorf("%s: %v", key, err)
		}
		section, _ := got.(map[string]any)
		for k, v := range want {
			if section[k] != v {
				t.Errorf("%s: %s is %v, want %v", key, k, section[k], v)
			}
		}
		if _, ok := section["server"]; ok {
			t.Errorf("%s holds other sections", key)
		}
	}
	for _, key := range []string{"two", "one.nonsense", "pgagroal.server", "."} {
		if v, err := ConfValue(sampleConfig(), key); !errors.Is(err, ErrUnknownKey) {
			t.Errorf("%q: %v, %v", key, v, err)
		}
	}
}

func TestConfValueFindsKeysAndSections(t *testing.T) {
	nested := func(v any, s string) any { return map[string]any{"value": v, "string_value": s} }
	for key, want := range map[string]any{
		"port":                       2345,
		"pgagroal.port":              2345,
		"blocking_timeout":           nested(30.0, "30s"),
		"failover_probe_interval":    nested(0.3, "300ms"),
		"max_connection_age":         int64(90),
		"background_interval":        int64(300),
		"pipeline":                   nested("auto", "auto"),
		"workers":                    "auto",
		"failover":                   false,
		"server.one.host":            "h1",
		"server.a.b.port":            5433,
		"a.b.port":                   5433,
		"one.host":                   "h1",
		"hba.my.user.method":         "trust",
		"limit.db.max_size":          5,
		"limit.db.aliases":           []string{},
		"hba":                        map[string]any{"my.user": map[string]any{"type": "host", "database": "all", "username": "my.user", "address": "all", "method": "trust"}},
		"hba.my.user":                map[string]any{"type": "host", "database": "all", "username": "my.user", "address": "all", "method": "trust"},
		"metrics_cache_max_size":     nested(int64(0), "0B"),
		"limit.db.number_of_aliases": 0,
	} {
		got, err := ConfValue(sampleConfig(), key)
		if err != nil {
			t.Errorf("%s: %v", key, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got)\n%s", key, d)
		}
	}
}

func TestConfValueRefusesWhatIsNotThere(t *testing.T) {
	for _, key := range []string{
		"nope", ".", "pgagroal.", "pgagroal.nope", "pgagroal.server", "server.", "server.nope", "server.nope.host",
		"server.one.nope", "server.one.", "server..host", "port.x", "blocking_timeout.value", "users", "superuser", "hba.x.y.z",
	} {
		if v, err := ConfValue(sampleConfig(), key); !errors.Is(err, ErrUnknownKey) {
			t.Errorf("%q is %v, error %v", key, v, err)
		}
	}
}

func TestConfValueOfEverythingHasEveryKeyAndNoSecret(t *testing.T) {
	v, err := ConfValue(sampleConfig(), "")
	if err != nil {
		t.Fatal(err)
	}
	tree := v.(map[string]any)
	for _, r := range config.Keys() {
		where := tree
		if r.Section == config.ServerSection {
			where = tree["server"].(map[string]any)["one"].(map[string]any)
		}
		if _, ok := where[r.Name]; !ok {
			t.Errorf("%s is missing", r.Name)
		}
	}
	raw, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(raw), "s3cret") || strings.Contains(string(raw), config.Redacted) {
		t.Error("a password is part of it")
	}
}

func TestConfFilesNamesEachFile(t *testing.T) {
	got := ConfFiles(config.Paths{Config: "c", HBA: "a", Limits: "l", Users: "u", Frontend: "F", Admins: "A", Superuser: "S", Included: []string{"i"}, Auto: "auto"})
	want := control.ConfListResponse{Main: "c", HBA: "a", Limit: "l", Users: "u", FrontendUsers: "F", Admin: "A", Superuser: "S", Included: []string{"i"}, Auto: "auto"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestConfSourcesNamesWhereAValueWasSet(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pgagroal.conf")
	if err := os.WriteFile(file, []byte("[pgagroal]\nport = 2345\n[one]\nhost = h\n[a.b]\nhost = i\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.LoadMain(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Set("idle_timeout", "5"); err != nil {
		t.Fatal(err)
	}
	port, one, ab, idle := file+":2", file+":4", file+":6", config.SetByCommand
	for key, want := range map[string]map[string]string{
		"":              {"port": port, "server.one.host": one, "server.a.b.host": ab, "idle_timeout": idle},
		"pgagroal":      {"port": port, "idle_timeout": idle},
		"pgagroal.port": {"port": port}, "port": {"port": port}, "idle_timeout": {"idle_timeout": idle}, "max_retries": {"max_retries": "default"},
		"server": {"server.one.host": one, "server.a.b.host": ab},
		"one":    {"server.one.host": one}, "server.a.b": {"server.a.b.host": ab}, "a.b.host": {"server.a.b.host": ab},
		"one.port": {"server.one.port": "default"}, "hba": {}, "nope": {},
	} {
		if d := cmp.Diff(want, ConfSources(c, key)); d != "" {
			t.Errorf("%q (-want +got)\n%s", key, d)
		}
	}
}

func TestConfAliasesHasEachLine(t *testing.T) {
	c := sampleConfig()
	c.Limits[0].Aliases, c.Limits[0].InitialSize, c.Limits[0].MinSize = []string{"x"}, 4, 2
	c.Limits = append(c.Limits, config.Limit{Database: config.Named("db"), User: config.Named("bob"), MaxSize: 1})
	want := map[string]control.AliasedDatabase{"db bob": {Username: "bob", MaxSize: 1, Aliases: []string{}}, "db": {Username: "all", MaxSize: 5, InitialSize: 4, MinSize: 2, Aliases: []string{"x"}}}
	if d := cmp.Diff(want, ConfAliases(c).Databases); d != "" {
		t.Error(d)
	}
}
