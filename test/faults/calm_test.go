package faults

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// disturbance is something that an operator sees every week and that is no death.
type disturbance struct {
	name, how string
	plan      func(*testing.T) plan // nil: the usual one
	once      func(*scene)          // happens, and is over on return
	logged    string                // what the log of pgagroal says of it, so that it did happen
}

func disturbances() []disturbance {
	return []disturbance{
		{name: "connections reset", logged: " hint ", how: "two of pgagroal's connections to the primary answered with a reset", once: func(s *scene) {
			s.net.rule("n1", "ip saddr @pool tcp dport 5432 tcp flags & syn == 0 limit rate 1/hour burst 2 packets reject with tcp reset")
			s.calm(time.Second)
			s.net.heal()
		}},
		{name: "backends terminated", logged: " hint ", how: "pg_terminate_backend for all of pgagroal's", once: func(s *scene) {
			s.sql(1, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND client_addr IS NOT NULL")
		}},
		{name: "DNS fails", logged: "can't be resolved", how: "no server's name resolves for 7 s", plan: named, once: func(s *scene) {
			hosts := s.p.Path("hosts")
			old, err := os.ReadFile(hosts)
			pool.Must(s.t, err)
			pool.Must(s.t, os.WriteFile(hosts, nil, 0o644))
			s.calm(7 * time.Second)
			pool.Must(s.t, os.WriteFile(hosts, old, 0o644))
		}},
		{name: "connections used up", how: "53300 for every login for 3 s", plan: func(*testing.T) plan { return narrow() }, once: func(s *scene) {
			free := fill(s)
			s.probed("n1", "alive (53300)")
			s.calm(3 * time.Second)
			free()
		}},
		{name: "crash", logged: " hint ", how: "SIGKILL to a backend, the server recovers by itself", once: func(s *scene) {
			ctx, cancel := context.WithTimeout(context.Background(), generous)
			defer cancel()
			witness, err := s.node(1).Dial(ctx)
			pool.Must(s.t, err)
			victim, err := s.node(1).Dial(ctx)
			pool.Must(s.t, err)
			pool.Must(s.t, syscall.Kill(int(victim.PID), syscall.SIGKILL))
			_ = victim.Close()
			for err == nil { // until the postmaster has noticed, and ended everybody
				_, err = witness.Receive(ctx)
			}
			pool.Must(s.t, ctx.Err())
			_ = witness.Close()
			pgtest.Eventually(s.t, generous, "the end of the recovery", func() error {
				_, err := s.node(1).Query(ctx, "SELECT 1")
				return err
			})
		}},
		{name: "restart", logged: " hint ", how: "pg_ctl restart -m fast, as the upgrade of a package does", once: func(s *scene) {
			s.pgctl("restart", "-m", "fast", "-l", s.node(1).LogFile)
		}},
		{name: "a standby dies", how: "SIGKILL to all processes of n2, which is started again", once: func(s *scene) {
			pool.Must(s.t, s.node(2).Kill())
			s.probed("n2", "refused")
			s.calm(2 * time.Second)
			ctx, cancel := context.WithTimeout(context.Background(), generous)
			defer cancel()
			pool.Must(s.t, s.node(2).Start(ctx))
			pool.Must(s.t, s.node(2).WaitStreaming(ctx, s.node(1)))
		}},
	}
}

// named has servers known to pgagroal by names, which its own /etc/hosts has.
func named(t *testing.T) plan {
	t.Helper()
	c := pool.ServingUser(t)
	return plan{
		servers: func(s *scene) []string { return []string{"n1", "n2", "n3"} },
		before: func(s *scene) {
			text := ""
			for _, n := range s.c.Nodes {
				text += n.Host + " " + n.Name + "\n"
			}
			pool.WriteFile(s.t, s.p.Path("hosts"), text, 0o644)
		},
		prepare: func(cmd *exec.Cmd) {
			script := fmt.Sprintf("mount --bind %s/hosts /etc/hosts && exec setpriv --reuid=%d --regid=%d --clear-groups \"$@\"", cmd.Dir, c.Uid, c.Gid)
			cmd.Args = append([]string{"sh", "-c", script, "sh", cmd.Path}, cmd.Args[1:]...)
			cmd.Path = "/bin/sh"
			cmd.Env = append(cmd.Env, "GODEBUG=netdns=go") // as the released programs, which have no other
			cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		},
	}
}

// narrow is a primary of few connections.
func narrow() plan {
	return plan{options: func(o *pgtest.Options) {
		o.Extra["max_connections"], o.Extra["superuser_reserved_connections"], o.Extra["max_wal_senders"] = "14", "0", "4"
	}}
}

// fill takes what connections the primary has left, and each that is given back
// meanwhile; free ends that.
func fill(s *scene) (free func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var filling sync.WaitGroup
	filling.Go(func() {
		for ctx.Err() == nil {
			if c, err := s.node(1).Dial(ctx); err == nil {
				defer func() { _ = c.Close() }()
				continue
			}
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	free = func() {
		cancel()
		filling.Wait()
	}
	s.t.Cleanup(free)
	return free
}

// calmRow is what became of one disturbance.
type calmRow struct {
	times, runs, disconnected int
	pause                     time.Duration
}

func TestWhatIsNoDeathStartsNoScript(t *testing.T) {
	needNetworks(t)
	t.Parallel()
	var mu sync.Mutex
	seen := map[string]*calmRow{}
	add := func(name string, times int, s *scene) {
		s.load.End()
		told := s.load.Seen()
		if lost := s.rows(1, told); lost > 0 {
			s.t.Errorf("%d acknowledged rows are lost", lost)
		}
		mu.Lock()
		defer mu.Unlock()
		if seen[name] == nil {
			seen[name] = &calmRow{}
		}
		r := seen[name]
		r.times, r.runs, r.disconnected = r.times+times, r.runs+len(s.runs("failover.sh")), r.disconnected+told.Disconnected
		r.pause = max(r.pause, told.Pause)
		s.t.Logf("%d times: longest pause %v, clients told%s", times, told.Pause, told.Errors)
	}
	t.Run("calm", func(t *testing.T) {
		for _, d := range disturbances() {
			t.Run(strings.ReplaceAll(d.name, " ", "_"), func(t *testing.T) {
				t.Parallel()
				pl := plan{}
				if d.plan != nil {
					pl = d.plan(t)
				}
				s := play(t, pl)
				for range *repeat {
					d.once(s)
					s.same()
				}
				if !strings.Contains(s.p.Log(), d.logged) {
					t.Errorf("pgagroal didn't notice it: no %q in its log", d.logged)
				}
				add(d.name, *repeat, s)
			})
		}
		for i := range lossy() {
			t.Run("loss/"+strconv.Itoa(i+1), func(t *testing.T) {
				t.Parallel()
				add(lossName, 1, loss(t))
			})
		}
	})
	text := calmText(seen)
	t.Log("\n" + text)
	if *write && !t.Failed() {
		pool.Must(t, publish("calm", text))
	}
}

const lossName = "packets lost"

// lossy is how often the loss of packets is tried: each takes half a minute.
func lossy() int {
	if *repeat > 2 {
		return *repeat
	}
	return 1
}

// loss drops 30 % of all packets from and to the primary for 20 s, with the default
// times.
func loss(t *testing.T) *scene {
	t.Helper()
	keys := map[string]string{"health_check_period": "2s"}
	for key := range quick {
		if _, given := keys[key]; !given && key != "fence_timeout" {
			keys[key] = ""
		}
	}
	s := play(t, plan{keys: keys, options: func(o *pgtest.Options) { o.Extra["wal_receiver_timeout"] = "10s" }})
	const rule = "numgen random mod 100 < 30 counter drop"
	s.net.rule("n1", "iifname eth0 "+rule)
	for _, other := range []string{"n2", "n3", "pool"} {
		s.net.rule(other, "ip saddr @n1 "+rule)
	}
	s.calm(20 * time.Second)
	if lost := s.net.dropped("pool"); lost < 100 {
		t.Errorf("only %d packets to pgagroal were lost", lost)
	}
	s.net.heal()
	s.same()
	return s
}

func calmText(seen map[string]*calmRow) string {
	rows := [][]string{{"disturbance", "made by", "times", "runs of a script", "longest pause of all writes", "clients disconnected"}}
	all := append(disturbances(), disturbance{name: lossName, how: "30 % of all packets from and to the primary, for 20 s"})
	for _, d := range all {
		if r := seen[d.name]; r != nil {
			rows = append(rows, []string{d.name, d.how, fmt.Sprint(r.times), fmt.Sprint(r.runs), seconds(r.pause) + " s", fmt.Sprint(r.disconnected)})
		}
	}
	return pool.Markdown(rows)
}
