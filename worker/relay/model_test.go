package relay

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// modelServer is one PostgreSQL session as the protocol describes it, with a
// language of a few statements. What it answers depends on nothing but what it
// was sent.
type modelServer struct {
	in       []byte
	out      []byte
	status   byte
	named    map[string]modelStatement
	unnamed  *modelStatement
	portal   *modelStatement
	schema   *byte // what a "look" returns and a "put" takes; all servers have the same
	skipping bool
	copying  bool
	simple   bool // the COPY came by a Query
	failed   bool // a statement of the Query
	extended bool
	temp     bool       // something was left behind
	most     int        // prepared statements at once
	block    []string   // what was shown in the transaction block
	commits  [][]string // what was shown in each block that was committed
	alone    []string   // what was shown outside of a block
}

// modelStatement is a prepared statement of the model. takes and returns are of the
// schema that it was prepared under, unless the client has said what it takes.
type modelStatement struct {
	text           string
	takes, returns string
}

func newModelServer() *modelServer {
	return &modelServer{status: 'I', named: map[string]modelStatement{}, schema: new(byte)}
}

func (m *modelServer) say(typ byte, body string) { m.out = append(m.out, msg(typ, body)...) }

func (m *modelServer) fail(code string) { m.failOf(code, "model") }

func (m *modelServer) failOf(code, of string) {
	m.out = pgwire.AppendMessage(m.out, 'E', []byte("SERROR\x00VERROR\x00C"+code+"\x00M"+of+"\x00\x00"))
	if m.status == 'T' {
		m.status = 'E'
	}
	m.copying, m.skipping, m.failed = false, m.extended, true
	m.portal = nil
}

func (m *modelServer) ready() { m.say('Z', string(m.status)) }

// write takes bytes; complete messages are answered at once.
func (m *modelServer) write(b []byte) {
	m.in = append(m.in, b...)
	for len(m.in) >= 5 {
		n := 1 + int(binary.BigEndian.Uint32(m.in[1:]))
		if n > len(m.in) {
			return
		}
		typ, body := m.in[0], m.in[5:n]
		m.in = m.in[n:]
		m.message(typ, body)
	}
}

func (m *modelServer) message(typ byte, body []byte) {
	if m.copying {
		m.copyMessage(typ, body)
		return
	}
	switch typ {
	case 'S':
		m.skipping, m.extended = false, false
		if m.status == 'I' {
			m.portal = nil
		}
		m.ready()
		return
	case 'Q', 'F':
		if m.skipping {
			return
		}
		m.extended = false
	case 'd', 'c', 'f', 'H':
		return
	default:
		if m.skipping {
			return
		}
		m.extended = true
	}
	switch typ {
	case 'Q':
		m.unnamed, m.portal = nil, nil
		text := strings.TrimRight(string(body), "\x00")
		m.failed = false
		for _, one := range strings.Split(text, "; ") {
			if !m.execute(one, true) {
				return
			}
			if m.failed {
				break
			}
		}
		m.ready()
	case 'F':
		m.say('V', "\xff\xff\xff\xff")
		m.ready()
	case 'P':
		m.parse(body)
	case 'B':
		m.bind(body)
	case 'D':
		m.describe(body)
	case 'C':
		if name := strings.TrimRight(string(body[1:]), "\x00"); body[0] == 'S' {
			delete(m.named, name)
			if name == "" {
				m.unnamed = nil
			}
		}
		m.say('3', "")
	case 'E':
		if m.portal == nil {
			m.fail("34000")
			return
		}
		if strings.HasPrefix(m.portal.text, "put") && !m.aborted(m.portal.text) {
			m.say('D', m.portal.takes)
		}
		m.execute(m.portal.text, false)
	default:
		panic(fmt.Sprintf("model got a message %q", typ))
	}
}

func (m *modelServer) copyMessage(typ byte, body []byte) {
	switch typ {
	case 'H', 'S':
	case 'd':
		if string(body) == "bad" {
			m.fail("22P04")
			m.endCopy()
		}
	case 'c':
		m.copying = false
		m.say('C', "COPY 1\x00")
		m.endCopy()
	case 'f':
		m.fail("57014")
		m.endCopy()
	default:
		m.fail("08P01")
		m.endCopy()
	}
}

func (m *modelServer) endCopy() {
	m.copying = false
	if m.simple {
		m.ready()
	}
}

func (m *modelServer) parse(body []byte) {
	parts := bytes.SplitN(body, []byte{0}, 3)
	name, text := string(parts[0]), string(parts[1])
	st := modelStatement{text: text, takes: string(parts[2]), returns: m.returns(text)}
	if strings.HasPrefix(text, "put") && st.takes == "\x00\x00" {
		st.takes = "\x00\x01\x00\x00\x00" + string(rune(*m.schema))
	}
	if name == "" {
		m.unnamed = nil
	}
	switch _, taken := m.named[name]; {
	case text == "bad", strings.HasPrefix(text, "pgagroal:"):
		m.fail("42601")
	case m.aborted(text):
	case name == "":
		m.unnamed = &st
		m.say('1', "")
	case taken:
		m.fail("42P05")
	default:
		m.named[name] = st
		m.most = max(m.most, len(m.named))
		m.say('1', "")
	}
}

func (m *modelServer) aborted(text string) bool {
	if m.status != 'E' || text == "" || text == "rollback" || text == "commit" {
		return false
	}
	m.fail("25P02")
	return true
}

// returns is what the result of a text looks like now.
func (m *modelServer) returns(text string) string {
	switch {
	case strings.HasPrefix(text, "look"):
		return text + string(rune(*m.schema))
	case strings.HasPrefix(text, "show"):
		return text
	}
	return ""
}

// find returns a statement that can be used.
func (m *modelServer) find(name string) (modelStatement, bool) {
	st, ok := m.named[name]
	if name == "" && m.unnamed != nil {
		st, ok = *m.unnamed, true
	}
	switch {
	case !ok:
		m.failOf("26000", name)
	case m.aborted(st.text):
		return st, false
	case m.returns(st.text) != st.returns:
		m.fail("0A000")
		return st, false
	}
	return st, ok
}

func (m *modelServer) bind(body []byte) {
	parts := bytes.SplitN(body, []byte{0}, 3)
	st, ok := m.find(string(parts[1]))
	if !ok {
		return
	}
	m.portal = &st
	m.say('2', "")
}

func (m *modelServer) describe(body []byte) {
	if body[0] == 'P' {
		if m.portal == nil {
			m.fail("34000")
			return
		}
		m.say('T', m.portal.returns)
		return
	}
	st, ok := m.find(strings.TrimRight(string(body[1:]), "\x00"))
	if !ok {
		return
	}
	m.say('t', st.takes)
	if st.returns != "" {
		m.say('T', st.returns)
	} else {
		m.say('n', "")
	}
}

// execute runs a statement; false when a COPY has begun.
func (m *modelServer) execute(text string, simple bool) bool {
	if m.aborted(text) {
		return true
	}
	word, arg, _ := strings.Cut(text, " ")
	switch word {
	case "begin":
		m.status, m.block = 'T', nil
	case "commit", "rollback":
		if word == "commit" && m.status == 'T' {
			m.commits = append(m.commits, m.block)
		}
		m.status, m.block = 'I', nil
	case "fail":
		m.fail("22012")
		return true
	case "copy":
		m.copying, m.simple = true, simple
		m.say('G', "\x00\x00\x00")
		return false
	case "show":
		if simple {
			m.say('T', text)
		}
		m.say('D', text)
		if m.status == 'T' {
			m.block = append(m.block, arg)
		} else {
			m.alone = append(m.alone, arg)
		}
	case "look":
		m.say('D', m.returns(text))
	case "listen":
		m.temp = true
	case "leftover":
		m.say('D', fmt.Sprint(m.temp))
	case "":
		m.say('I', "")
		return true
	case "execute":
		if st, ok := m.find(arg); ok {
			return m.execute(st.text, simple)
		}
		return true
	case "deallocate", "DEALLOCATE":
		if !m.deallocate(arg) {
			return true
		}
		text = "deallocate"
		if arg == "all" {
			text = "deallocate all"
		}
	}
	m.say('C', strings.ToUpper(text)+"\x00")
	return true
}

func (m *modelServer) deallocate(name string) bool {
	if name == "all" {
		m.named = map[string]modelStatement{}
		return true
	}
	if _, ok := m.named[name]; !ok {
		m.fail("26000")
		return false
	}
	delete(m.named, name)
	return true
}
