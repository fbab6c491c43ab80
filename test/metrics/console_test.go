package metrics

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// hasWebConsole has no metrics: the web console doesn't need them.
func hasWebConsole(t *testing.T, servers []pool.Server) {
	port := pgtest.Port(t)
	p := pool.Start(t, pool.Setup{Servers: servers, Keys: map[string]string{"console": strconv.Itoa(port), "pipeline": "transaction"}})
	s := over(p, port)
	pool.MustQuery(t, s.Connect(), "SELECT 1")
	code, page, header := s.get("/")
	if code != http.StatusOK || !strings.Contains(page, "<title>pgagroal</title>") || !strings.Contains(header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("the page: %d, %v", code, header)
	}
	if code, _, _ := s.get("/metrics"); code != http.StatusNotFound {
		t.Errorf("/metrics on the port of the web console: %d", code)
	}
	shown := s.document()
	told := p.JSON("status", "details")
	for _, member := range []string{"Status", "MaxConnections", "NumberOfServers", "Standbys", "TotalConnections"} {
		if d := cmp.Diff(told[member], shown[member]); d != "" {
			t.Errorf("%s, -pgagroal-cli +web console:\n%s", member, d)
		}
	}
	told = p.JSON("failover", "status")
	failover, _ := shown["FailoverStatus"].(map[string]any)
	for member := range told {
		if _, there := failover[member]; !there && member != "ServerVersion" {
			t.Errorf("the web console lacks %s of failover status", member)
		}
	}
	for member, what := range map[string]string{"Pools": "postgres", "Changes": "open", "Processes": "supervisor", "Replication": "n1"} {
		text, err := json.Marshal(shown[member])
		if err != nil || !strings.Contains(string(text), what) {
			t.Errorf("%s is %s, %v", member, text, err)
		}
	}
	s.streams()
}

// document returns the answer at /api.
func (s *scraped) document() (d map[string]any) {
	s.T.Helper()
	code, body, _ := s.get("/api")
	if err := json.Unmarshal([]byte(body), &d); err != nil || code != http.StatusOK {
		s.T.Fatalf("%d: %v: %s", code, err, body)
	}
	return d
}

// streams reads events until there is a status.
func (s *scraped) streams() {
	s.T.Helper()
	r, err := s.client.Get(s.url("/api/events"))
	if err != nil {
		s.T.Fatal(err)
	}
	defer r.Body.Close()
	for lines := bufio.NewScanner(r.Body); lines.Scan(); {
		if lines.Text() == "event: status" {
			return
		}
	}
	s.T.Error("the stream ends without a status")
}
