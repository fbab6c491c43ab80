package operator

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// hup has the files read again by a signal, which needs no socket, and waits for the n-th line of the log that says text.
func hup(p *pool.Pool, n int, text string) {
	p.T.Helper()
	pool.Must(p.T, syscall.Kill(p.PID(), syscall.SIGHUP))
	pgtest.WaitUntil(p.T, pool.Generous, text, func() bool { return strings.Count(p.Log(), text) >= n }, p.Log)
}

// listens reports whether somebody listens at a port of an address.
func listens(address string) bool {
	nc, err := net.Dial("tcp", address)
	if err == nil {
		nc.Close()
	}
	return err == nil
}

func TestReloadMovesListenersAndDisconnectsNobody(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{"failover": "off"}})
	over := map[string]*pgtest.Client{"TCP": p.Connect(), "a Unix socket": p.ConnectAs(p.UnixConfig("postgres", "", "postgres"))}
	oldPort, oldDir := p.Port, p.Path("run")
	p.Port = pgtest.Port(t)
	metrics, dir := pgtest.Port(t), p.Path("run2")
	pool.Must(t, os.Mkdir(dir, 0o755))
	pool.Give(t, dir)
	put(p, map[string]string{
		"host": "127.0.0.1,127.0.0.2", "port": strconv.Itoa(p.Port), "unix_socket_dir": dir, "metrics": strconv.Itoa(metrics),
	})
	hup(p, 1, "configuration is reloaded")
	for how, conn := range over {
		if _, err := pool.Query(conn, "SELECT 1"); err != nil {
			t.Errorf("the client over %s: %v", how, err)
		}
	}
	p.Connect()
	other := p.Config("postgres", "", "postgres")
	other.Addr = fmt.Sprintf("127.0.0.2:%d", p.Port)
	p.ConnectAs(other)
	other = p.UnixConfig("postgres", "", "postgres")
	other.Addr = strings.Replace(other.Addr, oldDir, dir, 1)
	p.ConnectAs(other)
	pgtest.WaitUntil(t, pool.Generous, "the old port to be closed", func() bool { return !listens(fmt.Sprintf("127.0.0.1:%d", oldPort)) }, p.Log)
	for _, name := range []string{".s.PGSQL.%d", ".s.pgagroal.%d", ".s.pgagroal.%d.lock"} {
		pgtest.WaitUntil(t, pool.Generous, "the old "+name+" to be removed", func() bool {
			_, err := os.Stat(filepath.Join(oldDir, fmt.Sprintf(name, oldPort)))
			return errors.Is(err, fs.ErrNotExist)
		}, p.Log)
	}
	if got := changed(p.JSON("conf", "reload"), "NeedsRestart"); got != "pidfile" {
		t.Errorf("needs a restart: %s, want the pid file, whose name has the port", got)
	}
	p.WaitLog("console is ready")
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: pool.Generous}
	if r, err := client.Get(fmt.Sprintf("http://127.0.0.2:%d/metrics", metrics)); err != nil || r.StatusCode != http.StatusOK {
		t.Errorf("metrics: %v, %v", r, err)
	} else {
		r.Body.Close()
	}

	t.Run("a port that is taken is refused with everything", func(t *testing.T) {
		taken, free := strconv.Itoa(c.Nodes[0].Port), pgtest.Port(t)
		put(p, map[string]string{"port": strconv.Itoa(free), "console": taken})
		hup(p, 1, "the configuration can't be reloaded")
		if listens(fmt.Sprintf("127.0.0.1:%d", free)) {
			t.Error("what was opened for the refused reload is still open")
		}
		if _, err := os.Stat(filepath.Join(dir, fmt.Sprintf(".s.pgagroal.%d", free))); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("its control socket: %v", err)
		}
		p.Connect()
		put(p, map[string]string{"port": strconv.Itoa(p.Port)})
		p.DropKey("console")
	})

	p.DropKey("metrics")
	if got := changed(p.JSON("conf", "reload"), "Changed"); got != "metrics" {
		t.Errorf("changed: %s", got)
	}
	pgtest.WaitUntil(t, pool.Generous, "the port of metrics to be closed, and the console to be gone", func() bool {
		return !listens(fmt.Sprintf("127.0.0.1:%d", metrics)) && p.Console() == 0
	}, p.Log)
	p.SetKey("metrics", strconv.Itoa(metrics))
	p.JSON("conf", "reload")
	pgtest.WaitUntil(t, pool.Generous, "metrics again", func() bool { return listens(fmt.Sprintf("127.0.0.1:%d", metrics)) }, p.Log)
}
