package supervisor

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/ipc"
	controlsocket "github.com/pgagroal-go/pgagroal/supervisor/control"
	"github.com/pgagroal-go/pgagroal/supervisor/statedir"
)

// A change by conf set or conf reset is a reload without reading the files: it is prepared and committed in the same two
// steps. Between these, auto.conf is written, so that nothing that couldn't be kept is in effect. The runner has no part in
// it: what it reads can't be set.

// confChange is what conf set or conf reset changes.
type confChange struct {
	key   string // full name, see config.Config.Find; empty for every key
	value string
	reset bool
	save  bool // whether auto.conf may change, too

	text string // what auto.conf becomes if saving is due
	due  bool
	// auto says what becomes of auto.conf. Whoever leaves autoOpen first has decided that: the writer, just before it puts
	// the file in its place, or the loop, when it gives the change up.
	auto atomic.Int32
}

// Values of confChange.auto.
const (
	autoOpen int32 = iota
	autoWritten
	autoGivenUp
)

// name returns the key for messages.
func (ch *confChange) name() string {
	if ch.key == "" {
		return controlsocket.AllKeys
	}
	return ch.key
}

// lost gives a change up, and says what remains of it.
func (ch *confChange) lost(err error) error {
	if ch == nil || ch.auto.CompareAndSwap(autoOpen, autoGivenUp) {
		return err
	}
	return fmt.Errorf("%w; %s has the change already, and pgagroal-cli conf reload puts it in effect", err, config.AutoName)
}

// read is the reader of the running configuration with the change.
func (ch *confChange) read(running *generation, env config.CheckEnv, gen uint64, salt ipc.Secret) (*readAgain, error) {
	fresh, err := ch.changed(running.cfg)
	if err != nil {
		return nil, err
	}
	return checked(running, fresh, nil, env, gen, salt)
}

func (ch *confChange) changed(running *config.Config) (fresh *config.Config, err error) {
	if ch.reset {
		fresh, ch.text, err = running.Reset(ch.key)
		ch.due = ch.text != ""
		if err == nil && ch.due && !ch.save {
			err = fmt.Errorf("%s can't be written; state_dir can't be used", running.Paths.Auto)
		}
		return fresh, err
	}
	fresh = running.Clone()
	if err = fresh.Set(ch.key, ch.value); err == nil && ch.save {
		ch.text, err = fresh.PersistedText(ch.key, false)
		ch.due = true
	}
	return fresh, err
}

// saveChange writes auto.conf once everybody is prepared, if the change asks for it. It reports whether to wait for that.
func (s *supervisor) saveChange() bool {
	x := &s.reload
	ch, next := x.change, x.next
	if ch == nil || !ch.due {
		return false
	}
	ch.due = false
	s.timers.stop(x.limit)
	x.limit = s.after(reloadLimit, func() {
		s.giveUpReload(fmt.Errorf("%s isn't written after %v", config.AutoName, reloadLimit))
	})
	x.saving = true
	dir, text := s.dir.Path, ch.text
	elsewhere(s, func() (struct{}, error) {
		return struct{}{}, statedir.WriteAuto(dir, text, func() bool { return ch.auto.CompareAndSwap(autoOpen, autoWritten) })
	}, func(_ struct{}, err error) {
		if x.next != next {
			return // it was given up
		}
		x.saving = false
		if err != nil {
			s.refuseReload(err)
			return
		}
		s.checkPrepared()
	})
	return true
}

// cannotSave returns why auto.conf can't be written, or "".
func (s *supervisor) cannotSave() string {
	auto := s.cfg.Paths.Auto
	switch {
	case !s.dir.Usable:
		return "there is no usable state_dir, where " + config.AutoName + " would be"
	case auto == "" || filepath.Dir(auto) != filepath.Clean(s.dir.Path):
		return fmt.Sprintf("%s was not looked for in %s at the start; restart pgagroal", config.AutoName, s.dir.Path)
	}
	return ""
}

// setRefused returns why a command can't set a key, or nil.
func (s *supervisor) setRefused(row config.Row, persist bool) error {
	files := row.FilesOnly()
	if persist {
		if files != "" {
			return fmt.Errorf("%s can't be kept in %s: %s; set it in %s", row.Name, config.AutoName, files, s.cfg.Paths.Config)
		}
		if why := s.cannotSave(); why != "" {
			return errors.New(why)
		}
	}
	if row.Section == config.MainSection && (row.Name == "port" || row.Name == "unix_socket_dir") {
		return fmt.Errorf("%s can't be set by a command: pgagroal-cli finds its socket by it, and reads only the files of the administrator; set it in %s, and reload",
			row.Name, s.cfg.Paths.Config)
	}
	if row.RunnerReads() {
		return fmt.Errorf("%s can't be set by a command: %s; set it in %s, and reload", row.Name, files, s.cfg.Paths.Config)
	}
	return nil
}

// confSet changes the value of a key until the next reload, or for good if it persists.
func (s *supervisor) confSet(key, value string, persist bool, answer func(control.SetResponse, error)) {
	full, row, ok := s.cfg.Find(key)
	if !ok {
		answer(control.SetResponse{}, fmt.Errorf("%s: %w", key, controlsocket.ErrUnknownKey))
		return
	}
	if err := s.setRefused(row, persist); err != nil {
		answer(control.SetResponse{}, err)
		return
	}
	old, _ := s.cfg.Get(full)
	ch := &confChange{key: full, value: value, save: persist}
	s.startChange(ch, func(r control.ReloadResponse, err error) {
		answer(s.setResponse(ch, key, old, r), err)
	})
}

// setResponse tells what has become of a change.
func (s *supervisor) setResponse(ch *confChange, key, old string, r control.ReloadResponse) control.SetResponse {
	is, _ := s.cfg.Get(ch.key)
	a := control.SetResponse{Status: control.SetSuccess, Message: "the value is in effect", ConfigKey: key, OldValue: &old, NewValue: &is}
	if r.Restart {
		a = control.SetResponse{
			Status: control.SetRestart, Message: "the value needs a restart; the current one stays in effect", ConfigKey: key,
			CurrentValue: &is, RequestedValue: &ch.value, RestartRequired: true,
		}
	}
	if ch.save {
		a.Persisted = s.cfg.Paths.Auto
	}
	return a
}

// confReset gives a key, or all of them for all, the value of the files again.
func (s *supervisor) confReset(key string, answer func(control.ReloadResponse, error)) {
	full, row, ok := s.cfg.Find(key)
	if !ok && key != controlsocket.AllKeys {
		answer(control.ReloadResponse{}, fmt.Errorf("%s: %w", key, controlsocket.ErrUnknownKey))
		return
	}
	if err := s.setRefused(row, false); ok && err != nil {
		answer(control.ReloadResponse{}, err)
		return
	}
	s.startChange(&confChange{key: full, reset: true, save: s.cannotSave() == ""}, answer)
}
