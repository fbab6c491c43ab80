package config

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A master key and users that pgagroal-admin 2.2 wrote, with what they decrypt to.
const (
	vectorKey  = "bWFzdGVyIHBhc3NwaHJhc2UgIzE=\nLeCEXx/RGW5gMy3uTbgARQ=="
	vectorRoot = "033d86cdb26fbad93deb17c43a51ee6166ea73303dc269d5a86c188bcc1d76ed48b59a642aa5e885888712573b46d908ff301dba150d90054d85a11c03a1b503"

	vectorUsers = `alice:I6ViGy7Lux2NBYxRMt2LJWqV+aAYmEW/XFXTRy1O1l7o1SOYRTByrQgUxH4Uj+YSd9Y=
app_rw:Sl7OGt2ZMh2EfyUawf5OC1JmnC02xtd831s9PGMIa5sqnumDa2748UpGBVLhwzgWs2d6SoHFeKtTxEc=
utf8:7zVn1cymosNH/uFiFMmAqHoCZ3M2TqIuoROSa6VKzUjsMGAXEW2H+TCCFzJhYOTWial9CzImHCnc0oCxlyRLoCCXPQ==
empty:vdyQO5BduJ+7+TcCDbihUGk5MGOtAdYwGB/7NgV/P/CVs84RmESJSbL643A=
long64:G/bFexyIJtMdyGDLa/RLNWnot5Sn9y28o9dEgPKRM37KUeMPb7dW8zsfOcZqoC++3sOUWcb0F/SZcagj0v+QhzFYhWyXoUCZQ5Ncxf+fm5U/rrikacRD6WKXeNMiVn+b76mLhiKTfvWxYI3d
`
)

var vectorPasswords = []Credential{
	{"alice", "s3cret"},
	{"app_rw", `Pa ss:w#rd;="x'`},
	{"utf8", "пароль-€-漢字"},
	{"empty", ""},
	{"long64", Secret(strings.Repeat("x", 64))},
}

// sharedKey is derived once for all tests, because that is slow.
var sharedKey = sync.OnceValues(func() (*MasterKey, error) {
	salt, err := hex.DecodeString("2de0845f1fd1196e60332dee4db80045")
	if err != nil {
		return nil, err
	}
	return NewMasterKey("master passphrase #1", salt)
})

func vectorMasterKey(t *testing.T) *MasterKey {
	t.Helper()
	k, err := sharedKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// keyFile writes a master key file in a directory of mode dirMode.
func keyFile(t *testing.T, content string, dirMode, mode os.FileMode) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), ".pgagroal")
	path := filepath.Join(dir, "master.key")
	for _, err := range []error{
		os.Mkdir(dir, 0o700), os.WriteFile(path, []byte(content), 0o600), os.Chmod(path, mode), os.Chmod(dir, dirMode),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// own returns a key file of the account that runs the tests.
func own(path string) KeyFile { return KeyFile{Path: path, User: "tester", UID: uint32(os.Geteuid())} }

func TestMasterKeyDerivesTheRootOfTheVectors(t *testing.T) {
	k := vectorMasterKey(t)
	if got := hex.EncodeToString([]byte(k.root.Reveal())); got != vectorRoot {
		t.Errorf("root %s", got)
	}
	loaded, err := own(keyFile(t, vectorKey+"\r\n", 0o700, 0o600)).Load()
	if err != nil || loaded.root != k.root {
		t.Errorf("the key file gives another root: %v", err)
	}
}

func TestUsersFileOfPgagroalDecrypts(t *testing.T) {
	entries, errs := ParseEntries("f", []byte("# users\n\n  "+vectorUsers))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	got, errs := decryptEntries("f", entries, vectorMasterKey(t), own("key"))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if d := cmp.Diff(vectorPasswords, got); d != "" {
		t.Error(d)
	}
}

func TestEntryNonceIsTheDerivedOne(t *testing.T) {
	entries, _ := ParseEntries("f", []byte(vectorUsers))
	for _, e := range entries {
		blob, err := base64.StdEncoding.DecodeString(e.Blob)
		if err != nil {
			t.Fatal(err)
		}
		_, nonce, err := vectorMasterKey(t).entryCipher(blob[:saltSize])
		if err != nil || !bytes.Equal(nonce, blob[saltSize:saltSize+nonceSize]) {
			t.Errorf("%s: nonce %x, %v", e.Name, nonce, err)
		}
	}
}

func TestEncryptedPasswordsDecrypt(t *testing.T) {
	k := vectorMasterKey(t)
	for _, p := range []Secret{"", "x", "пароль", Secret(strings.Repeat("y", MaxPassword))} {
		a, err := k.Encrypt(p)
		if err != nil {
			t.Fatal(err)
		}
		b, err := k.Encrypt(p)
		if err != nil || a == b {
			t.Errorf("two entries for one password are the same: %v", err)
		}
		if got, err := k.Decrypt(a); err != nil || got != p {
			t.Errorf("a password of %d bytes comes back as %d bytes, %v", len(p), len(got), err)
		}
	}
}

// The file takes every password that PostgreSQL takes, with the longest name.
func TestLongestPasswordComesOutOfAUsersFile(t *testing.T) {
	k, name := vectorMasterKey(t), strings.Repeat("n", MaxUserName)
	for size, want := range map[int]string{MaxPassword: "", MaxPassword + 1: "longer than 65530 bytes", maxEntry: "the line is longer"} {
		p := Secret(strings.Repeat("y", size))
		blob, err := k.Encrypt(p)
		if err != nil {
			t.Fatal(err)
		}
		entries, errs := ParseEntries("f", []byte("first:AAAA\n"+name+":"+blob+"\n"))
		var got []Credential
		if len(errs) == 0 {
			got, errs = decryptEntries("f", entries[1:], k, own("key"))
		}
		switch {
		case want == "" && (len(errs) != 0 || len(got) != 1 || got[0] != Credential{name, p}):
			t.Errorf("%d bytes: %d credentials, %v", size, len(got), errs)
		case want != "" && (len(errs) != 1 || !strings.Contains(errs[0].Error(), want)):
			t.Errorf("%d bytes: %v, want %s", size, errs, want)
		}
	}
}

func TestChangedEntriesAreRefused(t *testing.T) {
	k := vectorMasterKey(t)
	entries, _ := ParseEntries("f", []byte(vectorUsers))
	for _, e := range entries {
		blob, err := base64.StdEncoding.DecodeString(e.Blob)
		if err != nil {
			t.Fatal(err)
		}
		for i := range blob {
			bad := bytes.Clone(blob)
			bad[i] ^= 1 << (i % 8)
			if _, err := k.Decrypt(base64.StdEncoding.EncodeToString(bad)); err == nil {
				t.Errorf("%s: a change of byte %d goes unseen", e.Name, i)
			}
		}
		for _, n := range []int{0, 10, 20, 28, 43} {
			if _, err := k.Decrypt(base64.StdEncoding.EncodeToString(blob[:n])); err == nil || !strings.Contains(err.Error(), "short") {
				t.Errorf("%s: %d bytes: %v", e.Name, n, err)
			}
		}
	}
}

func TestOtherMasterKeysAreRefused(t *testing.T) {
	entries, _ := ParseEntries("f", []byte(vectorUsers))
	salt, _ := hex.DecodeString("2de0845f1fd1196e60332dee4db80045")
	other := bytes.Clone(salt)
	other[0] ^= 1
	for _, k := range []struct {
		passphrase Secret
		salt       []byte
	}{{"master passphrase #2", salt}, {"master passphrase #1", other}} {
		key, err := NewMasterKey(k.passphrase, k.salt)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := key.Decrypt(entries[0].Blob); err == nil {
			t.Error("another key decrypts the entry")
		}
	}
}

func TestInvalidMasterKeyFiles(t *testing.T) {
	first, second, _ := strings.Cut(vectorKey, "\n")
	for name, path := range map[string]string{
		"one line":            keyFile(t, first, 0o700, 0o600),
		"short salt":          keyFile(t, first+"\nLeCEXx/RGW4=", 0o700, 0o600),
		"salt not base64":     keyFile(t, first+"\n???", 0o700, 0o600),
		"key not base64":      keyFile(t, "???\n"+second, 0o700, 0o600),
		"empty":               keyFile(t, "", 0o700, 0o600),
		"file group readable": keyFile(t, vectorKey, 0o700, 0o640),
		"file for others":     keyFile(t, vectorKey, 0o700, 0o601),
		"directory group":     keyFile(t, vectorKey, 0o750, 0o600),
		"directory others":    keyFile(t, vectorKey, 0o701, 0o600),
		"missing":             filepath.Join(t.TempDir(), "master.key"),
	} {
		if k, err := own(path).Load(); k != nil || !errors.Is(err, errMasterKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWriteMasterKeyNeverReplacesOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "home", ".pgagroal", "master.key")
	if err := own(path).Write("a passphrase"); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := own(path).Write("another"); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second key: %v", err)
	}
	after, _ := os.ReadFile(path)
	if !bytes.Equal(before, after) || !strings.HasPrefix(string(after), base64.StdEncoding.EncodeToString([]byte("a passphrase"))+"\n") {
		t.Error("the file is not the first key")
	}
	if _, err := own(path).Load(); err != nil {
		t.Errorf("it doesn't load: %v", err)
	}
}

func TestMasterKeyIsNotWrittenWhereItCouldNotBeRead(t *testing.T) {
	dir := t.TempDir()
	chmod(t, dir, 0o755)
	if err := own(filepath.Join(dir, "master.key")).Write("a passphrase"); !errors.Is(err, errMasterKey) {
		t.Errorf("in a directory that others can enter: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestBadCredentialLinesAreNamedWithoutTheirContent(t *testing.T) {
	k := vectorMasterKey(t)
	blob := func(p Secret) string {
		b, err := k.Encrypt(p)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, c := range map[string]struct {
		text         string
		line, column int
	}{
		"no colon":          {"x\n", 1, 1},
		"no password":       {"# c\n  alice:\n", 2, 3},
		"no name":           {":" + blob("p") + "\n", 1, 1},
		"duplicate":         {"a:" + blob("p") + "\n a:" + blob("q"), 2, 2},
		"not base64":        {"ä:sec!ret", 1, 3},
		"not UTF-8":         {"\n\na:" + blob("hunter\xff2"), 3, 3},
		"zero byte":         {"a::" + blob("hunter\x002"), 1, 4},
		"too long":          {"a:" + blob(Secret(strings.Repeat("hunter2", 9400))), 1, 3},
		"quoted name":       {`:"a":` + blob("p"), 1, 2},
		"blank behind":      {"a :" + blob("p"), 1, 2},
		"PgBouncer's":       {`"a" "hunter2"`, 1, 1},
		"name too big":      {strings.Repeat("n", 128) + ":" + blob("p"), 1, 1},
		"control character": {"ä\x01:" + blob("p"), 1, 2},
	} {
		entries, errs := ParseEntries("users", []byte(c.text))
		_, more := decryptEntries("users", entries, k, own("key"))
		errs = append(errs, more...)
		var fe *FileError
		if len(errs) != 1 || !errors.As(errs[0], &fe) || fe.Line != c.line || fe.Column != c.column || fe.File != "users" {
			t.Errorf("%s: %v", name, errs)
			continue
		}
		if strings.Contains(fe.Error(), "hunter") || strings.Contains(fe.Error(), "sec!ret") {
			t.Errorf("%s: the message shows the content: %s", name, fe)
		}
	}
	if _, errs := ParseEntries("f", []byte("a::"+blob("p")+":more\n")); len(errs) > 0 {
		t.Errorf("runs of colons, as pgagroal reads them: %v", errs)
	}
	if _, errs := decryptEntries("f", []EncryptedEntry{{Name: "token", Blob: blob(Secret(strings.Repeat("t", 1900))), Line: 1}}, k, own("key")); len(errs) > 0 {
		t.Errorf("a token of 1900 bytes: %v", errs)
	}
}

func TestNamesThatAFileCanNotHold(t *testing.T) {
	for _, name := range []string{"", "a:b", " a", "#a", ";a", "a\nb", "a\xff", strings.Repeat("a", 128), `"a"`, "'a'"} {
		if CheckCredential(name, "p") == "" {
			t.Errorf("%q is taken", name)
		}
	}
	for _, name := range []string{"a", "größe", "a b", "a#b", "o'neil", `"`, strings.Repeat("a", 127)} {
		if msg := CheckCredential(name, ""); msg != "" {
			t.Errorf("%q: %s", name, msg)
		}
	}
}

// TestMasterKeyOfTheServiceManagerComesFirst: systemd gives a credential to root, with an access control list for the
// account, whose mask shows as the mode of the group.
func TestMasterKeyOfTheServiceManagerComesFirst(t *testing.T) {
	path := keyFile(t, vectorKey, 0o750, 0o440)
	t.Setenv(CredentialsVariable, filepath.Dir(path))
	nobody := func() KeyFile { // the tests may run as root, which never has a key
		k, err := FindKeyFile("nobody")
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	k := nobody()
	if k.Path != path || !k.Passed {
		t.Fatalf("%+v", k)
	}
	k.UID = uint32(os.Geteuid())
	if loaded, err := k.Load(); err != nil || loaded.root != vectorMasterKey(t).root {
		t.Errorf("it isn't read: %v", err)
	}
	for _, mode := range []os.FileMode{0o444, 0o460} {
		chmod(t, path, mode)
		if _, err := k.Load(); !errors.Is(err, errMasterKey) {
			t.Errorf("mode %#o: %v", mode, err)
		}
	}
	if err := k.Creatable(); err == nil {
		t.Error("it could be created")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if k := nobody(); k.Passed || k.Path == path {
		t.Errorf("without that file: %+v", k)
	}
}

func TestPassedCredentialsAreThoseInUse(t *testing.T) {
	c := New()
	c.TLSCertFile, c.TLSKeyFile, c.keyPath = "/etc/cert, /cred/cert", "/cred/key,/cred/key2", "/cred/master.key"
	c.Servers = []Server{{TLSKeyFile: "/cred/key"}, {TLSCAFile: "/credits/ca"}}
	if got := c.PassedCredentials(); len(got) != 0 {
		t.Errorf("%q without a directory", got)
	}
	t.Setenv(CredentialsVariable, "/cred")
	if got, want := c.PassedCredentials(), []string{"/cred/cert", "/cred/key", "/cred/key2", "/cred/master.key"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
