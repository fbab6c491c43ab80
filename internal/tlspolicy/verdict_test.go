package tlspolicy

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// verdict says what a client should think of a server. want is a part of the error of
// this package, empty if the server is accepted; libpq is a part of libpq's error, if that
// differs.
type verdict struct {
	name        string
	server      Pair
	host        string
	ca, crl     []byte
	want, libpq string
}

func verdicts(t testing.TB) []verdict {
	t.Helper()
	root, other := authority(t, "root", nil), authority(t, "other", nil)
	middle := authority(t, "middle", &root)
	leaf := func(issuer issued, change func(*x509.Certificate)) issued {
		return issue(t, &issuer, ecdsaKey(t), change)
	}
	good := leaf(root, names("db.example"))
	revoked := leaf(root, names("db.example"))
	below := leaf(middle, names("db.example"))
	past := func(c *x509.Certificate) {
		c.DNSNames, c.NotBefore, c.NotAfter = []string{"db.example"}, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	}
	future := func(c *x509.Certificate) {
		c.DNSNames, c.NotBefore, c.NotAfter = []string{"db.example"}, time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
	}
	address := func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} }
	forClients := func(c *x509.Certificate) {
		c.DNSNames, c.ExtKeyUsage = []string{"db.example"}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	self := issue(t, nil, ecdsaKey(t), names("db.example"))
	const db = "db.example"
	const failed = "SSL error: certificate verify failed"
	ca := root.pem()
	two := slices.Concat(root.crl(t, time.Hour), middle.crl(t, time.Hour))
	older, newer := root.crl(t, time.Hour), root.crlOf(t, time.Now().Add(-time.Hour), time.Hour, revoked)
	list := []verdict{
		{"good", good.pair(t), db, ca, nil, "", ""},
		{"case of a name", good.pair(t), "DB.Example", ca, nil, "", ""},
		{"expired", leaf(root, past).pair(t), db, ca, nil, failed + ": certificate has expired", failed},
		{"not yet valid", leaf(root, future).pair(t), db, ca, nil, failed + ": certificate is not yet valid", failed},
		{"wrong name", good.pair(t), "db2.example", ca, nil, `server certificate for "db.example" does not match host name "db2.example"`, ""},
		{"two wrong names", leaf(root, names("a.example", "b.example")).pair(t), db, ca, nil, `server certificate for "a.example" (and 1 other name) does not match host name "db.example"`, ""},
		{"three wrong names", leaf(root, names("a.example", "b.example", "c.example")).pair(t), db, ca, nil, `server certificate for "a.example" (and 2 other names) does not match host name "db.example"`, ""},
		{"wrong authority", leaf(other, names(db)).pair(t), db, ca, nil, failed + ": unable to get local issuer certificate", failed},
		{"wrong authority in the chain", leaf(other, names(db)).pair(t, other), db, ca, nil, failed + ": self-signed certificate in certificate chain", failed},
		{"self-signed", self.pair(t), db, ca, nil, failed + ": self-signed certificate", failed},
		{"self-signed and trusted", self.pair(t), db, self.pem(), nil, "", ""},
		{"intermediate", below.pair(t, middle), db, ca, nil, "", ""},
		{"intermediate missing", below.pair(t), db, ca, nil, failed + ": unable to get local issuer certificate", failed},
		{"chain in another order", below.pair(t, root, middle), db, ca, nil, "", ""},
		{"for clients only", leaf(root, forClients).pair(t), db, ca, nil, failed + ": unsuitable certificate purpose", failed},
		{"common name only", leaf(root, nil).pair(t), db, ca, nil, "", ""},
		{"common name beside another name", leaf(root, names("x.example")).pair(t), db, ca, nil, `server certificate for "x.example" does not match host name "db.example"`, ""},
		{"common name beside an address", leaf(root, address).pair(t), db, ca, nil, "", ""},
		{"wildcard", leaf(root, names("*.example")).pair(t), db, ca, nil, "", ""},
		{"wildcard for two labels", leaf(root, names("*.example")).pair(t), "a.db.example", ca, nil, `server certificate for "*.example" does not match host name "a.db.example"`, ""},
		{"wildcard inside", leaf(root, names("d*.example")).pair(t), db, ca, nil, `server certificate for "d*.example" does not match host name "db.example"`, ""},
		{"wildcard alone", leaf(root, names("*")).pair(t), "db", ca, nil, `server certificate for "*" does not match host name "db"`, ""},
		{"address", leaf(root, address).pair(t), "127.0.0.1", ca, nil, "", ""},
		{"address as a name", leaf(root, names("127.0.0.1")).pair(t), "127.0.0.1", ca, nil, "", ""},
		{"address as common name", leaf(root, func(c *x509.Certificate) { c.Subject.CommonName = "127.0.0.1" }).pair(t), "127.0.0.1", ca, nil, "", ""},
		{"another address", leaf(root, address).pair(t), "127.0.0.2", ca, nil, `server certificate for "127.0.0.1" does not match host name "127.0.0.2"`, ""},
		{"with a list", good.pair(t), db, ca, root.crl(t, time.Hour, revoked), "", ""},
		{"revoked", revoked.pair(t), db, ca, root.crl(t, time.Hour, revoked), failed + ": certificate revoked", failed},
		{"revoked by the newer list, the second", revoked.pair(t), db, ca, slices.Concat(older, newer), failed + ": certificate revoked", failed},
		{"revoked by the newer list, the first", revoked.pair(t), db, ca, slices.Concat(newer, older), failed + ": certificate revoked", failed},
		{"list expired", good.pair(t), db, ca, root.crl(t, -time.Minute), failed + ": CRL has expired", failed},
		{"list of another", good.pair(t), db, ca, other.crl(t, time.Hour), failed + ": unable to get certificate CRL", failed},
		{"list for the root only", below.pair(t, middle), db, ca, root.crl(t, time.Hour), failed + ": unable to get certificate CRL", failed},
		{"lists for all", below.pair(t, middle), db, ca, two, "", ""},
		{"intermediate revoked", below.pair(t, middle), db, ca, slices.Concat(root.crl(t, time.Hour, middle), middle.crl(t, time.Hour)), failed + ": certificate revoked", failed},
	}
	list = append(list,
		verdict{"RSA 2048", issue(t, &root, rsaKey(2048)(t), names(db)).pair(t), db, ca, nil, "", ""},
		verdict{"RSA 4096", issue(t, &root, rsaKey(4096)(t), names(db)).pair(t), db, ca, nil, "", ""},
		verdict{"Ed25519", issue(t, &root, ed25519Key(t), names(db)).pair(t), db, ca, nil, "", ""},
	)
	return list
}

func TestVerdictsAboutServers(t *testing.T) {
	for _, v := range verdicts(t) {
		t.Run(v.name, func(t *testing.T) {
			server, err := Material{Pairs: []Pair{v.server}}.Listen(Options{}, Tickets{})
			if err != nil {
				t.Fatal(err)
			}
			client, err := Material{CA: v.ca, CRL: v.crl}.Dial(VerifyFull, v.host, Options{})
			if err != nil {
				t.Fatal(err)
			}
			_, _, _, err = shake(t, server, client)
			compare(t, err, v.want)
			libpq := cmp.Or(v.libpq, v.want, accepted)
			if text := psql(t, server, v); !strings.Contains(text, libpq) {
				t.Errorf("libpq says %q; expected was %q", text, libpq)
			}
		})
	}
}

func compare(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("refused: %v", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("%v, not %q", err, want)
	}
}

// accepted is what the listener of psql answers to a client that trusts it.
const accepted = "you trust this server"

// psql lets the real libpq connect to a listener with this Config, and returns what psql
// prints.
func psql(t *testing.T, config *tls.Config, v verdict) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serve(conn, config)
		}
	}()
	defer func() { l.Close(); <-done }()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	conninfo := "sslmode=verify-full hostaddr=127.0.0.1 user=u dbname=d gssencmode=disable port=" + port + " host=" + v.host + " sslrootcert=" + write(t, v.ca, 0o644)
	if v.crl != nil {
		conninfo += " sslcrl=" + write(t, v.crl, 0o644)
	}
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	cmd := exec.CommandContext(ctx, "psql", "-X", "-c", "select 1", conninfo)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "HOME=" + t.TempDir()}
	out, _ := cmd.CombinedOutput()
	return string(out)
}

// serve answers an SSLRequest with a handshake, and the StartupMessage with an error that
// says accepted.
func serve(conn net.Conn, config *tls.Config) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(bound))
	var request [8]byte
	if _, err := io.ReadFull(conn, request[:]); err != nil {
		return
	}
	if _, err := conn.Write([]byte("S")); err != nil {
		return
	}
	tc := tls.Server(conn, config)
	var size [4]byte
	if _, err := io.ReadFull(tc, size[:]); err != nil {
		return
	}
	if _, err := io.CopyN(io.Discard, tc, int64(binary.BigEndian.Uint32(size[:]))-4); err != nil {
		return
	}
	body := "SFATAL\x00C28000\x00M" + accepted + "\x00\x00"
	_, _ = tc.Write(append(binary.BigEndian.AppendUint32([]byte("E"), uint32(len(body)+4)), body...))
}

// TestWhereWeDifferFromLibpq shows the differences that doc/DESIGN.md names.
func TestWhereWeDifferFromLibpq(t *testing.T) {
	root := authority(t, "root", nil)
	middle := authority(t, "middle", &root)
	leaf := func(issuer issued, name string) Pair { return issue(t, &issuer, ecdsaKey(t), names(name)).pair(t) }
	for _, c := range []struct {
		v    verdict
		want string
	}{
		{verdict{server: leaf(middle, "db.example"), host: "db.example", ca: middle.pem(), libpq: "certificate verify failed"}, ""},
		{verdict{server: leaf(root, "*.0.0.1"), host: "127.0.0.1", ca: root.pem(), libpq: accepted}, "does not match host name"},
	} {
		server := listen(t, Material{Pairs: []Pair{c.v.server}}, Options{}, Tickets{})
		client, err := Material{CA: c.v.ca}.Dial(VerifyFull, c.v.host, Options{})
		if err != nil {
			t.Fatal(err)
		}
		_, _, _, err = shake(t, server, client)
		compare(t, err, c.want)
		if text := psql(t, server, c.v); !strings.Contains(text, c.v.libpq) {
			t.Errorf("libpq says %q; expected was %q", text, c.v.libpq)
		}
	}
}
