package pool

import (
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// Manager collects the lines that a service manager receives.
type Manager struct {
	t    testing.TB
	Path string // of its socket, for NOTIFY_SOCKET
	mu   sync.Mutex
	said []string
}

// NewManager listens on a socket until the test ends.
func NewManager(t testing.TB, path string) *Manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	Must(t, err)
	Must(t, os.Chmod(path, 0o777))
	m := &Manager{t: t, Path: path}
	var reader sync.WaitGroup
	reader.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.said = append(m.said, strings.Split(string(buf[:n]), "\n")...)
			m.mu.Unlock()
		}
	})
	t.Cleanup(func() { conn.Close(); reader.Wait() })
	return m
}

// Heard returns all lines so far.
func (m *Manager) Heard() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.said)
}

// Count returns how many lines begin with text.
func (m *Manager) Count(text string) int {
	n := 0
	for _, l := range m.Heard() {
		if strings.HasPrefix(l, text) {
			n++
		}
	}
	return n
}

// CatchUp waits until everything that was sent before has been heard.
func (m *Manager) CatchUp() {
	m.t.Helper()
	conn, err := net.Dial("unixgram", m.Path)
	Must(m.t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("CAUGHT_UP=1"))
	Must(m.t, err)
	m.Wait("CAUGHT_UP=1", 1)
}

// Wait waits for n lines that begin with text.
func (m *Manager) Wait(text string, n int) {
	m.t.Helper()
	pgtest.WaitUntil(m.t, Generous, "the service manager to hear "+text, func() bool { return m.Count(text) >= n },
		func() string { return strings.Join(m.Heard(), "\n") })
}
