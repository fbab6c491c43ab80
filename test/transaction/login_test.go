package transaction

import (
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// Once a pool has had a backend, a client is let in even while all backends are in
// transactions. It gets the parameters that the server reported before.
func TestPooledLoginNeedsNoFreeBackend(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 1, map[string]string{"blocking_timeout": "20s"})
	cfg := pool.WithParam(p.Config("postgres", "", "postgres"), "DateStyle", "German")
	p.ConnectAs(cfg).Close() // from now on the pool knows what the server reports for these parameters
	holder := p.Connect()
	pool.MustQuery(t, holder, "BEGIN")
	plain, german := p.Connect(), p.ConnectAs(pool.WithParam(cfg, "application_name", "mine"))
	for name, want := range holder.Params {
		if got := plain.Params[name]; got != want {
			t.Errorf("%s is reported as %q, to others as %q", name, got, want)
		}
	}
	if got := german.Params["DateStyle"] + "/" + german.Params["application_name"]; got != "German, DMY/mine" {
		t.Errorf("reported: %s", got)
	}
	pool.MustQuery(t, holder, "COMMIT")
	for _, name := range []string{"DateStyle", "application_name"} {
		if got := pool.ShowSetting(t, german, name); got != german.Params[name] {
			t.Errorf("%s is %q, reported %q", name, got, german.Params[name])
		}
	}
	// A wrong value is refused at the login, by the server.
	pool.WantCode(t, p.WantRefused(pool.WithParam(cfg, "TimeZone", "Nowhere/Land")), "22023", "")
}

// What the pool knows may be out of date: a client is told of the difference when it
// gets its first backend.
func TestPooledLoginTellsWhatHasChangedSince(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 1, nil)
	first := p.Connect()
	pid := pool.BackendPID(t, first)
	pool.AskNode(t, c.Primary(), "ALTER ROLE postgres SET IntervalStyle = 'iso_8601'")
	late := p.Connect()
	pool.AskNode(t, c.Primary(), "SELECT pg_terminate_backend("+pid+")")
	pool.WaitNode(t, c.Primary(), "SELECT count(*) FROM pg_stat_activity WHERE pid = "+pid, "0")
	if got := pool.ShowSetting(t, late, "IntervalStyle"); got != late.Params["IntervalStyle"] {
		t.Errorf("IntervalStyle is %s, reported %s", got, late.Params["IntervalStyle"])
	}
	if got := p.Connect().Params["IntervalStyle"]; got != "iso_8601" {
		t.Errorf("a client that comes after the new backend is told %s", got)
	}
}

// With max_connection_age no login is answered from older facts, even if no statement has
// opened a connection since.
func TestPooledLoginIsAnsweredFromNothingOlderThanAConnection(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.TxPool(t, c, 2, map[string]string{"max_connection_age": "2s"})
	first := p.Connect() // stays, and with it the pool
	pid := pool.BackendPID(t, first)
	pool.AskNode(t, c.Primary(), "ALTER ROLE postgres SET IntervalStyle = 'iso_8601'")
	pool.AskNode(t, c.Primary(), "ALTER DATABASE postgres SET DateStyle = 'German'")
	pool.Must(t, c.Primary().Set(pool.Within(t), "timezone", "Asia/Tokyo"))
	pool.WaitNode(t, c.Primary(), "SELECT count(*) FROM pg_stat_activity WHERE pid = "+pid, "0")
	pgtest.WaitUntil(t, pool.Generous, "pgagroal to know that", func() bool { // the server may be the first to
		pools, _ := p.JSON("pools")["Pools"].([]any)
		return len(pools) == 0 || pools[0].(map[string]any)["Idle"] == 0.0
	}, p.Log)
	late := p.Connect()
	for name, want := range map[string]string{"IntervalStyle": "iso_8601", "DateStyle": "German, DMY", "TimeZone": "Asia/Tokyo"} {
		if got := late.Params[name]; got != want {
			t.Errorf("after the end of the connection a client is told that %s is %s", name, got)
		}
		if got := pool.ShowSetting(t, late, name); got != want {
			t.Errorf("after the end of the connection %s is %s", name, got)
		}
	}
	if got := first.Params["IntervalStyle"]; got != "postgres" {
		t.Errorf("the first client was told %s", got)
	}
}
