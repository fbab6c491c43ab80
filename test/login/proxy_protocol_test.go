package login

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// proxied is a PROXY header for a client at an address.
func proxied(version int, from string) []byte {
	ap := netip.MustParseAddrPort(from)
	if version == 1 {
		kind := "TCP4"
		to := "127.0.0.1"
		if ap.Addr().Is6() {
			kind, to = "TCP6", "::1"
		}
		return fmt.Appendf(nil, "PROXY %s %s %s %d 5432\r\n", kind, ap.Addr(), to, ap.Port())
	}
	family := byte(0x11)
	if ap.Addr().Is6() {
		family = 0x21
	}
	a := ap.Addr().AsSlice()
	b := append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21"), family)
	b = binary.BigEndian.AppendUint16(b, uint16(2*len(a)+4))
	b = append(append(b, a...), a...)
	b = binary.BigEndian.AppendUint16(b, ap.Port())
	return binary.BigEndian.AppendUint16(b, 5432)
}

// local is the header of version 2 for a connection of the proxy itself.
var local = []byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00")

// proxyPool starts a pool that lets in the proxy and clients from 192.0.2.0/24 and
// 2001:db8::/32.
func proxyPool(t testing.TB, c *pgtest.Cluster, keys map[string]string) *pool.Pool {
	t.Helper()
	all := map[string]string{"proxy_protocol": "on"}
	for k, v := range keys {
		all[k] = v
	}
	return pool.Start(t, pool.Setup{
		Servers: pool.Nodes(c), Keys: all,
		HBA: "host all all 192.0.2.0/24 trust\nhost all all 2001:db8::/32 trust\nhost all all ::0/0 trust\nhost template1 all 127.0.0.0/8 trust\n",
	})
}

// The log, the hba rules and status use the client's address from the header.
func TestProxyHeaderNamesTheClient(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := proxyPool(t, c, nil)
	hello := whole(v3, asPostgres+"\x00")
	for i, test := range []struct {
		version int
		from    string
	}{{1, "192.0.2.7:1001"}, {2, "192.0.2.8:1002"}, {1, "[2001:db8::9]:1003"}, {2, "[2001:db8::a]:1004"}} {
		conn := p.DialRaw()
		loginRaw(t, conn, append(proxied(test.version, test.from), hello...))
		list := fmt.Sprint(p.JSON("status", "details")["Connections"])
		if !strings.Contains(list, test.from) {
			t.Errorf("case %d: status lists %s", i, list)
		}
		conn.Close()
		for _, line := range []string{"connection received", "connection authorized", "disconnection"} {
			wantLogged(t, p, line, test.from)
		}
		if peer := conn.LocalAddr().String(); !logged(p, "connection received", "proxy="+peer) {
			t.Errorf("case %d: the proxy %s isn't logged", i, peer)
		}
	}
	for _, version := range []int{1, 2} {
		conn := p.DialRaw()
		if _, err := conn.Write(append(proxied(version, "198.51.100.1:1"), hello...)); err != nil {
			t.Fatal(err)
		}
		if code, text := pool.ErrorIn(t, pool.ReadToEnd(t, conn)); code != "28000" || !strings.Contains(text, `host "198.51.100.1"`) {
			t.Errorf("version %d: %s %s", version, code, text)
		}
	}
}

// logged reports whether a line of the log has all these texts.
func logged(p *pool.Pool, texts ...string) bool {
	for _, line := range strings.Split(p.Log(), "\n") {
		all := true
		for _, text := range texts {
			all = all && strings.Contains(line, text)
		}
		if all {
			return true
		}
	}
	return false
}

// wantLogged waits for a line of the log that has all these texts.
func wantLogged(t testing.TB, p *pool.Pool, texts ...string) {
	t.Helper()
	pgtest.WaitUntil(t, pool.Generous, fmt.Sprint(texts), func() bool { return logged(p, texts...) }, p.Log)
}

// LOCAL and UNKNOWN stand for the proxy itself; a Unix socket has no header.
func TestProxyItselfAndUnixSocketsKeepTheirAddress(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := proxyPool(t, c, nil)
	toTemplate := whole(v3, "user\x00postgres\x00database\x00template1\x00\x00")
	for _, header := range [][]byte{local, []byte("PROXY UNKNOWN\r\n"), []byte("PROXY UNKNOWN 1.1.1.1 2.2.2.2 3 4\r\n")} {
		conn := p.DialRaw()
		loginRaw(t, conn, append(append([]byte(nil), header...), toTemplate...))
		wantLogged(t, p, "connection received", "address="+conn.LocalAddr().String())
		conn.Close()
		conn = p.DialRaw()
		if _, err := conn.Write(append(append([]byte(nil), header...), whole(v3, asPostgres+"\x00")...)); err != nil {
			t.Fatal(err)
		}
		if code, _ := pool.ErrorIn(t, pool.ReadToEnd(t, conn)); code != "28000" {
			t.Errorf("%q: hba lets the proxy in where it may not: %s", header, code)
		}
	}
	// A load balancer's health check connects, sends LOCAL or nothing, and leaves.
	conn := p.DialRaw()
	if _, err := conn.Write(local); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	p.DialRaw().Close()
	pool.MustQuery(t, p.ConnectAs(p.UnixConfig("postgres", "", "postgres")), "SELECT 1")
}

func TestProxyHeaderMayComeInPieces(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := proxyPool(t, c, map[string]string{"authentication_timeout": "60s"})
	behind := pgtest.NewProxy(t, p.Config("", "", "").Addr)
	behind.Split(1)
	for _, version := range []int{1, 2} {
		conn, err := net.Dial("tcp", behind.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(pool.Generous)); err != nil {
			t.Fatal(err)
		}
		w := loginRaw(t, conn, append(proxied(version, "192.0.2.7:1001"), whole(v3, asPostgres+"\x00")...))
		if got, err := w.value("SELECT 'through'"); err != nil || got != "through" {
			t.Errorf("version %d: %q, %v", version, got, err)
		}
	}
}

// A client that sends no valid header is disconnected without an answer: at once if the
// bytes can't become a header, else within authentication_timeout.
func TestProxyHeaderIsRequired(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Options{})
	p := proxyPool(t, c, map[string]string{"authentication_timeout": "2s"})
	tooLong := append([]byte("PROXY UNKNOWN "), []byte(strings.Repeat("x", 100))...)
	huge := []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff")
	for name, test := range map[string]struct {
		said string
		why  string
	}{
		"none":      {string(whole(v3, asPostgres+"\x00")), "none was sent"},
		"SSL":       {string(whole(sslReq, "")), "none was sent"},
		"TLS":       {"\x16\x03\x01\x02\x00\x01\x00", "none was sent"},
		"HTTP":      {"POST / HTTP/1.1\r\n\r\n", "neither version 1 nor 2"},
		"too long":  {string(tooLong), "longer than 107 bytes"},
		"too large": {string(huge), "65535 bytes, more than 4096"},
		"broken":    {"PROXY TCP4 192.0.2.300 127.0.0.1 1 2\r\n", "not as version 1 has it"},
		"half":      {"PROXY TCP4 192.0", "incomplete"},
		"half of 2": {string(local[:14]), "incomplete"},
	} {
		conn := p.DialRaw()
		if _, err := conn.Write([]byte(test.said)); err != nil {
			t.Fatal(err)
		}
		if said := pool.ReadToEnd(t, conn); len(said) > 0 {
			t.Errorf("%s: answered %q", name, said)
		}
		peer := conn.LocalAddr().String()
		wantLogged(t, p, "client refused", "address="+peer, "PROXY header: "+test.why)
	}
}
