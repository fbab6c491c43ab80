package auth

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/xdg-go/scram"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// limit bounds every wait; it is reached only when something is broken.
const limit = time.Minute

// pair returns the two ends of a connection that is closed at the end of the test.
func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	a, b = net.Pipe()
	for _, c := range []net.Conn{a, b} {
		_ = c.SetDeadline(time.Now().Add(limit))
		t.Cleanup(func() { _ = c.Close() })
	}
	return a, b
}

// together runs serve and use at the two ends of a connection. It closes each end when its function returns.
func together(t *testing.T, serve, use func(io.ReadWriter) error) (serveErr, useErr error) {
	t.Helper()
	a, b := pair(t)
	done := make(chan error, 1)
	go func() {
		done <- serve(a)
		_ = a.Close()
	}()
	useErr = use(b)
	_ = b.Close()
	return <-done, useErr
}

func store(t *testing.T, passwords map[string]string) *Verifiers {
	t.Helper()
	vs := NewVerifiers(nil)
	vs.Replace(derived(t, vs, passwords))
	return vs
}

func derived(t *testing.T, vs *Verifiers, passwords map[string]string) map[string]Verifier {
	t.Helper()
	users := map[string]Verifier{}
	for name, password := range passwords {
		v, err := vs.Derive(name, password)
		if err != nil {
			t.Fatal(err)
		}
		users[name] = v
	}
	return users
}

// serveSCRAM serves v and sends AuthenticationOk or the refusal, as a worker would.
func serveSCRAM(v Verifier, channelBinding []byte) func(io.ReadWriter) error {
	return func(rw io.ReadWriter) error {
		err := ServeSCRAM(rw, v, channelBinding)
		answer := pgwire.AppendAuthenticationOK(nil)
		if err != nil {
			answer = AppendRefusal(nil, pgwire.SeverityFatal, "alice", err)
		}
		if len(answer) > 0 { // net.Pipe waits for a reader even if nothing is written
			_, _ = rw.Write(answer)
		}
		return err
	}
}

func TestOurClientAndOurServerAgree(t *testing.T) {
	vs := store(t, map[string]string{"alice": "s3cret", "accents": "p\u00e4ss\u00a0wort"})
	keys := NewClientKeys(10)
	bound, other := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	for name, tc := range map[string]struct {
		user, password string
		server, client []byte // channel binding
		code           string // of the refusal
	}{
		"right password":             {"alice", "s3cret", nil, nil, ""},
		"wrong password":             {"alice", "S3cret", nil, nil, "28P01"},
		"unknown user":               {"mallory", "s3cret", nil, nil, "28P01"},
		"prepared password":          {"accents", "pa\u0308ss wort", nil, nil, ""},
		"TLS, PLUS":                  {"alice", "s3cret", bound, bound, ""},
		"TLS, PLUS, wrong password":  {"alice", "x", bound, bound, "28P01"},
		"TLS, somebody in between":   {"alice", "s3cret", bound, other, "08P01"},
		"TLS, client can't bind (n)": {"alice", "s3cret", bound, nil, ""},
		"server can't bind (y)":      {"alice", "s3cret", nil, bound, ""},
	} {
		for range 2 { // with and without derived keys
			serveErr, err := together(t, serveSCRAM(vs.Lookup(tc.user), tc.server), func(rw io.ReadWriter) error {
				m, err := Login(rw, Plain{User: tc.user, Secret: tc.password, Cache: keys}, LoginOptions{ChannelBinding: tc.client})
				if m != SCRAM {
					t.Errorf("%s: method %q", name, m)
				}
				return err
			})
			var refused *ServerError
			switch {
			case tc.code == "" && (serveErr != nil || err != nil):
				t.Errorf("%s: server %v, client %v", name, serveErr, err)
			case tc.code != "" && (!errors.As(err, &refused) || refused.Fields.Code != tc.code || refused.Fields.Severity != "FATAL"):
				t.Errorf("%s: client %v, want %s", name, err, tc.code)
			case tc.code == "28P01" && !errors.Is(serveErr, ErrBadPassword):
				t.Errorf("%s: server %v", name, serveErr)
			}
		}
	}
}

// client is a SCRAM client that can misbehave.
type client struct {
	mechanism, first string
	nonce            string
	finalPrefix      func(serverFirst string) string
}

func (c client) run(rw io.ReadWriter, password string) error {
	if _, _, err := pgwire.ReadMessage(rw, 1000); err != nil {
		return err
	}
	conn, err := scram.SHA256.NewClientUnprepped("", password, "")
	if err != nil {
		return err
	}
	conv := conn.WithNonceGenerator(func() string { return c.nonce }).NewConversation()
	first, err := conv.Step("")
	if err != nil {
		return err
	}
	if c.first != "" {
		first = c.first
	}
	if _, err := rw.Write(pgwire.AppendSASLInitialResponse(nil, c.mechanism, []byte(first))); err != nil {
		return err
	}
	typ, body, err := pgwire.ReadMessage(rw, 100000)
	if err != nil {
		return err
	}
	if typ == 'E' {
		return &ServerError{Fields: pgwire.ParseError(body)}
	}
	final, err := conv.Step(string(body[4:]))
	if err != nil {
		return err
	}
	if c.finalPrefix != nil {
		final = c.finalPrefix(final)
	}
	if _, err := rw.Write(pgwire.AppendSASLResponse(nil, []byte(final))); err != nil {
		return err
	}
	if typ, body, err = pgwire.ReadMessage(rw, 1000); err != nil {
		return err
	}
	if typ == 'E' {
		return &ServerError{Fields: pgwire.ParseError(body)}
	}
	_, err = conv.Step(string(body[4:]))
	return err
}

func TestClientNoncesOfAnyLengthAreServed(t *testing.T) {
	v := store(t, map[string]string{"alice": "s3cret"}).Lookup("alice")
	// asyncpg sends 24 random bytes in base64, 32 characters.
	for _, n := range []int{1, 18, 24, 28, 29, 32, 40, 200, 8000} {
		c := client{mechanism: mechSCRAM, nonce: strings.Repeat("n", n)}
		serveErr, err := together(t, func(rw io.ReadWriter) error { return ServeSCRAM(rw, v, nil) },
			func(rw io.ReadWriter) error { return c.run(rw, "s3cret") })
		if serveErr != nil || err != nil {
			t.Errorf("%d characters: server %v, client %v", n, serveErr, err)
		}
	}
}

func TestMisbehavingClientsAreRefused(t *testing.T) {
	v := store(t, map[string]string{"alice": "s3cret"}).Lookup("alice")
	bound := bytes.Repeat([]byte{1}, 32)
	for name, tc := range map[string]struct {
		client
		binding []byte
		code    string
	}{
		"p without TLS":               {client{mechanism: mechSCRAM, first: "p=tls-server-end-point,,n=,r=x"}, nil, "08P01"},
		"PLUS without TLS":            {client{mechanism: mechSCRAMPlus, first: "p=tls-server-end-point,,n=,r=x"}, nil, "08P01"},
		"PLUS without p":              {client{mechanism: mechSCRAMPlus, first: "n,,n=,r=x"}, bound, "08P01"},
		"p without PLUS":              {client{mechanism: mechSCRAM, first: "p=tls-server-end-point,,n=,r=x"}, bound, "08P01"},
		"y though PLUS was offered":   {client{mechanism: mechSCRAM, first: "y,,n=,r=x"}, bound, "28000"},
		"other binding":               {client{mechanism: mechSCRAMPlus, first: "p=tls-unique,,n=,r=x"}, bound, "08P01"},
		"other mechanism":             {client{mechanism: "SCRAM-SHA-1", first: "n,,n=,r=x"}, nil, "08P01"},
		"authorization identity":      {client{mechanism: mechSCRAM, first: "n,a=root,n=,r=x"}, nil, "0A000"},
		"mandatory extension":         {client{mechanism: mechSCRAM, first: "n,,m=x,n=,r=x"}, nil, "08P01"},
		"garbage":                     {client{mechanism: mechSCRAM, first: "hello"}, nil, "08P01"},
		"final: garbage":              {client{mechanism: mechSCRAM, nonce: "x", finalPrefix: func(string) string { return "hello" }}, nil, "08P01"},
		"final: other nonce":          {client{mechanism: mechSCRAM, nonce: "x", finalPrefix: func(f string) string { return strings.Replace(f, "r=x", "r=y", 1) }}, nil, "08P01"},
		"final: other gs2 header":     {client{mechanism: mechSCRAM, nonce: "x", finalPrefix: func(f string) string { return strings.Replace(f, "biws", "eSws", 1) }}, nil, "08P01"},
		"final: proof of wrong size":  {client{mechanism: mechSCRAM, nonce: "x", finalPrefix: func(f string) string { return f[:strings.Index(f, ",p=")] + ",p=AAAA" }}, nil, "08P01"},
		"final: proof of zero bytes":  {client{mechanism: mechSCRAM, nonce: "x", finalPrefix: zeroProof}, nil, "28P01"},
		"nonce longer than a message": {client{mechanism: mechSCRAM, nonce: strings.Repeat("n", maxAnswer)}, nil, ""},
	} {
		serveErr, err := together(t, serveSCRAM(v, tc.binding), func(rw io.ReadWriter) error { return tc.run(rw, "s3cret") })
		var refused *ServerError
		if tc.code != "" && (!errors.As(err, &refused) || refused.Fields.Code != tc.code) || serveErr == nil {
			t.Errorf("%s: server %v, client %v, want %s", name, serveErr, err, tc.code)
		}
		if serveErr != nil && strings.Contains(serveErr.Error(), "hello") {
			t.Errorf("%s: the error quotes the client: %v", name, serveErr)
		}
	}
}

func zeroProof(final string) string {
	return final[:strings.Index(final, ",p=")] + ",p=" + base64.StdEncoding.EncodeToString(make([]byte, 32))
}

func TestAMockVerifierRefusesEvenARightProof(t *testing.T) {
	v := store(t, map[string]string{"alice": "s3cret"}).Lookup("alice")
	v.doomed = true
	serveErr, _ := together(t, serveSCRAM(v, nil), func(rw io.ReadWriter) error {
		return client{mechanism: mechSCRAM, nonce: "x"}.run(rw, "s3cret")
	})
	if !errors.Is(serveErr, ErrBadPassword) {
		t.Errorf("got %v", serveErr)
	}
}

func TestMalformedInitialResponsesAreRefused(t *testing.T) {
	v := NewVerifiers(nil).Lookup("x")
	for name, msg := range map[string][]byte{
		"no name":        pgwire.AppendMessage(nil, 'p', []byte("SCRAM-SHA-256")),
		"no length":      pgwire.AppendMessage(nil, 'p', []byte("SCRAM-SHA-256\x00\x00")),
		"length too big": pgwire.AppendMessage(nil, 'p', []byte("SCRAM-SHA-256\x00\x00\x00\x00\x05n,,")),
		"length -1":      pgwire.AppendMessage(nil, 'p', []byte("SCRAM-SHA-256\x00\xff\xff\xff\xff")),
		"other message":  pgwire.AppendQuery(nil, "select 1"),
	} {
		err, _ := together(t, func(rw io.ReadWriter) error { return ServeSCRAM(rw, v, nil) }, func(rw io.ReadWriter) error {
			if _, _, err := pgwire.ReadMessage(rw, 100); err != nil {
				return err
			}
			_, err := rw.Write(msg)
			return err
		})
		var protocol *pgwire.Refused
		if !errors.As(err, &protocol) || protocol.Code() != pgwire.CodeProtocolViolation {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCleartextPasswordIsCompared(t *testing.T) {
	for name, tc := range map[string]struct {
		stored string
		known  bool
		answer string
		want   error
	}{
		"right":        {"s3cret", true, "s3cret", nil},
		"wrong":        {"s3cret", true, "s3cre", ErrBadPassword},
		"longer":       {"s3cret", true, "s3cret2", ErrBadPassword},
		"empty":        {"", true, "", ErrBadPassword},
		"unknown user": {"", false, "", ErrBadPassword},
		"any bytes":    {"\xff \t", true, "\xff \t", nil},
	} {
		matches := func(p string) bool { return tc.known && p == tc.stored }
		err, _ := together(t, func(rw io.ReadWriter) error { return ServePassword(rw, matches) }, func(rw io.ReadWriter) error {
			typ, body, err := pgwire.ReadMessage(rw, 100)
			if err != nil || typ != 'R' || !bytes.Equal(body, []byte{0, 0, 0, 3}) {
				return fmt.Errorf("%c %x %w", typ, body, err)
			}
			_, err = rw.Write(pgwire.AppendPassword(nil, tc.answer))
			return err
		})
		if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

// A token may be as long as PostgreSQL takes it; what else a client answers may not.
func TestOnlyCleartextPasswordsMayBeLong(t *testing.T) {
	const most = 65530
	answer := func(size int) func(io.ReadWriter) error {
		return func(rw io.ReadWriter) error {
			if _, _, err := pgwire.ReadMessage(rw, 100); err != nil {
				return err
			}
			_, _ = rw.Write(pgwire.AppendPassword(nil, strings.Repeat("x", size))) // the other end may close early
			return nil
		}
	}
	asksFor := func(method uint32) func(io.ReadWriter) error {
		return func(client io.ReadWriter) error {
			server := struct {
				io.Reader
				io.Writer
			}{bytes.NewReader(pgwire.AppendMessage(nil, 'R', append(binary.BigEndian.AppendUint32(nil, method), "salt"...))), io.Discard}
			_, err := PassThrough(client, server, Methods{})
			return err
		}
	}
	for name, tc := range map[string]struct {
		serve func(io.ReadWriter) error
		most  int
	}{
		"password":        {func(rw io.ReadWriter) error { return ServePassword(rw, func(p string) bool { return len(p) == most }) }, most},
		"passed password": {asksFor(3), most},
		"md5":             {func(rw io.ReadWriter) error { _, err := ServeMD5(rw, Stored{}); return err }, maxAnswer - 1},
		"passed md5":      {asksFor(5), maxAnswer - 1},
		"SCRAM":           {func(rw io.ReadWriter) error { return ServeSCRAM(rw, Verifier{}, nil) }, maxAnswer - 1},
	} {
		for size, tooLong := range map[int]bool{tc.most: false, tc.most + 1: true} {
			err, _ := together(t, tc.serve, answer(size))
			var refused *pgwire.Refused
			if got := errors.As(err, &refused) && refused.Refusal == pgwire.RefusalAnswerLength; got != tooLong {
				t.Errorf("%s of %d bytes: %v", name, size, err)
			}
		}
	}
}

func TestRefusalsHaveTheFieldsOfPgagroal(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"password":    {fmt.Errorf("x: %w", ErrBadPassword), "SFATAL\x00VFATAL\x00C28P01\x00Mpassword authentication failed for user \"u\"\x00Rauth_failed\x00\x00"},
		"method":      {&MethodError{Name: "gss"}, "SFATAL\x00VFATAL\x00C28000\x00Munsupported security model for user \"u\": the server asks for gss\x00\x00"},
		"server said": {&ServerError{Body: []byte("SFATAL\x00C3D000\x00Mno such database\x00Dd\x00Hh\x00Fpostinit.c\x00L1\x00\x00")}, "SFATAL\x00C3D000\x00Mno such database\x00Dd\x00Hh\x00Fpostinit.c\x00L1\x00\x00"},
	} {
		got := AppendRefusal(nil, pgwire.SeverityFatal, "u", tc.err)
		if want := pgwire.AppendMessage(nil, 'E', []byte(tc.want)); !bytes.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := AppendRefusal(nil, pgwire.SeverityFatal, "u", io.ErrUnexpectedEOF); got != nil {
		t.Errorf("a broken connection is answered with %q", got)
	}
}
