package logs

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.Local)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func started(t *testing.T, s Settings, now time.Time) *Log {
	t.Helper()
	l, err := Start(s, now)
	must(t, err)
	t.Cleanup(l.Close)
	return l
}

func write(t *testing.T, l *Log, text string) {
	t.Helper()
	_, err := unix.Write(l.fd, []byte(text))
	must(t, err)
}

// again opens a log again for the reason that Due has, and fails if it is another one.
func again(t *testing.T, l *Log, s Settings, want Reason, now time.Time) *Log {
	t.Helper()
	why := l.Due(s, now)
	if why != want {
		t.Fatalf("it is due for %q, not %q", why, want)
	}
	next, err := l.Again(s, why, now)
	must(t, err)
	t.Cleanup(next.Close)
	return next
}

// content returns the files of a directory, each as name=content.
func content(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var all []string
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		must(t, err)
		all = append(all, e.Name()+"="+string(text))
	}
	return strings.Join(all, " ")
}

func TestAFileIsRotatedBySize(t *testing.T) {
	dir := t.TempDir()
	s := Settings{Kind: File, Path: filepath.Join(dir, "log"), Size: 4}
	l := started(t, s, noon)
	write(t, l, "abc")
	if why := l.Due(s, noon); why != NoReason {
		t.Fatalf("3 bytes are due for %q", why)
	}
	write(t, l, "d")
	l = again(t, l, s, TooLarge, noon)
	write(t, l, "efgh")
	l = again(t, l, s, TooLarge, noon) // in the same second
	write(t, l, "i")
	if got := content(t, dir); got != "log=i log.20261130-120000=abcd log.20261130-120000.1=efgh" {
		t.Error(got)
	}
}

func TestAFileIsRotatedAtMultiplesOfItsAge(t *testing.T) {
	dir := t.TempDir()
	s := Settings{Kind: File, Path: filepath.Join(dir, "log-%d"), Age: 24 * time.Hour}
	l := started(t, s, noon)
	write(t, l, "old")
	midnight := time.Date(2026, 12, 1, 0, 0, 0, 0, time.Local)
	if why := l.Due(s, midnight.Add(-time.Second)); why != NoReason {
		t.Fatalf("before midnight it is due for %q", why)
	}
	l = again(t, l, s, TooOld, midnight)
	write(t, l, "new")
	if why := l.Due(s, midnight); why != NoReason {
		t.Fatalf("the new file is due for %q", why)
	}
	if got := content(t, dir); got != "log-01=new log-30=old" {
		t.Error(got)
	}
	s.Path, s.Age = filepath.Join(dir, "log-01"), time.Hour // one name for all
	l = again(t, l, s, TooOld, midnight.Add(time.Hour))
	write(t, l, "next")
	if got := content(t, dir); got != "log-01=next log-01.20261201-010000=new log-30=old" {
		t.Error(got)
	}
}

func TestAFileThatIsGoneIsMadeAgain(t *testing.T) {
	for name, lose := range map[string]func(string) error{
		"renamed": func(p string) error { return os.Rename(p, p+".old") },
		"removed": os.Remove,
		"replaced": func(p string) error {
			if err := os.Rename(p, p+".old"); err != nil {
				return err
			}
			return os.WriteFile(p, []byte("x"), 0o644)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := Settings{Kind: File, Path: filepath.Join(t.TempDir(), "log")}
			l := started(t, s, noon)
			must(t, lose(s.Path))
			l = again(t, l, s, Moved, noon)
			write(t, l, "new")
			if text, err := os.ReadFile(s.Path); err != nil || !strings.HasSuffix(string(text), "new") {
				t.Errorf("the file holds %q, %v", text, err)
			}
			if why := l.Due(s, noon); why != NoReason {
				t.Errorf("the new file is due for %q", why)
			}
		})
	}
}

// TestCreateEmptiesNoFileThatIsInUse: logrotate may signal without having renamed anything.
func TestCreateEmptiesNoFileThatIsInUse(t *testing.T) {
	dir := t.TempDir()
	s := Settings{Kind: File, Path: filepath.Join(dir, "log-%d"), Create: true, Age: 24 * time.Hour}
	must(t, os.WriteFile(filepath.Join(dir, "log-30"), []byte("of an earlier start"), 0o640))
	must(t, os.WriteFile(filepath.Join(dir, "log-01"), []byte("of another month"), 0o640))
	l := started(t, s, noon)
	write(t, l, "a")
	next, err := l.Again(s, Asked, noon)
	must(t, err)
	t.Cleanup(next.Close)
	write(t, next, "b")
	l = again(t, next, s, TooOld, noon.Add(12*time.Hour))
	write(t, l, "c")
	if got := content(t, dir); got != "log-01=c log-30=ab" {
		t.Error(got)
	}
}

func TestAPipeIsNoFileToRotate(t *testing.T) {
	s := Settings{Kind: File, Path: filepath.Join(t.TempDir(), "pipe"), Size: 1, Age: time.Second, Create: true}
	must(t, unix.Mkfifo(s.Path, 0o600))
	if l, err := Start(s, noon); err == nil { // and it doesn't wait for a reader
		l.Close()
		t.Fatal("a pipe without a reader was opened")
	}
	r, err := os.OpenFile(s.Path, os.O_RDWR, 0)
	must(t, err)
	defer r.Close()
	l := started(t, s, noon)
	write(t, l, "abc")
	if why := l.Due(s, noon.Add(time.Hour)); why != NoReason {
		t.Errorf("it is due for %q", why)
	}
}

func TestADaemonThatWasStartedAgainIsFound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := Settings{Kind: Syslog, Places: Places{Syslog: path}}
	if l, err := Start(s, noon); err == nil {
		l.Close()
		t.Fatal("there is no daemon")
	}
	listen := func() *net.UnixConn {
		c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		must(t, err)
		t.Cleanup(func() { c.Close() })
		return c
	}
	first := listen()
	l := started(t, s, noon)
	if why := l.Due(s, noon); why != NoReason {
		t.Fatalf("it is due for %q", why)
	}
	first.Close()
	_ = os.Remove(path)
	second := listen()
	l = again(t, l, s, Moved, noon)
	write(t, l, "line")
	must(t, second.SetDeadline(time.Now().Add(30*time.Second)))
	b := make([]byte, 100)
	n, err := second.Read(b)
	if err != nil || string(b[:n]) != "line" {
		t.Errorf("%q, %v", b[:n], err)
	}
}

func TestARotationThatFailsLeavesTheLogOpen(t *testing.T) {
	dir := t.TempDir()
	s := Settings{Kind: File, Path: filepath.Join(dir, "sub", "log"), Size: 1}
	must(t, os.Mkdir(filepath.Join(dir, "sub"), 0o700))
	l := started(t, s, noon)
	must(t, os.Rename(filepath.Join(dir, "sub"), filepath.Join(dir, "away")))
	if _, err := l.Again(s, l.Due(s, noon), noon); err == nil {
		t.Fatal("a directory that isn't there")
	}
	write(t, l, "still here")
	if got := content(t, filepath.Join(dir, "away")); got != "log=still here" {
		t.Error(got)
	}
}
