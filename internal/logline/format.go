package logline

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ncruces/go-strftime"
)

// MaxLine is the most bytes of a line, with its end. Longer texts in it are cut, and end
// in "...".
const MaxLine = 8 << 10

// maxPiped is MaxLine for a pipe, into which several processes write.
const maxPiped = 4 << 10

// Kind is what a log is, which decides how an event is written to it.
type Kind int

// Kinds of logs.
const (
	Stream  Kind = iota // lines one after another: a file, a terminal, a pipe
	Syslog              // a datagram for each event, to a syslog daemon of this machine
	Journal             // a datagram for each event, to systemd's journal
)

// Settings say which events are written, and how.
type Settings struct {
	Kind   Kind
	Level  slog.Leveler
	Prefix string // a strftime format, at the begin of each line of a stream
	JSON   bool   // an object instead of text; not in the journal, whose fields say as much
}

// style is how a logger writes now.
type style struct {
	Settings
	process string
	out     io.Writer
	most    int // bytes of a line
}

// event is what a line says.
type event struct {
	when    time.Time
	level   slog.Level
	process string
	pid     int
	message string
	fields  []slog.Attr // with full names
}

// line returns an event as it is written, at most s.most bytes. It cuts the longest
// texts until the line is short enough, and then leaves out the last fields.
func (s *style) line(e event) []byte {
	for most := s.most; ; most /= 2 {
		line := s.encode(e, most)
		if len(line) <= s.most {
			return line
		}
		if most < 64 {
			e.fields = e.fields[:len(e.fields)/2]
			most = 64
		}
	}
}

// encode returns an event with no text in it longer than most bytes.
func (s *style) encode(e event, most int) []byte {
	var b bytes.Buffer
	if s.Kind == Journal {
		e.journal(&b, most)
		return b.Bytes()
	}
	if s.Kind == Syslog {
		fmt.Fprintf(&b, "<%d>%s pgagroal[%d]: ", syslogUser|priority(e.level), e.when.Format(time.Stamp), e.pid)
	}
	switch {
	case s.JSON:
		e.json(&b, most)
	default:
		if s.Kind == Stream && s.Prefix != "" {
			b.WriteString(cut(clean(strftime.Format(s.Prefix, e.when)), most))
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%-5s %s[%d] ", name(e.level), e.process, e.pid)
		e.text(&b, most)
	}
	if s.Kind == Stream {
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// text writes the message and the fields.
func (e *event) text(b *bytes.Buffer, most int) {
	b.WriteString(cut(clean(e.message), most))
	for _, f := range e.fields {
		b.WriteByte(' ')
		b.WriteString(clean(f.Key))
		b.WriteByte('=')
		b.WriteString(quote(cut(f.Value.String(), most)))
	}
}

// json writes an object. The fields of the event are an object in it, so that they can't
// replace what all lines have.
func (e *event) json(b *bytes.Buffer, most int) {
	fmt.Fprintf(b, `{"time":"%s","level":"%s","process":%s,"pid":%d,"message":%s`, e.when.Format("2006-01-02T15:04:05.000Z07:00"),
		strings.ToLower(name(e.level)), quoteJSON(e.process), e.pid, quoteJSON(cut(e.message, most)))
	for i, f := range e.fields {
		b.WriteString([]string{`,"fields":{`, `,`}[min(i, 1)])
		b.WriteString(quoteJSON(f.Key))
		b.WriteByte(':')
		switch f.Value.Kind() {
		case slog.KindInt64, slog.KindUint64, slog.KindBool:
			b.WriteString(f.Value.String())
		default:
			b.WriteString(quoteJSON(cut(f.Value.String(), most)))
		}
	}
	if len(e.fields) > 0 {
		b.WriteByte('}')
	}
	b.WriteByte('}')
}

// syslogUser is the facility "user" of syslog, as C pgagroal has it.
const syslogUser = 1 << 3

// priority returns the severity of syslog for a level.
func priority(l slog.Level) int {
	switch {
	case l < slog.LevelInfo:
		return 7
	case l < slog.LevelWarn:
		return 6
	case l < slog.LevelError:
		return 4
	case l < LevelFatal:
		return 3
	}
	return 2
}

// journal writes the fields of an entry, as systemd documents them in "Native Journal
// Protocol".
func (e *event) journal(b *bytes.Buffer, most int) {
	var text bytes.Buffer
	text.WriteString(e.process + ": ")
	e.text(&text, most)
	journalField(b, "MESSAGE", text.String())
	journalField(b, "PRIORITY", strconv.Itoa(priority(e.level)))
	journalField(b, "SYSLOG_IDENTIFIER", "pgagroal")
	journalField(b, "MESSAGE_ID", MessageID(e.message))
	journalField(b, "PGAGROAL_PROCESS", e.process)
	for _, f := range e.fields {
		journalField(b, "PGAGROAL_"+journalName(f.Key), cut(f.Value.String(), most))
	}
}

func journalField(b *bytes.Buffer, name, value string) {
	b.WriteString(name)
	if strings.ContainsRune(value, '\n') {
		b.WriteByte('\n')
		_ = binary.Write(b, binary.LittleEndian, uint64(len(value))) // a Buffer takes everything
	} else {
		b.WriteByte('=')
	}
	b.WriteString(value)
	b.WriteByte('\n')
}

// journalName returns the name of a field as the journal allows it.
func journalName(key string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
}

// cut shortens a text to most bytes, between two characters.
func cut(text string, most int) string {
	const mark = "..."
	if len(text) <= most {
		return text
	}
	end := max(most-len(mark), 0)
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + mark
}

func quoteJSON(text string) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(text) // a text can always be encoded
	return strings.TrimSuffix(b.String(), "\n")
}

// quote returns text unchanged if it is one printable word, otherwise quoted.
func quote(text string) string {
	if text == "" || strings.ContainsFunc(text, func(r rune) bool {
		return r == '"' || r == '=' || r == unicode.ReplacementChar || unicode.IsSpace(r) || !unicode.IsPrint(r)
	}) {
		return strconv.Quote(text)
	}
	return text
}

// clean replaces control characters and line ends by blanks.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, text)
}

func name(l slog.Level) string {
	switch {
	case l < slog.LevelDebug:
		return "TRACE"
	case l < slog.LevelInfo:
		return "DEBUG"
	case l < slog.LevelWarn:
		return "INFO"
	case l < slog.LevelError:
		return "WARN"
	case l < LevelFatal:
		return "ERROR"
	}
	return "FATAL"
}
