package logline

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// alikeMax is how many alike lines a process writes in alikeTime; more are counted, and
	// the count is written. Strangers can cause a line for each packet that they send, and
	// must not fill the disk.
	alikeMax  = 100
	alikeTime = 10 * time.Second
	// alikeReasons is how many reasons of one text about one server are told apart, so that a
	// flood for one reason hides no line that has another. Strangers can make up reasons;
	// further ones count together, until older ones are forgotten.
	alikeReasons = 20
	alikeLength  = 100 // bytes of a reason that are compared
	// alikeTexts bounds the texts that are counted, for each server by itself. Texts are
	// constants of the code, servers are in the configuration, and there are fewer.
	alikeTexts = 10_000
)

// limiter counts lines. It is safe for concurrent use.
type limiter struct {
	mu      sync.Mutex
	kinds   map[likeness]*alike
	reasons map[about]int // how many are told apart
	cleared time.Time     // when old kinds were forgotten last
}

// about is a text and the server that it is about, if any.
type about struct{ text, server string }

// likeness is what alike lines have in common. The reason is empty for lines without one,
// and for all beyond alikeReasons.
type likeness struct {
	about
	reason string
}

// likenessOf returns what a line is counted as.
func (h *handler) likenessOf(r slog.Record) likeness {
	k := likeness{about: about{text: r.Message}}
	look := func(a slog.Attr) bool {
		switch a.Key {
		case "reason", "error", "why":
			if k.reason == "" {
				k.reason = cut(a.Value.Resolve().String(), alikeLength)
			}
		case "server":
			k.server = cut(a.Value.Resolve().String(), alikeLength)
		}
		return true
	}
	for _, a := range h.fields {
		look(a)
	}
	r.Attrs(look)
	return k
}

// alike are the lines of one kind since begin.
type alike struct {
	begin   time.Time
	lines   int
	dropped int
}

// pass reports whether a line may be written, and as what it was counted. first is true for
// the first of a time that may not: its report is due in wait.
func (l *limiter) pass(k likeness, now time.Time) (as likeness, ok, first bool, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k = l.known(k, now)
	a := l.kinds[k]
	if a == nil {
		return k, true, false, 0
	}
	if since := now.Sub(a.begin); since >= alikeTime && a.dropped == 0 { // what was dropped is reported first
		a.begin, a.lines = now, 0
	}
	if a.lines++; a.lines <= alikeMax {
		return k, true, false, 0
	}
	a.dropped++
	return k, false, a.dropped == 1, alikeTime - now.Sub(a.begin)
}

// known makes a place for lines of a kind if there is none, and returns the kind as which
// they count.
func (l *limiter) known(k likeness, now time.Time) likeness {
	if l.kinds[k] != nil {
		return k
	}
	if l.kinds == nil {
		l.kinds, l.reasons = map[likeness]*alike{}, map[about]int{}
	}
	if l.reasons[k.about] >= alikeReasons || len(l.reasons) >= alikeTexts {
		l.forget(now)
	}
	if l.reasons[k.about] >= alikeReasons {
		k.reason = ""
	}
	if _, text := l.reasons[k.about]; l.kinds[k] != nil || !text && len(l.reasons) >= alikeTexts {
		return k
	}
	l.reasons[k.about]++
	l.kinds[k] = &alike{begin: now}
	return k
}

// forget makes room: it forgets the kinds whose time is over and of which nothing was
// dropped. It looks at all of them, so it does that once in a while.
func (l *limiter) forget(now time.Time) {
	if now.Sub(l.cleared) < alikeTime {
		return
	}
	l.cleared = now
	for k, a := range l.kinds {
		if a.dropped > 0 || now.Sub(a.begin) < alikeTime {
			continue
		}
		delete(l.kinds, k)
		if l.reasons[k.about]--; l.reasons[k.about] <= 0 {
			delete(l.reasons, k.about)
		}
	}
}

// take returns how many lines were dropped, and begins anew.
func (l *limiter) take(k likeness, now time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.kinds[k]
	if a == nil {
		return 0
	}
	n := a.dropped
	*a = alike{begin: now}
	return n
}

// all returns the kinds of which lines were dropped.
func (l *limiter) all() []likeness {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []likeness
	for k, a := range l.kinds {
		if a.dropped > 0 {
			list = append(list, k)
		}
	}
	return list
}

// drops reports whether a line is one too many of its kind.
func (h *handler) drops(r slog.Record) bool {
	if h.unlimited || r.Level < slog.LevelInfo {
		return false
	}
	as, ok, first, wait := h.limit.pass(h.likenessOf(r), time.Now())
	if first {
		time.AfterFunc(wait, func() { h.tellDropped(as) })
	}
	return !ok
}

// tellDropped writes how many lines of a kind were dropped.
func (sh *shared) tellDropped(k likeness) {
	n := sh.limit.take(k, time.Now())
	if n == 0 {
		return
	}
	r := slog.NewRecord(time.Now(), slog.LevelWarn, "lines are left out: too many were alike", 0)
	r.AddAttrs(slog.String("text", k.text), slog.String("reason", k.reason))
	if k.server != "" {
		r.AddAttrs(slog.String("server", k.server))
	}
	r.AddAttrs(slog.Int("lines", n), slog.Duration("within", alikeTime))
	h := &handler{shared: sh, unlimited: true}
	_ = h.Handle(context.Background(), r) // whoever can't write the log can't say so there
}

// tellAllDropped is for the end of the process.
func (sh *shared) tellAllDropped() {
	for _, k := range sh.limit.all() {
		sh.tellDropped(k)
	}
}

// Unlimited returns a logger that writes every line, for those that were asked for one by
// one.
func Unlimited(log *slog.Logger) *slog.Logger {
	h, ok := log.Handler().(*handler)
	if !ok || h.unlimited {
		return log
	}
	c := *h
	c.unlimited = true
	return slog.New(&c)
}
