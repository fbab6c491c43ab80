package main

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// logPrefix is log_line_prefix, and logTime how Go reads it.
const (
	logPrefix = "%Y-%m-%d %H:%M:%S.%L"
	logTime   = "2006-01-02 15:04:05.000"
)

// entry is one line of pgagroal's log.
type entry struct {
	at      time.Time
	level   string
	process string
	message string
	fields  map[string]string
}

// parseEntry reads a line like
//
//	2026-11-22 20:30:00.123 INFO  supervisor[4711] server state server=n1 why="3 probes"
func parseEntry(line string) (entry, bool) {
	if len(line) < len(logTime) {
		return entry{}, false
	}
	at, err := time.ParseInLocation(logTime, line[:len(logTime)], time.Local)
	if err != nil {
		return entry{}, false
	}
	level, rest, _ := strings.Cut(strings.TrimSpace(line[len(logTime):]), " ")
	e := entry{at: at, level: level, fields: map[string]string{}}
	head, tail, found := strings.Cut(rest, "] ") // "worker 2[4711"
	if !found {
		return entry{}, false
	}
	e.process, _, _ = strings.Cut(strings.TrimSpace(head), "[")
	e.message = tail
	if i := firstField(tail); i >= 0 {
		e.message = strings.TrimSpace(tail[:i])
		e.parseFields(tail[i:])
	}
	return e, true
}

// firstField returns the offset of the first key=value, or -1.
func firstField(s string) int {
	eq := strings.IndexByte(s, '=')
	if eq < 0 {
		return -1
	}
	return strings.LastIndexByte(s[:eq], ' ') + 1
}

func (e *entry) parseFields(s string) {
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		key, rest, found := strings.Cut(s, "=")
		if !found {
			return
		}
		value := rest
		if quoted, err := strconv.QuotedPrefix(rest); err == nil {
			value, _ = strconv.Unquote(quoted)
			s = rest[len(quoted):]
		} else {
			value, s, _ = strings.Cut(rest, " ")
		}
		e.fields[key] = value
	}
}

// follower takes the daemon's output and hands complete lines on, one by one.
type follower struct {
	mu      sync.Mutex
	rest    []byte
	onEntry func(entry) // called with the lock held; nil: nobody listens yet
}

func newFollower() *follower { return &follower{} }

func (f *follower) listen(onEntry func(entry)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onEntry = onEntry
}

// Write takes a piece of the log, which may end in the middle of a line.
func (f *follower) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rest = append(f.rest, p...)
	for {
		i := bytes.IndexByte(f.rest, '\n')
		if i < 0 {
			return len(p), nil
		}
		if e, ok := parseEntry(string(f.rest[:i])); ok && f.onEntry != nil {
			f.onEntry(e)
		}
		f.rest = f.rest[i+1:]
	}
}

// tell returns the line to print for an entry, or "" for none.
func tell(e entry) string {
	f := e.fields
	switch e.message {
	case "failover phase":
		return tellPhase(f)
	case "server state":
		if f["new"] == "Failover" || f["new"] == "Primary (not writable)" {
			return "" // the phase already says the same
		}
		return fmt.Sprintf("%s: %s -> %s (%s)", f["server"], f["old"], f["new"], f["why"])
	case "worker has let go of the old primary":
		return fmt.Sprintf("fence: worker %s cut %s connections to the old primary", f["worker"], f["backends"])
	case "script is started":
		return fmt.Sprintf("%s script starts: %s", f["hook"], f["args"])
	case "script has ended":
		how := "exit code " + f["exit"]
		if f["signal"] != "" {
			how = f["signal"]
		}
		return fmt.Sprintf("%s script ends after %s ms, %s", f["hook"], f["ms"], how)
	case "script says":
		return "    " + f["line"]
	case "failover complete":
		return "clients are let in to " + f["primary"]
	case "no script can run", "script was refused", "alarm", "logins are held", "failover failed", "New primary could not be found", "the notify script failed":
		return fmt.Sprintf("%s: %v", strings.ToUpper(e.level), e.message+" "+f["reason"]+f["text"]+f["why"])
	}
	return ""
}

func tellPhase(f map[string]string) string {
	switch f["new"] {
	case "suspect":
		return "a client's connection broke, so the primary is probed: " + f["why"]
	case "fencing":
		return "confirmed dead: " + f["why"]
	case "choosing":
		return "every worker has let go; asking the standbys how far they are"
	case "running":
		return "candidate: " + f["why"][strings.LastIndexByte(f["why"], ' ')+1:]
	}
	return ""
}
