//go:build browser

package console

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// browser is a chromium, driven by its DevTools protocol over two pipes.
type browser struct {
	t    *testing.T
	in   *os.File
	page string // id of the session with the page

	mu       sync.Mutex
	nextID   int
	answers  map[int]chan reply
	problems []string // what the page has complained of
}

// reply is an answer or an event.
type reply struct {
	ID     int
	Method string
	Params json.RawMessage
	Result json.RawMessage
	Error  *struct{ Message string }
}

// startBrowser starts a browser that ends with the test.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	theirIn, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "browser")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
		"--no-first-run", "--disable-background-networking", "--remote-debugging-pipe", "--user-data-dir="+dir, "about:blank")
	cmd.ExtraFiles = []*os.File{theirIn, theirOut} // descriptors 3 and 4
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirIn.Close()
	theirOut.Close()
	b := &browser{t: t, in: in, answers: map[int]chan reply{}}
	var reading sync.WaitGroup
	reading.Go(func() { b.read(out) })
	t.Cleanup(func() {
		b.t, b.page = t, ""
		b.call("Browser.close", nil)
		end := time.AfterFunc(generous, cancel)
		_ = cmd.Wait() // how it ends is its own affair
		end.Stop()
		cancel()
		reading.Wait()
		in.Close()
		out.Close()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return b
}

// read takes answers and events to the end of the pipe.
func (b *browser) read(out *os.File) {
	for r := bufio.NewReader(out); ; {
		text, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var m reply
		if err := json.Unmarshal(bytes.TrimSuffix(text, []byte{0}), &m); err != nil {
			b.complain("the browser says " + string(text))
			continue
		}
		switch m.Method {
		case "":
			b.mu.Lock()
			answer := b.answers[m.ID]
			delete(b.answers, m.ID)
			b.mu.Unlock()
			answer <- m
		case "Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Audits.issueAdded":
			b.complain(string(m.Params))
		}
	}
}

func (b *browser) complain(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = append(b.problems, what)
}

// call sends a command and returns its result.
func (b *browser) call(method string, params map[string]any) json.RawMessage {
	b.t.Helper()
	b.mu.Lock()
	b.nextID++
	id, answer := b.nextID, make(chan reply, 1)
	b.answers[id] = answer
	b.mu.Unlock()
	m := map[string]any{"id": id, "method": method, "params": params}
	if b.page != "" {
		m["sessionId"] = b.page
	}
	text, err := json.Marshal(m)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.in.Write(append(text, 0)); err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), generous)
	defer cancel()
	select {
	case r := <-answer:
		if r.Error != nil {
			b.t.Fatalf("%s: %s", method, r.Error.Message)
		}
		return r.Result
	case <-ctx.Done():
		b.t.Fatalf("%s: no answer", method)
		return nil
	}
}

// result decodes the result of a command.
func result[T any](b *browser, method string, params map[string]any) (v T) {
	b.t.Helper()
	if err := json.Unmarshal(b.call(method, params), &v); err != nil {
		b.t.Fatal(err)
	}
	return v
}

// openPage opens a page of so many pixels, with a light or a dark theme.
func (b *browser) openPage(url string, width, height int, theme string) {
	b.t.Helper()
	b.page = ""
	target := result[struct{ TargetID string }](b, "Target.createTarget", map[string]any{"url": "about:blank"})
	b.page = result[struct{ SessionID string }](b, "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}).SessionID
	for _, domain := range []string{"Log", "Runtime", "Page", "Audits", "Accessibility"} {
		b.call(domain+".enable", nil)
	}
	b.size(width, height)
	b.theme(theme)
	b.call("Page.navigate", map[string]any{"url": url})
	b.t.Cleanup(func() {
		b.page = ""
		b.call("Target.closeTarget", map[string]any{"targetId": target.TargetID})
	})
}

func (b *browser) size(width, height int) {
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500})
}

func (b *browser) theme(theme string) {
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{
		{"name": "prefers-color-scheme", "value": theme}, {"name": "prefers-reduced-motion", "value": "reduce"},
	}})
}

// eval returns what an expression of JavaScript is.
func eval[T any](b *browser, expression string) T {
	b.t.Helper()
	r := result[struct {
		Result           struct{ Value T }
		ExceptionDetails json.RawMessage
	}](b, "Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true})
	if r.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", expression, r.ExceptionDetails)
	}
	return r.Result.Value
}

// becomes waits until an expression is true.
func (b *browser) becomes(expression string) {
	b.t.Helper()
	eventually(b.t, expression, func() bool { return eval[bool](b, "!!("+expression+")") })
}

// press presses a key.
func (b *browser) press(key string, code int) {
	b.t.Helper()
	for _, kind := range []string{"keyDown", "keyUp"} {
		m := map[string]any{"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code}
		if key == "Enter" && kind == "keyDown" {
			m["text"] = "\r"
		}
		b.call("Input.dispatchKeyEvent", m)
	}
}

// picture returns what the page looks like, as PNG.
func (b *browser) picture() []byte {
	b.t.Helper()
	data := result[struct{ Data string }](b, "Page.captureScreenshot", map[string]any{"format": "png"}).Data
	text, err := base64.StdEncoding.DecodeString(data)
	if err != nil {
		b.t.Fatal(err)
	}
	return text
}

// content fails the test if the page has complained of anything: an exception, or
// something that the policy forbids.
func (b *browser) content() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.problems {
		b.t.Errorf("the browser reports %s", p)
	}
	b.problems = nil
}
