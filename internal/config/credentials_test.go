package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// followed loads a configuration with the users of the vectors.
func followed(t *testing.T) (c *Config, dir string) {
	t.Helper()
	dir = directory(t, map[string]string{
		FileConfig: "[pgagroal]\nhost = *\nport = 2345\nunix_socket_dir = /tmp\n[one]\nhost = 127.0.0.1\nport = 5432\n",
		FileHBA:    "host all all all all\n", FileUsers: vectorUsers,
	})
	c, _, err := Load(Paths{
		Config: filepath.Join(dir, FileConfig), HBA: filepath.Join(dir, FileHBA), Users: filepath.Join(dir, FileUsers),
		Superuser: filepath.Join(dir, FileSuperuser), MasterKey: keyFile(t, vectorKey, 0o700, 0o600),
	})
	if err != nil {
		t.Fatal(err)
	}
	return c, dir
}

func TestEachChangeOfACredentialFileShows(t *testing.T) {
	c, dir := followed(t)
	users := filepath.Join(dir, FileUsers)
	write := func(path, text string) func() error {
		return func() error { return os.WriteFile(path, []byte(text), 0o600) }
	}
	last, err := c.CredentialState()
	if err != nil || last == "" {
		t.Fatalf("%q, %v", last, err)
	}
	for _, change := range []struct {
		name string
		do   func() error
		same bool
	}{
		{name: "another file", do: write(filepath.Join(dir, FileHBA), "host all all all trust\n"), same: true},
		{name: "a longer users file", do: write(users, vectorUsers+"# more\n")},
		{name: "a file with the same text in its place", do: func() error {
			if err := write(users+".new", vectorUsers+"# more\n")(); err != nil {
				return err
			}
			return os.Rename(users+".new", users)
		}},
		{name: "a superuser file that wasn't there", do: write(filepath.Join(dir, FileSuperuser), "x")},
		{name: "no users file", do: func() error { return os.Remove(users) }},
		{name: "a longer master key", do: write(c.keyPath, vectorKey+"\n\n")},
	} {
		if err := change.do(); err != nil {
			t.Fatal(err)
		}
		now, err := c.CredentialState()
		if err != nil || (now == last) != change.same {
			t.Errorf("%s: %v, the state was\n%s and is\n%s", change.name, err, last, now)
		}
		last = now
	}
}

func TestFilesThatWereJustWrittenCountAsUnread(t *testing.T) {
	c, _ := followed(t)
	state, latest, err := c.credentialState()
	if err != nil {
		t.Fatal(err)
	}
	for after, want := range map[time.Duration]string{0: "", settling: "", settling + 1: state} {
		fresh := *c
		fresh.credentialsRead = ""
		if fresh.noteCredentials(latest.Add(after)); fresh.CredentialsRead() != want {
			t.Errorf("%v after the last change: read is %q", after, fresh.CredentialsRead())
		}
	}
}

func TestOnlyCredentialsAreReadAgain(t *testing.T) {
	c, dir := followed(t)
	for name, text := range map[string]string{FileConfig: "damaged", FileHBA: "damaged", FileUsers: strings.SplitAfter(vectorUsers, "\n")[0]} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	next, err := c.CredentialsAgain()
	if err != nil {
		t.Fatal(err)
	}
	if len(next.Users) != 1 || len(c.Users) != len(vectorPasswords) || len(next.HBA) != 1 {
		t.Errorf("%d users, %d before, %d rules", len(next.Users), len(c.Users), len(next.HBA))
	}
	if now, _ := c.CredentialState(); now == "" || next.CredentialsRead() != now {
		t.Error("what was read has another state")
	}
	if d := Diff(c, next); len(d) != 1 || d[0].Key != "users" {
		t.Errorf("changed: %+v", d)
	}
}

func TestFileThatHasLostItsEntriesIsAnError(t *testing.T) {
	for name, lose := range map[string]func(path string) error{
		"it is gone":          os.Remove,
		"it is empty":         func(path string) error { return os.Truncate(path, 0) },
		"half a line is left": func(path string) error { return os.Truncate(path, 40) },
	} {
		t.Run(name, func(t *testing.T) {
			c, dir := followed(t)
			if err := lose(filepath.Join(dir, FileUsers)); err != nil {
				t.Fatal(err)
			}
			next, err := c.CredentialsAgain()
			if err == nil || next != nil || !strings.Contains(err.Error(), FileUsers) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestMasterKeyIsDerivedAgainOnlyIfItsFileHasAnother(t *testing.T) {
	c, _ := followed(t)
	for _, again := range []func() (*Config, error){
		c.CredentialsAgain,
		func() (*Config, error) { next, _, err := c.Again(); return next, err },
	} {
		next, err := again()
		if err != nil || next.key != c.key || len(next.Users) != len(c.Users) {
			t.Errorf("%v, the key was derived again: %v", err, next != nil && next.key != c.key)
		}
	}
	lines := strings.Split(vectorKey, "\n")
	other := lines[0] + "\n" + strings.Repeat("A", 22) + "==\n"
	if err := os.WriteFile(c.keyPath, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CredentialsAgain(); err == nil || !strings.Contains(err.Error(), "was not made with this master key") {
		t.Errorf("with another salt: %v", err)
	}
}
