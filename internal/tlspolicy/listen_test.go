package tlspolicy

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// dial returns the Config of a client that accepts every certificate.
func dial(version uint16, name string) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, ServerName: name, MinVersion: version, MaxVersion: version}
}

func listen(t *testing.T, m Material, opts Options, tickets Tickets) *tls.Config {
	t.Helper()
	c, err := m.Listen(opts, tickets)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestVerdictsAboutClients(t *testing.T) {
	root, other := authority(t, "root", nil), authority(t, "other", nil)
	server := issue(t, &root, ecdsaKey(t), names("db"))
	client := func(issuer issued, change func(*x509.Certificate)) issued {
		return issue(t, &issuer, ecdsaKey(t), change)
	}
	good, revoked := client(root, nil), client(root, nil)
	crl := root.crl(t, time.Hour, revoked)
	for name, c := range map[string]struct {
		client issued
		crl    []byte
		want   string
	}{
		"good":             {good, nil, ""},
		"good with a list": {good, crl, ""},
		"revoked":          {revoked, crl, "certificate revoked"},
		"wrong authority":  {client(other, nil), nil, "unable to get local issuer certificate"},
		"expired": {client(root, func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
		}), nil, "certificate has expired"},
		"for servers only": {client(root, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), nil, "unsuitable certificate purpose"},
	} {
		t.Run(name, func(t *testing.T) {
			config := listen(t, Material{Pairs: []Pair{server.pair(t)}, CA: root.pem(), CRL: c.crl}, Options{}, Tickets{})
			mine, err := Material{Pairs: []Pair{c.client.pair(t)}, CA: root.pem()}.Dial(VerifyFull, "db", Options{})
			if err != nil {
				t.Fatal(err)
			}
			state, _, err, errClient := shake(t, config, mine)
			compare(t, err, c.want)
			if (errClient != nil) != (c.want != "") {
				t.Errorf("the client sees %v", errClient)
			}
			if c.want == "" && (len(state.PeerCertificates) == 0 || !state.PeerCertificates[0].Equal(c.client.cert)) {
				t.Error("the client's certificate isn't known")
			}
		})
	}
	config := listen(t, Material{Pairs: []Pair{server.pair(t)}, CA: root.pem()}, Options{}, Tickets{})
	if _, _, err, _ := shake(t, config, dial(0, "db")); err != nil {
		t.Errorf("without a certificate: %v", err)
	}
}

func TestCertificateIsChosenByName(t *testing.T) {
	root := authority(t, "root", nil)
	first := issue(t, &root, ecdsaKey(t), names("a.example"))
	second := issue(t, &root, rsaKey(2048)(t), names("*.b.example"))
	config := listen(t, Material{Pairs: []Pair{first.pair(t), second.pair(t)}}, Options{}, Tickets{})
	for name, want := range map[string]issued{"a.example": first, "x.b.example": second, "other": first, "": first} {
		_, c, _, err := shake(t, config, dial(0, name))
		if err != nil || !c.PeerCertificates[0].Equal(want.cert) {
			t.Errorf("%q: %v, another certificate", name, err)
		}
	}
	// A client that can't verify ECDSA gets the certificate with an RSA key.
	old := dial(tls.VersionTLS12, "a.example")
	old.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	if _, c, _, err := shake(t, config, old); err != nil || !c.PeerCertificates[0].Equal(second.cert) {
		t.Errorf("only RSA: %v", err)
	}
}

// TestTicketsResume tries which sessions resume and which don't. The workers share nothing
// but the seed.
func TestTicketsResume(t *testing.T) {
	root := authority(t, "root", nil)
	key := ecdsaKey(t)
	m := Material{Pairs: []Pair{issue(t, &root, key, names("db")).pair(t)}}
	renewed := Material{Pairs: []Pair{issue(t, &root, key, names("db")).pair(t)}}
	listed := m
	listed.CA = root.pem()
	day := func(d int) func() time.Time { return func() time.Time { return time.Now().AddDate(0, 0, d) } }
	seed := Secret(bytes.Repeat([]byte{7}, 32))
	tickets := Tickets{Seed: seed, Use: "clients"}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for name, c := range map[string]struct {
			m       Material
			tickets Tickets
			want    bool
		}{
			"another worker":      {m, tickets, true},
			"the next day":        {m, Tickets{seed, "clients", day(1)}, true},
			"two days later":      {m, Tickets{seed, "clients", day(2)}, false},
			"another use":         {m, Tickets{seed, "metrics", nil}, false},
			"another seed":        {m, Tickets{Secret(bytes.Repeat([]byte{8}, 32)), "clients", nil}, false},
			"without a seed":      {m, Tickets{}, false},
			"renewed certificate": {renewed, tickets, false},
			"other authorities":   {listed, tickets, false},
		} {
			t.Run(fmt.Sprintf("%s %x", name, version), func(t *testing.T) {
				client := dial(version, "db")
				client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
				if s, _, err, _ := shake(t, listen(t, m, Options{}, tickets), client); err != nil || s.DidResume {
					t.Fatal(err, s.DidResume)
				}
				s, _, err, _ := shake(t, listen(t, c.m, Options{}, c.tickets), client)
				if err != nil || s.DidResume != c.want {
					t.Errorf("resumed: %v, %v", s.DidResume, err)
				}
			})
		}
	}
}

// TestTicketKeysTurnInARunningListener keeps one Config for days.
func TestTicketKeysTurnInARunningListener(t *testing.T) {
	now := time.Now()
	m := Material{Pairs: []Pair{issue(t, nil, ecdsaKey(t), names("db")).pair(t)}}
	config := listen(t, m, Options{}, Tickets{bytes.Repeat([]byte{7}, 32), "clients", func() time.Time { return now }})
	for days, want := range map[int]bool{1: true, 2: false} {
		now = time.Now()
		client := dial(tls.VersionTLS13, "db")
		client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		if _, _, err, _ := shake(t, config, client); err != nil {
			t.Fatal(err)
		}
		now = now.AddDate(0, 0, days)
		if s, _, err, _ := shake(t, config, client); err != nil || s.DidResume != want {
			t.Errorf("after %d days: resumed %v, %v", days, s.DidResume, err)
		}
	}
}

// The client's certificate expires between its first connection and the resumed one.
func TestResumedClientIsCheckedAgain(t *testing.T) {
	root := authority(t, "root", nil)
	m := Material{Pairs: []Pair{issue(t, &root, ecdsaKey(t), names("db")).pair(t)}, CA: root.pem()}
	short := issue(t, &root, ecdsaKey(t), func(c *x509.Certificate) { c.NotAfter = time.Now().Add(time.Minute) })
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		now := time.Now()
		config := listen(t, m, Options{Now: func() time.Time { return now }}, Tickets{Seed: bytes.Repeat([]byte{7}, 32)})
		cert, err := short.pair(t).certificate()
		if err != nil {
			t.Fatal(err)
		}
		client := dial(version, "db")
		client.Certificates, client.ClientSessionCache = []tls.Certificate{cert}, tls.NewLRUClientSessionCache(1)
		if _, _, err, _ := shake(t, config, client); err != nil {
			t.Fatal(err)
		}
		now = now.Add(2 * time.Minute)
		if _, _, err, _ := shake(t, config, client); err == nil {
			t.Errorf("%x: an expired certificate resumed", version)
		}
	}
}

func TestOptionsHold(t *testing.T) {
	m := Material{Pairs: []Pair{issue(t, nil, ecdsaKey(t), names("db")).pair(t)}}
	config := listen(t, m, Options{MinVersion: tls.VersionTLS13}, Tickets{})
	if _, _, err, _ := shake(t, config, dial(tls.VersionTLS12, "db")); err == nil {
		t.Error("TLS 1.2 was taken below the minimum")
	}
	old := dial(tls.VersionTLS10, "db")
	if _, _, err, _ := shake(t, listen(t, m, Options{MinVersion: tls.VersionTLS10}, Tickets{}), old); err == nil {
		t.Error("TLS 1.0 was taken")
	}
	ciphers, err := ParseCiphers("ECDHE-ECDSA-AES256-GCM-SHA384")
	if err != nil {
		t.Fatal(err)
	}
	s, _, err, _ := shake(t, listen(t, m, Options{Ciphers: ciphers}, Tickets{}), dial(tls.VersionTLS12, "db"))
	if err != nil || s.CipherSuite != ciphers[0] {
		t.Errorf("cipher %x, %v", s.CipherSuite, err)
	}
	alpn := dial(0, "db")
	alpn.NextProtos = []string{Protocol}
	if s, _, err, _ = shake(t, listen(t, m, Options{}, Tickets{}), alpn); err != nil || CheckDirect(s.NegotiatedProtocol) != nil {
		t.Errorf("%q, %v", s.NegotiatedProtocol, err)
	}
	if s, _, err, _ = shake(t, listen(t, m, Options{}, Tickets{}), dial(0, "db")); err != nil || CheckDirect(s.NegotiatedProtocol) == nil {
		t.Errorf("direct TLS without ALPN: %v", err)
	}
}

func TestWords(t *testing.T) {
	if v, err := ParseVersion("TLSv1.3"); err != nil || v != tls.VersionTLS13 {
		t.Error(v, err)
	}
	if c, err := ParseCurves("prime256v1:X25519"); err != nil || !slices.Equal(c, []tls.CurveID{tls.CurveP256, tls.X25519}) {
		t.Error(c, err)
	}
	for name, err := range map[string]error{
		"TLSv1.1": second(ParseVersion("TLSv1.1")), "P-224": second(ParseCurves("P-224")), "no curve": second(ParseCurves("")),
		"RC4": second(ParseCiphers("RC4-SHA")), "TLS 1.3": second(ParseCiphers("TLS_AES_128_GCM_SHA256")), "mode": second(ParseMode("allow")),
	} {
		if err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	for word, want := range map[string]Mode{"on": Require, "off": Off, "prefer": Prefer, "verify-ca": VerifyCA, "verify-full": VerifyFull} {
		if m, err := ParseMode(word); err != nil || m != want {
			t.Errorf("%s: %v, %v", word, m, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestLoadChecksFiles(t *testing.T) {
	root := authority(t, "root", nil)
	leaf, stranger := issue(t, &root, ecdsaKey(t), names("db")), issue(t, &root, ecdsaKey(t), nil)
	cert, key := write(t, leaf.pem(), 0o644), write(t, leaf.keyPEM(t), 0o600)
	ca, crl := write(t, root.pem(), 0o644), write(t, root.crl(t, time.Hour), 0o644)
	files := func(cert, key string) Files { return Files{Pairs: []PairFiles{{cert, key}}} }
	for want, f := range map[string]Files{
		"":                          {Pairs: []PairFiles{{cert, key}}, CA: ca, CRL: crl},
		"could not open":            files(cert, key+".none"),
		"no certificate file":       files("", key),
		"is not a regular file":     files(t.TempDir(), key),
		"group or world access":     files(cert, write(t, leaf.keyPEM(t), 0o640)),
		"do not fit":                files(cert, write(t, stranger.keyPEM(t), 0o600)),
		"key does not match":        files(write(t, slices.Concat(root.pem(), leaf.pem()), 0o644), key),
		"no root certificate found": {CA: key},
		"revocation list":           {CA: ca, CRL: ca},
	} {
		m, err := Load(f)
		compare(t, err, want)
		if want == "" {
			if !m.NotAfter().Equal(leaf.cert.NotAfter) {
				t.Errorf("expires %v", m.NotAfter())
			}
			if text := fmt.Sprintf("%v %+v %#v %s %x", m, m, m, m.Pairs[0].Key, m.Pairs[0].Key); strings.Contains(text, "PRIVATE") || !strings.Contains(text, "(secret)") {
				t.Error("a key shows")
			}
		}
	}
	if _, err := (Material{CRL: root.crl(t, time.Hour)}).Dial(Require, "db", Options{}); err == nil {
		t.Error("a revocation list without authorities was ignored")
	}
	if _, err := (Material{}).Dial(VerifyCA, "db", Options{}); err == nil {
		t.Error("verify-ca without authorities")
	}
}

func TestWhoMayOwnAKey(t *testing.T) {
	for _, c := range []struct {
		uid  uint32
		mode os.FileMode
		ok   bool
	}{
		{70, 0o600, true},
		{70, 0o400, true},
		{70, 0o640, false},
		{70, 0o604, false},
		{0, 0o640, true},
		{0, 0o600, true},
		{0, 0o660, false},
		{0, 0o644, false},
		{71, 0o600, false},
	} {
		path := write(t, nil, c.mode)
		if err := os.Chown(path, int(c.uid), -1); err != nil {
			if os.Geteuid() != 0 {
				t.Skip("only root can give a file away")
			}
			t.Fatal(err)
		}
		stat, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := keyOf(stat, 70); (err == nil) != c.ok {
			t.Errorf("user %d, mode %04o: %v", c.uid, c.mode, err)
		}
	}
}

func TestSystemAuthorities(t *testing.T) {
	root := authority(t, "root", nil)
	b, err := readSystem([]string{"/nonexistent/bundle", write(t, root.pem(), 0o644)})
	if err != nil || !bytes.Equal(b, root.pem()) {
		t.Error(err)
	}
	if _, err := readSystem([]string{"/nonexistent/bundle"}); err == nil {
		t.Error("no error although there is no bundle")
	}
}
