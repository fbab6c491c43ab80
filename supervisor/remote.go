package supervisor

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/ipc"
	controlsocket "github.com/pgagroal-go/pgagroal/supervisor/control"
)

// remote is the supervisor's side of remote management. The console reads what comes at the port, package control decides.
type remote struct {
	// conns hands connections of the console to the goroutines that serve them. A send that would block means that all
	// are busy.
	conns chan *ipc.Conn
}

// admins is what logins of admins depend on, in one generation.
type admins struct {
	verifiers *auth.Verifiers
	rules     []auth.Rule // of pgagroal_hba.conf
	endPoints [][]byte    // of the certificates that clients are shown
}

// newAdmins takes a millisecond or two for each admin.
func newAdmins(c *config.Config, salt ipc.Secret, shown []ipc.ServerTLS) (admins, error) {
	a := admins{verifiers: auth.NewVerifiers([]byte("admins " + salt.Reveal()))}
	if c.Management == 0 {
		return a, nil
	}
	known := map[string]auth.Verifier{}
	for _, u := range c.Admins {
		v, err := a.verifiers.Derive(u.Name, u.Password.Reveal())
		if err != nil {
			return a, fmt.Errorf("admin %s: %w", u.Name, err)
		}
		known[u.Name] = v
	}
	a.verifiers.Replace(known)
	for _, h := range c.HBA {
		rule, err := adminRule(h)
		if err != nil {
			return a, fmt.Errorf("%s:%d: %w", h.File, h.Line, err)
		}
		a.rules = append(a.rules, rule)
	}
	a.endPoints = endPointsOf(shown)
	return a, nil
}

func adminRule(h config.HBARule) (rule auth.Rule, err error) {
	rule = auth.Rule{Type: auth.ConnType(h.Type), Method: auth.Method(h.Method), ClientCert: h.ClientCert, File: h.File, Line: h.Line}
	if rule.Address, err = auth.ParseAddress(h.Address); err != nil {
		return rule, err
	}
	if rule.Database, err = auth.NewNames(h.Database.All, h.Database.SameUser, h.Database.List, h.Database.Patterns); err != nil {
		return rule, err
	}
	rule.User, err = auth.NewNames(h.User.All, h.User.SameUser, h.User.List, h.User.Patterns)
	return rule, err
}

// endPointsOf returns the channel binding data of the certificates in the parts.
func endPointsOf(parts []ipc.ServerTLS) (all [][]byte) {
	var whole ipc.ServerTLS
	for _, p := range parts {
		whole.Join(p)
		if p.More {
			continue
		}
		if block, _ := pem.Decode([]byte(whole.Certificate)); block != nil {
			if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
				all = append(all, auth.EndPoint(cert))
			}
		}
		whole = ipc.ServerTLS{}
	}
	return all
}

// onRemoteOpen gives the console a connection for the login of an admin.
func (s *supervisor) onRemoteOpen(p *aideEnd, m *ipc.RemoteOpen) {
	ours, theirs, err := ipc.PairFD(ipc.RoleSupervisor, ipc.RoleRemote, s.log)
	if err != nil {
		s.log.Error("an admin can't log in", "error", err)
		s.sendAide(p, &ipc.RemoteBusy{ID: m.ID})
		return
	}
	select {
	case s.service.remote.conns <- ours:
		s.sendAide(p, &ipc.RemoteOpened{ID: m.ID}, theirs)
	default: // all places are taken
		ours.Close()
		unix.Close(theirs)
		s.sendAide(p, &ipc.RemoteBusy{ID: m.ID})
	}
}

// admit is what package control asks for each login of an admin.
func (o operator) admit(ctx context.Context, m *ipc.RemoteLogin) (controlsocket.Admission, error) {
	g, err := ask(ctx, o.s, func(answer func(*generation, error)) { g := o.s.generation; answer(&g, nil) })
	if err != nil {
		return controlsocket.Admission{}, err
	}
	a := controlsocket.Admission{
		Verifier: g.admins.verifiers.Lookup(m.User), EndPoints: g.admins.endPoints,
		Limit: g.cfg.AuthenticationTimeout, Delay: g.cfg.AuthFailureDelay,
	}
	facts := auth.Facts{Database: control.RemoteDatabase, User: m.User, TLS: m.TLS}
	ap, err := netip.ParseAddrPort(m.Address)
	if err != nil {
		return a, fmt.Errorf("address of an admin: %w", err)
	}
	facts.Addr = ap.Addr().Unmap().WithZone("")
	if err := o.lookUp(ctx, g.admins.rules, &facts); err != nil {
		return a, err
	}
	host := ap.Addr().String()
	rule, ok := auth.Match(g.admins.rules, facts)
	switch {
	case g.cfg.TLS == config.TLSRequire && !m.TLS:
		a.Refused = pgwire.RefusalNotEncrypted.With()
	case !ok:
		a.Refused = pgwire.RefusalNoEntry.With(host, m.User, control.RemoteDatabase)
	case rule.Method == auth.Reject:
		a.Refused, a.Reason = pgwire.RefusalRejected.With(host, m.User, control.RemoteDatabase), "rejected by "+rule.String()
	case rule.Method == auth.Cert || rule.ClientCert != "":
		a.Refused, a.Reason = pgwire.RefusalNoCertificate.With(), "no certificate of an admin is taken, and "+rule.String()+" asks for one"
	}
	return a, nil
}

// lookUp finds out what the rules have to know about the address.
func (o operator) lookUp(ctx context.Context, rules []auth.Rule, facts *auth.Facts) (err error) {
	var has []auth.Need
	for err == nil {
		need := auth.Missing(rules, *facts, has...)
		switch need {
		case auth.NeedNothing:
			return nil
		case auth.NeedOwn:
			facts.Own, err = ask(ctx, o.s, func(answer func([]netip.Prefix, error)) {
				o.s.withOwn(func() { answer(o.s.service.peers.own, nil) })
			})
		case auth.NeedHosts:
			facts.Hosts, err = ask(ctx, o.s, func(answer func([]string, error)) {
				o.s.hostsOf(facts.Addr, func(hosts []string) { answer(hosts, nil) })
			})
		}
		has = append(has, need)
	}
	return err
}
