package health

import (
	"context"
	"errors"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// errAsked ends a login once the server has asked its question.
var errAsked = errors.New("the server has asked")

// Ask returns what a server asks of the target's first login, and answers nothing. It returns within t.Timeout, or at
// once when ctx ends.
func Ask(ctx context.Context, t Target) (ipc.Question, error) {
	if len(t.Logins) == 0 {
		return ipc.Question{}, errors.New("there is no user to ask as")
	}
	if t.Timeout <= 0 {
		t.Timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	p := prober{ctx: ctx, target: t}
	s, err := p.open()
	if err != nil {
		return ipc.Question{}, err
	}
	defer s.close()
	if err := s.startUp(t.Logins[0]); err != nil {
		return ipc.Question{}, err
	}
	q := question{}
	if _, err := auth.Login(s, &q, s.opts); err != nil && !errors.Is(err, errAsked) {
		return ipc.Question{}, err
	}
	if q.Method == 0 {
		q.Method, s.loggingIn = ipc.LoginTrust, false
	}
	return q.Question, nil
}

// question is the auth.Credential of a login that only wants to hear what the server asks.
type question struct{ ipc.Question }

func (q *question) Known() bool { return true }

func (q *question) Keys(f auth.Factors) (auth.Keys, error) {
	q.Question = ipc.Question{Method: ipc.LoginSCRAM, Salt: f.Salt, Iterations: f.Iterations}
	return auth.Keys{}, errAsked
}

func (q *question) MD5() (string, error) {
	q.Method = ipc.LoginMD5
	return "", errAsked
}

func (q *question) Password() (string, error) {
	q.Method = ipc.LoginPassword
	return "", errAsked
}
