package takeover

import (
	"bufio"
	"bytes"
	"crypto/md5"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// readable says whether a process of the pool's user can read the memory of another,
// as a script could: environ is part of it.
func readable(t *testing.T, pid int) bool {
	t.Helper()
	cmd := exec.Command("cat", fmt.Sprintf("/proc/%d/environ", pid))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: pool.ServingUser(t)}
	out, err := cmd.Output()
	if err == nil && len(out) == 0 {
		t.Errorf("process %d has no environment, so this proves nothing", pid)
	}
	return err == nil
}

func coreLimit(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	pool.Must(t, err)
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "Max core file size"); ok {
			return strings.Fields(rest)[0]
		}
	}
	t.Fatalf("no limit of core files in %s", b)
	return ""
}

// holds says whether a process has a text anywhere in its memory.
func holds(t *testing.T, pid int, text string) bool {
	t.Helper()
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	pool.Must(t, err)
	defer maps.Close()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	pool.Must(t, err)
	defer mem.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to uint64
		var mode string
		if n, _ := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); n != 3 || !strings.HasPrefix(mode, "rw") {
			continue
		}
		b := make([]byte, to-from)
		n, _ := mem.ReadAt(b, int64(from)) // what isn't there is no memory of its own
		if bytes.Contains(b[:n], []byte(text)) {
			return true
		}
	}
	return false
}

// TestWorkersHoldNoSecretThatTheyDontNeed searches the memory of live workers, before and after they have logged in to
// servers that ask for each kind of proof. The clients prove themselves by SCRAM, so that they don't show their password.
func TestWorkersHoldNoSecretThatTheyDontNeed(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 || pool.RaceEnabled {
		t.Skip("needs root, to read the memory of others, and no race detector, whose memory has no end")
	}
	passwords := map[string]string{"keys": "the-password-for-scram-91", "hash": "the-password-for-md5-92", "clear": "the-password-in-clear-93"}
	const front, super = "the-clients-password-94", "the-superusers-password-95"
	c := proving(t, passwords)
	for _, reactor := range []string{"epoll", "io_uring"} {
		for _, pipeline := range []string{"session", "transaction"} {
			t.Run(reactor+" "+pipeline, func(t *testing.T) {
				p := pool.Start(t, pool.Setup{
					Servers: pool.Nodes(c), Users: passwords, Superuser: "boss:" + super, HBA: "host all all all scram-sha-256\n",
					Keys: map[string]string{"workers": "1", "ev_backend": reactor, "pipeline": pipeline},
					Before: func(p *pool.Pool) {
						p.Admin("-f", p.Path("pgagroal_frontend_users.conf"), "-U", "hash", "-P", front, "user", "add")
					},
				})
				shows := map[string]string{"keys": passwords["keys"], "hash": front, "clear": passwords["clear"]}
				worker := p.Workers()[0]
				for user, password := range passwords {
					if holds(t, worker, password) {
						t.Errorf("the worker holds the password of %s before anybody has logged in", user)
					}
				}
				for user := range passwords {
					loggedInAs(t, p, user, shows[user])
				}
				for user, password := range passwords {
					if got, want := holds(t, worker, password), user == "clear"; got != want {
						t.Errorf("after its login the worker holds the password of %s: %v, want %v", user, got, want)
					}
					if !holds(t, p.PID(), password) {
						t.Errorf("the supervisor doesn't hold the password of %s: the test proves nothing", user)
					}
				}
				if !holds(t, worker, md5Hash("hash", passwords["hash"])) {
					t.Error("the worker doesn't hold the hash that answers md5: the test proves nothing")
				}
				for _, secret := range []string{front, super} {
					if holds(t, worker, secret) || !holds(t, p.PID(), secret) {
						t.Errorf("%s is in the worker, or not in the supervisor", secret)
					}
				}
			})
		}
	}
}

// TestWithAuthQueryWorkersHoldNoSecretOfWhoMayAsk searches the memory of a worker after a user was looked up and has logged
// in, and after a backend was opened again.
func TestWithAuthQueryWorkersHoldNoSecretOfWhoMayAsk(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 || pool.RaceEnabled {
		t.Skip("needs root, to read the memory of others, and no race detector, whose memory has no end")
	}
	const super, hers = "the-superusers-password-96", "the-users-password-97"
	c := pgtest.New(t, pgtest.Options{HBA: []string{"host all postgres 127.0.0.1/32 trust", "host all all 127.0.0.1/32 scram-sha-256"}})
	pool.AskNode(t, c.Primary(), "CREATE ROLE boss LOGIN SUPERUSER PASSWORD '"+super+"'; CREATE ROLE alice LOGIN PASSWORD '"+hers+"'")
	p := pool.Start(t, pool.Setup{
		Servers: pool.Nodes(c), Superuser: "boss:" + super, HBA: "host all all all scram-sha-256\n",
		Keys: map[string]string{"workers": "1", "auth_query": "on"},
	})
	for range 2 {
		loggedInAs(t, p, "alice", hers)
		pool.AskNode(t, c.Primary(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'alice'")
	}
	worker := p.Workers()[0]
	if holds(t, worker, super) || !holds(t, p.PID(), super) || !holds(t, p.Prober(), super) {
		t.Error("the superuser's password is in the worker, or not in the supervisor and the prober")
	}
	stored := pool.AskNode(t, c.Primary(), "SELECT rolpassword FROM pg_authid WHERE rolname = 'boss'")
	for _, pid := range []int{worker, p.PID(), p.Prober()} {
		if holds(t, pid, hers) || holds(t, pid, stored) {
			t.Errorf("process %d holds a user's password, or what is stored of the superuser's", pid)
		}
	}
}

// proving starts a server that has three roles prove themselves, each in another way.
func proving(t *testing.T, passwords map[string]string) *pgtest.Cluster {
	t.Helper()
	ways := map[string]string{"keys": "scram-sha-256", "hash": "md5", "clear": "password"}
	var hba []string
	for user, way := range ways {
		hba = append(hba, "host all "+user+" 127.0.0.1/32 "+way)
	}
	c := pgtest.New(t, pgtest.Options{HBA: append(hba, "host all all 127.0.0.1/32 trust")})
	for user, way := range ways {
		encryption := "scram-sha-256"
		if way == "md5" {
			encryption = way
		}
		pool.AskNode(t, c.Primary(), fmt.Sprintf("SET password_encryption TO '%s'; CREATE ROLE %s LOGIN PASSWORD '%s'", encryption, user, passwords[user]))
	}
	return c
}

func loggedInAs(t *testing.T, p *pool.Pool, user, password string) {
	t.Helper()
	cl := p.ConnectAs(p.Config(user, password, "postgres"))
	if got := pool.MustQuery(t, cl, "SELECT session_user")[0][0]; got != user {
		t.Errorf("session user %s, want %s", got, user)
	}
}

// md5Hash is a password as PostgreSQL stores it for md5, without its prefix.
func md5Hash(user, password string) string { return fmt.Sprintf("%x", md5.Sum([]byte(password+user))) }

func TestNobodyOfTheSameUserReadsTheMemoryOfAProcess(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("the harness lets the memory be read unless it is root; run the tests as root")
	}
	s := pool.PlayOpen(t, 1, pool.Plan{})
	all := map[string]int{"supervisor": s.Pool.PID(), "worker": s.Pool.Workers()[0], "script runner": s.Pool.Runner(), "prober": s.Pool.Prober()}
	for name, pid := range all {
		if readable(t, pid) {
			t.Errorf("the memory of the %s can be read", name)
		}
		if got := coreLimit(t, pid); got != "0" {
			t.Errorf("the %s may write core files of %s bytes", name, got)
		}
	}
	s.Pool.Stop()
	s.Pool.Restart("PGAGROAL_CORES=on")
	s.Pool.WaitLog("every process of this user can read the passwords in the memory of pgagroal")
	s.Pool.WaitLog("script runner is ready")
	for name, pid := range map[string]int{"supervisor": s.Pool.PID(), "worker": s.Pool.Workers()[0]} {
		if !readable(t, pid) {
			t.Errorf("with the switch the memory of the %s can't be read: the test proves nothing", name)
		}
	}
}
