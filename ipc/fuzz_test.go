package ipc

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// FuzzReceive sends any packet with any number of descriptors: it is refused as
// a violation and leaves no descriptor, or it is a message that survives being
// sent again.
func FuzzReceive(f *testing.F) {
	for _, n := range numbers() {
		row := catalogue[n]
		f.Add(rawPacket(f, sample(n)), uint8(row.FDs), uint8(row.To), uint8(row.From), row.Phase&PhaseRunning != 0)
	}
	for _, body := range hostile {
		f.Add(packet(81, body...), uint8(0), uint8(RoleSupervisor), uint8(RoleRunner), true)
	}
	fds := openFDs(f, MaxFDs+1)
	f.Fuzz(func(t *testing.T, p []byte, nfds, self, peer uint8, running bool) {
		if len(p) > MaxPacket+1 || (len(p) == 0 && nfds == 0) {
			return // the kernel's business, or the end of the link
		}
		phase := PhaseSetup
		if running {
			phase = PhaseRunning
		}
		c, raw := link(t, Role(self), Role(peer), phase)
		send := fds[:min(int(nfds), len(fds))]
		before := countFDs(t)
		sendRaw(t, raw, p, send...)
		env, err := c.Receive()
		if err != nil {
			if !Violation(err) || env.Message != nil || env.FDs != nil {
				t.Fatalf("%+v, error %v", env, err)
			}
		} else {
			checkAccepted(t, env, len(send), Role(self), Role(peer), phase)
		}
		env.CloseFDs()
		if now := countFDs(t); now != before {
			t.Errorf("%d descriptors after the packet, %d before", now, before)
		}
	})
}

func checkAccepted(t *testing.T, env Envelope, fds int, self, peer Role, phase Phase) {
	row, ok := Lookup(env.Message.Number())
	if !ok || row.From != peer || row.To != self || row.Phase&phase == 0 || !row.carries(fds) || len(env.FDs) != fds {
		t.Fatalf("%s was accepted with %d descriptors from %s to %s in phase %s", row.Name, fds, peer, self, phase)
	}
	from, to := connPair(t, peer, self, phase)
	defer from.Close()
	defer to.Close()
	if err := from.Send(env.Message, env.FDs...); err != nil {
		t.Fatalf("%s can't be sent again: %v", row.Name, err)
	}
	again, err := to.Receive()
	if err != nil {
		t.Fatalf("%s can't be received again: %v", row.Name, err)
	}
	again.CloseFDs()
	if diff := cmp.Diff(env.Message, again.Message, cmpopts.EquateEmpty(), cmpopts.EquateNaNs()); diff != "" {
		t.Fatalf("%s changed on its way:\n%s", row.Name, diff)
	}
}
