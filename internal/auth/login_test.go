package auth

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// script plays a server: it sends each message, and reads one from the client unless wantAnswer is empty.
type script []struct {
	send       []byte
	wantAnswer string // body, "" for none, "*" for any
}

func (s script) play(rw io.ReadWriter) error {
	for i, line := range s {
		if _, err := rw.Write(line.send); err != nil {
			return err
		}
		if line.wantAnswer == "" {
			continue
		}
		_, body, err := pgwire.ReadMessage(rw, 1000)
		if err != nil || line.wantAnswer != "*" && string(body) != line.wantAnswer {
			return fmt.Errorf("line %d: %q, %w", i, body, err)
		}
	}
	return nil
}

var (
	ok        = pgwire.AppendAuthenticationOK(nil)
	sasl      = pgwire.AppendAuthenticationSASL(nil, mechSCRAMPlus, mechSCRAM)
	cleartext = pgwire.AppendAuthenticationCleartext(nil)
	notice    = pgwire.AppendMessage(nil, 'N', []byte("SNOTICE\x00VNOTICE\x00C00000\x00Mhello\x00\x00"))
	refusal   = pgwire.AppendMessage(nil, 'E', []byte("SFATAL\x00VFATAL\x00C53300\x00Msorry, too many clients already\x00\x00"))
)

func TestLoginAnswersWhatTheServerAsks(t *testing.T) {
	for name, tc := range map[string]struct {
		script   script
		password string
		method   Method
	}{
		"nothing":          {script{{send: ok}}, "", Trust},
		"notices":          {script{{send: notice}, {send: notice}, {send: ok}}, "", Trust},
		"cleartext":        {script{{cleartext, "pw\x00"}, {send: ok}}, "pw", Password},
		"md5":              {script{{pgwire.AppendAuthenticationMD5(nil, [4]byte{1, 2, 3, 4}), "md527972593be6fc26d3f4484e91163efdf" + "\x00"}, {send: ok}}, "pw", MD5},
		"negotiation of v": {script{{send: pgwire.AppendNegotiateProtocolVersion(nil, 0, nil)}, {send: ok}}, "", Trust},
	} {
		serveErr, err := together(t, tc.script.play, func(rw io.ReadWriter) error {
			m, err := Login(rw, Plain{User: "alice", Secret: tc.password}, LoginOptions{})
			if m != tc.method {
				t.Errorf("%s: method %q, want %q", name, m, tc.method)
			}
			return err
		})
		if serveErr != nil || err != nil {
			t.Errorf("%s: server %v, client %v", name, serveErr, err)
		}
	}
}

func TestLoginReportsWhyItFailed(t *testing.T) {
	is := func(target error) func(error) bool { return func(err error) bool { return errors.Is(err, target) } }
	protocol := func(err error) bool { var e *pgwire.Refused; return errors.As(err, &e) }
	method := func(err error) bool { var e *MethodError; return errors.As(err, &e) }
	required := func(m Method) func(error) bool {
		return func(err error) bool { var e *PasswordRequiredError; return errors.As(err, &e) && e.Method == m }
	}
	authMessage := func(code byte, data string) []byte {
		return pgwire.AppendMessage(nil, 'R', append([]byte{0, 0, 0, code}, data...))
	}
	for name, tc := range map[string]struct {
		script   script
		password string
		want     func(error) bool
	}{
		"refusal": {script{{send: refusal}}, "pw", func(err error) bool {
			var e *ServerError
			return errors.As(err, &e) && e.Fields.Code == "53300" && string(e.Body) == string(refusal[5:])
		}},
		"gss":                     {script{{send: authMessage(7, "")}}, "pw", method},
		"sspi":                    {script{{send: authMessage(9, "")}}, "pw", method},
		"kerberos":                {script{{send: authMessage(2, "")}}, "pw", method},
		"unknown method":          {script{{send: authMessage(99, "")}}, "pw", method},
		"unknown mechanism":       {script{{send: pgwire.AppendAuthenticationSASL(nil, "OAUTHBEARER")}}, "pw", method},
		"PLUS only, without TLS":  {script{{send: pgwire.AppendAuthenticationSASL(nil, mechSCRAMPlus)}}, "pw", method},
		"cleartext, no password":  {script{{send: cleartext}}, "", required(Password)},
		"md5, no password":        {script{{send: authMessage(5, "salt")}}, "", required(MD5)},
		"scram, no password":      {script{{send: sasl}}, "", required(SCRAM)},
		"md5, short salt":         {script{{send: authMessage(5, "sal")}}, "pw", protocol},
		"short message":           {script{{send: pgwire.AppendMessage(nil, 'R', []byte{0})}}, "pw", protocol},
		"asks twice":              {script{{cleartext, "*"}, {send: cleartext}}, "pw", protocol},
		"scram, then cleartext":   {script{{sasl, "*"}, {send: cleartext}}, "pw", protocol},
		"continue out of nothing": {script{{send: authMessage(11, "r=x,s=eA==,i=1")}}, "pw", protocol},
		"final before challenge":  {script{{sasl, "*"}, {send: authMessage(12, "v=eA==")}}, "pw", protocol},
		"nonce of somebody else":  {script{{sasl, "*"}, {send: authMessage(11, "r=x,s=eA==,i=1")}}, "pw", protocol},
		"lets in without proof":   {script{{sasl, "*"}, {send: ok}}, "pw", is(ErrServerNotProven)},
		"other message":           {script{{send: pgwire.AppendReadyForQuery(nil, 'I')}}, "pw", protocol},
		"ends":                    {script{}, "pw", is(io.EOF)},
		"ends within a message":   {script{{send: ok[:6]}}, "pw", is(io.ErrUnexpectedEOF)},
		"declares a huge message": {script{{send: []byte{'R', 0x7f, 0xff, 0xff, 0xff}}}, "pw", func(err error) bool {
			var e *pgwire.LengthError
			return errors.As(err, &e)
		}},
	} {
		_, err := together(t, tc.script.play, func(rw io.ReadWriter) error {
			_, err := Login(rw, Plain{User: "alice", Secret: tc.password}, LoginOptions{})
			return err
		})
		if !tc.want(err) {
			t.Errorf("%s: %T %v", name, err, err)
		}
	}
}

func TestLoginEndsThoughTheServerDoesNot(t *testing.T) {
	_, err := together(t, func(rw io.ReadWriter) error {
		for {
			if _, err := rw.Write(notice); err != nil {
				return err
			}
		}
	}, func(rw io.ReadWriter) error {
		_, err := Login(rw, Plain{User: "alice", Secret: "pw"}, LoginOptions{})
		return err
	})
	var protocol *pgwire.Refused
	if !errors.As(err, &protocol) {
		t.Errorf("got %v", err)
	}
}

func TestLoginRefusesAServerThatCannotProveItself(t *testing.T) {
	honest := store(t, map[string]string{"alice": "s3cret"}).Lookup("alice")
	for name, tamper := range map[string]func(*Verifier){
		"other server key": func(v *Verifier) { v.serverKey = make([]byte, 32) },
		"honest":           func(*Verifier) {},
	} {
		v := honest
		tamper(&v)
		_, err := together(t, serveSCRAM(v, nil), func(rw io.ReadWriter) error {
			_, err := Login(rw, Plain{User: "alice", Secret: "s3cret"}, LoginOptions{})
			return err
		})
		if want := name != "honest"; errors.Is(err, ErrServerNotProven) != want || !want && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A client over TLS could bind, and says that the server offers nothing to bind to. That isn't true of a server that offers
// PLUS, which would call it an attack.
func TestPassThroughRefusesAClientThatTheServerWouldTakeForAnAttacker(t *testing.T) {
	v := store(t, map[string]string{"alice": "s3cret"}).Lookup("alice")
	for name, bound := range map[string][]byte{"PLUS": make([]byte, 32), "no PLUS": nil} {
		var passErr, loginErr error
		_, _ = together(t, serveSCRAM(v, bound), func(server io.ReadWriter) error {
			passErr, loginErr = together(t, func(client io.ReadWriter) error {
				_, err := PassThrough(client, server, nil)
				_, _ = client.Write(append(AppendRefusal(nil, pgwire.SeverityFatal, "alice", err), ok...))
				return err
			}, func(rw io.ReadWriter) error {
				_, err := Login(rw, Plain{User: "alice", Secret: "s3cret"}, LoginOptions{ChannelBinding: []byte("another certificate")})
				return err
			})
			return passErr
		})
		var refused *pgwire.Refused
		var told *ServerError
		if bound == nil && (passErr != nil || loginErr != nil) {
			t.Errorf("%s: %v, the client: %v", name, passErr, loginErr)
		}
		if bound != nil && (!errors.As(passErr, &refused) || refused.Refusal != pgwire.RefusalBindingPassed ||
			!errors.As(loginErr, &told) || !strings.Contains(told.Fields.Hint, "channel_binding=disable")) {
			t.Errorf("%s: %v, the client: %v", name, passErr, loginErr)
		}
	}
}

func TestPassThroughCarriesSCRAMWithoutThePassword(t *testing.T) {
	bound := make([]byte, 32) // the server offers PLUS, which must not reach the client
	for password, wantCode := range map[string]string{"s3cret": "", "wrong": "28P01"} {
		v := store(t, map[string]string{"alice": "s3cret"}).Lookup("alice")
		var method Method
		serveErr, _ := together(t, serveSCRAM(v, bound), func(server io.ReadWriter) error {
			passErr, loginErr := together(t, func(client io.ReadWriter) error {
				var err error
				method, err = PassThrough(client, server, nil)
				_, _ = client.Write(append(AppendRefusal(nil, pgwire.SeverityFatal, "alice", err), ok...))
				return err
			}, func(rw io.ReadWriter) error {
				_, err := Login(rw, Plain{User: "alice", Secret: password}, LoginOptions{})
				return err
			})
			for _, err := range []error{passErr, loginErr} {
				var refused *ServerError
				if wantCode == "" && err != nil || wantCode != "" && (!errors.As(err, &refused) || refused.Fields.Code != wantCode) {
					t.Errorf("%s: %v, want %q", password, err, wantCode)
				}
			}
			return nil
		})
		if method != SCRAM || (serveErr == nil) != (wantCode == "") {
			t.Errorf("%s: method %q, server %v", password, method, serveErr)
		}
	}
}

func TestPassThroughCarriesPasswordsAndRefusesTheRest(t *testing.T) {
	for name, tc := range map[string]struct {
		script script
		method Method
		ok     bool
	}{
		"trust":     {script{{send: notice}, {send: ok}}, Trust, true},
		"cleartext": {script{{cleartext, "pw\x00"}, {send: ok}}, Password, true},
		"md5":       {script{{pgwire.AppendAuthenticationMD5(nil, [4]byte{}), md5Answer(MD5Secret("alice", "pw"), [4]byte{}) + "\x00"}, {send: ok}}, MD5, true},
		"gss":       {script{{send: pgwire.AppendMessage(nil, 'R', []byte{0, 0, 0, 7})}}, Trust, false},
		"PLUS only": {script{{send: pgwire.AppendAuthenticationSASL(nil, mechSCRAMPlus)}}, SCRAM, false},
		"short":     {script{{send: pgwire.AppendMessage(nil, 'R', nil)}}, Trust, false},
		"other":     {script{{send: pgwire.AppendReadyForQuery(nil, 'I')}}, Trust, false},
	} {
		serveErr, _ := together(t, tc.script.play, func(server io.ReadWriter) error {
			passErr, _ := together(t, func(client io.ReadWriter) error {
				m, err := PassThrough(client, server, nil)
				if m != tc.method {
					t.Errorf("%s: method %q, want %q", name, m, tc.method)
				}
				if err == nil {
					_, err = client.Write(ok)
				}
				return err
			}, func(rw io.ReadWriter) error {
				_, err := Login(rw, Plain{User: "alice", Secret: "pw"}, LoginOptions{})
				return err
			})
			if (passErr == nil) != tc.ok {
				t.Errorf("%s: %v", name, passErr)
			}
			return nil
		})
		if serveErr != nil {
			t.Errorf("%s: server %v", name, serveErr)
		}
	}
}

func TestPassThroughTakesChannelBindingOutOfTheOffer(t *testing.T) {
	_, _ = together(t, script{{send: sasl}}.play, func(server io.ReadWriter) error {
		_, _ = together(t, func(client io.ReadWriter) error {
			_, err := PassThrough(client, server, nil)
			return err
		}, func(rw io.ReadWriter) error {
			_, offer, err := pgwire.ReadMessage(rw, 100)
			if want := "\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00"; err != nil || string(offer) != want {
				t.Errorf("offer %q, %v, want %q", offer, err, want)
			}
			return nil
		})
		return nil
	})
}

// A login that must be bound to the connection shows a server nothing that isn't.
func TestLoginThatMustBeBoundAnswersNothingElse(t *testing.T) {
	for name, asks := range map[string][]byte{
		"cleartext":       cleartext,
		"md5":             pgwire.AppendAuthenticationMD5(nil, [4]byte{1, 2, 3, 4}),
		"nothing":         ok,
		"SCRAM unbound":   pgwire.AppendAuthenticationSASL(nil, mechSCRAM),
		"SCRAM, no facts": sasl,
	} {
		opts := LoginOptions{RequireBinding: true}
		if name != "SCRAM, no facts" {
			opts.ChannelBinding = []byte("hash")
		}
		_, err := together(t, func(rw io.ReadWriter) error {
			if _, err := rw.Write(asks); err != nil {
				return err
			}
			typ, body, err := pgwire.ReadMessage(rw, 1000)
			if err == nil {
				t.Errorf("%s: the server heard %c %q", name, typ, body)
			}
			return nil
		}, func(rw io.ReadWriter) error {
			_, err := Login(rw, Plain{User: "alice", Secret: "pw"}, opts)
			return err
		})
		if !errors.Is(err, ErrNotBound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
