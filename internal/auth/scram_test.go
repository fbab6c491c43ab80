package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"testing"

	"github.com/xdg-go/scram"
)

// The exchange of RFC 7677, section 3: user "user", password "pencil".
const (
	rfcServerFirst = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
	rfcClientFinal = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
	rfcServerFinal = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
)

func TestVerifierAnswersAsInRFC7677(t *testing.T) {
	salt, _ := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	v, err := NewVerifier("pencil", salt, 4096)
	if err != nil {
		t.Fatal(err)
	}
	server, _ := scram.SHA256.NewServer(func(string) (scram.StoredCredentials, error) { return v.credentials(), nil })
	conv := server.WithNonceGenerator(func() string { return "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0" }).NewConversation()
	first, err := conv.Step("n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
	if err != nil || first != rfcServerFirst {
		t.Fatalf("server-first %q, %v", first, err)
	}
	final, err := conv.Step(rfcClientFinal)
	if err != nil || final != rfcServerFinal {
		t.Fatalf("server-final %q, %v", final, err)
	}
}

// The RFC's proof covers the user name, which pgagroal leaves out, as libpq does. So an independent server checks the
// proof instead of a comparison.
func TestClientAnswersAsInRFC7677(t *testing.T) {
	c := &scramClient{header: "n,,", nonce: "rOprNGfwEbeRWgbNEkqO"}
	salt, _ := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	v, _ := NewVerifier("pencil", salt, 4096)
	server, _ := scram.SHA256.NewServer(func(string) (scram.StoredCredentials, error) { return v.credentials(), nil })
	peer := server.WithNonceGenerator(func() string { return "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0" }).NewConversation()
	challenge, _ := peer.Step(c.first())
	if challenge != rfcServerFirst {
		t.Fatalf("challenge %q", challenge)
	}
	nonce, factors, err := c.challenge(challenge)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := DeriveKeys("pencil", factors)
	if err != nil {
		t.Fatal(err)
	}
	final, err := peer.Step(c.final(challenge, nonce, keys))
	if err != nil || !peer.Valid() {
		t.Fatalf("the server refuses the proof: %v", err)
	}
	wrong := "v=" + base64.StdEncoding.EncodeToString(make([]byte, 32))
	for _, bad := range []string{"", "v=", "v=!", wrong, strings.TrimPrefix(final, "v="), "e=other-error"} {
		if err := c.verify(bad); !errors.Is(err, ErrServerNotProven) || c.proven {
			t.Errorf("a server that says %q is taken for proven: %v", bad, err)
		}
	}
	if err := c.verify(final); err != nil || !c.proven {
		t.Errorf("the right proof of the server is refused: %v", err)
	}
}

func TestParseVerifierReadsPostgreSQLsForm(t *testing.T) {
	salt := []byte("0123456789abcdef")
	want, err := NewVerifier("s3cret", salt, 4096)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	text := fmt.Sprintf("SCRAM-SHA-256$4096:%s$%s:%s", b64(salt), b64(want.storedKey), b64(want.serverKey))
	got, err := ParseVerifier(text)
	if err != nil || !bytes.Equal(got.storedKey, want.storedKey) || !bytes.Equal(got.serverKey, want.serverKey) ||
		!bytes.Equal(got.salt, salt) || got.iterations != 4096 {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{
		"", "md5d41d8cd98f00b204e9800998ecf8427e", strings.Replace(text, "4096", "0", 1), strings.Replace(text, "4096", "x", 1),
		strings.Replace(text, "SHA-256", "SHA-1", 1), strings.Replace(text, ":", "", 1), text + "$", text[:len(text)-4], text + "!",
		strings.Replace(text, b64(salt), "", 1),
	} {
		if _, err := ParseVerifier(bad); err == nil || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestVerifiersHideTheirKeys(t *testing.T) {
	v, _ := NewVerifier("s3cret", []byte("0123456789abcdef"), 1)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "verifier", v)
	out := fmt.Sprintf("%v %+v %#v %s %v", v, v, v, v, []Verifier{v}) + log.String()
	if strings.Count(out, "[verifier]") != 6 || strings.Contains(out, string(v.storedKey)) {
		t.Errorf("%q", out)
	}
}

func TestStoresHideTheirContent(t *testing.T) {
	vs := store(t, map[string]string{"alice": "s3cret"})
	keys := NewClientKeys(1)
	if _, err := keys.Derive("alice", "s3cret", Factors{Salt: "salt", Iterations: 1}); err != nil {
		t.Fatal(err)
	}
	out := fmt.Sprintf("%v %+v %#v %v %+v %#v", vs, vs, vs, keys, keys, keys)
	if want := strings.Repeat("[verifiers] ", 3) + "[client keys] [client keys] [client keys]"; out != want {
		t.Errorf("%q", out)
	}
}

func TestUnknownUsersLookLikeKnownOnes(t *testing.T) {
	secret := bytes.Repeat([]byte{7}, 32)
	vs := NewVerifiers(secret)
	vs.Replace(derived(t, vs, map[string]string{"alice": "s3cret", "empty": ""}))
	alice, mock, again := vs.Lookup("alice"), vs.Lookup("mallory"), vs.Lookup("mallory")
	if alice.doomed || !mock.doomed || !vs.Lookup("empty").doomed {
		t.Errorf("doomed: alice %v, mallory %v, empty password %v", alice.doomed, mock.doomed, vs.Lookup("empty").doomed)
	}
	if len(mock.salt) != len(alice.salt) || len(mock.storedKey) != len(alice.storedKey) || mock.iterations != alice.iterations {
		t.Error("shapes differ")
	}
	if !bytes.Equal(mock.salt, again.salt) || bytes.Equal(mock.salt, vs.Lookup("eve").salt) || bytes.Equal(mock.salt, alice.salt) {
		t.Error("salts of unknown users must differ between users and not between attempts")
	}
	if other := NewVerifiers(secret); !bytes.Equal(other.Lookup("alice").salt, alice.salt) {
		t.Error("a user's salt tells whether the user is known, or which process answers")
	}
	if own := NewVerifiers(nil); bytes.Equal(own.Lookup("x").salt, NewVerifiers(nil).Lookup("x").salt) {
		t.Error("two secrets give the same salt")
	}
}

func TestReplaceForgetsWhatIsGone(t *testing.T) {
	vs := NewVerifiers(nil)
	vs.Replace(derived(t, vs, map[string]string{"changed": "a", "gone": "a"}))
	if !vs.Matches("changed", "a") || !vs.Matches("gone", "a") {
		t.Fatal("the right password doesn't match")
	}
	vs.Replace(derived(t, vs, map[string]string{"changed": "b", "new": "c"}))
	if !vs.Lookup("gone").doomed || vs.Lookup("new").doomed {
		t.Error("the store isn't what it was replaced by")
	}
	if vs.Matches("changed", "a") || vs.Matches("gone", "a") {
		t.Error("a password that was right before still matches")
	}
}

// A reload during a check must not make the store remember a password that was right for the old verifier.
func TestAPasswordThatWasReplacedMeanwhileIsNotRemembered(t *testing.T) {
	vs := NewVerifiers(nil)
	vs.Replace(derived(t, vs, map[string]string{"alice": "old", "gone": "old"}))
	alice, gone := vs.Lookup("alice"), vs.Lookup("gone")
	vs.Replace(derived(t, vs, map[string]string{"alice": "new"}))
	vs.remember("alice", "old", alice)
	vs.remember("gone", "old", gone)
	for _, user := range []string{"alice", "gone"} {
		if vs.Shown(user, "old") || vs.Matches(user, "old") {
			t.Errorf("the old password of %s is still good", user)
		}
	}
	vs.remember("alice", "new", vs.Lookup("alice"))
	if !vs.Shown("alice", "new") {
		t.Error("the new password isn't remembered")
	}
}

// TestMatchesKnowsAPasswordByItsVerifier asks twice, because the second answer comes from what the first remembered.
func TestMatchesKnowsAPasswordByItsVerifier(t *testing.T) {
	vs := NewVerifiers(nil)
	vs.Replace(derived(t, vs, map[string]string{"alice": "s3cret", "empty": "", "other": "s3cret2"}))
	for range 2 {
		for _, tc := range []struct {
			user, password string
			want           bool
		}{
			{"alice", "s3cret", true},
			{"alice", "s3cret2", false},
			{"alice", "", false},
			{"other", "s3cret", false},
			{"empty", "", false},
			{"mallory", "s3cret", false},
		} {
			if got := vs.Matches(tc.user, tc.password); got != tc.want {
				t.Errorf("Matches(%q, %q) is %t", tc.user, tc.password, got)
			}
		}
	}
}

func TestAVerifierIsReadAsItWasWritten(t *testing.T) {
	vs := NewVerifiers(nil)
	v, err := vs.Derive("alice", "s3cret")
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseVerifier(v.Encode())
	if err != nil || got.Encode() != v.Encode() || got.doomed {
		t.Errorf("%v, %v", got, err)
	}
	if text := vs.Lookup("mallory").Encode(); text != "" {
		t.Errorf("the verifier of nobody is written as %q", text)
	}
}

func TestPasswordsArePreparedLikePostgreSQL(t *testing.T) {
	for in, want := range map[string]string{
		"plain":       "plain",
		"a\u00a0b":    "a b",         // no-break space to space
		"I\u00adX":    "IX",          // soft hyphen to nothing
		"\u00ad":      "\u00ad",      // nothing left: unchanged
		"\u2168":      "IX",          // compatibility decomposition
		"bell\x07":    "bell\x07",    // prohibited: unchanged
		"\xff\xfe":    "\xff\xfe",    // not UTF-8: unchanged
		"\u0627a":     "\u0627a",     // mixed direction: unchanged
		"пароль-€-漢字": "пароль-€-漢字", //
	} {
		if got := prepPassword(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestEndPointHashesTheCertificate(t *testing.T) {
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &ecKey.PublicKey, ecKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if want := sha256.Sum256(der); !bytes.Equal(EndPoint(cert), want[:]) {
		t.Errorf("%x, want %x", EndPoint(cert), want)
	}
	der, err = x509.CreateCertificate(rand.Reader, template, template, edKey.Public(), edKey)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil || EndPoint(cert) != nil {
		t.Errorf("Ed25519: %x, %v", EndPoint(cert), err)
	}
}
