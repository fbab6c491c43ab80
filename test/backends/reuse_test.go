package backends

import (
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

func TestBackendIsReusedByTheNextClientOfTheSamePool(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.OnePlace(t, c, nil)
	first := p.Connect()
	pid := pool.BackendPID(t, first)
	for range 10 {
		first.Close()
		first = p.Connect()
		if got := pool.BackendPID(t, first); got != pid {
			t.Fatalf("next client has backend %s, the one before had %s", got, pid)
		}
	}
}

func TestBackendIsNotReusedByAnotherUserOrDatabase(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), "CREATE ROLE other LOGIN")
	p := pool.OnePlace(t, c, nil)
	for _, who := range [][2]string{{"postgres", "postgres"}, {"other", "postgres"}, {"other", "template1"}, {"postgres", "template1"}} {
		cl := p.ConnectAs(p.Config(who[0], "", who[1]))
		rows := pool.MustQuery(t, cl, "SELECT session_user, current_user, current_database()")
		if got := strings.Join(rows[0], " "); got != who[0]+" "+who[0]+" "+who[1] {
			t.Errorf("%v is %s", who, got)
		}
		cl.Close()
	}
}

// Clients that wait get the backends of clients that leave, instead of new backends.
func TestBackendsAreReusedWhileClientsWait(t *testing.T) {
	t.Parallel()
	for name, users := range map[string]map[string]string{
		"known": {"postgres": "secret"}, "passed through": nil,
	} {
		t.Run(name, func(t *testing.T) {
			c := pgtest.New(t, pgtest.Options{})
			p := pool.Start(t, pool.Setup{
				Servers: pool.Nodes(c), Users: users, Keys: map[string]string{"max_connections": "2", "workers": "1"},
			})
			var mu sync.Mutex
			pids := map[string]int{}
			var clients sync.WaitGroup
			for range 8 {
				clients.Go(func() {
					for range 5 {
						cl, err := p.Try(p.Config("postgres", "", "postgres"))
						if err != nil {
							t.Error(err)
							return
						}
						rows, err := pool.Query(cl, "SELECT pg_backend_pid() FROM pg_sleep(0.02)")
						if err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						pids[rows[0][0]]++
						mu.Unlock()
						cl.Close()
					}
				})
			}
			clients.Wait()
			// At the very end, when nobody waits any more, a few may still be replaced.
			if len(pids) > 8 {
				t.Errorf("40 clients had %d backends, 2 are allowed at a time", len(pids))
			}
		})
	}
}

// leak is something that a client leaves behind, and the query with which the next
// client would see it.
type leak struct{ name, leave, look, clean string }

func leaks() []leak {
	return []leak{
		{"setting", "SET work_mem TO '7MB'", "SHOW work_mem", "4MB"},
		{"setting of a reported parameter", "SET DateStyle TO 'German'", "SHOW DateStyle", "ISO, MDY"},
		{"default of transactions", "SET default_transaction_read_only TO on", "SHOW default_transaction_read_only", "off"},
		{"role", "SET ROLE other", "SELECT current_user", "postgres"},
		{"session authorization", "SET SESSION AUTHORIZATION other", "SELECT session_user", "postgres"},
		{"temporary table", "CREATE TEMP TABLE mine(i int)", "SELECT count(*) FROM pg_class WHERE relname = 'mine'", "0"},
		{"listen", "LISTEN news", "SELECT count(*) FROM pg_listening_channels()", "0"},
		{"prepared statement", "PREPARE s AS SELECT 1", "SELECT count(*) FROM pg_prepared_statements", "0"},
		{"advisory lock", "SELECT pg_advisory_lock(7)", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", "0"},
		{"cursor", "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "SELECT count(*) FROM pg_cursors", "0"},
		{"set_config", "SELECT set_config('my.secret', 'x', false)", "SELECT coalesce(current_setting('my.secret', true), '')", ""},
		{"open transaction", "BEGIN; SET LOCAL work_mem TO '7MB'", "SHOW work_mem", "4MB"},
		{"failed transaction", "BEGIN; SELECT 1/0", "SELECT 1", "1"},
	}
}

// Each kind of trace is left twice: by a client that sends Terminate and by one that
// vanishes. The next client has the same backend, or a new one.
func TestWhatAClientLeavesBehindNeverReachesTheNext(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	pool.AskNode(t, c.Primary(), "CREATE ROLE other LOGIN")
	p := pool.OnePlace(t, c, nil)
	for _, l := range leaks() {
		for _, killed := range []bool{false, true} {
			cl := p.Connect()
			pid := pool.BackendPID(t, cl)
			for _, sql := range strings.Split(l.leave, ";") {
				_, _ = pool.Query(cl, sql)
			}
			if killed {
				pool.Vanish(t, cl)
			} else {
				cl.Close()
			}
			next := p.Connect()
			if next.Status != 'I' {
				t.Errorf("%s: status %q", l.name, next.Status)
			}
			if rows := pool.MustQuery(t, next, l.look); rows[0][0] != l.clean {
				t.Errorf("%s: the next client sees %v", l.name, rows)
			}
			if got := pool.BackendPID(t, next); got != pid {
				t.Errorf("%s: the backend was replaced", l.name)
			}
			next.Close()
		}
	}
}

func TestStatementPreparedInTheProtocolDoesNotReachTheNextClient(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.OnePlace(t, c, nil)
	cl := p.Connect()
	if err := cl.Prepare(t.Context(), "s", "SELECT 1"); err != nil {
		t.Fatal(err)
	}
	cl.Close()
	next := p.Connect()
	_, err := next.ExecPrepared(t.Context(), "s")
	pool.WantCode(t, err, "26000", "")
	if err := next.Prepare(t.Context(), "s", "SELECT 2"); err != nil {
		t.Error(err)
	}
}

// Only the session that listens gets a notification. If a client leaves while it
// listens, the next client on its backend gets none.
func TestNotificationsOfAnotherClientAreNotSeen(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.OnePlace(t, c, nil)
	cl := p.Connect()
	pool.MustQuery(t, cl, "LISTEN news")
	cl.Close()
	next := p.Connect()
	pool.AskNode(t, c.Primary(), "NOTIFY news, 'secret'")
	if err := next.Send(t.Context(), &pgproto3.Query{String: "SELECT 1"}); err != nil {
		t.Fatal(err)
	}
	for {
		msg, err := next.Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		switch msg.(type) {
		case *pgproto3.NotificationResponse:
			t.Fatal("the next client got a notification")
		case *pgproto3.ReadyForQuery:
			return
		}
	}
}

func TestTrackedParametersFollowTheirClient(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.OnePlace(t, c, map[string]string{"pipeline": "transaction"})
	want := map[string]string{
		"application_name": "my 'app' \\ here", "client_encoding": "LATIN1", "DateStyle": "SQL, DMY",
		"IntervalStyle": "iso_8601", "TimeZone": "Asia/Tokyo", "standard_conforming_strings": "off",
	}
	plain := p.Connect()
	base := map[string]string{}
	for name := range want {
		base[name] = pool.ShowSetting(t, plain, name)
	}
	pid := pool.BackendPID(t, plain)
	for range 2 {
		plain.Close()
		cfg := p.Config("postgres", "", "postgres")
		cfg.Params = want
		set := p.ConnectAs(cfg)
		for name, value := range want {
			if got := pool.ShowSetting(t, set, name); got != value {
				t.Errorf("%s is %q, the client asked for %q", name, got, value)
			}
			if set.Params[name] != value {
				t.Errorf("%s was reported as %q", name, set.Params[name])
			}
		}
		if got := pool.BackendPID(t, set); got != pid {
			t.Errorf("backend %s instead of %s: tracked parameters made a pool", got, pid)
		}
		set.Close()
		plain = p.Connect()
		for name, value := range base {
			if got := pool.ShowSetting(t, plain, name); got != value || plain.Params[name] != value {
				t.Errorf("after it %s is %q, reported %q, want %q", name, got, plain.Params[name], value)
			}
		}
	}
}

// In such a pool RESET returns to the value that the client asked for at its start.
func TestStartupParametersMakePoolsOfTheirOwn(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c)})
	plain := p.Config("postgres", "", "postgres")
	pids := map[string]string{}
	for _, test := range []struct{ name, value, setting, want string }{
		{"options", "-c work_mem=9MB", "work_mem", "9MB"},
		{"options", "-c work_mem=10MB", "work_mem", "10MB"},
		{"search_path", "pg_catalog", "search_path", "pg_catalog"},
		{"extra_float_digits", "2", "extra_float_digits", "2"},
		{"client_encoding", "LATIN1", "client_encoding", "LATIN1"},
		{"DateStyle", "SQL, DMY", "DateStyle", "SQL, DMY"},
		{"IntervalStyle", "iso_8601", "IntervalStyle", "iso_8601"},
		{"TimeZone", "Asia/Tokyo", "TimeZone", "Asia/Tokyo"},
		{"standard_conforming_strings", "off", "standard_conforming_strings", "off"},
	} {
		for range 2 {
			cl := p.ConnectAs(pool.WithParam(plain, test.name, test.value))
			if got := pool.ShowSetting(t, cl, test.setting); got != test.want {
				t.Errorf("%s=%s: %s is %q", test.name, test.value, test.setting, got)
			}
			pool.MustQuery(t, cl, "SET "+test.setting+" TO DEFAULT")
			if got := pool.ShowSetting(t, cl, test.setting); got != test.want {
				t.Errorf("%s=%s: the default of %s is %q", test.name, test.value, test.setting, got)
			}
			pid := pool.BackendPID(t, cl)
			if owner, ok := pids[pid]; ok && owner != test.name+test.value {
				t.Errorf("%s=%s got the backend of %s", test.name, test.value, owner)
			}
			pids[pid] = test.name + test.value
			cl.Close()
		}
	}
	cl := p.ConnectAs(plain)
	if owner, ok := pids[pool.BackendPID(t, cl)]; ok {
		t.Errorf("a client without parameters got the backend of %s", owner)
	}
	if got := pool.ShowSetting(t, cl, "work_mem"); got != "4MB" {
		t.Errorf("work_mem of a plain client is %s", got)
	}
}

func TestBadParameterGetsTheServersOwnError(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.OnePlace(t, c, nil)
	for _, test := range []struct{ name, value, code, text string }{
		{"client_encoding", "no such thing", "22023", "client_encoding"},
		{"TimeZone", "Mars/Olympus", "22023", "TimeZone"},
		{"work_mem", "much", "22023", "work_mem"},
		{"nonsense", "1", "42704", "nonsense"},
		{"options", "--nonsense", "42601", ""},
	} {
		err := p.WantRefused(pool.WithParam(p.Config("postgres", "", "postgres"), test.name, test.value))
		direct, derr := pgtest.Connect(t.Context(), pool.WithParam(c.Primary().Config("", "", "postgres"), test.name, test.value))
		if derr == nil {
			direct.Close()
		}
		pool.WantCode(t, err, pgtest.Code(derr), test.text)
		// The place is free again for the next client.
		p.Connect().Close()
	}
	err := p.WantRefused(p.Config("postgres", "", "nowhere"))
	pool.WantCode(t, err, "3D000", `database "nowhere" does not exist`)
}

func TestEmptyResetQueryLeavesTheSessionAsItIs(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.OnePlace(t, c, map[string]string{"server_reset_query": "''"})
	cl := p.Connect()
	pid := pool.BackendPID(t, cl)
	pool.MustQuery(t, cl, "SET work_mem TO '7MB'")
	pool.MustQuery(t, cl, "BEGIN")
	cl.Close()
	next := p.Connect()
	if got := pool.BackendPID(t, next); got != pid {
		t.Errorf("backend %s instead of %s", got, pid)
	}
	if got := pool.ShowSetting(t, next, "work_mem"); got != "7MB" || next.Status != 'I' {
		t.Errorf("work_mem %s, status %q", got, next.Status)
	}
}

func TestBackendWhoseResetFailsIsReplaced(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	for _, behavior := range []string{"discard", "try"} { // both mean the same
		p := pool.OnePlace(t, c, map[string]string{
			"server_reset_query": "'SELECT 1/0'", "server_reset_query_behavior_on_failure": behavior,
		})
		cl := p.Connect()
		pid := pool.BackendPID(t, cl)
		cl.Close()
		if got := pool.BackendPID(t, p.Connect()); got == pid {
			t.Errorf("%s: the backend whose reset failed serves the next client", behavior)
		}
		p.WaitLog("reset query failed")
	}
}

func TestBackendWhoseResetFailsIsKeptWhenToldSo(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.OnePlace(t, c, map[string]string{
		"server_reset_query": "'SELECT 1/0'", "server_reset_query_behavior_on_failure": "ignore",
	})
	cl := p.Connect()
	pid := pool.BackendPID(t, cl)
	cl.Close()
	if got := pool.BackendPID(t, p.Connect()); got != pid {
		t.Error("the backend was replaced")
	}
}
