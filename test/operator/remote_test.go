package operator

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// far is a pool with a management port.
type far struct {
	*pool.Pool
	t    *testing.T
	port string
}

// startFar starts a pool that offers TLS, with the admin dba.
func startFar(t *testing.T, keys map[string]string) *far {
	c := pgtest.New(t, pgtest.Options{})
	f := &far{t: t, port: strconv.Itoa(pgtest.Port(t))}
	keys["management"] = f.port
	f.Pool = pool.Prepare(t, pool.Setup{
		Servers: pool.Nodes(c), Users: map[string]string{"postgres": "x"}, Keys: keys,
		HBA: "host admin stranger all reject\nhost admin all 127.0.0.1/32 trust\nhost all all all trust\n",
	})
	f.admin("dba", "right")
	f.certificate()
	f.Run()
	return f
}

func (f *far) admin(name, password string) {
	f.Admin("-f", f.Path("pgagroal_admins.conf"), "-U", name, "-P", password, "user", "add")
}

// certificate makes the certificate that clients and admins are shown, for localhost.
func (f *far) certificate() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	pool.Must(f.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	pool.Must(f.t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	pool.Must(f.t, err)
	for name, b := range map[string]*pem.Block{"tls_cert_file": {Type: "CERTIFICATE", Bytes: der}, "tls_key_file": {Type: "PRIVATE KEY", Bytes: secret}} {
		pool.Must(f.t, os.WriteFile(f.Path(name), pem.EncodeToMemory(b), 0o600))
		pool.Give(f.t, f.Path(name))
		f.SetKey(name, f.Path(name))
	}
}

// ask runs pgagroal-cli over the management port.
func (f *far) ask(args ...string) (out, errs string, code int) {
	f.t.Helper()
	return f.askAs("dba", "right", args...)
}

func (f *far) askAs(user, password string, args ...string) (out, errs string, code int) {
	f.t.Helper()
	cmd := f.Command("pgagroal-cli", append([]string{"-h", "localhost", "-p", f.port, "-U", user}, args...)...)
	cmd.Env = append(cmd.Env, "PGAGROAL_PASSWORD="+password)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		f.t.Fatal(err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// fails runs a command that must fail with a code and a text.
func (f *far) fails(want int, text string, user, password string, args ...string) string {
	f.t.Helper()
	out, errs, code := f.askAs(user, password, args...)
	if code != want || !strings.Contains(errs, text) {
		f.t.Errorf("%s %v: exit code %d, want %d and %q: %s%s", user, args, code, want, text, out, errs)
	}
	return errs
}

// everywhere are the commands of pgagroal-cli, each with the name of its request. The last one ends pgagroal.
var everywhere = [][]string{
	{"ping", "ping"},
	{"status", "status"},
	{"status-details", "status", "details"},
	{"failover-status", "failover", "status"},
	{"failover-history", "failover", "history"},
	{"failover-pause", "failover", "pause"},
	{"failover-resume", "failover", "resume"},
	{"failover-reset", "failover", "reset"},
	{"failover-trigger", "failover", "trigger"},
	{"failover-rehearse", "failover", "rehearse"},
	{"switch-to", "switch-to", "n1"},
	{"clear-server", "clear", "server", "n1"},
	{"clear", "clear", "prometheus"},
	{"conf-ls", "conf", "ls"},
	{"conf-get", "conf", "get"},
	{"conf-set", "conf", "set", "log_level", "info"},
	{"conf-reset", "conf", "reset", "all"},
	{"conf-alias", "conf", "alias"},
	{"reload", "conf", "reload"},
	{"disable-db", "disable", "postgres"},
	{"enable-db", "enable", "postgres"},
	{"flush", "flush", "idle"},
	{"pause", "pause"},
	{"resume", "resume"},
	{"clients", "clients"},
	{"servers", "servers"},
	{"pools", "pools"},
	{"kick", "kick", "4711"},
	{"worker-recycle", "worker", "recycle", "all"},
	{"events", "events"},
	{"shutdown-gracefully", "shutdown", "gracefully"},
	{"upgrade", "upgrade"}, // refused, because of the shutdown
	{"cancel-shutdown", "shutdown", "cancel"},
	{"shutdown", "shutdown", "immediate"},
}

// Whatever is asked over the management port is answered as on the control socket: with the same document and the same
// exit code. Only who asked differs, and the log says so.
func TestAdminsManageOverThePort(t *testing.T) {
	t.Parallel()
	f := startFar(t, map[string]string{"tls": "allow"})
	f.logins()
	f.transport()
	f.follows()
	var names []string
	for _, c := range everywhere {
		names = append(names, c[0])
		if c[0] == "shutdown-gracefully" {
			defer f.Connect().Close() // so that it waits
		}
		out, errs, code := f.ask(append(c[1:], "--format", "json")...)
		if c[0] == "events" { // JSON lines, no document
			if code != 0 || !strings.HasPrefix(out, "{") || !json.Valid([]byte(strings.SplitN(out, "\n", 2)[0])) {
				t.Errorf("events: exit code %d\n%s%s", code, out, errs)
			}
			continue
		}
		var doc control.Document
		if err := json.Unmarshal([]byte(out), &doc); err != nil || doc.Header.Command != c[0] || (code == 0) != doc.Outcome.Status && c[0] != "failover-rehearse" {
			t.Errorf("%v: exit code %d, %v\n%s%s", c[1:], code, err, out, errs)
			continue
		}
		if strings.HasPrefix(c[0], "failover-") || slices.Contains([]string{"switch-to", "kick", "clear-server", "upgrade"}, c[0]) {
			continue // may be refused, by the supervisor
		}
		if !doc.Outcome.Status {
			t.Errorf("%v: %s", c[1:], doc.Outcome.Message)
		}
	}
	for _, c := range control.Commands {
		if !slices.Contains(names, c.Name) {
			t.Errorf("%s isn't tried", c.Name)
		}
	}
	f.WaitLog("control command admin=dba client=")
	if code := f.WaitEnd(); code != 0 {
		t.Errorf("pgagroal ended with %d", code)
	}
}

// logins: who isn't let in learns nothing about why, and can't tell names of admins from others.
func (f *far) logins() {
	f.t.Helper()
	if out, errs, code := f.ask("ping"); code != 0 {
		f.t.Fatalf("ping: exit code %d\n%s%s", code, out, errs)
	}
	wrong := f.fails(1, `password authentication failed for user "dba"`, "dba", "wrong", "ping")
	unknown := f.fails(1, `password authentication failed for user "nobody"`, "nobody", "right", "ping")
	if strings.Replace(unknown, "nobody", "dba", 1) != wrong {
		f.t.Errorf("an unknown admin is told %q, a wrong password %q", unknown, wrong)
	}
	f.fails(1, "pgagroal_hba.conf rejects", "stranger", "right", "ping")
	f.fails(1, "is missing", "dba", "", "ping")
	f.WaitLog(`login of an admin failed`)
	if _, errs, code := f.ask("conf", "set", "failover_script", "/bin/true"); code != 1 || !strings.Contains(errs, "failover_script") {
		f.t.Errorf("a hook can be set: exit code %d %s", code, errs)
	}
	if out, _, code := f.ask("top", "--once"); code != 0 || !strings.Contains(out, "n1") {
		f.t.Errorf("top --once: exit code %d\n%s", code, out)
	}
	if _, err := f.Try(pgtest.ClientConfig{Addr: "127.0.0.1:" + f.port, User: "dba", Password: "right", Database: "postgres"}); err == nil {
		f.t.Error("the management port lets in to a database")
	}
}

// transport: TLS, verified and bound to the login, or clear text if that is wanted.
func (f *far) transport() {
	f.t.Helper()
	ca := f.Path("tls_cert_file")
	other := f.Path("other.pem")
	pool.WriteFile(f.t, other, string(otherAuthority(f.t)), 0o600)
	for _, args := range [][]string{{"--tls", "off"}, {"--tls", "require"}, {"--tls-ca", ca}, {"--tls", "verify-full", "--tls-ca", ca}} {
		if _, errs, code := f.ask(append(args, "ping")...); code != 0 {
			f.t.Errorf("%v: exit code %d %s", args, code, errs)
		}
	}
	f.fails(1, "certificate verify failed", "dba", "right", "--tls-ca", other, "ping")
	if _, errs, code := f.ask("-h", "127.0.0.1", "--tls-ca", ca, "ping"); code != 1 || !strings.Contains(errs, "127.0.0.1") {
		f.t.Errorf("a certificate for another name: exit code %d %s", code, errs)
	}
}

func otherAuthority(t *testing.T) []byte {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	pool.Must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(2), IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	pool.Must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// follows: the admins file is followed.
func (f *far) follows() {
	f.t.Helper()
	f.admin("second", "also right")
	pgtest.WaitUntil(f.t, pool.Generous, "the new admin to be let in", func() bool {
		_, _, code := f.askAs("second", "also right", "ping")
		return code == 0
	}, f.Log)
	f.Admin("-f", f.Path("pgagroal_admins.conf"), "-U", "second", "user", "del")
	pgtest.WaitUntil(f.t, pool.Generous, "the admin to be let in no more", func() bool {
		_, _, code := f.askAs("second", "also right", "ping")
		return code == 1
	}, f.Log)
}

// Whoever stalls is disconnected when authentication_timeout is over, wherever it stalls, and a flood of connections keeps
// no admin of another address out.
func TestStrangersDontBlockTheManagementPort(t *testing.T) {
	t.Parallel()
	f := startFar(t, map[string]string{"tls": "allow", "authentication_timeout": "2s", "host": "127.0.0.1,127.0.0.2"})
	address := net.JoinHostPort("127.0.0.1", f.port)
	startup := pool.StartupPacket(t, map[string]string{"user": "dba", "database": control.RemoteDatabase})
	ssl := []byte{0, 0, 0, 8, 4, 210, 22, 47}
	stalled := map[string]net.Conn{}
	for name, sent := range map[string][]byte{
		"nothing": nil, "half a start-up packet": startup[:9], "a start-up packet": startup, "SSLRequest": ssl, "half a handshake": append(slices.Clone(ssl), 0x16, 3, 1),
	} {
		conn, err := net.Dial("tcp", address)
		pool.Must(t, err)
		defer conn.Close()
		_, err = conn.Write(sent)
		pool.Must(t, err)
		stalled[name] = conn
	}
	for name, conn := range stalled {
		pool.Must(t, conn.SetReadDeadline(time.Now().Add(pool.Generous)))
		if _, err := io.Copy(io.Discard, conn); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("after %s: %v", name, err)
		}
	}
	// The reads of these end only when they are refused or their time is up.
	var flood []net.Conn
	for range 300 {
		conn, err := net.Dial("tcp", address)
		pool.Must(t, err)
		defer conn.Close()
		flood = append(flood, conn)
	}
	for _, conn := range flood[:250] {
		pool.Must(t, conn.SetReadDeadline(time.Now().Add(pool.Generous)))
		if n, err := conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("%d bytes come unasked", n)
		}
	}
	pgtest.WaitUntil(t, pool.Generous, "an admin to be let in", func() bool {
		_, _, code := f.ask("-h", "127.0.0.2", "--tls", "off", "ping")
		return code == 0
	}, f.Log)
	f.WaitLog("too many connections of this address")
}

// Without an admin there is no port, and a line of the log says what to do. The first one opens it.
func TestWithoutAdminsThereIsNoManagementPort(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	port := pgtest.Port(t)
	p := pool.Start(t, pool.Setup{
		Servers: pool.Nodes(c), Users: map[string]string{"postgres": "x"}, Keys: map[string]string{"management": strconv.Itoa(port)},
		Before: func(p *pool.Pool) { pool.WriteFile(t, p.Path("pgagroal_admins.conf"), "", 0o644) },
	})
	p.WaitLog("there are no admins, so the port is not opened")
	open := func() bool {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			conn.Close()
		}
		return err == nil
	}
	if open() {
		t.Error("the port is open")
	}
	p.Admin("-f", p.Path("pgagroal_admins.conf"), "-U", "dba", "-P", "x", "user", "add")
	pgtest.WaitUntil(t, pool.Generous, "the port to be opened with the first admin", open, p.Log)
}
