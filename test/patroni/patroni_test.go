//go:build patroni

package patroni

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

func TestMain(m *testing.M) { pool.Main(m) }

// member is a server with its Patroni.
type member struct {
	t          testing.TB
	name       string
	port, rest int
	dir        string
	cmd        *exec.Cmd
}

const settings = `scope: batman
name: %[1]s
restapi: {listen: "127.0.0.1:%[2]d", connect_address: "127.0.0.1:%[2]d"}
etcd3: {host: "127.0.0.1:%[3]d"}
bootstrap:
  dcs: {ttl: 20, loop_wait: 1, retry_timeout: 3, postgresql: {use_pg_rewind: true, parameters: {fsync: "off"}}}
  initdb: [{auth: trust}, {encoding: UTF8}, {locale: C}]
  pg_hba: ["local all all trust", "host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"]
postgresql:
  listen: 127.0.0.1:%[4]d
  connect_address: 127.0.0.1:%[4]d
  data_dir: %[5]s/data
  bin_dir: %[6]s
  pgpass: %[5]s/pgpass
  authentication: {superuser: {username: postgres}, replication: {username: postgres}, rewind: {username: postgres}}
  parameters: {unix_socket_directories: "%[5]s"}
`

// begin starts a program as the user of the servers, and ends it with the test.
func begin(t testing.TB, dir, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: pool.ServingUser(t), Pdeathsig: syscall.SIGTERM}
	log, err := os.Create(filepath.Join(dir, "log"))
	pool.Must(t, err)
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	pool.Must(t, cmd.Start())
	t.Cleanup(func() {
		if t.Failed() {
			said, _ := os.ReadFile(log.Name())
			t.Logf("%s of %s:\n%s", name, dir, said[max(0, len(said)-10000):])
		}
		end(t, cmd)
	})
	return cmd
}

// end ends a program in the usual way; a Patroni stops its server first.
func end(t testing.TB, cmd *exec.Cmd) {
	late := time.AfterFunc(pool.Generous, func() {
		t.Errorf("process %d doesn't end", cmd.Process.Pid)
		_ = cmd.Process.Kill()
	})
	defer late.Stop()
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_ = cmd.Wait()
}

func directory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pat")
	pool.Must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	pool.Give(t, dir)
	return dir
}

func startEtcd(t testing.TB) (port int) {
	t.Helper()
	port, dir := pgtest.Port(t), directory(t)
	url, peer := fmt.Sprintf("http://127.0.0.1:%d", port), fmt.Sprintf("http://127.0.0.1:%d", pgtest.Port(t))
	begin(t, dir, "etcd", "--data-dir", dir+"/data", "--listen-client-urls", url, "--advertise-client-urls", url,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer, "--unsafe-no-fsync")
	pgtest.WaitUntil(t, 2*pool.Generous, "etcd", func() bool { return answers(url + "/health") })
	return port
}

// answers reports whether a GET of url is answered with 200.
func answers(url string) bool {
	c := http.Client{Timeout: 5 * time.Second}
	r, err := c.Get(url)
	if err != nil {
		return false
	}
	r.Body.Close()
	return r.StatusCode == http.StatusOK
}

func newMember(t testing.TB, name string, etcd int) *member {
	t.Helper()
	m := &member{t: t, name: name, port: pgtest.Port(t), rest: pgtest.Port(t), dir: directory(t)}
	text := fmt.Sprintf(settings, m.name, m.rest, etcd, m.port, m.dir, filepath.Dir(pgtest.Binary("postgres")))
	pool.WriteFile(t, m.dir+"/patroni.yml", text, 0o600)
	m.cmd = begin(t, m.dir, "patroni", m.dir+"/patroni.yml")
	return m
}

func (m *member) url(path string) string { return fmt.Sprintf("http://127.0.0.1:%d/%s", m.rest, path) }

func (m *member) wait(role string) {
	m.t.Helper()
	pgtest.WaitUntil(m.t, 4*pool.Generous, m.name+" to be a "+role, func() bool { return answers(m.url(role)) })
}

// query asks the member's server.
func (m *member) query(sql string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), pool.Generous)
	defer cancel()
	c, err := pgtest.Connect(ctx, pgtest.ClientConfig{Addr: "127.0.0.1:" + strconv.Itoa(m.port), User: "postgres", Database: "postgres"})
	if err != nil {
		return "", err
	}
	defer c.Close()
	rows, err := pool.Query(c, sql)
	if err != nil || len(rows) == 0 {
		return "", err
	}
	return rows[0][0], nil
}

func (m *member) switchover(t testing.TB, to *member) {
	t.Helper()
	body, err := json.Marshal(map[string]string{"leader": m.name, "candidate": to.name})
	pool.Must(t, err)
	c := http.Client{Timeout: 2 * pool.Generous}
	r, err := c.Post(m.url("switchover"), "application/json", bytes.NewReader(body))
	pool.Must(t, err)
	r.Body.Close()
	if r.StatusCode != http.StatusOK {
		t.Fatalf("the switchover is answered with %s", r.Status)
	}
}

// Patroni switches over, and then its leader dies. pgagroal runs nothing, keeps all clients and loses no row.
func TestFollowsPatroni(t *testing.T) {
	etcd := startEtcd(t)
	n1 := newMember(t, "n1", etcd)
	n1.wait("primary")
	n2, n3 := newMember(t, "n2", etcd), newMember(t, "n3", etcd)
	n2.wait("replica")
	n3.wait("replica")
	_, err := n1.query("CREATE TABLE t(id text, node text DEFAULT current_setting('port'))")
	pool.Must(t, err)
	var servers []pool.Server
	for _, m := range []*member{n1, n2, n3} {
		servers = append(servers, pool.Server{Name: m.name, Host: "127.0.0.1", Port: m.port})
	}
	p := pool.Start(t, pool.Setup{Servers: servers, Keys: map[string]string{
		"failover": "on", "failover_mode": "follow", "pipeline": "transaction", "health_check": "on", "health_check_user": "postgres",
	}})
	p.WaitLog("open, primary n1")
	load := pool.StartLoad(p.UnixConfig("postgres", "", "postgres"))
	t.Cleanup(load.End)
	served(t, load)

	n1.switchover(t, n2)
	follows(t, p, load, n2)

	n1.wait("replica")
	n3.wait("replica")
	kill(t, n2)
	follows(t, p, load, n1, n3)
	load.End()
	told := load.Seen()
	if told.Disconnected > 0 {
		t.Errorf("%d clients were disconnected; errors:%s", told.Disconnected, told.Errors)
	}
	if strings.Contains(p.Log(), "script starts") {
		t.Error("a script ran")
	}
}

// kill kills a server and its Patroni.
func kill(t testing.TB, m *member) {
	t.Helper()
	text, err := os.ReadFile(m.dir + "/data/postmaster.pid")
	pool.Must(t, err)
	pid, err := strconv.Atoi(strings.Split(string(text), "\n")[0])
	pool.Must(t, err)
	pool.Must(t, m.cmd.Process.Kill())
	pool.Must(t, syscall.Kill(pid, syscall.SIGKILL))
}

func served(t testing.TB, load *pool.Load) {
	t.Helper()
	from := load.Count()
	pgtest.WaitUntil(t, 2*pool.Generous, "clients to be served", func() bool { return load.Count() >= from+20 })
}

// follows waits until one of the members is promoted and the pool is open on it. It logs how long after the promotion
// the first write is acknowledged.
func follows(t testing.TB, p *pool.Pool, load *pool.Load, to ...*member) {
	t.Helper()
	var next *member
	pgtest.WaitUntil(t, 4*pool.Generous, "a promotion", func() bool {
		i := slices.IndexFunc(to, func(m *member) bool {
			got, err := m.query("SELECT pg_is_in_recovery()")
			return err == nil && got == "f"
		})
		if i >= 0 {
			next = to[i]
		}
		return i >= 0
	})
	promoted, from := time.Now(), load.Count()
	pgtest.WaitUntil(t, 4*pool.Generous, "a write", func() bool { return load.Count() > from }, p.Log)
	t.Logf("the first write is acknowledged %s after the promotion of %s", time.Since(promoted).Round(time.Millisecond), next.name)
	pgtest.WaitUntil(t, 4*pool.Generous, "the pool to be open on "+next.name, func() bool {
		st := p.JSON("failover", "status")
		return st["Phase"] == "open" && st["Primary"] == next.name
	}, p.Log)
	served(t, load)
}
