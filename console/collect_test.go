package console

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// noon is the time of the sample.
var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// sampleSnapshot has something to say about every metric.
func sampleSnapshot() *snapshot {
	h := ipc.Histogram{Counts: make([]uint64, ipc.TimeBuckets+1), Sum: 250_000_000}
	h.Counts[3], h.Counts[ipc.TimeBuckets] = 4, 1
	return &snapshot{
		taken: noon.Add(-time.Second / 2),
		begin: &ipc.SnapshotBegin{
			Pipeline: 2, MaxConnections: 50, Writable: true, StateDir: true, Logged: []uint64{5, 1, 0, 0}, Unplaced: 1,
			Confined: []string{"Landlock 7"}, Lacking: []string{"signals"}, Leases: ipc.LeaseFacts{Used: 3, Waiting: 1},
			Failover: ipc.FailoverFacts{
				Enabled: true, Phase: "held", Phases: []string{"open", "held"}, Epoch: 7, Timeline: 3, Held: true, HeldMS: 1500,
				PhaseMS: map[string]int64{"open": 60_000, "held": 1500}, Alarms: []string{"held"}, Last: 1e9, Fenced: 4, Problems: 2, LastMS: map[string]int64{"held": 700},
				Runs: []ipc.RunCount{{Hook: "failover", Outcome: "ok", N: 2}}, RunnerWanted: true, RunnerThere: true,
			},
		},
		servers: []*ipc.SnapshotServer{
			{Index: 0, Name: "one", State: "Failed", Qualifier: "split brain", Health: "DOWN", Auth: "unknown", Seen: "refused", SeenMS: 250, Lag: -1, LagMS: -1, Receiver: -1, Failures: 3, Probes: map[string]uint64{"refused": 3}, ProbeUS: 1500},
			{Index: 1, Name: "two", State: "Replica", Health: "UP", Auth: "trust", Major: 15, SeenMS: -1, Lag: 4096, LagMS: 2000, Receiver: 1, Timeline: 3, LSN: 1 << 24},
		},
		limits:    []*ipc.SnapshotLimit{{User: "u", Database: "d", Min: 1, Initial: 2, Max: 3, Used: 2, Waiting: 1}},
		processes: []*ipc.SnapshotProcess{{Name: "supervisor", CPU: 1.5, Resident: 1 << 20, AnswerUS: -1}, {Name: "worker 0", CPU: 2, Resident: 2 << 20, AnswerUS: 300}},
		workers: map[int]*ipc.WorkerStats{
			-1: {Counters: map[string]uint64{"query_count": 100}},
			0: {
				Counters: map[string]uint64{"query_count": 11, "logging_info": 2, "tls_client_1.3_resumed": 5, "tls_server_1.2": 1, "tls_client_failed_not_tls": 3, "tls_client_9": 7}, Logins: h, Sessions: ipc.Histogram{Counts: []uint64{2}, Sum: 3e9},
				Gauges:   map[string]int64{"client_active": 4, "active_connections": 1, "total_connections": 2, "connection_awaiting": 2, "client_wait": 1, "wait_time": 3},
				Servers:  []ipc.ServerTimes{{Server: 1, Waits: h, Opens: h, Queries: h, Transactions: h, Errors: 2}},
				Pools:    []ipc.PoolFigures{{Database: "d", User: "u", Server: 1, Active: 1, Idle: 1}, {Database: "d", User: "u", Server: -1, Waiting: 2}},
				Backends: []ipc.BackendLine{{Lease: 9, Database: "d", User: "u", AppName: "a \"b\"\n", State: "in_use", Queries: 6}},
			},
		},
	}
}

// TestNoRunnerIsMissedWhereNoneIsWanted: a series that is 0 for ever would be an alert for ever.
func TestNoRunnerIsMissedWhereNoneIsWanted(t *testing.T) {
	snap := sampleSnapshot()
	snap.begin.Failover.RunnerWanted, snap.begin.Failover.RunnerThere = false, false
	if text := exposed(t, snap, nil); strings.Contains(text, "\npgagroal_runner_") {
		t.Error("there are series of a runner")
	}
}

// exposed writes a snapshot.
func exposed(t *testing.T, snap *snapshot, change func(*server)) string {
	t.Helper()
	s := &server{
		log: slog.New(slog.DiscardHandler), metrics: newMetrics(), cfg: &ipc.ConsoleConfigure{Detail: detailConnection, MaxSeries: 1000},
		about: about{build: "1.0", kernel: [3]string{"6", "1", "0"}}, now: func() time.Time { return noon },
	}
	der := certificateOf(t, "localhost", nil).Certificate[0]
	s.about.certs = []certificate{newCertificate(&ipc.ConsoleCertificate{Scope: "metrics", Path: "/c", Accessible: true, DER: string(der)}), {scope: "two", path: "/gone"}}
	if change != nil {
		change(s)
	}
	text, err := s.render(snap)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestExposition(t *testing.T) {
	got := exposed(t, sampleSnapshot(), func(s *server) { s.about.certs = nil })
	const golden = "testdata/metrics.golden"
	if *rewrite {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("the metrics changed (-golden +now):\n%s", d)
	}
}

func TestEveryMetricHasAValueAndOnlyNamesOfCBreakTheRules(t *testing.T) {
	text := exposed(t, sampleSnapshot(), nil)
	for name, m := range newMetrics() {
		if !strings.Contains(text, "\n# TYPE "+prefix+name+" "+m.kind.String()+"\n") {
			t.Errorf("%s has no value", name)
		}
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, r := range compatible {
		known[prefix+r.name] = true
	}
	for _, p := range problems {
		if !known[p.Metric] {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// What a worker that was taken over makes up costs only its own figures.
func TestAWorkerThatLiesBreaksNoScrape(t *testing.T) {
	snap := sampleSnapshot()
	snap.workers[1] = &ipc.WorkerStats{
		Counters: map[string]uint64{"state": 5, "no such metric": 1}, Gauges: map[string]int64{"max_connections": -1, "client_active": -5},
		Logins: ipc.Histogram{Counts: make([]uint64, 500)}, Servers: []ipc.ServerTimes{{Server: 99}, {Server: 1}},
		Pools: []ipc.PoolFigures{{Database: "\xff\n", User: "u", Server: 7}}, Backends: []ipc.BackendLine{{Lease: 9}, {Lease: 9, State: "\x00"}},
	}
	if text := exposed(t, snap, nil); !strings.Contains(text, "\npgagroal_state 1\n") || !strings.Contains(text, "\npgagroal_query_count 111\n") {
		t.Errorf("the metrics of the others are wrong: %s", text)
	}
}

// certificateOf makes a certificate, of itself or of an authority.
func certificateOf(t *testing.T, name string, by *tls.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: by == nil, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	parent, signer := leaf, any(key)
	if by != nil {
		parent, signer = by.Leaf, by.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	if leaf, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func pems(t *testing.T, c tls.Certificate) (cert, key string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// TestThePortSpeaksTLS has a certificate, and authorities that a client must be known to.
func TestThePortSpeaksTLS(t *testing.T) {
	authority := certificateOf(t, "authority", nil)
	cert, key := pems(t, certificateOf(t, "localhost", &authority))
	ca, _ := pems(t, authority)
	cfg := &ipc.ConsoleConfigure{Detail: "pool", MaxSeries: 100, RequestMS: 30_000}
	var log bytes.Buffer
	s, err := newServer(slog.New(slog.NewTextHandler(&log, nil)), cfg, ipc.ServerTLS{Certificate: cert, Key: ipc.Secret(key), CA: ca}, nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.start([]net.Listener{l}, s.handler(), maxClients)()
	roots := x509.NewCertPool()
	roots.AddCert(authority.Leaf)
	get := func(scheme string, shown ...tls.Certificate) (*http.Response, error) {
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost", Certificates: shown}}
		defer tr.CloseIdleConnections()
		c := http.Client{Transport: tr, Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		r, err := c.Get(scheme + "://" + l.Addr().String() + "/index.html?x")
		if err == nil {
			_, err = io.Copy(io.Discard, r.Body)
			err = errors.Join(err, r.Body.Close())
		}
		return r, err
	}
	if r, err := get("https", certificateOf(t, "client", &authority)); err != nil || r.StatusCode != http.StatusOK {
		t.Errorf("a client with a certificate: %v, %v", r, err)
	}
	if r, err := get("https"); err == nil {
		t.Errorf("a client without a certificate gets %s", r.Status)
	}
	if r, err := get("https", certificateOf(t, "stranger", nil)); err == nil {
		t.Errorf("a client with a certificate of its own gets %s", r.Status)
	}
	r, err := get("http")
	if err != nil || r.StatusCode != http.StatusMovedPermanently || r.Header.Get("Location") != "https://"+l.Addr().String()+"/index.html?x" {
		t.Errorf("HTTP without TLS: %+v, %v", r, err)
	}
}
