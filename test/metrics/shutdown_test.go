package metrics

import (
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// failsFirst: a load balancer sends clients until it has seen that readiness fails.
func failsFirst(t *testing.T, servers []pool.Server) {
	s := start(t, pool.Setup{Servers: servers, Keys: map[string]string{"shutdown_mode": "gracefully", "shutdown_delay": "600s"}})
	cl := s.Connect()
	if code, body, _ := s.get("/readyz"); code != http.StatusOK {
		t.Fatalf("at first: %d, %s", code, body)
	}
	pool.Must(t, s.Cmd.Process.Signal(syscall.SIGTERM))
	pgtest.WaitUntil(t, pool.Generous, "readiness to fail", func() bool {
		code, body, _ := s.get("/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "shutting down")
	})
	if code, body, _ := s.get("/healthz"); code != http.StatusOK {
		t.Errorf("pgagroal works, and /healthz says %d, %s", code, body)
	}
	if out, errs, code := s.CLI("ping", "--write"); code != 3 {
		t.Errorf("ping --write: exit %d\n%s%s", code, out, errs)
	}
	pool.MustQuery(t, cl, "SELECT 1")
	pool.MustQuery(t, s.Connect(), "SELECT 1") // who doesn't know yet is served
	if out, _, code := s.CLI("shutdown", "cancel"); code != 1 {
		t.Errorf("the service manager waits, and cancel exits with %d: %s", code, out)
	}
	pool.Must(t, s.Cmd.Process.Signal(syscall.SIGTERM))
	if code := s.WaitEnd(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if _, err := pool.Query(cl, "SELECT 1"); pgtest.Code(err) != "57P01" {
		t.Errorf("the client got %v", err)
	}
}
