package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// legs says which connections of a case are encrypted.
type legs uint8

const (
	noLeg      legs = iota
	clientsLeg      // between clients and the pooler
	bothLegs        // and between the pooler and PostgreSQL
)

// Every program uses this cipher, because each has another favourite: OpenSSL prefers AES
// with 256 bits, Go with 128.
const (
	cipher13 = "TLS_AES_128_GCM_SHA256"
	cipher12 = tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
)

// opensslConf makes clients that use OpenSSL, and PostgreSQL, offer and take cipher13 alone.
const opensslConf = "openssl_conf = init\n[init]\nssl_conf = modules\n[modules]\nsystem_default = policy\n[policy]\nCiphersuites = " + cipher13 + "\n"

// identity is a certificate and its private key, in PEM.
type identity struct{ cert, key []byte }

// selfSigned makes a certificate for the loopback address. Nobody verifies it: it is the
// signature of the handshake that costs the pooler something.
func selfSigned(private crypto.Signer) (identity, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return identity{}, fmt.Errorf("make a certificate: %w", err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return identity{}, fmt.Errorf("make a private key: %w", err)
	}
	return identity{
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	}, nil
}

// makeIdentities makes the certificates of all cases.
func (r *rig) makeIdentities() error {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make a private key: %w", err)
	}
	old, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fmt.Errorf("make a private key: %w", err)
	}
	var ecErr, rsaErr error
	r.ecdsa, ecErr = selfSigned(ec)
	r.rsa, rsaErr = selfSigned(old)
	return errors.Join(ecErr, rsaErr)
}

// writeIdentity writes the certificate that the pooler shows to clients in a case, and
// returns the paths of certificate and key.
func (r *rig) writeIdentity(p *pooler, w workload) (cert, key string, err error) {
	id := r.ecdsa
	if w.rsa {
		id = r.rsa
	}
	cert, key = filepath.Join(p.dir, "tls.crt"), filepath.Join(p.dir, "tls.key")
	if err := r.writeFile(cert, string(id.cert)); err != nil {
		return "", "", err
	}
	return cert, key, r.writeFile(key, string(id.key))
}

// writeOpenSSLConf writes the file that opensslEnv names, into a directory that PostgreSQL
// can read.
func (r *rig) writeOpenSSLConf() error {
	r.openssl = filepath.Join(r.programs, "openssl.cnf")
	if err := os.WriteFile(r.openssl, []byte(opensslConf), 0o644); err != nil {
		return fmt.Errorf("write OpenSSL's configuration: %w", err)
	}
	return nil
}

func (r *rig) opensslEnv() string { return "OPENSSL_CONF=" + r.openssl }

// pgagroalTLS returns the settings of pgagroal's main section, and of its server's.
func (r *rig) pgagroalTLS(p *pooler, w workload) (main, server string, err error) {
	if w.tls == noLeg {
		return "", "", nil
	}
	cert, key, err := r.writeIdentity(p, w)
	if err != nil {
		return "", "", err
	}
	main = fmt.Sprintf("tls = allow\ntls_cert_file = %s\ntls_key_file = %s\n", cert, key)
	if w.tls == bothLegs {
		server = "tls = require\n"
	}
	return main, server, nil
}

// pgbouncerTLS returns the settings of PgBouncer.
func (r *rig) pgbouncerTLS(p *pooler, w workload) (string, error) {
	if w.tls == noLeg {
		return "", nil
	}
	cert, key, err := r.writeIdentity(p, w)
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf("client_tls_sslmode = allow\nclient_tls_cert_file = %s\nclient_tls_key_file = %s\n", cert, key)
	if w.tls == bothLegs {
		text += "server_tls_sslmode = require\n"
	}
	return text, nil
}

// clientTLS returns the Config of clients that are part of this program: the curve that
// libpq's clients choose, and tickets that are kept for one client at a time.
func clientTLS(version uint16, resumes bool) *tls.Config {
	c := &tls.Config{
		InsecureSkipVerify: true, ServerName: "bench", MinVersion: version, MaxVersion: version,
		CipherSuites: []uint16{cipher12, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}, CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256},
		SessionTicketsDisabled: !resumes,
	}
	if resumes {
		c.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	}
	return c
}

// encrypt asks for TLS, and does the client's part of the handshake.
func encrypt(conn net.Conn, config *tls.Config) (*tls.Conn, error) {
	if _, err := conn.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil {
		return nil, err
	}
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return nil, err
	}
	if answer[0] != 'S' {
		return nil, fmt.Errorf("the answer to the request for TLS is %q", answer)
	}
	c := tls.Client(conn, config)
	return c, c.Handshake()
}

// encrypted returns the cases of encrypted connections.
func encrypted() []workload {
	session := append(modes("session"), bouncers("session")...)
	both := append(modes("session", "transaction"), bouncers("session", "transaction")...)
	var all []workload
	for _, l := range []struct {
		name, title string
		tls         legs
	}{{"client", "TLS with clients", clientsLeg}, {"both", "TLS with clients and PostgreSQL", bothLegs}} {
		for _, n := range []int{16, 64} {
			all = append(all, workload{
				name: "tls-" + l.name + "-" + strconv.Itoa(n), title: fmt.Sprintf("select-only, protocol simple, %d clients, %s", n, l.title),
				clients: n, args: []string{"-S", "-M", "simple"}, sample: often, tls: l.tls, targets: both,
				goals: []goal{{metric: cpu, loop: ioUring, most: 0.8}, {metric: cpu, loop: epoll, most: 1}},
			})
		}
		all = append(all, workload{
			name: "tls-1mb-" + l.name, title: "results of 1 MiB, protocol simple, 4 clients, " + l.title, clients: 4,
			args: []string{"-M", "simple"}, script: "SELECT repeat('x', 1048576);\n", sample: 1, tls: l.tls, targets: both,
			goals: []goal{{metric: cpu, most: 0.5}},
		})
	}
	return append(append(all, encryptedLogins(session)...),
		workload{
			name: "tls-storm", title: fmt.Sprintf("select-only, protocol simple, 16 clients with TLS, while %d more shake hands each second with RSA 2048", stormRate),
			clients: 16, args: []string{"-S", "-M", "simple"}, sample: often, tls: clientsLeg, rsa: true, measure: measureStorm, targets: session,
			goals: []goal{{metric: p99, most: 1.5}},
		},
		workload{
			name: "tls-idle", title: "memory of 9000 idle clients with TLS, after a query and an answer of 16 KiB each", clients: 9000, limit: 20, tls: clientsLeg,
			measure: measureMemory, targets: append(modes("transaction"), bouncers("transaction")...),
			goals: []goal{{metric: memoryEach, most: 10, absolute: true}},
		})
}

// encryptedLogins returns the cases of clients that do nothing but log in.
func encryptedLogins(targets []target) []workload {
	var all []workload
	for _, l := range []struct {
		name, title string
		version     uint16
		resumes     bool
		least       float64
	}{
		{"full-13", "TLS 1.3, full handshakes", tls.VersionTLS13, false, 1.2},
		{"full-12", "TLS 1.2, full handshakes", tls.VersionTLS12, false, 1.2},
		{"resumed-13", "TLS 1.3, resumed sessions", tls.VersionTLS13, true, 1},
		{"resumed-12", "TLS 1.2, resumed sessions", tls.VersionTLS12, true, 0.9},
	} {
		all = append(all, workload{
			name: "tls-login-" + l.name, title: "clients that log in and leave, 4 at a time, ECDSA P-256, " + l.title, clients: 4, login: loginTrust,
			tls: clientsLeg, targets: targets, measure: measureLogins(clientTLSOf(l.version, l.resumes)), goals: []goal{{metric: perCPU, least: l.least}},
		})
	}
	return all
}

func clientTLSOf(version uint16, resumes bool) func() *tls.Config {
	return func() *tls.Config { return clientTLS(version, resumes) }
}
