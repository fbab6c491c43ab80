package timers

import (
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// What a reset query may do, and what becomes of the backend. The next client never sees the
// setting of the client before it.
func TestWhatAResetQueryMayDo(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	for name, tt := range map[string]struct {
		sql    string
		kept   bool
		log    string
		pooled bool // try the transaction pipeline as well
	}{
		"fails":                   {"SELECT 1/0", false, "division by zero", true},
		"fails half way":          {"RESET ALL; SELECT 1/0; SELECT 1", false, "division by zero", false},
		"hangs":                   {"SELECT pg_sleep(600)", false, "server didn't answer in time", true},
		"closes":                  {"SELECT pg_terminate_backend(pg_backend_pid())", false, "", true},
		"returns rows":            {"SELECT repeat($$x$$, 1000) FROM generate_series(1, 5000); DISCARD ALL", true, "", false},
		"several statements":      {"RESET ALL; SELECT 1; ; DISCARD ALL; SELECT 2", true, "", false},
		"takes a while":           {"SELECT pg_sleep(1); DISCARD ALL", true, "", false},
		"is long":                 {strings.Repeat("RESET work_mem; ", 900) + "RESET ALL", true, "", false},
		"warns":                   {"DO $x$ BEGIN RAISE WARNING $$well$$; END $x$; DISCARD ALL", true, "", false},
		"leaves a transaction":    {"BEGIN; DISCARD PLANS", false, "wrong transaction status", false},
		"fails in a transaction":  {"BEGIN; SELECT 1/0; COMMIT", false, "division by zero", false},
		"begins a COPY":           {"CREATE TEMP TABLE t (i int); COPY t FROM STDIN", false, "began a COPY", false},
		"copies to us":            {"COPY (SELECT 1) TO STDOUT; DISCARD ALL", true, "", false},
		"isn't SQL":               {"DISCARD EVERYTHING", false, "syntax error", false},
		"another user's settings": {"SET SESSION AUTHORIZATION DEFAULT; RESET ALL", true, "", false},
	} {
		for _, pipeline := range []string{"session", "transaction"} {
			if pipeline == "transaction" && !tt.pooled {
				continue
			}
			t.Run(name+" in "+pipeline, func(t *testing.T) {
				t.Parallel()
				p := pool.OnePlace(t, c, map[string]string{
					"server_reset_query": "'" + tt.sql + "'", "server_reset_query_always": "on", "pipeline": pipeline,
				})
				cl := p.Connect()
				pid := pool.MustQuery(t, cl, "SELECT pg_backend_pid(), set_config('work_mem', '7MB', false)")[0][0]
				cl.Close()
				rows := pool.MustQuery(t, p.Connect(), "SELECT pg_backend_pid(), current_setting('work_mem')")
				if got, kept := rows[0], rows[0][0] == pid; kept != tt.kept || got[1] != "4MB" {
					t.Errorf("the next client has backend %s with work_mem %s, the first one had %s", got[0], got[1], pid)
				}
				if tt.log != "" {
					p.WaitLog(tt.log)
				}
			})
		}
	}
}
