package proc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// statusOf is the status file of a thread of a user, as far as it is checked.
func statusOf(uid int) string {
	return fmt.Sprintf("Uid:\t%[1]d\t%[1]d\t%[1]d\t%[1]d\nGid:\t7\t7\t7\t7\nGroups:\t7\n"+
		"CapInh:\t0\nCapPrm:\t0\nCapEff:\t0\nCapAmb:\t0\n", uid)
}

// TestAThreadThatIsJustEndingMayBeSeenWithTheOldUser shows a thread of the old user to
// the first look. The file is a pipe then, so that what comes next is in its place
// before the first look ends.
func TestAThreadThatIsJustEndingMayBeSeenWithTheOldUser(t *testing.T) {
	const old, wanted = 4241, 4242
	for name, next := range map[string]func(path string) error{
		"it has ended": os.Remove,
		"it has changed, too": func(path string) error {
			err := os.WriteFile(path+".new", []byte(statusOf(wanted)), 0o600)
			return errors.Join(err, os.Rename(path+".new", path))
		},
	} {
		path := filepath.Join(t.TempDir(), "status")
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		shown := make(chan error, 1)
		go func() {
			f, err := os.OpenFile(path, os.O_WRONLY, 0) // returns when the first look has begun
			if err == nil {
				_, err = f.WriteString(statusOf(old))
				err = errors.Join(err, next(path), f.Close())
			}
			shown <- err
		}()
		if err := assertThread(path, wanted, 7, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := <-shown; err != nil {
			t.Fatal(err)
		}
	}
}

func TestAThreadThatKeepsTheOldUserIsAnError(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "status")
	if err := os.WriteFile(path, []byte(statusOf(4241)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := assertThread(path, 4242, 7, nil); err == nil || !strings.Contains(err.Error(), "not 4242") {
		t.Errorf("a thread of another user: %v", err)
	}
}
