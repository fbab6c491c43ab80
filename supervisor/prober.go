package supervisor

import (
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// prober is the supervisor's side of the process that looks at servers; looks.go sends it
// requests.
type prober struct {
	aide
	looks looks
}

// newProber says what makes an aide the prober.
func (s *supervisor) newProber() aide {
	return aide{
		name: "prober",
		spec: func() startSpec {
			return startSpec{
				role: proc.RoleProber, argv0: "pgagroal: prober", peer: ipc.RoleProber,
				lock: s.dir.Lock, queue: queueLimit + len(s.serverTLS),
			}
		},
		wanted:    func() bool { return true },
		configure: s.configureProber, onUp: s.sendLooks,
		// The looks aren't repeated: the answer of a server may have ended the prober.
		onDown:     func() { s.failLooks(errProberEnded) },
		unanswered: func() int { return len(s.servers.prober.looks.sent) },
	}
}

func (s *supervisor) configureProber(p *aideEnd) {
	c := &ipc.ProberConfigure{}
	for _, sv := range s.cfg.Servers {
		if strings.HasPrefix(sv.Host, "/") {
			c.SocketDirs = append(c.SocketDirs, path.Clean(sv.Host))
		} else {
			c.Ports = append(c.Ports, uint16(sv.Port))
		}
	}
	for _, part := range s.serverTLS {
		s.sendAide(p, &ipc.ProberTLS{Part: part})
	}
	s.sendAide(p, c)
}

var errProberEnded = errors.New("the prober has ended meanwhile")

// maxSyncStandbys is how many names of synchronous standbys a probe reports at most.
const maxSyncStandbys = 64

// claimOfProbe checks that an answer of the prober has known values and bounded texts.
// Nobody can check whether it is true.
func claimOfProbe(m *ipc.ProbeDone) string {
	o := &m.Obs
	long := func(t string) bool { return len(t) > ipc.MaxServerText }
	switch {
	case m.Outcome < ipc.SawPrimary || m.Outcome > ipc.SawShutdown || o.Receiver > ipc.ReceiverStreaming:
		return "an outcome or a state of a WAL receiver that doesn't exist"
	case len(o.SyncStandbys) > maxSyncStandbys || slices.ContainsFunc(o.SyncStandbys, long):
		return "more or longer names of synchronous standbys than a probe reports"
	case slices.ContainsFunc([]string{m.Code, m.Words, m.Version, o.ReceiverWord, o.SlotName, o.SenderHost, o.SenderPort}, long):
		return "a text that is longer than a probe reports"
	}
	return ""
}
