package failover

import (
	"strings"
	"testing"
)

func TestEachPhaseHasWordsForClients(t *testing.T) {
	m := New(Config{Servers: []ServerConfig{{Name: "a", Host: "/secret/host", Port: "1"}}}, nil, 0)
	for p := range Phase(len(phaseNames)) {
		m.phase, m.open, m.why, m.reason = p, false, "script /secret/path", "process 17"
		s := m.Status(0)
		if s.Public == "" || strings.ContainsAny(s.Public, "/0123456789") || s.Reason != "process 17" {
			t.Errorf("%v: %q", p, s.Public)
		}
		m.open = true
		if s := m.Status(0); s.Public != "" {
			t.Errorf("%v, open: %q", p, s.Public)
		}
	}
}
