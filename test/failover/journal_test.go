package failover

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/logline"
	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// TestTheJournalTellsTheStoryOfAFailover: each event has a MESSAGE_ID and fields, from every process, and nothing of it is
// on standard error. A journal that was started again gets what comes afterwards.
func TestTheJournalTellsTheStoryOfAFailover(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{Standbys: 1})
	s := pool.Ready(t, c, pool.Plan{
		Script: "echo promoting\n" + pool.PromoteScript(c), Keys: pool.HastyKeys(map[string]string{"log_type": "journald", "log_level": "debug"}),
	})
	j := newJournal(t, s.Pool)
	s.Pool.Journal(j.dir)
	s.Pool.Run()
	s.Opened("n1")
	s.Kill(1)
	j.wait("the story", func(all []map[string]string) bool {
		return j.count(all, "script says", "PGAGROAL_LINE", "promoting") == 1 && j.count(all, "failover complete", "PGAGROAL_PRIMARY", "n2") == 1 &&
			j.count(all, "failover phase", "PGAGROAL_NEW", "running") == 1 && j.count(all, "connection authorized", "PGAGROAL_USER", "postgres") > 0 &&
			j.count(all, "a script has ended", "PGAGROAL_PROCESS", "scriptrunner") > 0
	})
	j.check()
	if said := s.Pool.Log(); strings.Contains(said, "failover phase") || strings.Contains(said, "connection") {
		t.Errorf("standard error has lines of the log:\n%s", said)
	}
	j.again()
	j.wait("lines for the new journal", func(all []map[string]string) bool {
		if cl, err := s.Pool.Try(s.Pool.Config("postgres", "", "postgres")); err == nil {
			cl.Close()
		}
		return j.count(all, "log is opened again", "", "") > 0 && j.count(all, "connection received", "", "") > 0
	})
}

// journal is the socket of a journal, and what has come there.
type journal struct {
	t      *testing.T
	dir    string
	socket *net.UnixConn
	mu     sync.Mutex
	all    []map[string]string
}

func newJournal(t *testing.T, p *pool.Pool) *journal {
	j := &journal{t: t, dir: p.Path("journal")}
	pool.Must(t, os.Mkdir(j.dir, 0o755))
	t.Cleanup(func() { j.socket.Close() })
	j.listen()
	return j
}

func (j *journal) listen() {
	j.t.Helper()
	path := j.dir + "/socket"
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	pool.Must(j.t, err)
	pool.Must(j.t, os.Chmod(path, 0o666))
	j.socket = c
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			e, err := entry(b[:n])
			if err != nil {
				j.t.Errorf("%v: %q", err, b[:n])
			}
			j.mu.Lock()
			j.all = append(j.all, e)
			j.mu.Unlock()
		}
	}()
}

// again is a journal that ends and starts anew.
func (j *journal) again() {
	j.t.Helper()
	j.socket.Close()
	if err := os.Remove(j.dir + "/socket"); err != nil && !errors.Is(err, os.ErrNotExist) {
		j.t.Fatal(err)
	}
	j.mu.Lock()
	j.all = nil
	j.mu.Unlock()
	j.listen()
}

func (j *journal) entries() []map[string]string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.all)
}

func (j *journal) wait(what string, done func([]map[string]string) bool) {
	j.t.Helper()
	pgtest.WaitUntil(j.t, pool.Generous, what, func() bool { return done(j.entries()) }, func() string {
		var b strings.Builder
		for _, e := range j.entries() {
			b.WriteString(e["MESSAGE"] + "\n")
		}
		return b.String()
	})
}

// count returns how many entries have the MESSAGE_ID of a message and this field.
func (j *journal) count(all []map[string]string, message, field, value string) int {
	n := 0
	for _, e := range all {
		if e["MESSAGE_ID"] == logline.MessageID(message) && e[field] == value {
			n++
		}
	}
	return n
}

// check looks at all entries: what each has, and which processes there are.
func (j *journal) check() {
	j.t.Helper()
	seen := map[string]bool{}
	for _, e := range j.entries() {
		seen[e["PGAGROAL_PROCESS"]] = true
		if len(e["MESSAGE_ID"]) != 32 || e["PRIORITY"] == "" || e["SYSLOG_IDENTIFIER"] != "pgagroal" || !strings.HasPrefix(e["MESSAGE"], e["PGAGROAL_PROCESS"]+": ") {
			j.t.Errorf("an entry is %q", e)
		}
	}
	for _, p := range []string{"supervisor", "scriptrunner"} {
		if !seen[p] {
			j.t.Errorf("no entry of %s", p)
		}
	}
}

// entry reads an entry of the native protocol of the journal.
func entry(b []byte) (map[string]string, error) {
	e := map[string]string{}
	for text := string(b); text != ""; {
		line, rest, found := strings.Cut(text, "\n")
		key, value, short := strings.Cut(line, "=")
		if !short && len(rest) >= 8 {
			n := int(binary.LittleEndian.Uint64([]byte(rest)))
			if n > len(rest)-9 {
				return e, fmt.Errorf("%s is too long", key)
			}
			value, rest = rest[8:8+n], rest[9+n:]
		} else if !short || !found {
			return e, fmt.Errorf("a line is %q", line)
		}
		e[key], text = value, rest
	}
	return e, nil
}
