package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// edited is a file with everything that an edit must keep.
const edited = "# ours, see the wiki\n" +
	"[pgagroal]\n" +
	"host = *\n" +
	"  port=5432   # as PostgreSQL\n" +
	"# max_connections = 100\n" +
	"unix_socket_dir = /run/pgagroal # of systemd\n" +
	"server_reset_query = 'DISCARD ALL' ; each time\n" +
	"\n" +
	"# the first server\n" +
	"[n1]\n" +
	"host = 10.0.0.1\n" +
	"port = 5432\n" +
	"\n" +
	"# the second\n" +
	"; in the cellar\n" +
	"[n2]\n" +
	"host = 10.0.0.2\n" +
	"port = 5432"

func TestEditsKeepTheRestOfTheFile(t *testing.T) {
	for name, x := range map[string]struct {
		do        func(*MainText) error
		old, want string
	}{
		"a value and its comment": {
			func(m *MainText) error { return m.Set("pgagroal", "port", "6432", "") },
			"  port=5432   # as PostgreSQL\n", "  port=6432   # as PostgreSQL\n",
		},
		"a new comment": {
			func(m *MainText) error { return m.Set("pgagroal", "port", "6432", "# new") },
			"  port=5432   # as PostgreSQL\n", "  port=6432 # new\n",
		},
		"a path": {
			func(m *MainText) error { return m.Set("pgagroal", "unix_socket_dir", "/tmp/a b", "") },
			"unix_socket_dir = /run/pgagroal # of systemd\n", "unix_socket_dir = \"/tmp/a b\" # of systemd\n",
		},
		"a path with a variable": {
			func(m *MainText) error { return m.Set("pgagroal", "unix_socket_dir", "$HOME/run", "") },
			"unix_socket_dir = /run/pgagroal # of systemd\n", "unix_socket_dir = $HOME/run # of systemd\n",
		},
		"a text in quotes": {
			func(m *MainText) error { return m.Set("pgagroal", "server_reset_query", "RESET ALL; DISCARD TEMP", "") },
			"server_reset_query = 'DISCARD ALL' ; each time\n", "server_reset_query = 'RESET ALL; DISCARD TEMP' ; each time\n",
		},
		"a key that a comment shows": {
			func(m *MainText) error { return m.Set("pgagroal", "max_connections", "50", "") },
			"# max_connections = 100\n", "# max_connections = 100\nmax_connections = 50\n",
		},
		"a new key": {
			func(m *MainText) error { return m.Set("pgagroal", "max_clients", "50", "") },
			"; each time\n", "; each time\nmax_clients = 50\n",
		},
		"a new key of a server": {
			func(m *MainText) error { return m.Set("n1", "primary", "on", "at first") },
			"port = 5432\n\n# the second\n", "port = 5432\nprimary = on # at first\n\n# the second\n",
		},
		"a key below a last line without its end": {
			func(m *MainText) error { return m.Set("n2", "failover_priority", "7", "") },
			"10.0.0.2\nport = 5432", "10.0.0.2\nport = 5432\nfailover_priority = 7\n",
		},
		"a new section": {
			func(m *MainText) error { return m.Set("n3", "host", "10.0.0.3", "") },
			"10.0.0.2\nport = 5432", "10.0.0.2\nport = 5432\n\n[n3]\nhost = 10.0.0.3\n",
		},
		"a key goes": {
			func(m *MainText) error { return m.Delete("pgagroal", "server_reset_query") },
			"server_reset_query = 'DISCARD ALL' ; each time\n", "",
		},
		"a section goes": {
			func(m *MainText) error { return m.Delete("n1", "") },
			"# the first server\n[n1]\nhost = 10.0.0.1\nport = 5432\n\n", "",
		},
		"the last section goes": {
			func(m *MainText) error { return m.Delete("n2", "") },
			"# the second\n; in the cellar\n[n2]\nhost = 10.0.0.2\nport = 5432", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := NewMainText("x.conf", []byte(edited))
			if err := x.do(m); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(strings.Replace(edited, x.old, x.want, 1), string(m.Bytes())); d != "" {
				t.Error("(-want +have)\n" + d)
			}
		})
	}
}

func TestEditsThatTheParserRefusesChangeNothing(t *testing.T) {
	for name, x := range map[string]struct {
		text string
		do   func(*MainText) error
		want string
	}{
		"an unknown key": {edited, func(m *MainText) error { return m.Set("pgagroal", "max_connection", "5", "") }, "x.conf:8:1: max_connection: unknown key; did you mean max_connections?"},
		"a bad value":    {edited, func(m *MainText) error { return m.Set("pgagroal", "port", "many", "") }, "x.conf:4:"},
		"a key of servers in the main section": {
			edited, func(m *MainText) error { return m.Set("pgagroal", "primary", "on", "") },
			"belongs in the section of a server",
		},
		"the main section goes":  {edited, func(m *MainText) error { return m.Delete("pgagroal", "") }, "no section [pgagroal]"},
		"what isn't there":       {edited, func(m *MainText) error { return m.Delete("n1", "primary") }, "primary is not set in [n1] of x.conf; its default is off"},
		"a section that isn't":   {edited, func(m *MainText) error { return m.Delete("n9", "") }, "x.conf has no section [n9]; it has pgagroal, n1, n2"},
		"both kinds of quotes":   {edited, func(m *MainText) error { return m.Set("pgagroal", "server_reset_query", `a'b"c`, "") }, "both kinds of quotes"},
		"a second line":          {edited, func(m *MainText) error { return m.Set("pgagroal", "host", "a\nport = 1", "") }, "control character"},
		"a second line of notes": {edited, func(m *MainText) error { return m.Set("pgagroal", "host", "a", "b\nport = 1") }, "control character"},
		"no value":               {edited, func(m *MainText) error { return m.Set("pgagroal", "port", "", "") }, "the value is empty; delete the key instead"},
		"a later line counts": {
			edited + "\n[prometheus]\nmetrics = 1\n", func(m *MainText) error { return m.Set("pgagroal", "metrics", "2", "") },
			"x.conf:20 sets metrics, too, and the later line counts; change it there",
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := NewMainText("x.conf", []byte(x.text))
			err := x.do(m)
			if err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("%v, want %q", err, x.want)
			}
			if string(m.Bytes()) != x.text {
				t.Errorf("the text is changed:\n%s", m.Bytes())
			}
		})
	}
}

// TestABrokenFileCanBeMended: other lines that are refused don't keep an edit from mending one.
func TestABrokenFileCanBeMended(t *testing.T) {
	m := NewMainText("x.conf", []byte("[pgagroal]\nhost = 'a\nport = many\nfoo = 1\n"))
	for _, err := range []error{m.Set("pgagroal", "port", "5", ""), m.Delete("pgagroal", "foo"), m.Set("pgagroal", "host", "*", "")} {
		if err != nil {
			t.Error(err)
		}
	}
	if want := "[pgagroal]\nhost = *\nport = 5\n"; string(m.Bytes()) != want {
		t.Errorf("%q", m.Bytes())
	}
}

func TestKeysAndValuesAreListed(t *testing.T) {
	m := NewMainText("x.conf", []byte("[pgagroal]\r\nhost = \"a\"\r\nunix_socket_dir = '$X'$HOME/run # c\r\nhost = b\r\n[n1]\r\n"))
	if d := cmp.Diff([]string{"pgagroal", "n1"}, m.Sections()); d != "" {
		t.Error(d)
	}
	keys, ok := m.KeysOf("pgagroal")
	if d := cmp.Diff([]string{"host", "unix_socket_dir"}, keys); d != "" || !ok {
		t.Error(d, ok)
	}
	if keys, ok := m.KeysOf("n1"); len(keys) != 0 || !ok {
		t.Error(keys, ok)
	}
	if _, ok := m.KeysOf("n2"); ok {
		t.Error("there is no n2")
	}
	for key, want := range map[string]string{"host": "b", "unix_socket_dir": "$X$HOME/run"} {
		if got, err := m.Get("pgagroal", key); got != want || err != nil {
			t.Errorf("%s is %q, %v", key, got, err)
		}
	}
	if _, err := m.Get("pgagroal", "backlog"); err == nil || !strings.Contains(err.Error(), "its default is") {
		t.Error(err)
	}
	if err := m.Set("pgagroal", "port", "1", ""); err != nil || !strings.Contains(string(m.Bytes()), "host = b\r\nport = 1\r\n") {
		t.Errorf("%v, %q", err, m.Bytes())
	}
}
