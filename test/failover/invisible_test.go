package failover

import (
	"flag"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

var rounds = flag.Int("rounds", 1, "how many failovers, and as many switchovers, a crowd of clients lives through")

// ofEach is how many clients a crowd has of each driver.
const ofEach = 16

// Clients of both pipelines and two drivers live through failovers and planned switchovers in turn: nobody is disconnected, an idle
// client sees nothing of either, and has the session that it had; a busy one sees nothing of a switchover, and one
// error at most of a failover.
func TestFailoversAndSwitchoversUnderACrowd(t *testing.T) {
	t.Parallel()
	for _, pipeline := range []string{"session", "transaction"} {
		t.Run(pipeline, func(t *testing.T) {
			t.Parallel()
			throughAll(t, pipeline)
		})
	}
}

// around is the crowd before a pool and its cluster.
type around struct {
	t     *testing.T
	s     *pool.Scene
	crowd crowd
	now   []member
	took  map[string][]time.Duration // from the order or the death until each busy client was served
}

func throughAll(t *testing.T, pipeline string) {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	pool.AskNode(t, c.Primary(), "CREATE TABLE written (by text)")
	s := pool.Play(t, c, pool.Plan{
		Script: "if test \"$PGAGROAL_PLANNED\" != on; then\n" + pool.PromoteScript(c) + "fi\n" + pool.DemoteScript(c),
		Keys: map[string]string{
			"pipeline": pipeline, "failover_keep_sessions": "known", "log_level": "info",
			"failover_client_wait": "10m", "blocking_timeout": "10m", // the machine may be slow
		},
	})
	s.Opened("n1")
	s.Pool.WaitLog("script runner is ready")
	a := &around{t: t, s: s, crowd: gather(t, s.Pool, ofEach, settingsIn(pipeline)), took: map[string][]time.Duration{}}
	a.now = a.crowd.look()
	a.now = a.crowd.each(t, a.now, s.Pool.Log)
	old, now := s.Node(1), s.Node(2)
	for range *rounds {
		a.through("failover", 1, now, func() { pool.Must(t, old.Kill()) })
		pool.Must(t, old.Rejoin(pool.Within(t), now))
		s.Seen(old.Name, "standby")
		s.Pool.WaitState(old.Name, "Failed")
		s.Do("clear", "server", old.Name)
		s.Pool.WaitState(old.Name, "Replica")
		old, now = now, old
		a.through("switchover", 0, now, func() { s.Do("switch-to", now.Name, "-T", "600") })
		s.Pool.WaitState(old.Name, "Replica")
		old, now = now, old
	}
	a.cancelled(old)
	for _, d := range a.crowd {
		d.end()
	}
	for kind, took := range a.took {
		slices.Sort(took)
		t.Logf("%d times %s: %v to %v until each busy client had written, the median %v", len(took), kind, took[0], took[len(took)-1], took[len(took)/2])
	}
}

// through has something happen that makes another node the primary, and checks what it was to each client. A
// busy one may have so many errors.
func (a *around) through(kind string, errors int, to *pgtest.Node, happen func()) {
	a.t.Helper()
	runs := len(a.s.Notify.Runs())
	before := a.now
	began := time.Now()
	happen()
	a.s.Opened(to.Name)
	a.now = a.crowd.each(a.t, a.crowd.look(), a.s.Pool.Log)
	a.took[kind] = append(a.took[kind], time.Since(began))
	a.s.Notify.WaitRuns(runs + 1)
	for i, m := range a.now {
		told, lost, allowed := m.Told[len(before[i].Told):], m.Lost-before[i].Lost, 0
		if !m.Idle {
			allowed = errors
		}
		if lost > 0 || len(told) > allowed {
			a.t.Errorf("%s %d, %s: %d connections lost, and it was told %q", kind, len(a.took[kind]), m.Name, lost, told)
		}
		if m.Proof != m.Want {
			a.t.Errorf("%s %d: %s has the session %q, want %q", kind, len(a.took[kind]), m.Name, m.Proof, m.Want)
		}
	}
}

// cancelled checks that the key that each idle client has from its login cancels what it runs.
func (a *around) cancelled(n *pgtest.Node) {
	a.t.Helper()
	for _, d := range a.crowd {
		d.sleep()
	}
	pool.WaitNode(a.t, n, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'", strconv.Itoa(len(a.crowd)*ofEach/2))
	for _, d := range a.crowd {
		d.cancel()
	}
	for _, m := range a.crowd.look() {
		if m.Idle && (!m.Cancelled || m.Proof != m.Want) {
			a.t.Errorf("%s couldn't cancel its statement, or has another session: %s", m.Name, fmt.Sprint(m))
		}
	}
}
