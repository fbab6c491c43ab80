package logline

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// styled returns a logger of a style that writes to b.
func styled(b *bytes.Buffer, s Settings) *slog.Logger {
	log := New(b, "", slog.LevelDebug, "worker 2")
	log.Handler().(*handler).change(func(st *style) { st.Settings = s })
	return log
}

// all is a line with everything that can go wrong in it.
func all(log *slog.Logger) {
	log.With("server", "one\ntwo").WithGroup("run").Error("it is\nlate", "id", 7, "ok", true, "why", "a \"quoted\" text, \x00 \xff",
		"error", errors.New("no"), "kept as", time.Second)
}

func TestJSONLineIsAnObject(t *testing.T) {
	var b bytes.Buffer
	all(styled(&b, Settings{JSON: true, Level: slog.LevelDebug}))
	if strings.Count(b.String(), "\n") != 1 || !strings.HasSuffix(b.String(), "}\n") {
		t.Fatalf("not one line: %q", b.String())
	}
	var got struct {
		Time    time.Time
		Level   string
		Process string
		PID     int
		Message string
		Fields  map[string]any
	}
	d := json.NewDecoder(&b)
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if got.Level != "error" || got.Process != "worker 2" || got.PID != os.Getpid() || got.Message != "it is\nlate" || time.Since(got.Time) > generous {
		t.Errorf("%+v", got)
	}
	want := map[string]any{
		"server": "one\ntwo", "run.id": 7.0, "run.ok": true, "run.why": "a \"quoted\" text, \x00 \ufffd", "run.error": "no", "run.kept as": "1s",
	}
	if fmt.Sprint(got.Fields) != fmt.Sprint(want) {
		t.Errorf("%q", got.Fields)
	}
}

func TestSyslogLineHasPriorityTimeAndName(t *testing.T) {
	for level, priority := range map[slog.Level]int{
		LevelTrace: 15, slog.LevelDebug: 15, slog.LevelInfo: 14, slog.LevelWarn: 12, slog.LevelError: 11, LevelFatal: 10,
	} {
		var b bytes.Buffer
		log := styled(&b, Settings{Kind: Syslog, Level: LevelTrace, Prefix: "not here"})
		log.Log(t.Context(), level, "it is\nlate", "server", "one")
		rest, found := strings.CutPrefix(b.String(), fmt.Sprintf("<%d>", priority))
		if !found || len(rest) < len(time.Stamp) {
			t.Fatalf("%q", b.String())
		}
		if _, err := time.Parse(time.Stamp, rest[:len(time.Stamp)]); err != nil {
			t.Error(err)
		}
		want := fmt.Sprintf(" pgagroal[%d]: %-5s worker 2[%d] it is late server=one", os.Getpid(), name(level), os.Getpid())
		if rest[len(time.Stamp):] != want {
			t.Errorf("%q is not %q", rest[len(time.Stamp):], want)
		}
	}
}

// entry reads an entry of the journal's protocol.
func entry(t *testing.T, b []byte) map[string]string {
	t.Helper()
	fields := map[string]string{}
	for len(b) > 0 {
		line, rest, found := bytes.Cut(b, []byte("\n"))
		if !found {
			t.Fatalf("a line without an end: %q", b)
		}
		key, value, short := strings.Cut(string(line), "=")
		if !short {
			n := int(binary.LittleEndian.Uint64(rest))
			value, rest = string(rest[8:8+n]), rest[8+n+1:]
		}
		if _, twice := fields[key]; twice {
			t.Errorf("%s is there twice", key)
		}
		fields[key], b = value, rest
	}
	return fields
}

func TestJournalEntryHasFields(t *testing.T) {
	var b bytes.Buffer
	all(styled(&b, Settings{Kind: Journal, Level: slog.LevelDebug}))
	got := entry(t, b.Bytes())
	want := map[string]string{
		"MESSAGE":  `worker 2: it is late server="one\ntwo" run.id=7 run.ok=true run.why="a \"quoted\" text, \x00 \xff" run.error=no run.kept as=1s`,
		"PRIORITY": "3", "SYSLOG_IDENTIFIER": "pgagroal", "MESSAGE_ID": MessageID("it is\nlate"), "PGAGROAL_PROCESS": "worker 2",
		"PGAGROAL_SERVER": "one\ntwo", "PGAGROAL_RUN_ID": "7", "PGAGROAL_RUN_OK": "true", "PGAGROAL_RUN_WHY": "a \"quoted\" text, \x00 \xff",
		"PGAGROAL_RUN_ERROR": "no", "PGAGROAL_RUN_KEPT_AS": "1s",
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s is %q, not %q", k, got[k], v)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d fields: %q", len(got), got)
	}
}

// TestMessageIDsStay: operators search the journal by them.
func TestMessageIDsStay(t *testing.T) {
	if got := MessageID("failover phase"); got != "b956c277537a8004a979e19d79335836" {
		t.Error(got)
	}
}

func TestNoLineIsLongerThanTheLimit(t *testing.T) {
	long := strings.Repeat("\x01é", 20_000)
	var many []any
	for i := range 2000 {
		many = append(many, fmt.Sprintf("k%d", i), "value")
	}
	for name, write := range map[string]func(*slog.Logger){
		"a long message": func(l *slog.Logger) { l.Info(long) },
		"a long field":   func(l *slog.Logger) { l.Info("m", "k", long, "last", "here") },
		"long fields":    func(l *slog.Logger) { l.Info("m", "a", long, "b", long, "c", long) },
		"many fields":    func(l *slog.Logger) { l.Info("m", many...) },
	} {
		for _, s := range []Settings{{}, {JSON: true}, {Kind: Syslog}, {Kind: Journal}, {Prefix: long}} {
			var b bytes.Buffer
			s.Level = slog.LevelInfo
			write(styled(&b, s))
			if b.Len() > MaxLine || b.Len() < MaxLine/8 {
				t.Errorf("%s: %d bytes as %+v", name, b.Len(), s.Kind)
			}
			if s.JSON && !json.Valid(b.Bytes()) {
				t.Errorf("%s: no JSON: %q", name, b.String())
			}
			if s.Kind == Journal {
				entry(t, b.Bytes())
			}
			if !utf8.Valid(b.Bytes()) && s.Kind != Journal {
				t.Errorf("%s: a character was cut", name)
			}
		}
	}
	var b bytes.Buffer
	styled(&b, Settings{Level: slog.LevelInfo}).Info("m", "k", long, "last", "here")
	if got := b.String(); !strings.HasSuffix(got, `..." last=here`+"\n") {
		t.Errorf("it ends in %q", got[len(got)-40:])
	}
}

// TestLinesGoWhereTheLogWas: what is queued before Follow goes to the old log, what comes after it to the new one, and
// the old one is closed then.
func TestLinesGoWhereTheLogWas(t *testing.T) {
	q := NewQueue(newStuck())
	log := New(q, "", slog.LevelInfo, "p").With("k", "v")
	pipes := make([]*os.File, 3)
	for i := range pipes {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		fd, err := unix.Dup(int(w.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
		pipes[i] = r
		Follow(log, Settings{Kind: Syslog, Level: slog.LevelInfo}, []int{fd})
		log.Info(fmt.Sprint("line ", i))
	}
	Follow(log, Settings{Level: slog.LevelWarn}, nil) // no descriptor was free: the same log, another level
	log.Info("no line")
	if !q.Close(generous) {
		t.Error("lines are missing")
	}
	for i, r := range pipes {
		b := make([]byte, 1000)
		n, err := r.Read(b)
		if got := string(b[:n]); err != nil || !strings.Contains(got, fmt.Sprintf("] line %d k=v", i)) || strings.Contains(got, "no line") || strings.Count(got, "line ") != 1 && i < 2 {
			t.Errorf("log %d has %q, %v", i, got, err)
		}
		if i < 2 {
			if n, err := r.Read(b); n != 0 || err == nil {
				t.Errorf("log %d isn't closed: %q", i, b[:n])
			}
		}
	}
}

func TestADaemonThatHangsCostsOnlyLines(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	q := NewQueue(newStuck())
	log := New(q, "", slog.LevelInfo, "p")
	Follow(log, Settings{Kind: Syslog, Level: slog.LevelInfo}, []int{fds[1]})
	until(t, func() bool {
		log.Info(strings.Repeat("x", 4000))
		q.mu.Lock()
		defer q.mu.Unlock()
		return q.lost > 0
	})
	q.Close(10 * time.Second)
}
