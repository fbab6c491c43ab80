package console

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// generous bounds a wait for something that is sure to come.
const generous = 30 * time.Second

const sampleDocument = `{"Status":"Running","Writable":true,"Servers":{"one":{"Host":"h<1>"}}}`

// fakeSupervisor answers each request for a snapshot with one more query.
type fakeSupervisor struct {
	feed     *feed
	requests atomic.Int64
	asked    chan *ipc.SnapshotRequest
	mu       sync.Mutex
	snapshot func(n uint64) *snapshot // the n-th
	document []byte
	history  []string
}

func newFakeSupervisor(t *testing.T) *fakeSupervisor {
	f := &fakeSupervisor{asked: make(chan *ipc.SnapshotRequest, 4), document: []byte(sampleDocument), history: []string{`{"kind":"verified"}`}}
	f.snapshot = func(n uint64) *snapshot {
		s := sampleSnapshot()
		s.workers = map[int]*ipc.WorkerStats{0: {Counters: map[string]uint64{"query_count": 100 * n}, Gauges: map[string]int64{"client_active": 3}}}
		return s
	}
	f.feed = newFeed(slog.New(slog.DiscardHandler), func(m ipc.Message) error {
		f.requests.Add(1)
		f.asked <- m.(*ipc.SnapshotRequest)
		return nil
	}, false)
	f.feed.page = true
	var done sync.WaitGroup
	done.Go(func() {
		for r := range f.asked {
			if err := f.answer(r); err != nil {
				t.Error(err)
			}
		}
	})
	t.Cleanup(func() { close(f.asked); done.Wait() })
	return f
}

func (f *fakeSupervisor) answer(r *ipc.SnapshotRequest) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	sample := f.snapshot(uint64(f.requests.Load()))
	var items []ipc.Message
	for _, s := range sample.servers {
		items = append(items, s)
	}
	for _, l := range sample.limits {
		items = append(items, l)
	}
	for _, x := range sample.processes {
		items = append(items, x)
	}
	for index, w := range sample.workers {
		part, err := ipc.Pack(w)
		if err != nil {
			return err
		}
		items = append(items, &ipc.SnapshotStats{Worker: index, Part: part})
	}
	half := len(f.document) / 2
	items = append(items, &ipc.SnapshotDocument{Part: f.document[:half]}, &ipc.SnapshotDocument{Part: f.document[half:]})
	for i := int(r.History); i < len(f.history); i++ {
		items = append(items, &ipc.SnapshotHistory{Index: uint64(i + 1), Entry: []byte(f.history[i])})
	}
	for _, m := range append(append([]ipc.Message{sample.begin}, items...), &ipc.SnapshotEnd{Items: len(items)}) {
		if err := f.feed.take(m); err != nil {
			return err
		}
	}
	return nil
}

// served is a web console that answers at a port.
func served(t *testing.T, f *fakeSupervisor) (*web, string) {
	t.Helper()
	s := &server{log: slog.New(slog.DiscardHandler), cfg: &ipc.ConsoleConfigure{RequestMS: 5000}, feed: f.feed, about: about{build: "1.0"}, now: time.Now}
	p := newWeb(s, names{known: []string{"pooler"}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.start([]net.Listener{l}, p.handler(), maxPageClients))
	return p, "http://" + l.Addr().String()
}

func ask(t *testing.T, method, url string, change func(*http.Request)) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(r)
	}
	tr := &http.Transport{DisableKeepAlives: true}
	answer, err := (&http.Client{Transport: tr, Timeout: generous}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(text)
}

func TestEveryAnswerOfTheWebConsoleIsGuarded(t *testing.T) {
	_, url := served(t, newFakeSupervisor(t))
	for _, x := range []struct {
		method, path string
		code         int
		kind         string
	}{
		{"GET", "/", 200, "text/html; charset=utf-8"},
		{"HEAD", "/index.html", 200, "text/html; charset=utf-8"},
		{"GET", "/console.js", 200, "text/javascript; charset=utf-8"},
		{"GET", "/console.css", 200, "text/css; charset=utf-8"},
		{"GET", "/icon.svg", 200, "image/svg+xml"},
		{"GET", "/uplot.js", 200, "text/javascript; charset=utf-8"},
		{"GET", "/uplot.css", 200, "text/css; charset=utf-8"},
		{"GET", "/uplot.txt", 200, "text/plain; charset=utf-8"},
		{"GET", "/api", 200, "application/json"},
		{"GET", "/api/", 200, "application/json"},
		{"GET", "/api/history", 200, "application/json"},
		{"HEAD", "/api/events", 200, "text/event-stream"},
		{"POST", "/", 405, "text/plain; charset=utf-8"},
		{"DELETE", "/api", 405, "text/plain; charset=utf-8"},
		{"GET", "/metrics", 404, "text/plain; charset=utf-8"},
		{"GET", "/web/page.html", 404, "text/plain; charset=utf-8"},
		{"GET", "/uplot/LICENSE", 404, "text/plain; charset=utf-8"},
	} {
		r, _ := ask(t, x.method, url+x.path, nil)
		h := r.Header
		if r.StatusCode != x.code || h.Get("Content-Type") != x.kind {
			t.Errorf("%s %s: %d, %s", x.method, x.path, r.StatusCode, h.Get("Content-Type"))
		}
		if h.Get("Content-Security-Policy") != policy || h.Get("X-Content-Type-Options") != "nosniff" ||
			h.Get("X-Frame-Options") != "DENY" || h.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s %s: headers %v", x.method, x.path, h)
		}
		if strings.HasPrefix(x.path, "/api") && x.code == 200 && h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s may be kept: %v", x.path, h)
		}
		if strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") {
			t.Errorf("the policy allows too much: %s", policy)
		}
	}
}

func TestABrowserKeepsTheFilesOfThePage(t *testing.T) {
	_, url := served(t, newFakeSupervisor(t))
	r, _ := ask(t, "GET", url+"/console.js", nil)
	again, body := ask(t, "GET", url+"/console.js", func(q *http.Request) { q.Header.Set("If-None-Match", r.Header.Get("ETag")) })
	if again.StatusCode != http.StatusNotModified || body != "" {
		t.Errorf("%d with %d bytes", again.StatusCode, len(body))
	}
}

// TestAStrangersPageLearnsNothing has a browser ask under a name that a stranger gave the
// address, and from a page of another site.
func TestAStrangersPageLearnsNothing(t *testing.T) {
	_, url := served(t, newFakeSupervisor(t))
	for _, x := range []struct {
		path, host, site string
		code             int
	}{
		{"/api", "", "", 200},
		{"/api", "127.0.0.1", "same-origin", 200},
		{"/api", "[::1]:5002", "none", 200},
		{"/api", "localhost:5002", "", 200},
		{"/api", "POOLER.:5002", "", 200},
		{"/", "pooler", "cross-site", 200}, // a link to the page
		{"/api", "evil.example", "", 421},
		{"/", "evil.example:5002", "", 421},
		{"/api/events", "pooler.evil.example", "same-origin", 421},
		{"/api", "127.0.0.1.evil.example", "", 421},
		{"/api", "localhost.evil.example", "", 421},
		{"/api", "pooler", "cross-site", 403},
		{"/api/events", "pooler", "same-site", 403},
	} {
		r, body := ask(t, "GET", url+x.path, func(q *http.Request) {
			if x.host != "" {
				q.Host = x.host
			}
			if x.site != "" {
				q.Header.Set("Sec-Fetch-Site", x.site)
			}
		})
		if r.StatusCode != x.code || x.code != 200 && strings.Contains(body, "Running") {
			t.Errorf("%+v: %d", x, r.StatusCode)
		}
	}
	n := newNames([]string{"Console.example"}, "")
	cert, _ := pems(t, certificateOf(t, "pg.example", nil))
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if !n.include("console.EXAMPLE:1") || !n.include(host) || n.include("pg.example") || n.include("") || !newNames(nil, cert).include("pg.example:5002") {
		t.Error("names of the configuration, of the machine or of the certificate are wrong")
	}
}

func TestThePageHasNoScriptOrStyleInIt(t *testing.T) {
	html, err := files.ReadFile("web/page.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{`<script>`, `<style`, ` style=`, `javascript:`, `://`, ` on[a-z]+=`} {
		if m := regexp.MustCompile(bad).Find(html); m != nil {
			t.Errorf("the page has %q, which the policy forbids", m)
		}
	}
	had := map[string]bool{}
	for _, a := range assets {
		had[a.path] = true
	}
	links := regexp.MustCompile(`(?:src|href)="([^"#]+)"`).FindAllStringSubmatch(string(html), -1)
	for _, l := range links {
		if !had[l[1]] && !strings.HasPrefix(l[1], "/api") {
			t.Errorf("the page asks for %s, which there isn't", l[1])
		}
	}
	if len(links) < 4 {
		t.Errorf("only %d links", len(links))
	}
}

func TestDocumentOfTheWebConsole(t *testing.T) {
	f := newFakeSupervisor(t)
	p, _ := served(t, f)
	snap := sampleSnapshot()
	snap.document = []byte(sampleDocument)
	snap.begin.Failover.Changes = []ipc.PhaseChange{{WallMS: 1_000_000_000_500, Phase: "held", Reason: "no <primary>"}}
	p.about.certs = []certificate{newCertificate(&ipc.ConsoleCertificate{Scope: "metrics", Path: "/secret/path", Accessible: true})}
	text, err := p.document(snap, snap.total(), &sample{Time: 1, Queries: 2})
	if err != nil {
		t.Fatal(err)
	}
	var got any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	indented, err := json.MarshalIndent(got, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/api.golden"
	if *rewrite {
		if err := os.WriteFile(golden, append(indented, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(indented)+"\n"); d != "" {
		t.Errorf("the document changed (-golden +now):\n%s", d)
	}
	if strings.ContainsAny(string(text), "\n\r") {
		t.Error("the document has several lines, which an event can't have")
	}
	snap.document = nil
	if _, err := p.document(snap, snap.total(), nil); err == nil {
		t.Error("there is a document without the supervisor's")
	}
}

// TestManualPageListsTheMembersOfTheDocument compares them with those of the golden file and of
// the supervisor's part.
func TestManualPageListsTheMembersOfTheDocument(t *testing.T) {
	manual, err := os.ReadFile("../man/pgagroal-console.7")
	if err != nil {
		t.Fatal(err)
	}
	golden, err := os.ReadFile("testdata/api.golden")
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(golden, &members); err != nil {
		t.Fatal(err)
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[control.ConsoleResponse]()) {
		members[f.Name] = nil
	}
	said := map[string]bool{}
	_, list, _ := strings.Cut(string(manual), "Members of the object")
	list, _, _ = strings.Cut(list, "\n.Sh ")
	for _, line := range strings.Split(list, "\n") {
		if names, ok := strings.CutPrefix(line, ".It Li "); ok {
			for _, name := range strings.Split(names, " , ") {
				said[name] = true
			}
		}
	}
	for name := range members {
		if !said[name] {
			t.Errorf("pgagroal-console.7 doesn't name %s", name)
		}
		delete(said, name)
	}
	for name := range said {
		t.Errorf("pgagroal-console.7 names %s, which isn't there", name)
	}
}

func TestTheDocumentHasThePoolsWithTheMostToDo(t *testing.T) {
	snap := sampleSnapshot()
	w := snap.workers[0]
	w.Pools = nil
	for i := range maxPools + 50 {
		w.Pools = append(w.Pools, ipc.PoolFigures{Database: fmt.Sprintf("d%03d", i), User: "u", Server: 1, Idle: 1})
	}
	w.Pools[maxPools+49].Waiting = 1
	lines, leftOut := snap.poolLines()
	if len(lines) != maxPools || leftOut != 50 || lines[0].Waiting != 1 || lines[0].Server != "two" {
		t.Errorf("%d pools and %d others, first %+v", len(lines), leftOut, lines[0])
	}
}

// opened is a page that reads events.
type opened struct {
	t     *testing.T
	lines *bufio.Scanner
	close func()
}

func open(t *testing.T, url string) *opened {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), generous)
	r, err := http.NewRequestWithContext(ctx, "GET", url+"/api/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{DisableKeepAlives: true}
	answer, err := tr.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("events: %s", answer.Status)
	}
	o := &opened{t: t, lines: bufio.NewScanner(answer.Body), close: sync.OnceFunc(func() { cancel(); answer.Body.Close() })}
	o.lines.Buffer(nil, 16<<20)
	t.Cleanup(o.close)
	return o
}

// next returns the next event.
func (o *opened) next() (name, data string) {
	o.t.Helper()
	for o.lines.Scan() {
		key, value, _ := strings.Cut(o.lines.Text(), ": ")
		switch {
		case key == "event":
			name = value
		case key == "data":
			data = value
		case name != "":
			return name, data
		}
	}
	o.t.Fatalf("the stream has ended: %v", o.lines.Err())
	return "", ""
}

func (h *hub) open() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.streams)
}

// eventually waits until something is true.
func eventually(t *testing.T, what string, true func() bool) {
	t.Helper()
	end := time.NewTimer(generous)
	defer end.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !true() {
		select {
		case <-tick.C:
		case <-end.C:
			t.Fatalf("%s: never", what)
		}
	}
}

func TestPagesShareWhatTheyAreShown(t *testing.T) {
	f := newFakeSupervisor(t)
	p, url := served(t, f)
	p.hub.every = time.Hour // all are shown the first snapshot
	a := open(t, url)
	want := [][2]string{{"samples", "[]"}, {"history", `{"History":[{"kind":"verified"}]}`}, {"status", ""}}
	for i, w := range want {
		name, data := a.next()
		if name != w[0] || w[1] != "" && data != w[1] || !json.Valid([]byte(data)) {
			t.Errorf("event %d is %s %s", i, name, data)
		}
		want[i][1] = data
	}
	b := open(t, url)
	for i, w := range want {
		if name, data := b.next(); name != w[0] || data != w[1] {
			t.Errorf("event %d of the second page is %s %s", i, name, data)
		}
	}
	if n := f.requests.Load(); n != 1 {
		t.Errorf("two pages cost %d snapshots", n)
	}
	a.close()
	b.close()
	eventually(t, "all pages have left", func() bool { return p.hub.open() == 0 })
}

func TestAPageGetsASampleOfEachSecondAndThoseBefore(t *testing.T) {
	_, url := served(t, newFakeSupervisor(t))
	a := open(t, url)
	for range 3 {
		a.next()
	}
	name, data := a.next()
	var x []sample
	if err := json.Unmarshal([]byte(data), &x); name != "samples" || err != nil || len(x) != 1 || x[0].Queries <= 0 || x[0].Clients != 3 {
		t.Errorf("then %s %s, %v", name, data, err)
	}
	if name, _ := a.next(); name != "status" {
		t.Errorf("the history, which is the same, comes again: %s", name)
	}
	if name, data := open(t, url).next(); name != "samples" || data == "[]" {
		t.Errorf("another page gets %s %s", name, data)
	}
}

// TestNobodyAsksForSnapshotsWhenNoPageIsOpen looks at the context of who asks, because an
// absence can't be waited for.
func TestNobodyAsksForSnapshotsWhenNoPageIsOpen(t *testing.T) {
	f := newFakeSupervisor(t)
	p, _ := served(t, f)
	s, _ := p.hub.join()
	<-s.next
	other, _ := p.hub.join()
	p.hub.leave(s)
	<-other.next
	var ended atomic.Bool
	p.hub.mu.Lock()
	stop := p.hub.stop
	p.hub.stop = func() { stop(); ended.Store(true) }
	p.hub.mu.Unlock()
	p.hub.leave(other)
	eventually(t, "who asks is told to end", ended.Load)
	if f.requests.Load() == 0 {
		t.Error("nobody asked while a page was open")
	}
}

func TestThereIsABoundOfOpenPages(t *testing.T) {
	p, url := served(t, newFakeSupervisor(t))
	var all []*stream
	for range maxStreams {
		s, _ := p.hub.join()
		all = append(all, s)
	}
	r, _ := ask(t, "GET", url+"/api/events", nil)
	if r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" {
		t.Errorf("one page too many gets %d", r.StatusCode)
	}
	p.hub.leave(all[0])
	open(t, url).next()
	for _, s := range all[1:] {
		p.hub.leave(s)
	}
}

func TestAPageThatReadsNothingIsDropped(t *testing.T) {
	f := newFakeSupervisor(t)
	f.document = []byte(`{"Status":"` + strings.Repeat("x", 8<<20) + `"}`) // more than sockets hold
	p, url := served(t, f)
	p.hub.limit = 2 * time.Second
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
	eventually(t, "the page is there", func() bool { return p.hub.open() == 1 })
	eventually(t, "the page is dropped", func() bool { return p.hub.open() == 0 })
}

// TestAFailureIsShown has a supervisor that can't be asked.
func TestAFailureIsShown(t *testing.T) {
	f := newFakeSupervisor(t)
	p, url := served(t, f)
	p.feed.send = func(ipc.Message) error { return io.ErrClosedPipe }
	o := open(t, url)
	o.next()
	if name, data := o.next(); name != "failure" || !strings.Contains(data, "Message") {
		t.Errorf("%s %s", name, data)
	}
	if r, _ := ask(t, "GET", url+"/api", nil); r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("/api answers %d", r.StatusCode)
	}
}

func TestSampleIsOfTheTimeBetween(t *testing.T) {
	bucket := func(i int, n uint64) ipc.Histogram {
		h := ipc.Histogram{Counts: make([]uint64, ipc.TimeBuckets+1)}
		h.Counts[i] = n
		return h
	}
	at := func(seconds float64, queries uint64, h ipc.Histogram) (*snapshot, *ipc.WorkerStats) {
		return &snapshot{taken: noon.Add(time.Duration(seconds * float64(time.Second)))}, &ipc.WorkerStats{
			Counters: map[string]uint64{"query_count": queries}, Gauges: map[string]int64{"connection_awaiting": 4},
			Servers: []ipc.ServerTimes{{Server: 0, Queries: h, Transactions: h}},
		}
	}
	var m sampler
	first, total := at(0, 100, bucket(3, 10))
	for range 2 {
		if m.note(first, total) != nil {
			t.Error("one snapshot makes a sample")
		}
	}
	second, total := at(2, 160, bucket(3, 30))
	x := m.note(second, total)
	// 20 observations in the bucket that ends with 0.4 ms and begins with 0.2 ms.
	if x == nil || x.Queries != 30 || x.Transactions != 10 || x.Waiting != 4 || x.QueryP50 == nil || *x.QueryP50 < 0.00029 || *x.QueryP50 > 0.00031 || x.WaitP50 != nil {
		t.Fatalf("%+v", x)
	}
	if m.note(first, total) != nil {
		t.Error("an older snapshot makes a sample")
	}
	third, total := at(4, 5, bucket(ipc.TimeBuckets, 40)) // counters that fall
	if x = m.note(third, total); x.Queries != 0 || *x.QueryP99 != timeBounds[len(timeBounds)-1] {
		t.Errorf("%+v", x)
	}
	late, total := at(4+apart.Seconds()+1, 1000, bucket(3, 1))
	if m.note(late, total) != nil {
		t.Error("a pause of everybody who looked becomes a sample")
	}
	for i := range samplesKept + 10 {
		s, total := at(20+float64(i), 1000, bucket(3, 1))
		m.note(s, total)
	}
	if len(m.kept) != samplesKept {
		t.Errorf("%d samples are kept", len(m.kept))
	}
}

func TestTheHistoryInAFeedIsBounded(t *testing.T) {
	f := newFeed(slog.New(slog.DiscardHandler), nil, false)
	for i := range historyKept + 7 {
		f.takeHistory(&ipc.SnapshotHistory{Index: uint64(i + 1), Entry: []byte(fmt.Sprint(i))})
	}
	if len(f.history) != historyKept || string(f.history[0]) != "7" || f.historyTo != historyKept+7 {
		t.Errorf("%d entries from %s to number %d", len(f.history), f.history[0], f.historyTo)
	}
}
