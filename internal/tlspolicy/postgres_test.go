package tlspolicy

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// TestRealServer connects to a PostgreSQL with ssl = on that knows an authority of clients.
func TestRealServer(t *testing.T) {
	root, other := authority(t, "root", nil), authority(t, "other", nil)
	server := issue(t, &root, ecdsaKey(t), names("db.example"))
	mine := issue(t, &root, ecdsaKey(t), nil)
	cluster := pgtest.New(t, pgtest.Options{
		Files: map[string][]byte{"server.crt": server.pem(), "server.key": server.keyPEM(t), "root.crt": root.pem()},
		Extra: map[string]string{"ssl": "on", "ssl_ca_file": "root.crt"},
	})
	addr := cluster.Primary().Addr()
	for name, c := range map[string]struct {
		m    Material
		mode Mode
		host string
		want string
	}{
		"verify-full":        {Material{CA: root.pem()}, VerifyFull, "db.example", ""},
		"verify-ca":          {Material{CA: root.pem()}, VerifyCA, "x.example", ""},
		"require":            {Material{}, Require, "x.example", ""},
		"wrong name":         {Material{CA: root.pem()}, VerifyFull, "x.example", `server certificate for "db.example" does not match host name "x.example"`},
		"wrong authority":    {Material{CA: other.pem()}, VerifyCA, "db.example", "self-signed certificate in certificate chain"},
		"client certificate": {Material{CA: root.pem(), Pairs: []Pair{mine.pair(t)}}, VerifyFull, "db.example", ""},
		"wrong client certificate": {
			Material{CA: root.pem(), Pairs: []Pair{issue(t, &other, ecdsaKey(t), nil).pair(t)}}, VerifyFull, "db.example", "unknown certificate authority",
		},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := c.m.Dial(c.mode, c.host, Options{})
			if err != nil {
				t.Fatal(err)
			}
			state, err := askTLS(t, addr, config, c.want == "")
			compare(t, err, c.want)
			if c.want == "" && (state.Version != tls.VersionTLS13 || state.HelloRetryRequest) {
				t.Errorf("version %x, a second round: %v", state.Version, state.HelloRetryRequest)
			}
		})
	}
}

// askTLS makes a handshake with a server, and reads its answer. With speak it sends a
// message first. Without, the server refuses the handshake: bytes that it doesn't read
// would make the kernel reset the connection, and its alert would be lost.
func askTLS(t *testing.T, addr string, config *tls.Config, speak bool) (tls.ConnectionState, error) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(bound)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 1)
	if _, err := conn.Write([]byte("\x00\x00\x00\x08\x04\xd2\x16\x2f")); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(answer); err != nil || answer[0] != 'S' {
		t.Fatalf("SSLRequest: %q, %v", answer, err)
	}
	tc := tls.Client(conn, config)
	if err := tc.Handshake(); err != nil {
		return tls.ConnectionState{}, err
	}
	if speak {
		// The server answers an unknown protocol version with an ErrorResponse.
		if _, err := tc.Write([]byte("\x00\x00\x00\x08\x00\x01\x00\x00")); err != nil {
			return tc.ConnectionState(), err
		}
	}
	_, err = tc.Read(answer)
	if err == nil && answer[0] != 'E' {
		t.Errorf("answer %q", answer)
	}
	return tc.ConnectionState(), err
}
