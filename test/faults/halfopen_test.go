package faults

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// A firewall has forgotten all open connections and silently drops their packets; new
// connections pass. A client that waits for an answer on such a connection must not wait
// for a quarter of an hour. A failover wouldn't help.
func TestConnectionsThatAFirewallHasForgottenAreGivenUp(t *testing.T) {
	needNetworks(t)
	t.Parallel()
	s := play(t, plan{
		keys: map[string]string{"pipeline": "transaction"},
		before: func(s *scene) {
			// The kernel tries again after 10 ms at first instead of after 200 ms.
			h := s.net.hosts["pool"]
			route := fmt.Sprintf("route replace 10.9.0.0/24 dev eth0 proto kernel scope link src %s rto_min 10ms\n", h.addr)
			pool.Must(t, h.ns.Run(route, nil, "ip", "-batch", "-"))
		},
	})
	ports := strings.Fields(s.sql(1, "SELECT client_port FROM pg_stat_activity WHERE backend_type = 'client backend' AND client_port > 0"))
	if len(ports) == 0 {
		t.Fatal("no connection is open")
	}
	s.net.rule("n1", "ip saddr @pool tcp dport 5432 tcp sport { "+strings.Join(ports, ", ")+" } drop")
	pgtest.WaitUntil(t, 2*generous, "connections to be given up", func() bool {
		return strings.Contains(s.p.Log(), "the server's host acknowledges nothing")
	}, s.p.Log)
	// The first one given up may have been busy without a client, with a reset.
	pgtest.WaitUntil(t, 2*generous, "a client to be told", func() bool { return s.load.Seen().Errors != "" }, s.p.Log)
	s.same()
	s.load.End()
	told := s.load.Seen()
	if told.Disconnected > 0 {
		t.Errorf("%d clients were disconnected; errors:%s", told.Disconnected, told.Errors)
	}
	if lost := s.rows(1, told); lost > 0 {
		t.Errorf("%d acknowledged rows are lost", lost)
	}
}
