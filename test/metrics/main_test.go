package metrics

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

func TestMain(m *testing.M) { pool.Main(m) }

// scraped is a pool that serves metrics.
type scraped struct {
	*pool.Pool
	port   int
	client *http.Client
}

// keysWith are keys that put the metrics on a port of the test.
func keysWith(t *testing.T, keys map[string]string) (map[string]string, int) {
	t.Helper()
	port := pgtest.Port(t)
	all := map[string]string{"metrics": strconv.Itoa(port)}
	for k, v := range keys {
		all[k] = v
	}
	return all, port
}

func over(p *pool.Pool, port int) *scraped {
	return &scraped{Pool: p, port: port, client: &http.Client{Timeout: pool.Generous, Transport: &http.Transport{DisableKeepAlives: true}}}
}

// start starts a pool in front of one server.
func start(t *testing.T, setup pool.Setup) *scraped {
	t.Helper()
	if setup.Servers == nil {
		setup.Servers = pool.Nodes(pgtest.New(t, pgtest.Options{}))
	}
	keys, port := keysWith(t, setup.Keys)
	setup.Keys = keys
	return over(pool.Start(t, setup), port)
}

func (s *scraped) url(path string) string { return "http://127.0.0.1:" + strconv.Itoa(s.port) + path }

// get returns the answer to a request, which must come.
func (s *scraped) get(path string) (code int, body string, header http.Header) {
	s.T.Helper()
	r, err := s.client.Get(s.url(path))
	if err != nil {
		s.T.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		s.T.Fatal(err)
	}
	return r.StatusCode, string(b), r.Header
}

type families map[string]*dto.MetricFamily

// scrape returns the metrics, which must be well formed.
func (s *scraped) scrape() families {
	s.T.Helper()
	code, body, _ := s.get("/metrics")
	if code != http.StatusOK {
		s.T.Fatalf("%d: %s", code, body)
	}
	return parse(s.T, body)
}

func parse(t testing.TB, body string) families {
	t.Helper()
	p := expfmt.NewTextParser(model.LegacyValidation)
	got, err := p.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// value returns the value of a series, and whether it is there.
func (f families) value(name string, labels ...string) (float64, bool) {
	family := f["pgagroal_"+name]
	if family == nil {
		return 0, false
	}
	for _, m := range family.Metric {
		if !has(m, labels) {
			continue
		}
		switch {
		case m.Counter != nil:
			return m.Counter.GetValue(), true
		case m.Gauge != nil:
			return m.Gauge.GetValue(), true
		case m.Histogram != nil:
			return float64(m.Histogram.GetSampleCount()), true
		}
	}
	return 0, false
}

// has reports whether a series has labels, which are names and values in turn.
func has(m *dto.Metric, labels []string) bool {
	for i := 0; i < len(labels); i += 2 {
		found := false
		for _, l := range m.Label {
			found = found || l.GetName() == labels[i] && l.GetValue() == labels[i+1]
		}
		if !found {
			return false
		}
	}
	return true
}

// want checks the value of a series.
func (f families) want(t testing.TB, v float64, name string, labels ...string) {
	t.Helper()
	if got, ok := f.value(name, labels...); !ok || got != v {
		t.Errorf("%s%v is %v (there: %v), want %v", name, labels, got, ok, v)
	}
}

// becomes waits until a series has a value.
func (s *scraped) becomes(v float64, name string, labels ...string) families {
	s.T.Helper()
	var f families
	pgtest.WaitUntil(s.T, pool.Generous, name+" to be "+strconv.FormatFloat(v, 'g', -1, 64), func() bool {
		f = s.scrape()
		got, ok := f.value(name, labels...)
		return ok && got == v
	})
	return f
}
