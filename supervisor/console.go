package supervisor

import (
	"fmt"
	"os"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/proc"
	"github.com/pgagroal-go/pgagroal/internal/tlspolicy"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/listen"
)

// ConsoleProgram is the name of the program of the console, which lies beside this one.
const ConsoleProgram = "pgagroal-console"

// console is the supervisor's side of the process that answers HTTP: metrics, end points
// for health checks, and the web page, and that reads the management port. snapshot.go and
// remote.go answer its requests.
type console struct {
	aide
	program   *os.File             // what it runs
	listeners []listen.Port        // of the keys metrics, console and management; also open here, for the next process
	asked     *ipc.SnapshotRequest // not answered yet
	began     time.Duration        // when the last snapshot began
	base      ipc.WorkerStats      // what dead workers had counted
	figures   figures
	usage     usage
	round     *round   // collects the workers' figures, nil if none does
	clear     []func() // wait for the end of that round
}

// newConsole says what makes an aide the console.
func (s *supervisor) newConsole() aide {
	return aide{
		name: "console",
		spec: func() startSpec {
			return startSpec{
				role: proc.RoleConsole, argv0: "pgagroal: console", peer: ipc.RoleConsole, program: s.console.program,
				queue: queueLimit + s.snapshotItems(),
			}
		},
		wanted:    func() bool { return wantsConsole(s.cfg) },
		configure: s.configureConsole,
		onUp:      func() {},
		onDown:    func() { s.console.asked = nil },
		unanswered: func() int {
			if s.console.asked != nil {
				return 1
			}
			return 0
		},
	}
}

func (s *supervisor) onConsoleHello(p *aideEnd, m *ipc.ConsoleHello) {
	if m.Build != s.build {
		s.dropAide(p, fmt.Sprintf("it is of release %q, and pgagroal of %q", m.Build, s.build))
		return
	}
	s.onAideHello(p, m.Version)
}

func (s *supervisor) configureConsole(p *aideEnd) {
	c := s.cfg
	for _, l := range s.console.listeners {
		fd, err := listen.Copy(l.Listener)
		if err != nil {
			s.dropAide(p, err.Error())
			return
		}
		s.sendAide(p, &ipc.ConsoleListen{Key: l.Key}, fd)
	}
	for _, cert := range s.certificates {
		s.sendAide(p, &cert)
	}
	for _, part := range s.consoleTLS {
		s.sendAide(p, &ipc.ConsoleTLS{Part: part})
	}
	var management ipc.ClientTLS
	if c.OpensManagement() {
		management = s.tls
		management.TicketSeed = "" // sessions with workers aren't resumed here
		for _, part := range s.clientTLS {
			s.sendAide(p, &ipc.ConsoleTLS{Part: part})
		}
	}
	s.sendAide(p, &ipc.ConsoleConfigure{
		Management:    management,
		CacheMaxAgeMS: c.MetricsCacheMaxAge.Milliseconds(), CacheMaxSize: c.MetricsCacheMaxSize, MaxSeries: c.MetricsMaxSeries, Detail: c.MetricsDetail,
		RequestMS: c.AuthenticationTimeout.Milliseconds(), Names: pageNames(c.ConsoleNames), Listeners: len(s.console.listeners),
	})
}

// answerTime is how long admins may go on reading answers, that of the reload itself for example, before a console with
// a new configuration takes the place of the one that passes them on.
const answerTime = time.Second

// replaceConsole gives the console a new configuration, or ends it if it isn't wanted any more.
func (s *supervisor) replaceConsole(old *generation) {
	end := s.console.end
	if !old.cfg.OpensManagement() {
		s.replaceAide(&s.console.aide)
		return
	}
	s.after(answerTime, func() {
		if s.console.end == end {
			s.replaceAide(&s.console.aide)
		}
	})
}

// openConsole opens the program of the console, nil if none is wanted. It is held open:
// what is started later is of this release, whatever is installed meanwhile.
func openConsole(c *config.Config) (*os.File, error) {
	if !wantsConsole(c) {
		return nil, nil
	}
	program, err := proc.OpenProgram(ConsoleProgram)
	if err != nil {
		return nil, fmt.Errorf("metrics, console and management: %w", err)
	}
	return program, nil
}

// wantsConsole reports whether the console is wanted, for HTTP or for remote management.
func wantsConsole(c *config.Config) bool { return servesHTTP(c) || c.OpensManagement() }

// servesHTTP reports whether there are metrics or the web page.
func servesHTTP(c *config.Config) bool { return c.Metrics > 0 || c.Console > 0 }

// loadConsoleTLS reads what TLS on the ports of the console needs, because the console opens no
// file. Without metrics_cert_file they speak clear text.
func loadConsoleTLS(c *config.Config) ([]ipc.ServerTLS, error) {
	if !servesHTTP(c) || c.MetricsCertFile == "" {
		return nil, nil
	}
	m, err := tlspolicy.Load(tlspolicy.Files{
		Pairs: []tlspolicy.PairFiles{{Cert: c.MetricsCertFile, Key: c.MetricsKeyFile}}, CA: c.MetricsCAFile,
	})
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	t := ipc.ServerTLS{Certificate: string(m.Pairs[0].Chain), Key: ipc.Secret(m.Pairs[0].Key), CA: string(m.CA)}
	return t.Split(), nil
}
