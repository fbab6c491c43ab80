package login

import (
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// With application_name_add_host the server shows the client's address, even if the
// client comes through a proxy, and in each transaction.
func TestApplicationNameTellsTheHost(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	const seen = "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()"
	for _, pipeline := range []string{"session", "transaction"} {
		p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{
			"pipeline": pipeline, "application_name_add_host": "on", "proxy_protocol": "on", "max_connections": "1", "workers": "1",
			"authentication_timeout": "60s",
		}})
		long := strings.Repeat("n", 63)
		var clients []welcomed
		var want []string
		for _, from := range []string{"192.0.2.7:1", "[2001:db8::9]:2", "192.0.2.7:3"} {
			for _, name := range []string{"psql", "", long} {
				if pipeline == "session" && len(clients) == 1 {
					break // there is room for one
				}
				body := asPostgres
				if name != "" {
					body += "application_name\x00" + name + "\x00"
				}
				w := loginRaw(t, p.DialRaw(), append(proxied(2, from), whole(v3, body+"\x00")...))
				host := " - " + strings.Trim(from[:strings.LastIndexByte(from, ':')], "[]")
				if name == "" {
					host = strings.TrimPrefix(host, " - ")
				}
				clients, want = append(clients, w), append(want, name[:min(len(name), 63-len(host))]+host)
			}
		}
		for round := range 2 {
			for i, w := range clients {
				if got, err := w.value(seen); err != nil || got != want[i] {
					t.Errorf("%s, round %d: the server sees %q, %v, want %q", pipeline, round, got, err, want[i])
				}
				if got := w.params["application_name"]; got != want[i] {
					t.Errorf("%s: the client was told %q, want %q", pipeline, got, want[i])
				}
			}
		}
		if pipeline == "session" {
			continue
		}
		local := p.ConnectAs(pool.WithParam(p.UnixConfig("postgres", "", "postgres"), "application_name", "local"))
		if got := pool.MustQuery(t, local, seen)[0][0]; got != "local" {
			t.Errorf("on the Unix socket: %q", got)
		}
	}
}
