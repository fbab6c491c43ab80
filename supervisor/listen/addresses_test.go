package listen

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/config"
)

// listening returns the addresses without ports that are listened on for host.
func listening(t *testing.T, host string) []string {
	t.Helper()
	c := config.New()
	c.Host = host
	k := &Sockets{}
	t.Cleanup(k.Close)
	if err := k.ListenTCP(c, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatalf("%s: %v", host, err)
	}
	var addrs []string
	for _, l := range k.clients {
		addr := netip.MustParseAddrPort(l.Addr().String()).Addr()
		addrs = append(addrs, addr.String())
		if addr.Is4() {
			continue
		}
		only := 0
		if err := onSocket(l.Listener.(*net.TCPListener), func(fd int) (err error) {
			only, err = unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
			return err
		}); err != nil || only != 1 {
			t.Errorf("%s: the socket of %s takes IPv4 clients: %d, %v", host, addr, only, err)
		}
	}
	return addrs
}

func TestExactlyTheAddressesOfHostAreListenedOn(t *testing.T) {
	for host, want := range map[string][]string{
		"*":                             {"0.0.0.0", "::"},
		"0.0.0.0":                       {"0.0.0.0"},
		"::":                            {"::"},
		"0.0.0.0, ::":                   {"0.0.0.0", "::"},
		"127.0.0.1":                     {"127.0.0.1"},
		"::ffff:127.0.0.1":              {"127.0.0.1"},
		"localhost":                     {"127.0.0.1", "::1"},
		"LocalHost , 127.0.0.2":         {"127.0.0.1", "::1", "127.0.0.2"},
		"127.0.0.1,localhost,127.0.0.1": {"127.0.0.1", "::1"},
		"127.0.0.1,*,::1":               {"0.0.0.0", "::"},
		"localhost,0.0.0.0":             {"::1", "0.0.0.0"},
	} {
		if got := listening(t, host); !slices.Equal(got, want) {
			t.Errorf("host = %s listens on %q, not on %q", host, got, want)
		}
	}
}

// TestOnlyAnAddressThatTheMachineLacksIsSkipped: and only if its entry has another.
func TestOnlyAnAddressThatTheMachineLacksIsSkipped(t *testing.T) {
	for _, x := range []struct {
		host    string
		fail    map[string]error
		bound   string
		skipped string
		err     error
	}{
		{"localhost", map[string]error{"::1": unix.EADDRNOTAVAIL}, "127.0.0.1", "::1", nil},
		{"*", map[string]error{"::": unix.EAFNOSUPPORT}, "0.0.0.0", "::", nil},
		{"*", map[string]error{"0.0.0.0": unix.EAFNOSUPPORT, "::": unix.EADDRNOTAVAIL}, "", "0.0.0.0", unix.EAFNOSUPPORT},
		{"127.0.0.1,192.0.2.1", map[string]error{"192.0.2.1": unix.EADDRNOTAVAIL}, "127.0.0.1", "", unix.EADDRNOTAVAIL},
		{"localhost", map[string]error{"::1": unix.EADDRINUSE}, "127.0.0.1", "", unix.EADDRINUSE},
		{"localhost", map[string]error{"::1": unix.EACCES}, "127.0.0.1", "", unix.EACCES},
	} {
		entries, err := entriesOf(strings.Split(x.host, ","))
		if err != nil {
			t.Fatal(err)
		}
		var bound, skipped []string
		err = bindAll(entries, func(a netip.Addr) error {
			if err := x.fail[a.String()]; err != nil {
				return fmt.Errorf("bind: %w", err)
			}
			bound = append(bound, a.String())
			return nil
		}, func(_ string, a netip.Addr, _ error) { skipped = append(skipped, a.String()) })
		if !errors.Is(err, x.err) || strings.Join(bound, " ") != x.bound || strings.Join(skipped, " ") != x.skipped {
			t.Errorf("%s where %v: bound %v, skipped %v, %v", x.host, x.fail, bound, skipped, err)
		}
	}
}

func TestAddressesOfHostAreBounded(t *testing.T) {
	var hosts []string
	for i := range config.MaxListen + 1 {
		hosts = append(hosts, fmt.Sprintf("127.0.0.%d", i+1))
	}
	if _, err := entriesOf(hosts[1:]); err != nil {
		t.Error(err)
	}
	if _, err := entriesOf(hosts); err == nil {
		t.Errorf("%d addresses are accepted", len(hosts))
	}
}

// TestCheckFindsAddressesOfOtherMachines: and it binds no port that a running pgagroal may use.
func TestCheckFindsAddressesOfOtherMachines(t *testing.T) {
	if err := Check([]string{"*", "localhost"}); err != nil {
		t.Error(err)
	}
	if err := Check([]string{"localhost", "192.0.2.1"}); err == nil || !strings.Contains(err.Error(), "192.0.2.1 can't be listened on") {
		t.Errorf("%v", err)
	}
}
