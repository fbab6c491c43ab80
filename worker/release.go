package worker

import (
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/worker/reactor"
	"github.com/pgagroal-go/pgagroal/worker/relay"
)

// scriptLimit is how long a server may take to answer the worker's own queries.
const scriptLimit = 10 * time.Second

// script is a series of the worker's own simple queries on a backend. It ends with the last
// of their ReadyForQuery messages.
type script struct {
	down   pgwire.Scanner
	left   int    // ReadyForQuery messages still to come
	failed []byte // body of the first error
	row    []byte // body of the first row, if the scanner stops there
	want   byte   // required transaction status at the end; otherwise the backend is closed
	done   func(failed []byte)
	timer  *reactor.Timer
}

func (s *script) stop() {
	if s != nil {
		s.timer.Stop()
	}
}

// run sends queries. When all are answered it calls done with the body of the first error,
// or nil. If the backend is lost, it calls serverGone of the session, if there is one,
// instead of done.
func (b *backend) run(queries []string, done func(failed []byte)) {
	b.runTo(pgwire.TxIdle, queries, done)
}

// runTo is run for queries that must leave the backend in a given transaction status.
func (b *backend) runTo(status byte, queries []string, done func(failed []byte)) {
	b.send(&script{down: relay.ScriptScanner(), want: status, done: done}, scriptLimit, queries, func() { b.tooLate(queries[0]) })
}

// tooLate closes a backend whose server hasn't answered a script in time.
func (b *backend) tooLate(query string) {
	b.w.log.Warn("server didn't answer in time, connection closed", "server", b.w.serverName(b.server), "backend", b.pid, "query", query)
	b.scriptBroken()
}

// send begins a script. If the server hasn't answered all queries within limit, it calls late,
// which must close the backend.
func (b *backend) send(sc *script, limit time.Duration, queries []string, late func()) {
	sc.left = len(queries)
	sc.timer = b.w.loop.After(limit, late)
	b.script = sc
	var msg []byte
	for _, q := range queries {
		msg = pgwire.AppendQuery(msg, q)
	}
	b.conn.Resume()
	b.conn.Send(msg)
}

// onScript reads the answers to a script.
func (b *backend) onScript(data []byte) {
	sc := b.script
	var ev pgwire.Event
	for pos := 0; ; {
		var err error
		pos, err = sc.down.Next(data, pos, &ev)
		if err != nil || sc.left == 0 && ev.Phase != pgwire.Exhausted && ev.Type != 'S' {
			b.brokenBecause("the server broke the protocol")
			return
		}
		if ev.Phase == pgwire.Exhausted {
			break
		}
		switch ev.Type {
		case 'Z':
			sc.left--
			b.Status = ev.Status()
		case 'S':
			b.Params.Reported(ev.Body)
		case 'C':
			b.Ran(ev.Body)
		case 'D':
			if sc.row == nil {
				sc.row = append([]byte{}, ev.Body...)
			}
		case 'G', 'W':
			b.brokenBecause("it began a COPY")
			return
		case 'E':
			if sc.failed == nil {
				sc.failed = append([]byte{}, ev.Body...)
			}
		}
	}
	if sc.left > 0 || !sc.down.AtBoundary() {
		return
	}
	sc.stop()
	b.script = nil
	if b.Status != sc.want {
		if sc.failed != nil && sc.want == pgwire.TxIdle { // a reset query that contains BEGIN
			b.w.resetFailed(b, sc.failed)
			b.scriptBroken()
			return
		}
		b.brokenBecause("it left the wrong transaction status")
		return
	}
	sc.done(sc.failed)
}

// brokenBecause is scriptBroken with a line in the log.
func (b *backend) brokenBecause(reason string) {
	b.w.log.Warn("query of pgagroal's own has left the connection in an unknown state, connection closed",
		"server", b.w.serverName(b.server), "backend", b.pid, "reason", reason)
	b.scriptBroken()
}

// scriptBroken closes a backend whose state has become unknown.
func (b *backend) scriptBroken() {
	s := b.session
	b.w.closeBackend(b)
	if s != nil {
		s.serverGone()
	}
}

// reset brings a backend whose client has left to a known state, and shelves it. touched
// says that the client may have left something on the backend.
func (w *worker) reset(b *backend, touched bool) {
	cfg := w.cfg
	var queries []string
	if b.Status != pgwire.TxIdle {
		queries = append(queries, "ROLLBACK")
	}
	if touched {
		queries = append(queries, cfg.reset...)
	}
	if len(queries) == 0 {
		w.shelve(b)
		return
	}
	if w.dropCancel(b); b.cancel != nil { // a late cancel would hit the reset query
		b.state, b.session = backendResetting, nil
		b.cancelled = func() { w.reset(b, touched) }
		return
	}
	b.state = backendResetting
	b.session = nil
	b.run(queries, func(failed []byte) {
		if failed == nil || cfg.ResetOnFailure == "ignore" {
			if touched {
				b.Clean()
			}
			w.shelve(b)
			return
		}
		w.resetFailed(b, failed)
		w.closeBackend(b)
	})
}

// resetFailed logs the error of a reset query.
func (w *worker) resetFailed(b *backend, body []byte) {
	f := pgwire.ParseError(body)
	attrs := []any{"server", w.serverName(b.server), "backend", b.pid, "sqlstate", f.Code, "message", f.Message}
	if f.Code == pgwire.CodeActiveTransaction {
		attrs = append(attrs, "hint", "server_reset_query is run statement by statement only if it has no BEGIN, COMMIT or the like and no backslash in a string")
	}
	w.log.Warn("reset query failed, connection closed", attrs...)
}
