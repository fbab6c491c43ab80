package auth

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// admitted adds the AuthenticationOk, or the refusal, that a caller sends.
func admitted(serve func(io.ReadWriter) error) func(io.ReadWriter) error {
	return func(rw io.ReadWriter) error {
		err := serve(rw)
		answer := pgwire.AppendAuthenticationOK(nil)
		if err != nil {
			answer = AppendRefusal(nil, pgwire.SeverityFatal, "alice", err)
		}
		_, _ = rw.Write(answer)
		return err
	}
}

func loggingIn(c Credential, opts LoginOptions) func(io.ReadWriter) error {
	return func(rw io.ReadWriter) error {
		_, err := Login(rw, c, opts)
		return err
	}
}

func parsed(t *testing.T, text string) Stored {
	t.Helper()
	s, err := ParseStored(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// scramStored returns what a server stores of alice's password.
func scramStored(t *testing.T, password, salt string) Stored {
	t.Helper()
	v, err := NewVerifier(password, []byte(salt), 4096)
	if err != nil {
		t.Fatal(err)
	}
	return parsed(t, v.Encode())
}

// TestAClientsProofLogsInWithoutThePassword takes the proof of one exchange to another one, as a pool does.
func TestAClientsProofLogsInWithoutThePassword(t *testing.T) {
	vs := NewVerifiers(nil)
	for _, bound := range [][]byte{nil, []byte("end point")} {
		stored := scramStored(t, "s3cret", "0123456789abcdef")
		v := vs.Verifier("alice", stored, Look{})
		var proof *Proof
		serve := func(rw io.ReadWriter) (err error) { proof, err = ProveSCRAM(rw, v, bound); return err }
		client := Plain{User: "alice", Secret: "s3cret"}
		if serveErr, useErr := together(t, admitted(serve), loggingIn(client, LoginOptions{ChannelBinding: bound})); serveErr != nil || useErr != nil {
			t.Fatal(serveErr, useErr)
		}
		if serveErr, useErr := together(t, serveSCRAM(v, nil), loggingIn(proof, LoginOptions{})); serveErr != nil || useErr != nil {
			t.Errorf("a login by proof: %v, %v", serveErr, useErr)
		}
		if same := stored.Check("alice", "s3cret"); same == nil || *same != *proof {
			t.Error("a cleartext password proves something else than SCRAM")
		}
		salted := vs.Verifier("alice", scramStored(t, "s3cret", "another salt...."), Look{})
		if _, err := together(t, serveSCRAM(salted, nil), loggingIn(proof, LoginOptions{})); !errors.Is(err, ErrStale) {
			t.Errorf("another salt: %v", err)
		}
	}
}

func TestOnlyTheRightPasswordIsAProof(t *testing.T) {
	vs := NewVerifiers(nil)
	scram, hash := scramStored(t, "s3cret", "0123456789abcdef"), parsed(t, "md5"+MD5Secret("alice", "s3cret"))
	for what, stored := range map[string]Stored{"wrong": scram, "nobody's": {}} {
		serve := func(rw io.ReadWriter) error {
			proof, err := ProveSCRAM(rw, vs.Verifier("alice", stored, Look{}), nil)
			if proof != nil {
				t.Error("a proof")
			}
			return err
		}
		password := map[string]string{"wrong": "another", "nobody's": "s3cret"}[what]
		err, _ := together(t, admitted(serve), loggingIn(Plain{User: "alice", Secret: password}, LoginOptions{}))
		if !errors.Is(err, ErrBadPassword) {
			t.Errorf("SCRAM, %s password: %v", what, err)
		}
	}
	for _, s := range []Stored{scram, hash} {
		if s.Check("alice", "another") != nil || s.Check("alice", "") != nil || s.Check("bob", "s3cret") != nil && s.Hashed() {
			t.Errorf("a wrong password passes, hashed %v", s.Hashed())
		}
	}
	if vs.Check("alice", "s3cret", Stored{}, Look{}) != nil || vs.Check("alice", "s3cret", scram, Look{}) == nil || vs.Check("alice", "s3cret", hash, Look{}) == nil {
		t.Error("a check doesn't go by what is stored")
	}
}

func TestMD5ProvesAHash(t *testing.T) {
	hash := parsed(t, "md5"+MD5Secret("alice", "s3cret"))
	for password, right := range map[string]bool{"s3cret": true, "another": false} {
		var proof *Proof
		serve := func(rw io.ReadWriter) (err error) { proof, err = ServeMD5(rw, hash); return err }
		err, _ := together(t, admitted(serve), loggingIn(Plain{User: "alice", Secret: password}, LoginOptions{}))
		if right != (err == nil && proof != nil) || !right && !errors.Is(err, ErrBadPassword) {
			t.Errorf("%s: %v, %v", password, proof, err)
		}
		if right && *proof != *hash.Check("alice", password) {
			t.Error("a cleartext password proves something else than md5")
		}
		if !right {
			continue
		}
		again := func(rw io.ReadWriter) error { _, err := ServeMD5(rw, hash); return err }
		if serveErr, useErr := together(t, admitted(again), loggingIn(proof, LoginOptions{})); serveErr != nil || useErr != nil {
			t.Errorf("a login by proof: %v, %v", serveErr, useErr)
		}
	}
	// A verifier isn't a hash: the empty one must not be.
	err, _ := together(t, admitted(func(rw io.ReadWriter) error { _, err := ServeMD5(rw, Stored{}); return err }),
		loggingIn(&Proof{}, LoginOptions{}))
	if err == nil {
		t.Error("a user without a hash was let in")
	}
}

func TestAProofAnswersOnlyItsOwnQuestion(t *testing.T) {
	var none Proof
	proof := scramStored(t, "s3cret", "0123456789abcdef").Check("alice", "s3cret")
	for _, p := range []*Proof{proof, &none} {
		if _, err := p.MD5(); !errors.Is(err, ErrStale) {
			t.Errorf("md5: %v", err)
		}
		var required *PasswordRequiredError
		if _, err := p.Password(); !errors.As(err, &required) || !p.Known() {
			t.Errorf("password: %v", err)
		}
	}
	if _, err := none.Keys(Factors{Salt: "s", Iterations: 1}); !errors.Is(err, ErrStale) {
		t.Errorf("keys of nothing: %v", err)
	}
	refusal := pgwire.ParseError(AppendRefusal(nil, pgwire.SeverityFatal, "alice", fmt.Errorf("log in: %w", ErrStale))[5:])
	if refusal.Code != pgwire.CodeInvalidPassword || !strings.Contains(refusal.Message, "alice") {
		t.Errorf("%+v", refusal)
	}
}

func TestStoredPasswordsAreReadAndHidden(t *testing.T) {
	v, _ := NewVerifier("s3cret", []byte("0123456789abcdef"), 1)
	for _, bad := range []string{
		"", "s3cret", "md5", "md5" + strings.Repeat("0", 31), "md5" + strings.Repeat("g", 32), strings.ToUpper("md5") + strings.Repeat("0", 32),
		strings.Replace(v.Encode(), "$1:", "$2000001:", 1), strings.Replace(v.Encode(), "$1:", "$0:", 1),
	} {
		if _, err := ParseStored(bad); err == nil || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	a, b := parsed(t, v.Encode()), parsed(t, "md5"+strings.Repeat("A", 32))
	if !b.Is(parsed(t, "md5"+strings.Repeat("a", 32))) || a.Is(b) || !a.Is(a) || a.Is(Stored{}) || b.Is(Stored{}) || a.Hashed() || !b.Hashed() {
		t.Error("equal ones differ, or different ones don't")
	}
	proof := a.Check("alice", "s3cret")
	if out := fmt.Sprintf("%v %+v %#v %v %+v %#v", a, a, a, proof, proof, proof); strings.Contains(out, "{") || strings.Count(out, "[") != 6 {
		t.Errorf("%q", out)
	}
}

// TestAStrangerLooksLikeAUser has a server with more iterations and longer salts than pgagroal's own.
func TestAStrangerLooksLikeAUser(t *testing.T) {
	vs := NewVerifiers(nil)
	for _, salt := range []string{"short", "0123456789abcdef", strings.Repeat("long", 30)} {
		v, err := NewVerifier("s3cret", []byte(salt), 5000)
		if err != nil {
			t.Fatal(err)
		}
		mock := vs.Verifier("nobody", Stored{}, Stored{verifier: v}.Look(Look{}))
		if len(mock.salt) != len(salt) || mock.iterations != 5000 || !mock.doomed || string(mock.salt) == salt {
			t.Errorf("%d iterations, a salt of %d bytes", mock.iterations, len(mock.salt))
		}
		again, other := vs.Verifier("nobody", Stored{}, Stored{verifier: v}.Look(Look{})), vs.Verifier("another", Stored{}, Stored{verifier: v}.Look(Look{}))
		if string(again.salt) != string(mock.salt) || string(other.salt) == string(mock.salt) {
			t.Error("the salt isn't that of the name")
		}
	}
	if own := vs.Verifier("nobody", Stored{}, Look{}); len(own.salt) != saltLen || own.iterations != DefaultIterations {
		t.Errorf("%d iterations, a salt of %d bytes", own.iterations, len(own.salt))
	}
	hashed := Stored{md5: MD5Secret("alice", "s3cret")}.Look(Look{})
	if !hashed.Hashed() || vs.Check("nobody", "s3cret", Stored{}, hashed) != nil {
		t.Error("a stranger is let in")
	}
}
