package login

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// packet is a first packet with a declared length and version.
func packet(length int32, version uint32, body string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(length))
	b = binary.BigEndian.AppendUint32(b, version)
	return append(b, body...)
}

// whole is a packet with the correct length.
func whole(version uint32, body string) []byte { return packet(int32(8+len(body)), version, body) }

const (
	v3     = 3 << 16
	sslReq = 80877103
	gssReq = 80877104

	cancelReq = 80877102
)

// pgagroal answers bytes that are no valid start-up packet as PostgreSQL does, or is
// silent like it. Two things differ: the range of versions at the end of the text, and
// one packet that PostgreSQL accepts and pgagroal refuses.
func TestBrokenStartupPacketIsAnsweredAsByPostgreSQL(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.OnePlace(t, c, nil)
	user := "user\x00postgres\x00"
	broken := map[string][]byte{ // after requests that are answered with N
		"length 0":        packet(0, v3, user+"\x00"),
		"length 3":        packet(3, v3, ""),
		"length 4":        packet(4, v3, ""),
		"negative length": packet(-5, v3, ""),
		"huge length":     packet(1<<30, v3, user),
		"10 KB and a bit": whole(v3, user+strings.Repeat("x", 10_000)+"\x00\x00\x00"),
		"protocol 4":      whole(4<<16, user+"\x00"),
		"protocol 0":      whole(0, user+"\x00"),
		"no user":         whole(v3, "database\x00postgres\x00\x00"),
		"nothing":         whole(v3, "\x00"),
		"no last byte":    whole(v3, "user\x00postgres\x00"),
		"bytes behind":    whole(v3, user+"\x00trailing"),
		"bad replication": whole(v3, user+"replication\x00perhaps\x00\x00"),
		"HTTP":            []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
		"Terminate":       {'X', 0, 0, 0, 4},
		"Query":           []byte("Q\x00\x00\x00\x0dSELECT 1\x00"),
		"half a length":   {0, 0},
		"half a packet":   packet(50, v3, user),
		"short cancel":    whole(cancelReq, "\x00\x00"),
		"long cancel":     whole(cancelReq, strings.Repeat("x", 500)),
		"SSLRequest":      whole(sslReq, ""),
	}
	for _, first := range [][]uint32{nil, {sslReq}} {
		for name, packet := range broken {
			if first == nil && len(packet) == 8 {
				continue // the first request is answered with N
			}
			direct, pooled := dial(t, c.Primary().Addr()), p.DialRaw()
			for _, code := range first {
				request(t, direct, code)
				request(t, pooled, code)
			}
			if theirs, ours := lastWords(t, direct, packet), lastWords(t, pooled, packet); theirs != ours {
				t.Errorf("%s after %v: the server says %q, pgagroal %q", name, first, theirs, ours)
			}
		}
	}
	// PostgreSQL accepts this packet.
	if got, want := lastWords(t, p.DialRaw(), whole(v3, user+user+"\x00")), "08P01 invalid startup packet: a parameter is given twice"; got != want {
		t.Errorf("two users: %q, want %q", got, want)
	}
	// PostgreSQL answers this packet in the format of protocol 2.
	if got, want := lastWords(t, p.DialRaw(), whole(2<<16, user+"\x00")), "0A000 unsupported frontend protocol 2.0"; got != want {
		t.Errorf("protocol 2: %q, want %q", got, want)
	}
	pool.MustQuery(t, p.Connect(), "SELECT 1")
}

// lastWords sends a packet and nothing more, and returns the answer: SQLSTATE and text
// of an error, without versions, or "".
func lastWords(t *testing.T, conn net.Conn, packet []byte) string {
	t.Helper()
	if _, err := conn.Write(packet); err != nil {
		t.Fatal(err)
	}
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil && !errors.Is(err, syscall.ENOTCONN) { // the other end may have closed already
		t.Fatal(err)
	}
	said := bytes.TrimLeft(pool.ReadToEnd(t, conn), "N")
	if len(said) == 0 {
		return ""
	}
	code, text := pool.ErrorIn(t, said)
	text, _, _ = strings.Cut(text, ": server supports")
	return code + " " + text
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// request sends a first packet of 8 bytes and expects one byte as the answer.
func request(t testing.TB, conn net.Conn, code uint32) {
	t.Helper()
	if _, err := conn.Write(whole(code, "")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := io.ReadFull(conn, b); err != nil || b[0] != 'N' {
		t.Fatalf("answer %q, %v", b, err)
	}
}

// welcomed holds the pool's messages during a login.
type welcomed struct {
	types      string // of the messages up to ReadyForQuery, without ParameterStatus and BackendKeyData
	version    uint32 // of NegotiateProtocolVersion
	unknown    string // options in it, joined by commas
	pid        uint32
	secret     []byte
	params     map[string]string
	afterLogin *pgproto3.Frontend
}

// loginRaw sends a start-up packet and reads up to ReadyForQuery.
func loginRaw(t testing.TB, conn net.Conn, packet []byte) welcomed {
	t.Helper()
	if _, err := conn.Write(packet); err != nil {
		t.Fatal(err)
	}
	fe := pgproto3.NewFrontend(conn, conn)
	w := welcomed{afterLogin: fe, params: map[string]string{}}
	for {
		msg, err := fe.Receive()
		if err != nil {
			t.Fatalf("after %q: %v", w.types, err)
		}
		switch m := msg.(type) {
		case *pgproto3.NegotiateProtocolVersion:
			w.types += "v"
			w.version, w.unknown = m.NewestMinorProtocol, strings.Join(m.UnrecognizedOptions, ",")
		case *pgproto3.ErrorResponse:
			t.Fatalf("refused: %s %s", m.Code, m.Message)
		case *pgproto3.AuthenticationOk:
			w.types += "R"
		case *pgproto3.ParameterStatus:
			w.params[m.Name] = m.Value
		case *pgproto3.BackendKeyData:
			w.pid, w.secret = m.ProcessID, bytes.Clone(m.SecretKey)
		case *pgproto3.ReadyForQuery:
			w.types += "Z"
			return w
		}
	}
}

func TestEncryptionIsDeclinedAndThePlainLoginGoesOn(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c)})
	hello := pool.StartupPacket(t, map[string]string{"user": "postgres", "database": "postgres"})
	for _, codes := range [][]uint32{{sslReq}, {gssReq}, {gssReq, sslReq}, {sslReq, gssReq}} {
		conn := p.DialRaw()
		for _, code := range codes {
			request(t, conn, code)
		}
		if w := loginRaw(t, conn, hello); w.types != "RZ" {
			t.Errorf("%v: messages %q", codes, w.types)
		}
	}
}

func TestEndlessNegotiationIsEnded(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c)})
	conn := p.DialRaw()
	for range 10 {
		if _, err := conn.Write(whole(sslReq, "")); err != nil {
			break // closed already, as expected
		}
	}
	said := strings.TrimLeft(string(pool.ReadToEnd(t, conn)), "N")
	if code, _ := pool.ErrorIn(t, []byte(said)); code != "0A000" {
		t.Errorf("got %q", said)
	}
}

// Connections that never send a start-up packet hold nobody up, cost little, and are
// closed.
func TestThousandsOfHalfOpenConnectionsDisturbNobody(t *testing.T) {
	t.Parallel()
	const many = 2000
	c := pgtest.New(t, pgtest.Options{})
	p := pool.Start(t, pool.Setup{Servers: pool.Nodes(c), Keys: map[string]string{"authentication_timeout": "6s", "log_connections": "off"}})
	before := map[int]int64{}
	for _, pid := range p.Workers() {
		before[pid] = pool.PeakMemory(t, pid)
	}
	began := time.Now()
	var conns []net.Conn
	half := []byte{0, 0, 0, 50, 0, 3}
	for i := range many {
		conn := p.DialRaw()
		if _, err := conn.Write(half[:i%len(half)]); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	// All of them are connected while others log in.
	for range 5 {
		cl := p.Connect()
		pool.MustQuery(t, cl, "SELECT 1")
		cl.Close()
	}
	var ends sync.WaitGroup
	for _, conn := range conns {
		ends.Go(func() {
			if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("a half-open connection was not closed")
			}
			conn.Close()
		})
	}
	ends.Wait()
	if took := time.Since(began); took < 6*time.Second {
		t.Errorf("all were closed after %v, before authentication_timeout", took)
	}
	for pid, was := range before {
		if grown := pool.PeakMemory(t, pid) - was; grown > 100<<20 {
			t.Errorf("worker %d has grown by %s", pid, fmt.Sprint(grown>>20, " MiB"))
		}
	}
	pool.MustQuery(t, p.Connect(), "SELECT 1")
}
