package supervisor

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// peerWorld has a machine with addresses, and clients with names.
func peerWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, 2)
	w.up()
	w.own = []netip.Prefix{netip.MustParsePrefix("10.1.2.3/8"), netip.MustParsePrefix("192.0.2.9/24"), netip.MustParsePrefix("10.1.9.9/16")}
	w.names = map[string][]string{
		"192.0.2.1": {"db1.example.com.", "liar.example.com."}, "192.0.2.2": {"liar.example.com."}, "2001:db8::1": {"six.example.com."},
		"192.0.2.4": {"down.example.com.", "db4.example.com."}, "192.0.2.5": {"down.example.com."},
	}
	w.lookups = map[string][]string{
		"db1.example.com.": {"198.51.100.1", "192.0.2.1"}, "liar.example.com.": {"198.51.100.1"}, "six.example.com.": {"2001:db8::1"},
		"db4.example.com.": {"192.0.2.4"},
	}
	return w
}

// peer returns the answer to a worker's question about an address.
func (w *world) peer(f *fakeChild, address string, hosts bool) *ipc.PeerAnswer {
	w.t.Helper()
	before := len(messagesOf[*ipc.PeerAnswer](f))
	f.message(&ipc.PeerRequest{ID: 7, Address: address, Hosts: hosts})
	w.settle()
	all := messagesOf[*ipc.PeerAnswer](f)
	if len(all) != before+1 || all[before].ID != 7 {
		w.t.Fatalf("%d answers", len(all)-before)
	}
	return all[before]
}

// A name counts only if it leads back to the address.
func TestNamesOfClientsAreConfirmed(t *testing.T) {
	w := peerWorld(t)
	for address, want := range map[string][]string{
		"192.0.2.1": {"db1.example.com."}, "192.0.2.2": nil, "2001:db8::1": {"six.example.com."}, "192.0.2.3": nil,
		"192.0.2.4": {"db4.example.com."}, "192.0.2.5": nil,
	} {
		got := w.peer(w.children[0], address, true)
		if d := cmp.Diff(want, got.Hosts); d != "" || got.Own != nil {
			t.Errorf("%s: %s %v", address, d, got.Own)
		}
	}
}

func TestNamesOfClientsAreKeptForAWhile(t *testing.T) {
	w := peerWorld(t)
	for _, c := range []struct {
		address string
		after   time.Duration
		looks   int
	}{
		{"192.0.2.1", 0, 1},
		{"192.0.2.1", peerKept - time.Second, 1},
		{"192.0.2.1", time.Second, 2},
		{"192.0.2.3", 0, 3},
		{"192.0.2.3", peerUnknownKept - time.Second, 3},
		{"192.0.2.3", time.Second, 4},
	} {
		w.now += c.after
		w.peer(w.children[1], c.address, true)
		if w.looks != c.looks {
			t.Errorf("%s after %s: %d look-ups, want %d", c.address, c.after, w.looks, c.looks)
		}
	}
	for i := range maxPeers + 10 {
		w.peer(w.children[0], fmt.Sprintf("10.9.%d.%d", i/256, i%256), true)
	}
	if n := len(w.s.service.peers.known); n > maxPeers {
		t.Errorf("%d addresses are kept", n)
	}
}

func TestAddressesOfThisMachineAreThoseAroundTheClient(t *testing.T) {
	w := peerWorld(t)
	for address, want := range map[string][]string{
		"10.1.9.9": {"10.1.9.9/16", "10.1.2.3/8"}, "10.2.0.1": {"10.1.2.3/8"}, "192.0.2.1": {"192.0.2.9/24"}, "198.51.100.1": nil,
	} {
		if got := w.peer(w.children[0], address, false); !slices.Equal(got.Own, want) || got.Hosts != nil {
			t.Errorf("%s: %v, want %v", address, got, want)
		}
	}
}

// Slow look-ups hold no more than their places, and a client that has waited too long for one gets an answer.
func TestLookUpsOfNamesAreBounded(t *testing.T) {
	w := peerWorld(t)
	f := w.children[0]
	w.work = nil
	for i := range ipc.MaxPeerRequests {
		f.message(&ipc.PeerRequest{ID: uint64(i + 1), Address: fmt.Sprintf("10.0.0.%d", i), Hosts: true})
	}
	f.message(&ipc.PeerRequest{ID: 1000, Address: "10.0.0.0", Hosts: true}) // one too many
	for len(w.s.inbox) > 1 {
		w.s.dispatch(<-w.s.inbox)
	}
	if len(w.work) != maxLooking || f.killed {
		t.Fatalf("%d look-ups at a time, killed %v", len(w.work), f.killed)
	}
	late := <-w.s.inbox
	w.now += resolveLimit + time.Second
	w.settle()
	if n := len(messagesOf[*ipc.PeerAnswer](f)); n != ipc.MaxPeerRequests || w.looks != maxLooking {
		t.Errorf("%d answers after %d look-ups", n, w.looks)
	}
	w.s.dispatch(late)
	w.settle()
	if f.killed {
		t.Error("killed for a request when no other was open")
	}
	for i := range ipc.MaxPeerRequests + 1 {
		f.message(&ipc.PeerRequest{ID: uint64(i + 1), Address: fmt.Sprintf("10.1.0.%d", i%256), Hosts: true})
	}
	for len(w.s.inbox) > 0 {
		w.s.dispatch(<-w.s.inbox)
	}
	if !f.killed {
		t.Errorf("%d open requests are allowed", ipc.MaxPeerRequests+1)
	}
}
