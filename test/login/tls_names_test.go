package login

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// secretOf is a private key in PEM form.
func secretOf(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	pool.Must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// put writes a file into the pool's directory and returns its path.
func put(t testing.TB, p *pool.Pool, name string, text []byte) string {
	t.Helper()
	pool.Must(t, os.WriteFile(p.Path(name), text, 0o600))
	pool.Give(t, p.Path(name))
	return p.Path(name)
}

// asked sends an SSLRequest, which must be accepted.
func asked(t testing.TB, p *pool.Pool) net.Conn {
	t.Helper()
	conn := p.DialRaw()
	_, err := conn.Write(whole(sslReq, ""))
	pool.Must(t, err)
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil || answer[0] != 'S' {
		t.Fatalf("answer %q, %v", answer, err)
	}
	return conn
}

// boundLogin logs alice in by SCRAM that is bound to the connection, and reads on, so that
// session tickets arrive.
func boundLogin(t testing.TB, conn *tls.Conn) error {
	t.Helper()
	_, err := conn.Write(pool.StartupPacket(t, map[string]string{"user": "alice", "database": "postgres"}))
	pool.Must(t, err)
	binding := auth.EndPoint(conn.ConnectionState().PeerCertificates[0])
	_, err = auth.Login(conn, auth.Plain{User: "alice", Secret: "right"}, auth.LoginOptions{ChannelBinding: binding, RequireBinding: true})
	return err
}

// A client gets the certificate of the name that it connects to, and its login is bound to that certificate, in a
// resumed session as well.
func TestClientsGetTheCertificateOfTheirName(t *testing.T) {
	t.Parallel()
	c := asking(t, "scram-sha-256")
	ca := newAuthority(t, "authority")
	names := func(name string) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.Subject.CommonName, c.DNSNames = name, []string{name} }
	}
	first, firstKey := sign(t, &ca, names("first.example"))
	second, secondKey := sign(t, &ca, names("second.example"))
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	pool.Must(t, err)
	third := signFor(t, &ca, &rsaKey.PublicKey, names("second.example"))
	p := pool.Prepare(t, pool.Setup{
		Servers: pool.Nodes(c), Users: known, HBA: "host all all all scram-sha-256\n", Keys: map[string]string{"tls": "require", "workers": "2"},
	})
	var certs, keys []string
	for _, x := range []struct {
		name string
		cert *x509.Certificate
		key  any
	}{{"first", first, firstKey}, {"second", second, secondKey}, {"third", third, rsaKey}} {
		certs = append(certs, put(t, p, x.name+".pem", pemOf(x.cert)))
		keys = append(keys, put(t, p, x.name+".key", secretOf(t, x.key)))
	}
	p.SetKey("tls_cert_file", strings.Join(certs, ", "))
	p.SetKey("tls_key_file", strings.Join(keys, ","))
	p.Run()
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	onlyRSA := []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	for _, x := range []struct {
		name    string
		version uint16
		ciphers []uint16
		want    *x509.Certificate
	}{
		{"first.example", tls.VersionTLS12, nil, first},
		{"first.example", tls.VersionTLS13, nil, first},
		{"second.example", tls.VersionTLS12, nil, second},
		{"second.example", tls.VersionTLS13, nil, second},
		{"second.example", tls.VersionTLS12, onlyRSA, third},
		{"unknown.example", tls.VersionTLS13, nil, first},
		{"", tls.VersionTLS13, nil, first},
	} {
		config := &tls.Config{
			ServerName: x.name, MinVersion: x.version, MaxVersion: x.version, CipherSuites: x.ciphers,
			InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(1), //nolint:gosec // the test compares the certificate
		}
		for _, resumed := range []bool{false, true} {
			if resumed && x.name == "" {
				continue // crypto/tls keeps sessions by name
			}
			conn := tls.Client(asked(t, p), config)
			pool.Must(t, conn.Handshake())
			state := conn.ConnectionState()
			if got := state.PeerCertificates[0]; !bytes.Equal(got.Raw, x.want.Raw) {
				t.Errorf("%q got the certificate of %s", x.name, got.Subject)
			}
			if state.DidResume != resumed {
				t.Errorf("%q, %x: resumed: %v", x.name, x.version, state.DidResume)
			}
			if err := boundLogin(t, conn); err != nil {
				t.Errorf("%q, %x, resumed: %v: %v", x.name, x.version, resumed, err)
			}
			conn.Close()
		}
	}
}

// signFor is sign with the key of another kind.
func signFor(t testing.TB, by *authority, public any, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	template, _ := sign(t, by, change)
	template.PublicKeyAlgorithm, template.PublicKey = 0, nil
	template.SignatureAlgorithm = x509.UnknownSignatureAlgorithm
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, public, by.key)
	pool.Must(t, err)
	cert, err := x509.ParseCertificate(der)
	pool.Must(t, err)
	return cert
}

// What the keys for versions, curves and ciphers exclude isn't spoken with clients.
func TestClientsSpeakWhatTheKeysAllow(t *testing.T) {
	t.Parallel()
	c := asking(t, "scram-sha-256")
	for name, x := range map[string]struct {
		keys    map[string]string
		in, out *tls.Config
	}{
		"version": {
			map[string]string{"tls_min_protocol_version": "TLSv1.3"},
			&tls.Config{MinVersion: tls.VersionTLS13},
			&tls.Config{MaxVersion: tls.VersionTLS12},
		},
		"curves": {
			map[string]string{"tls_curves": "secp384r1:P-521"},
			&tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP384}},
			&tls.Config{CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256}},
		},
		"ciphers": {
			map[string]string{"tls_ciphers": "ECDHE-ECDSA-AES256-GCM-SHA384"},
			&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}},
			&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, roots := encrypted(t, c, "require", known, x.keys)
			for in, config := range map[bool]*tls.Config{true: x.in, false: x.out} {
				config.RootCAs, config.ServerName = roots, "localhost"
				conn := tls.Client(asked(t, p), config)
				err := conn.Handshake()
				if err == nil != in {
					t.Errorf("allowed: %v, and the handshake ends with %v", in, err)
				}
				conn.Close()
			}
			p.WaitLog("could not accept SSL connection: ")
		})
	}
}

// The keys of a server's section hold for connections to it, and what can't be agreed on is an error: prefer doesn't
// go back to clear text then.
func TestServersAreSpokenToAsTheKeysAllow(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "authority")
	cert, key := sign(t, &ca, loopback)
	c := guarded(t, cert, key, "scram-sha-256")
	n := c.Primary()
	for _, x := range []struct {
		server, seen string // setting of the server; version and cipher that it sees
		keys         map[string]string
		words        string // of the log, for a connection that fails
	}{
		{"ssl_max_protocol_version = 'TLSv1.3'", "TLSv1.3", map[string]string{"tls_min_protocol_version": "TLSv1.3"}, ""},
		{"ssl_max_protocol_version = 'TLSv1.2'", "TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384", map[string]string{"tls_ciphers": "ECDHE-ECDSA-AES256-GCM-SHA384"}, ""},
		{"ssl_max_protocol_version = 'TLSv1.2'", "", map[string]string{"tls_min_protocol_version": "TLSv1.3"}, "protocol version"},
		{"ssl_ecdh_curve = 'secp521r1'", "", nil, "handshake failure"},
		{"ssl_ecdh_curve = 'secp521r1'", "TLSv1.", map[string]string{"tls_curves": "secp521r1"}, ""},
	} {
		pool.AskNode(t, n, "ALTER SYSTEM RESET ALL")
		pool.AskNode(t, n, "ALTER SYSTEM SET "+x.server)
		pool.AskNode(t, n, "SELECT pg_reload_conf()")
		name, value, _ := strings.Cut(x.server, " = ")
		pool.WaitNode(t, n, "SELECT current_setting('"+name+"')", strings.Trim(value, "'"))
		keys := map[string]string{"tls": "prefer"}
		for k, v := range x.keys {
			keys[k] = v
		}
		p := behind(t, c, nil, known, nil, keys)
		p.Run()
		if x.words != "" {
			p.WantRefused(p.Config("alice", "right", "postgres"))
			p.WaitLog(x.words)
			pool.WaitNode(t, n, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'alice'", "0")
		} else {
			cl := p.ConnectAs(p.Config("alice", "right", "postgres"))
			row := pool.MustQuery(t, cl, "SELECT version || ' ' || cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid()")[0]
			if !strings.HasPrefix(row[0], x.seen) {
				t.Errorf("%s, %v: the server sees %s", x.server, x.keys, row[0])
			}
			cl.Close()
		}
		p.Stop()
	}
}
