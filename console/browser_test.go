//go:build browser

package console

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
)

var screenshots = flag.String("screenshots", "", "directory for pictures of the scenes")

// show has the supervisor show a scene from now on.
func (f *fakeSupervisor) show(t *testing.T, s *scene) {
	t.Helper()
	document, err := json.Marshal(s.document)
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.document, f.history = document, s.history
	f.snapshot = func(n uint64) *snapshot {
		w := *s.snap.workers[0]
		rate := uint64(900)
		if s.document.FailoverStatus.Held {
			rate = 0
		}
		w.Counters = map[string]uint64{"query_count": rate * n, "network_sent": 200 * rate * n, "network_received": 1400 * rate * n}
		h := ipc.Histogram{Counts: make([]uint64, ipc.TimeBuckets+1)}
		h.Counts[4], h.Counts[7] = rate*n, rate*n/40
		transactions, waits := ipc.Histogram{Counts: []uint64{rate * n / 4}}, ipc.Histogram{Counts: []uint64{rate * n, 0, 0, 0, rate * n / 80}}
		w.Servers = []ipc.ServerTimes{{Server: 0, Queries: h, Transactions: transactions, Waits: waits}}
		shown := *s.snap
		shown.workers = map[int]*ipc.WorkerStats{0: &w}
		return &shown
	}
}

// watched is a page in a browser that shows a scene.
func watched(t *testing.T, b *browser, s *scene, width, height int, theme string) (*fakeSupervisor, string) {
	t.Helper()
	f := newFakeSupervisor(t)
	f.show(t, s)
	p, url := served(t, f)
	p.hub.sampler.kept = s.load()
	b.openPage(url+"/", width, height, theme)
	b.becomes(`document.querySelector("#live.on") && document.querySelector("#servers tbody tr")`)
	return f, url
}

func text(b *browser, selector string) string {
	return eval[string](b, fmt.Sprintf("document.querySelector(%q).innerText", selector))
}

// TestThePageTellsEachSceneInABrowser compares what a person sees and what a screen reader
// is told.
func TestThePageTellsEachSceneInABrowser(t *testing.T) {
	b := startBrowser(t)
	all := scenes()
	for _, x := range []struct {
		scene, theme, verdict, phase, alarm string
		picture, servers, history           string
		width, height                       int
	}{
		{
			scene: "calm", theme: "light", width: 1280, height: 1270, verdict: "All is well: Clients can write. n1 is the primary.", phase: "open",
			picture: "n3: Replica, streams, 80.0 kB, 700 ms", servers: "0/5000148", history: "verified",
		},
		{
			scene: "suspect", theme: "dark", width: 1280, height: 900, verdict: "Phase suspect: 2 of 3 probes failed: refused", phase: "suspect",
			picture: "n1: Primary, down", servers: "2 failed", history: "verified",
		},
		{
			scene: "run", theme: "light", width: 1280, height: 900, verdict: "A script is running: failover since 1.3 s of at most 2 min.", phase: "running",
			picture: "pgagroal is closed to clients. n1: Failover", servers: "3 probes in a row: refused", history: "verified",
		},
		{
			scene: "split-brain", theme: "dark", width: 1280, height: 900, verdict: "Split brain: Two servers say that they are the primary.", phase: "open",
			alarm: "pgagroal-cli clear server n1", picture: "n1: Failed (split brain). n2: Primary", servers: "It ends with: pgagroal-cli clear server n1", history: "n1 → n2",
		},
		{
			scene: "held", theme: "light", width: 390, height: 1700, verdict: "Clients are held: exit code 1", phase: "held",
			alarm: "promote a server by hand", picture: "n2: Replica, doesn't stream", servers: "replaced by n2", history: "exit code 1: 3 probes in a row",
		},
	} {
		t.Run(x.scene, func(t *testing.T) {
			b.t = t
			watched(t, b, all[x.scene], x.width, x.height, x.theme)
			for selector, want := range map[string]string{
				"#verdict": x.verdict, "#phases [aria-current=step]": x.phase, "#alarms": x.alarm, "#servers": x.servers, "#history": x.history,
			} {
				if got := text(b, selector); !strings.Contains(got, want) || want == "" && got != "" {
					t.Errorf("%s shows %q, not %q", selector, got, want)
				}
			}
			if got := eval[string](b, `document.querySelector("#picture svg").getAttribute("aria-label")`); !strings.Contains(got, x.picture) {
				t.Errorf("the picture is %q", got)
			}
			readable(t, b)
			b.content()
			if *screenshots != "" {
				b.becomes(`document.querySelector("#now").innerText.includes("/s")`)
				if err := os.WriteFile(filepath.Join(*screenshots, x.scene+".png"), small(t, b.picture()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// small returns a picture with 256 colours, which is a third of the size.
func small(t *testing.T, picture []byte) []byte {
	t.Helper()
	full, err := png.Decode(bytes.NewReader(picture))
	if err != nil {
		t.Fatal(err)
	}
	n := map[color.Color]int{}
	r := full.Bounds()
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			n[full.At(x, y)]++
		}
	}
	most := slices.SortedFunc(maps.Keys(n), func(a, b color.Color) int { return n[b] - n[a] })
	few := image.NewPaletted(r, most[:min(len(most), 256)])
	draw.Draw(few, r, full, r.Min, draw.Src)
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, few); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// contrasts returns each text whose contrast with what is behind it is below 4.5 to 1.
const contrasts = `(() => {
	const rgb = (c) => c.match(/[\d.]+/g).map(Number);
	const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((n, v, i) => n + v * [0.2126, 0.7152, 0.0722][i], 0);
	const behind = (el) => { for (; el; el = el.parentElement) { const c = rgb(getComputedStyle(el).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
	const bad = [];
	for (const el of document.querySelectorAll("body *")) {
		if (el.closest("svg, noscript, .skip") || ![...el.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || !el.checkVisibility()) continue;
		const a = light(rgb(getComputedStyle(el).color)) + 0.05, b = light(behind(el)) + 0.05;
		if (Math.max(a, b) / Math.min(a, b) < 4.5) bad.push(el.tagName + "." + el.className + ": " + el.textContent.slice(0, 40));
	}
	return bad;
})()`

// readable checks that each person can read the page: no text is pale or outside of the
// screen, and everything that is seen has a name in the tree for screen readers.
func readable(t *testing.T, b *browser) {
	t.Helper()
	for _, bad := range eval[[]string](b, contrasts) {
		t.Errorf("too little contrast: %s", bad)
	}
	if over := eval[int](b, "document.documentElement.scrollWidth - innerWidth"); over > 0 {
		t.Errorf("the page is %d pixels too wide", over)
	}
	type value struct{ Value any }
	tree := result[struct {
		Nodes []struct {
			Ignored    bool
			Role, Name value
		}
	}](b, "Accessibility.getFullAXTree", nil)
	seen := map[any]int{}
	for _, n := range tree.Nodes {
		if n.Ignored {
			continue
		}
		seen[n.Role.Value]++
		switch n.Role.Value {
		case "image", "img", "link", "heading", "region", "rowheader", "columnheader":
			if n.Name.Value == nil || n.Name.Value == "" {
				t.Errorf("a %s has no name", n.Role.Value)
			}
		}
	}
	for role, least := range map[string]int{"banner": 1, "main": 1, "contentinfo": 1, "status": 1, "heading": 9, "image": 5, "table": 4, "region": 8} {
		if seen[role] < least {
			t.Errorf("%d of role %s, want %d at least; there are %v", seen[role], role, least, seen)
		}
	}
}

func TestThePageFitsAPhoneInABrowser(t *testing.T) {
	b := startBrowser(t)
	for _, width := range []int{320, 390} {
		for name, s := range scenes() {
			watched(t, b, s, width, 800, "dark")
			if over := eval[int](b, "document.documentElement.scrollWidth - innerWidth"); over > 0 {
				t.Errorf("%s: the page is %d pixels wider than %d", name, over, width)
			}
		}
	}
	b.content()
}

// TestAFailoverIsSeenAsItHappensInABrowser keeps one page open.
func TestAFailoverIsSeenAsItHappensInABrowser(t *testing.T) {
	b := startBrowser(t)
	all := scenes()
	f, _ := watched(t, b, all["calm"], 1280, 900, "light")
	eval[bool](b, `document.querySelector("#pools th").kept = true`)
	all["notify-held"] = scenes()["held"] // while standbys are told of the last new primary
	all["notify-held"].document.FailoverStatus.Run = &control.FailoverRun{RunID: "2", Hook: "notify", Elapsed: 2, Timeout: 120}
	for _, x := range []struct{ scene, verdict string }{
		{"suspect", "Phase suspect"},
		{"run", "A script is running"},
		{"held", "Clients are held"},
		{"split-brain", "Split brain"},
		{"notify-held", "Clients are held"},
		{"after", "Clients can write: n1 is the primary. n3 is Replica (detached)."},
		{"calm", "All is well"},
	} {
		f.show(t, all[x.scene])
		b.becomes(fmt.Sprintf("document.querySelector('#verdict').innerText.includes(%q)", x.verdict))
	}
	if !eval[bool](b, `[...document.querySelectorAll("#pools th")].some((e) => e.kept)`) {
		t.Error("a cell that was as before was made anew, under the eyes of who reads it")
	}
	b.becomes(`!document.querySelector("#charts canvas").closest("[role=img]").getAttribute("aria-label").includes("nothing yet")`)
	f.mu.Lock()
	f.document = nil // a supervisor of which no document comes
	f.mu.Unlock()
	b.becomes(`document.querySelector("#live.off") && document.querySelector("#live").innerText.includes("no news since")`)
	if got := text(b, "#verdict.bad"); !strings.HasPrefix(got, "No news since ") || !strings.HasSuffix(got, ": what is below is old") {
		t.Errorf("without news the verdict is %q", got)
	}
	b.becomes(`document.title === "No news – pgagroal"`)
	f.show(t, all["calm"])
	b.becomes(`document.querySelector("#live.on") && document.querySelector("#verdict.good").innerText.includes("All is well") && document.title === "pgagroal"`)
	b.content()
}

// TestNamesAreNoMarkupInABrowser has names that would run a script.
func TestNamesAreNoMarkupInABrowser(t *testing.T) {
	b := startBrowser(t)
	const evil = `<img src=/x onerror="document.title='taken over'">`
	s := calm()
	s.snap.workers[0].Pools[0].Database, s.snap.workers[0].Pools[0].User = evil, evil
	s.document.FailoverStatus.Reason = evil
	s.document.FailoverStatus.Alarms = []string{evil}
	s.document.FailoverStatus.Servers[0].Reason = evil
	s.history = []string{`{"time":"2026-11-30T02:14:09Z","kind":"verified","reason":"\u003cimg src=/x onerror=alert(1)\u003e"}`}
	watched(t, b, s, 1280, 900, "light")
	if n := eval[int](b, `document.images.length`); n > 0 {
		t.Errorf("a name has become %d images", n)
	}
	for _, selector := range []string{"#pools", "#alarms", "#phaseWhy", "#servers", "#history"} {
		if !strings.Contains(text(b, selector), "<img") {
			t.Errorf("%s doesn't show the name: %q", selector, text(b, selector))
		}
	}
	b.content()
}

// TestThePolicyHoldsInABrowser tries what an attacker would.
func TestThePolicyHoldsInABrowser(t *testing.T) {
	b := startBrowser(t)
	watched(t, b, calm(), 1280, 900, "light")
	b.content()
	if eval[bool](b, `(() => { try { document.body.innerHTML = "<b>x</b>"; return true } catch { return false } })()`) {
		t.Error("text can become markup")
	}
	eval[bool](b, `(() => { const s = document.createElement("style"); s.textContent = "body { color: red }"; document.head.append(s); return true })()`)
	if got := eval[string](b, `getComputedStyle(document.body).color`); got == "rgb(255, 0, 0)" {
		t.Error("a style in the page works")
	}
	eval[bool](b, `(() => { fetch("http://127.0.0.2:9/").catch(() => { window.refused = true }); return true })()`)
	b.becomes("window.refused")
	b.mu.Lock()
	said := strings.Join(b.problems, "\n")
	b.problems = nil
	b.mu.Unlock()
	for _, want := range []string{"style-src", "connect-src", "require-trusted-types-for"} {
		if !strings.Contains(said, want) {
			t.Errorf("the browser doesn't report %s: %s", want, said)
		}
	}
}

// TestTheKeyboardReachesEverythingInABrowser goes through the page with Tab.
func TestTheKeyboardReachesEverythingInABrowser(t *testing.T) {
	b := startBrowser(t)
	watched(t, b, scenes()["split-brain"], 1280, 900, "light")
	b.press("Tab", 9)
	if got := eval[string](b, "document.activeElement.className"); got != "skip" {
		t.Fatalf("the first is %q", got)
	}
	b.press("Enter", 13)
	b.becomes(`document.activeElement.id === "main"`)
	reached := map[string]bool{}
	for range 40 {
		b.press("Tab", 9)
		reached[eval[string](b, `(() => { const e = document.activeElement; return e.getAttribute("aria-labelledby") || e.getAttribute("href") || e.tagName })()`)] = true
	}
	for _, want := range []string{"serversTitle", "poolsTitle", "changesTitle", "selfTitle", "SUMMARY", "/api", "/api/history", "/uplot.txt"} {
		if !reached[want] {
			t.Errorf("Tab doesn't reach %s, only %v", want, reached)
		}
	}
}

// TestAHiddenPageAsksForNothingInABrowser hides a page behind another one.
func TestAHiddenPageAsksForNothingInABrowser(t *testing.T) {
	b := startBrowser(t)
	f := newFakeSupervisor(t)
	f.show(t, calm())
	p, url := served(t, f)
	b.openPage(url, 1280, 900, "light")
	b.becomes(`document.querySelector("#live.on")`)
	hide := func(hidden string) {
		eval[bool](b, `(() => { Object.defineProperty(document, "hidden", { configurable: true, get: () => `+hidden+` }); document.dispatchEvent(new Event("visibilitychange")); return true })()`)
	}
	hide("true")
	eventually(t, "the page has left", func() bool { return p.hub.open() == 0 })
	hide("false")
	eventually(t, "the page is back", func() bool { return p.hub.open() == 1 })
	b.content()
}
