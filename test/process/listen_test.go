package process

import (
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

// alone is a network namespace with nothing but the loopback addresses and 10.1.1.1.
func alone(t *testing.T) *pgtest.Netns {
	t.Helper()
	pool.RootOnly(t)
	ns, err := pgtest.NewNetns()
	pool.Must(t, err)
	t.Cleanup(func() { pool.Must(t, ns.Close()) })
	pool.Must(t, ns.Run("link set lo up\naddr add 10.1.1.1/32 dev lo\naddr add fd00::1/128 dev lo nodad\n", nil, "ip", "-batch", "-"))
	return ns
}

// answering returns the addresses that accept connections to port.
func answering(t *testing.T, ns *pgtest.Netns, port int) []string {
	t.Helper()
	var open []string
	pool.Must(t, ns.Do(func() error {
		for _, addr := range []string{"127.0.0.1", "::1", "10.1.1.1", "fd00::1"} {
			// DialTCP stays on this thread, the only one in the namespace.
			c, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: net.ParseIP(addr), Port: port})
			if err == nil {
				open = append(open, addr)
				_ = c.Close()
			}
		}
		return nil
	}))
	return open
}

func TestHostIsExactlyWhatIsListenedOn(t *testing.T) {
	t.Parallel()
	for host, want := range map[string][]string{
		"*":                    {"127.0.0.1", "::1", "10.1.1.1", "fd00::1"},
		"0.0.0.0":              {"127.0.0.1", "10.1.1.1"},
		"::":                   {"::1", "fd00::1"},
		"localhost":            {"127.0.0.1", "::1"},
		"10.1.1.1,::1":         {"::1", "10.1.1.1"},
		"'localhost, 0.0.0.0'": {"127.0.0.1", "::1", "10.1.1.1"},
	} {
		t.Run(strings.ReplaceAll(host, " ", ""), func(t *testing.T) {
			t.Parallel()
			ns := alone(t)
			p := pool.Start(t, pool.Setup{
				Servers: []pool.Server{{Name: "n1", Host: "127.0.0.1", Port: 1}}, Keys: map[string]string{"host": host}, Netns: ns,
			})
			if got := answering(t, ns, p.Port); !slices.Equal(got, want) {
				t.Errorf("host = %s listens on %q, not on %q", host, got, want)
			}
		})
	}
}

// TestMachineWithoutIPv6ListensOnTheRest: on the IPv4 addresses of localhost and *.
func TestMachineWithoutIPv6ListensOnTheRest(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"localhost", "*"} {
		ns := alone(t)
		pool.Must(t, ns.Run("addr del ::1/128 dev lo\naddr del fd00::1/128 dev lo\n", nil, "ip", "-batch", "-"))
		p := pool.Start(t, pool.Setup{
			Servers: []pool.Server{{Name: "n1", Host: "127.0.0.1", Port: 1}}, Keys: map[string]string{"host": host}, Netns: ns,
		})
		if got := answering(t, ns, p.Port); !slices.Contains(got, "127.0.0.1") {
			t.Errorf("host = %s listens on %q", host, got)
		}
	}
}

func TestAddressOfAnotherMachineIsRefused(t *testing.T) {
	t.Parallel()
	p := pool.Prepare(t, pool.Setup{
		Servers: []pool.Server{{Name: "n1", Host: "127.0.0.1", Port: 1}}, Keys: map[string]string{"host": "127.0.0.1,192.0.2.1"},
	})
	for _, args := range [][]string{{"-t", "-D", p.Dir}, {"-D", p.Dir}} {
		if said := pool.WontStart(t, p.Command("pgagroal", args...)); !strings.Contains(said, "192.0.2.1") || !strings.Contains(said, "cannot assign requested address") {
			t.Errorf("pgagroal %v says %q", args, said)
		}
	}
}

// TestPortInUseIsRefused holds for one of several addresses, too: to listen on half of the addresses would be a
// surprise later.
func TestPortInUseIsRefused(t *testing.T) {
	t.Parallel()
	p := pool.Prepare(t, pool.Setup{
		Servers: []pool.Server{{Name: "n1", Host: "127.0.0.1", Port: 1}}, Keys: map[string]string{"host": "127.0.0.1,127.0.0.2"},
	})
	l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.2", strconv.Itoa(p.Port)))
	pool.Must(t, err)
	defer l.Close()
	if said := pool.WontStart(t, p.Command("pgagroal", "-D", p.Dir)); !strings.Contains(said, "address already in use") {
		t.Errorf("it says %q", said)
	}
}
