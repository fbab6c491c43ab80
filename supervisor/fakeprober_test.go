package supervisor

import (
	"fmt"
	"slices"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// fakeProber answers at once what the world says, unless it is mute.
type fakeProber struct {
	w       *world
	sent    []ipc.Message
	mute    bool
	killed  bool
	undead  bool // SIGKILL doesn't end it by itself
	closed  bool
	message func(ipc.Message, ...int)
	ended   func(error)
	exited  func(string)
}

// proberPID is the process id of every fake prober.
const proberPID = 500

func (w *world) startProber() *started {
	f := &fakeProber{w: w}
	w.prober = f
	return &started{
		pid: proberPID, link: f,
		kill: func() {
			f.killed = true
			if !f.undead {
				w.later(func() { f.exited("signal: killed") })
			}
		},
		close: func() { f.closed = true },
		listen: func(message func(ipc.Message, ...int), ended func(error), exited func(string)) {
			f.message, f.ended, f.exited = message, ended, exited
			f.w.later(func() { message(&ipc.ProberHello{Version: ipc.Version}) })
		},
	}
}

// later does something when what runs now has run.
func (w *world) later(do func()) {
	w.work = append(w.work, func() func() { do(); return nil })
}

func (f *fakeProber) Len() int { return 0 }

func (f *fakeProber) Send(m ipc.Message, _ ...int) error {
	f.sent = append(f.sent, m)
	answer := f.answer(m)
	if answer != nil && !f.mute {
		f.w.later(func() { f.message(answer) })
	}
	return nil
}

func (f *fakeProber) answer(m ipc.Message) ipc.Message {
	text := func(err error) string {
		if err == nil {
			return ""
		}
		return err.Error()
	}
	switch m := m.(type) {
	case *ipc.ProberConfigure:
		return &ipc.ProberReady{}
	case *ipc.ProbeRequest:
		f.w.probed = append(f.w.probed, m.Target)
		if o, said := f.w.sees[m.Target.Address]; said {
			return &ipc.ProbeDone{ID: m.ID, Outcome: o}
		}
		return &ipc.ProbeDone{ID: m.ID, Outcome: ipc.SawRefused}
	case *ipc.BackendsRequest:
		if f.w.refuses(m.Target) {
			return &ipc.BackendsDone{ID: m.ID, Error: "refused"}
		}
		f.w.asked = append(f.w.asked, m.PIDs)
		pids, err := f.w.shown()
		return &ipc.BackendsDone{ID: m.ID, PIDs: pids, Error: text(err)}
	case *ipc.SettingsRequest:
		values, err := f.w.settings(m.Target)
		return &ipc.SettingsDone{ID: m.ID, Values: values, Error: text(err)}
	case *ipc.QuestionRequest:
		if f.w.refuses(m.Target) {
			return &ipc.QuestionDone{ID: m.ID, Error: "refused"}
		}
		q := f.w.question
		if f.w.newSalts {
			q.Salt = fmt.Sprint("salt ", m.ID)
		}
		return &ipc.QuestionDone{ID: m.ID, Question: q, Error: text(f.w.questionErr)}
	case *ipc.LookUpRequest:
		if f.w.refuses(m.Target) {
			return &ipc.LookUpDone{ID: m.ID, Error: "refused"}
		}
		if d := m.Target.Logins[0].Database; d == "nowhere" {
			return &ipc.LookUpDone{ID: m.ID, Error: "there is no such database", NoDatabase: true}
		}
		return &ipc.LookUpDone{ID: m.ID, Stored: ipc.Secret("stored for " + m.User)}
	case *ipc.ServerCancel:
		if f.w.refuses(m.Target) {
			return &ipc.ServerCancelDone{ID: m.ID, Error: "refused"}
		}
		f.w.canceled = append(f.w.canceled, m.PID)
		if f.w.canceling != nil {
			f.w.later(f.w.canceling)
		}
		return &ipc.ServerCancelDone{ID: m.ID}
	}
	return nil
}

// refuses reports whether an address refuses what isn't a probe.
func (w *world) refuses(t ipc.Target) bool { return slices.Contains(w.refusing, t.Address) }

// sentTo returns the messages of one type that the prober was sent.
func sentTo[T ipc.Message](f *fakeProber) []T {
	var list []T
	for _, m := range f.sent {
		if x, ok := m.(T); ok {
			list = append(list, x)
		}
	}
	return list
}
