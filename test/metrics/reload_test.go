package metrics

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// TestReloadsUnderLoadLoseNothing: servers come, go, move and change their names and order, and rules, limits and
// certificates change, while clients of both pipelines work, with failover on and off. No client sees an error, no counter
// falls, and nothing is left of the generations.
func TestReloadsUnderLoadLoseNothing(t *testing.T) {
	t.Parallel()
	rounds := 15
	if *all {
		rounds = 100
	}
	c := pgtest.New(t, pgtest.Options{
		Standbys: 2, Extra: map[string]string{"listen_addresses": "127.0.0.1,127.0.0.2"}, HBA: []string{"host all all 127.0.0.0/8 trust"},
	})
	pools := []*reloaded{
		newReloaded(t, c, map[string]string{"pipeline": "session", "failover": "on", "health_check_user": "postgres"}),
		newReloaded(t, c, map[string]string{"pipeline": "transaction", "failover": "off"}),
	}
	var before [][]held
	for _, p := range pools {
		before = append(before, p.quiet())
	}
	ctx, end := context.WithCancel(t.Context())
	defer end()
	var clients sync.WaitGroup
	for _, p := range pools {
		for _, mode := range []string{"disable", "require", "disable"} {
			clients.Go(func() { p.work(ctx, mode) })
		}
	}
	for i := range rounds {
		for _, p := range pools {
			p.reload(i)
		}
	}
	end()
	clients.Wait()
	for i, p := range pools {
		p.back(before[i])
	}
}

// reloaded is a pool whose files change.
type reloaded struct {
	*scraped
	nodes []*pgtest.Node
	main  string // the main section
	// most has the greatest value that each counter had, whether its server is there or not.
	most map[string]float64
}

func newReloaded(t *testing.T, c *pgtest.Cluster, keys map[string]string) *reloaded {
	t.Helper()
	keys, port := keysWith(t, keys)
	p := pool.Prepare(t, pool.Setup{Servers: pool.Nodes(c), Keys: keys})
	if keys["failover"] == "on" {
		p.SetKey("failover_script", p.Hook("failover.sh", pool.PromoteScript(c)).Path)
	}
	for key, value := range map[string]string{"tls": "allow", "tls_cert_file": p.Path("server.crt"), "tls_key_file": p.Path("server.key")} {
		p.SetKey(key, value)
	}
	r := &reloaded{scraped: over(p, port), nodes: c.Nodes}
	r.certify(0)
	data, err := os.ReadFile(p.Path("pgagroal.conf"))
	if err != nil {
		t.Fatal(err)
	}
	r.main, _, _ = strings.Cut(string(data), "\n[n1]")
	p.Run()
	for _, s := range []string{"n2", "n3"} {
		if keys["failover"] == "on" {
			p.WaitState(s, "Replica")
		}
	}
	r.most = map[string]float64{}
	r.falls()
	return r
}

// lists are the sections of the rounds. The primary stays, and each list has a change of another kind.
var lists = []string{"n1 n2 n3", "n3 n1 n2", "n3 n1", "n1 n3 n2", "n1 m2 n3", "m1 m2 n3", "n2 n1 n3", "n1 n3 n2@127.0.0.2"}

// sections writes a list of servers. A name says by its number which node it is.
func (r *reloaded) sections(list string) string {
	text := ""
	for _, entry := range strings.Fields(list) {
		name, host, moved := strings.Cut(entry, "@")
		n := r.nodes[name[1]-'1']
		if !moved {
			host = n.Host
		}
		text += fmt.Sprintf("\n[%s]\nhost = %s\nport = %d\n", name, host, n.Port)
	}
	return text
}

// certify makes another certificate for clients.
func (r *reloaded) certify(serial int) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	pool.Must(r.T, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(int64(serial) + 1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	pool.Must(r.T, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	pool.Must(r.T, err)
	pool.WriteFile(r.T, r.Path("server.crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), 0o644)
	pool.WriteFile(r.T, r.Path("server.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})), 0o600)
}

// reload changes everything that a reload may change, and looks at what can be seen afterwards.
func (r *reloaded) reload(i int) {
	r.T.Helper()
	list := lists[(i+1)%len(lists)]
	pool.WriteFile(r.T, r.Path("pgagroal.conf"), r.main+r.sections(list), 0o644)
	pool.WriteFile(r.T, r.Path("pgagroal_hba.conf"), fmt.Sprintf("host all stranger%d all reject\nhost all all all trust\n", i), 0o644)
	pool.WriteFile(r.T, r.Path("pgagroal_databases.conf"), fmt.Sprintf("postgres postgres %d\n", 10+i%7), 0o644)
	r.certify(i + 1)
	out, errs, code := r.CLI("conf", "reload")
	if code != 0 {
		r.T.Fatalf("reload %d, to %s: exit code %d, %s%s", i, list, code, out, errs)
	}
	for _, part := range []string{"server", "hba", "limits", "certificates"} {
		if !strings.Contains(out, part) {
			r.T.Errorf("reload %d, to %s, doesn't say that %s changed:\n%s", i, list, part, out)
		}
	}
	servers, _ := r.JSON("status")["Servers"].(map[string]any)
	for _, entry := range strings.Fields(list) {
		name, host, moved := strings.Cut(entry, "@")
		s, _ := servers[name].(map[string]any)
		if s == nil || moved && s["Host"] != host || len(servers) != len(strings.Fields(list)) {
			r.T.Errorf("after reload %d, to %s, status has %v", i, list, servers)
		}
	}
	for _, text := range r.falls() {
		r.T.Errorf("after reload %d, to %s: %s", i, list, text)
	}
}

// falls scrapes, and returns the counters, and the counts of histograms, that are lower than ever before.
func (r *reloaded) falls() (fallen []string) {
	for name, family := range r.scrape() {
		for _, m := range family.Metric {
			var v float64
			switch {
			case m.Counter != nil:
				v = m.Counter.GetValue()
			case m.Histogram != nil:
				v = float64(m.Histogram.GetSampleCount())
			default:
				continue
			}
			series := name + fmt.Sprint(m.Label)
			if v < r.most[series] {
				fallen = append(fallen, fmt.Sprintf("%s was %v and is %v", series, r.most[series], v))
			}
			r.most[series] = v
		}
	}
	return fallen
}

// work is a client that comes, works and goes until the end of ctx, which only ends it between two transactions.
func (r *reloaded) work(ctx context.Context, sslmode string) {
	background, done := context.WithTimeout(context.Background(), 10*time.Minute)
	defer done()
	for ctx.Err() == nil {
		conn, err := pgx.Connect(background, fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=%s", r.Port, sslmode))
		if err != nil {
			r.T.Errorf("a client can't connect: %v", err)
			return
		}
		for range 30 {
			if err := pgx.BeginFunc(background, conn, func(tx pgx.Tx) error {
				_, err := tx.Exec(background, "SELECT $1::int", 1)
				return err
			}); err != nil {
				r.T.Errorf("a client sees: %v", err)
				return
			}
		}
		if err := conn.Close(background); err != nil {
			r.T.Errorf("a client can't leave: %v", err)
		}
	}
}

// held is what one process holds.
type held struct {
	role  string
	files int
	bytes int64
}

// quiet returns what the processes hold when nothing is connected.
func (r *reloaded) quiet() []held {
	r.T.Helper()
	if _, errs, code := r.CLI("flush", "all"); code != 0 {
		r.T.Fatalf("flush: %s", errs)
	}
	list := []held{{"supervisor", files(r.T, r.PID()), resident(r.T, r.PID())}}
	for i, pid := range r.Workers() {
		list = append(list, held{fmt.Sprintf("worker %d", i), files(r.T, pid), resident(r.T, pid)})
	}
	for role, pid := range map[string]int{"prober": r.Prober(), "console": r.Console(), "runner": r.Runner()} {
		if pid != 0 {
			list = append(list, held{role, files(r.T, pid), 0})
		}
	}
	return list
}

// grown is by how much the memory of a process may grow, whatever has happened: that of the load, and of the race detector.
const grown = 64 << 20

// back waits until the processes hold no more descriptors than before, and checks their memory.
func (r *reloaded) back(before []held) {
	r.T.Helper()
	most := map[string]held{}
	for _, h := range before {
		most[h.role] = h
	}
	over := ""
	pgtest.WaitUntil(r.T, pool.Generous, "descriptors to be closed", func() bool {
		over = ""
		for _, h := range r.quiet() {
			if m := most[h.role]; h.files > m.files {
				over += fmt.Sprintf("%s has %d open files instead of %d; ", h.role, h.files, m.files)
			}
		}
		return over == ""
	}, func() string { return over })
	for _, h := range r.quiet() {
		if m := most[h.role]; h.bytes > m.bytes+grown {
			r.T.Errorf("%s has %d bytes instead of %d", h.role, h.bytes, m.bytes)
		}
	}
}

// files counts the open files of a process.
func files(t testing.TB, pid int) int {
	t.Helper()
	list, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
	if err != nil {
		return 0 // it is just being replaced
	}
	return len(list)
}

// resident returns the resident memory of a process in bytes.
func resident(t testing.TB, pid int) int64 {
	t.Helper()
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	fields := strings.Fields(string(data))
	if err != nil || len(fields) < 2 {
		t.Fatalf("memory of process %d: %v", pid, err)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	pool.Must(t, err)
	return pages * int64(os.Getpagesize())
}
