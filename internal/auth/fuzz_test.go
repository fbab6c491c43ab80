package auth

import (
	"bytes"
	"io"
	"regexp"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// stranger is the other end of a login, and doesn't know the password. It sends its
// messages in turn. A % in one of them becomes the nonce that it was shown last, without
// which an exchange would end early.
type stranger struct {
	messages [][]byte
	unread   []byte
	nonce    []byte
	shown    bytes.Buffer // everything that this side wrote
}

var nonceOf = regexp.MustCompile(`r=([!-+\--~]+)`)

func (s *stranger) Write(b []byte) (int, error) {
	if m := nonceOf.FindSubmatch(b); m != nil {
		s.nonce = bytes.Clone(m[1])
	}
	return s.shown.Write(b)
}

func (s *stranger) Read(b []byte) (int, error) {
	if len(s.unread) == 0 && len(s.messages) > 0 {
		s.unread = bytes.ReplaceAll(s.messages[0], []byte("%"), s.nonce)
		s.messages = s.messages[1:]
		if len(s.unread) > 5 { // the nonce has changed the length
			s.unread = pgwire.AppendMessage(nil, s.unread[0], s.unread[5:])
		}
	}
	if len(s.unread) == 0 {
		return 0, io.EOF
	}
	n := copy(b, s.unread)
	s.unread = s.unread[n:]
	return n, nil
}

// constant is a Credential that derives nothing, so that the fuzzer is quick.
type constant struct{}

func (constant) Known() bool { return true }
func (constant) Keys(Factors) (Keys, error) {
	return Keys{client: [32]byte{1}, server: [32]byte{2}}, nil
}
func (constant) MD5() (string, error)      { return "the hash", nil }
func (constant) Password() (string, error) { return "the password", nil }

// FuzzSASL lets a stranger log in here, and lets pgagroal log in to a stranger. It must
// not get in without the password, must not pass for a server that knows it, and must not
// be shown it unless it asks for it in clear text.
func FuzzSASL(f *testing.F) {
	const proof = ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
	initial := func(mechanism, first string) []byte {
		return pgwire.AppendSASLInitialResponse(nil, mechanism, []byte(first))
	}
	answer := func(text string) []byte { return pgwire.AppendSASLResponse(nil, []byte(text)) }
	f.Add(false, false, initial(mechSCRAM, "n,,n=,r=abc"), answer("c=biws,r=%"+proof), []byte{})
	f.Add(false, true, initial(mechSCRAMPlus, "p=tls-server-end-point,,n=,r=abc"), answer("c=cD10bHMtc2VydmVyLWVuZC1wb2ludCwsAQ==,r=%"+proof), []byte{})
	f.Add(false, true, initial(mechSCRAM, "y,,n=,r=abc"), answer("c=eSws,r=%"+proof), []byte{})
	f.Add(false, false, initial(mechSCRAM, "n,a=bob,n=al=2Cice,r=abc,x=y"), answer("c=biws,r=%,m=x"+proof), []byte{})
	challenge := pgwire.AppendAuthenticationSASLContinue(nil, []byte("r=%xyz,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"))
	final := pgwire.AppendAuthenticationSASLFinal(nil, []byte("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="))
	f.Add(true, false, pgwire.AppendAuthenticationSASL(nil, mechSCRAM), challenge, final)
	f.Add(true, true, pgwire.AppendAuthenticationSASL(nil, mechSCRAMPlus, mechSCRAM), challenge, pgwire.AppendAuthenticationOK(nil))
	f.Add(true, true, pgwire.AppendAuthenticationCleartext(nil), pgwire.AppendAuthenticationOK(nil), []byte{})
	f.Add(true, false, pgwire.AppendAuthenticationOK(nil), []byte{}, []byte{})
	f.Add(true, false, pgwire.RefusalBadPassword.With("alice").Append(nil), []byte{}, []byte{})
	verifier := Verifier{salt: []byte("salt"), iterations: 4096, storedKey: make([]byte, 32), serverKey: make([]byte, 32)}
	f.Fuzz(func(t *testing.T, isServer, bound bool, first, second, third []byte) {
		s := &stranger{messages: [][]byte{first, second, third}}
		var endPoint []byte
		if bound {
			endPoint = []byte{1}
		}
		if !isServer {
			err := ServeSCRAM(s, verifier, endPoint)
			if err == nil {
				t.Fatalf("let in: %q %q %q", first, second, third)
			}
			AppendRefusal(nil, pgwire.SeverityFatal, "alice", err) // must not panic
			return
		}
		method, err := Login(s, constant{}, LoginOptions{ChannelBinding: endPoint, RequireBinding: bound})
		if err == nil && (bound || method == SCRAM) {
			t.Fatalf("a server that proves nothing is taken for the right one, method %s", method)
		}
		if bytes.Contains(s.shown.Bytes(), []byte("the password")) && (method != Password || bound) {
			t.Fatalf("the password was shown, method %s", method)
		}
		if s.shown.Len() > 1<<20 {
			t.Fatalf("%d bytes were sent", s.shown.Len())
		}
		AppendRefusal(nil, pgwire.SeverityFatal, "alice", err) // must not panic
	})
}
