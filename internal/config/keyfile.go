package config

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// KeyFile is a master key file and the account that it must belong to.
type KeyFile struct {
	Path string
	User string // name of the account
	UID  uint32
	GID  uint32
	// Passed says that the service manager passed the key, as a credential.
	Passed bool
}

// CredentialsVariable is the environment variable with the directory of the credentials that the service manager
// passes. They are copies of the time of the start.
const CredentialsVariable = "CREDENTIALS_DIRECTORY"

// masterKeyName is the name of the file, and of the credential.
const masterKeyName = "master.key"

// ErrNoAccount says that root's master key isn't used, because pgagroal never runs as root.
var ErrNoAccount = errors.New("pgagroal never runs as root, so root's master key doesn't count; set user in pgagroal.conf " +
	"to the account that pgagroal runs as, or run this as that account")

// FindKeyFile returns the master key file of account, which is the key user of pgagroal.conf. If account is empty, it
// returns the file of the account of this process. So every program of an installation uses the same key. A key that the
// service manager passed comes first.
func FindKeyFile(account string) (KeyFile, error) {
	u, err := keyAccount(account)
	if err != nil {
		return KeyFile{}, err
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return KeyFile{}, fmt.Errorf("look up the account of the master key: %w", err)
	}
	k := KeyFile{User: u.Username, UID: uint32(uid), GID: uint32(gid)}
	switch {
	case uid == 0:
		return KeyFile{}, ErrNoAccount
	case k.ours() && homeIsOurs():
		u.HomeDir = os.Getenv("HOME")
	}
	if path := passedKey(); path != "" {
		k.Path, k.Passed = path, true
		return k, nil
	}
	if u.HomeDir == "" {
		return KeyFile{}, fmt.Errorf("the account %s, whose master key counts, has no home directory; give it one, or set HOME", k.User)
	}
	k.Path = filepath.Join(u.HomeDir, ".pgagroal", masterKeyName)
	return k, nil
}

// passedKey returns the path of the master key among the credentials that the service manager passed, empty if it
// passed none.
func passedKey() string {
	dir := os.Getenv(CredentialsVariable)
	if !filepath.IsAbs(dir) {
		return ""
	}
	path := filepath.Join(dir, masterKeyName)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return path
}

func keyAccount(account string) (*user.User, error) {
	if account != "" {
		u, err := user.Lookup(account)
		if err != nil {
			return nil, fmt.Errorf("look up the account of the master key: %w; correct user in pgagroal.conf", err)
		}
		return u, nil
	}
	id := strconv.Itoa(os.Geteuid())
	u, err := user.LookupId(id)
	if errors.As(err, new(user.UnknownUserIdError)) { // a container may run an account that its system doesn't know
		return &user.User{Uid: id, Gid: strconv.Itoa(os.Getegid()), Username: "user id " + id}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up the account of the master key: %w", err)
	}
	return u, nil
}

// homeIsOurs says whether HOME belongs to the user of this process. su, runuser and sudo may leave another user's HOME
// in the environment.
func homeIsOurs() bool {
	home := os.Getenv("HOME")
	if !filepath.IsAbs(home) || os.Getuid() != os.Geteuid() || os.Getgid() != os.Getegid() {
		return false
	}
	info, err := os.Stat(home)
	return err == nil && ownedBy(info, uint32(os.Geteuid()))
}

func (k KeyFile) ours() bool { return k.UID == uint32(os.Geteuid()) }

// wrong returns an error about the key, which names the account.
func (k KeyFile) wrong(format string, args ...any) error {
	return fmt.Errorf("%w of %s: %w", errMasterKey, k.User, fmt.Errorf(format, args...))
}

// command returns the command that creates the key. It must run as the account itself, because root should not write into
// another user's directory.
func (k KeyFile) command() string {
	if k.ours() {
		return "pgagroal-admin master-key"
	}
	return "sudo -u " + k.User + " pgagroal-admin master-key"
}

// Load reads the master key. It refuses a file on which anybody but the account has rights.
func (k KeyFile) Load() (*MasterKey, error) { return k.loadAgain(nil) }

// loadAgain is Load, and returns known, which may be nil, if the file still has that key. Nothing is derived then.
func (k KeyFile) loadAgain(known *MasterKey) (*MasterKey, error) {
	lines, err := k.read()
	if err != nil {
		return nil, err
	}
	if len(lines) < 2 {
		return nil, k.wrong("%s has no second line; create it and the users again", k.Path)
	}
	passphrase, err1 := base64.StdEncoding.DecodeString(string(bytes.TrimSuffix(lines[0], []byte("\r"))))
	salt, err2 := base64.StdEncoding.DecodeString(string(bytes.TrimSuffix(lines[1], []byte("\r"))))
	if err1 != nil || err2 != nil || len(salt) != saltSize {
		return nil, k.wrong("the lines of %s are not a key and a salt; create it and the users again", k.Path)
	}
	if known != nil && known.from == keySource(Secret(passphrase), salt) {
		return known, nil
	}
	return NewMasterKey(Secret(passphrase), salt)
}

func (k KeyFile) read() ([][]byte, error) {
	dir, err := os.Stat(filepath.Dir(k.Path))
	if err != nil {
		return nil, k.unreadable(err)
	}
	if err := k.private(dir, filepath.Dir(k.Path)); err != nil {
		return nil, err
	}
	f, err := os.Open(k.Path)
	if err != nil {
		return nil, k.unreadable(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, k.unreadable(err)
	}
	if !info.Mode().IsRegular() {
		return nil, k.wrong("%s is not a file; create it again", k.Path)
	}
	if err := k.private(info, k.Path); err != nil {
		return nil, err
	}
	data := make([]byte, maxLine)
	n, err := f.Read(data)
	if err != nil {
		return nil, k.wrong("%s is empty or unreadable; create it again", k.Path)
	}
	return bytes.Split(data[:n], []byte("\n")), nil
}

// unreadable returns the error for a key file that is missing or that this process may not read, with what to do.
func (k KeyFile) unreadable(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return k.wrong("%s: %w; create it: %s%s", k.Path, fs.ErrNotExist, k.command(), k.rootsKey())
	case errors.Is(err, fs.ErrPermission) && !k.ours():
		return k.wrong("%s: %w; run this as %s, or as root", k.Path, fs.ErrPermission, k.User)
	}
	return k.wrong("%w", err)
}

// rootsKey returns a remark for root if root has a master key, too: an operator may believe that this key is used.
func (k KeyFile) rootsKey() string {
	if os.Geteuid() != 0 {
		return ""
	}
	u, err := user.LookupId("0")
	if err != nil {
		return ""
	}
	path := filepath.Join(u.HomeDir, ".pgagroal", masterKeyName)
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return fmt.Sprintf(" (%s is root's and doesn't count; if the users were added with it, move it there and give it to %s)", path, k.User)
}

// private refuses a file or directory that doesn't belong to the account, or on which others have rights. So nobody can
// use a link to make root read another file.
func (k KeyFile) private(info fs.FileInfo, path string) error {
	if k.Passed {
		return k.guarded(info, path)
	}
	mode, want := info.Mode(), fs.FileMode(0o600)
	if mode.IsDir() {
		want = 0o700
	}
	switch {
	case !ownedBy(info, k.UID):
		return k.wrong("%s belongs to another user; chown %s it", path, k.User)
	case mode.Perm()&0o077 != 0, mode.Perm()&want == 0:
		return k.wrong("%s has mode %#o; chmod %04o it", path, mode.Perm(), want)
	}
	return nil
}

// guarded refuses a credential that others may read, or that anybody but root and the account may write. systemd gives it
// to root, and lets the account read it by an access control list, whose mask shows in the mode as that of the group.
func (k KeyFile) guarded(info fs.FileInfo, path string) error {
	switch mode := info.Mode().Perm(); {
	case !ownedBy(info, 0) && !ownedBy(info, k.UID):
		return k.wrong("the credential %s belongs to another user than root and %s", path, k.User)
	case mode&0o027 != 0:
		return k.wrong("the credential %s has mode %#o; others must not have access to it", path, mode)
	}
	return nil
}

func ownedBy(info fs.FileInfo, uid uint32) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Uid == uid
}

// Write creates the master key file with a fresh salt, and its directory. It never replaces an existing key, because
// every entry made with that key would be lost.
func (k KeyFile) Write(passphrase Secret) error {
	dir := filepath.Dir(k.Path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create the master key of %s: %w", k.User, err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("create the master key of %s: %w", k.User, err)
	}
	if err := k.private(info, dir); err != nil {
		return err
	}
	salt := make([]byte, saltSize)
	rand.Read(salt)
	f, err := os.OpenFile(k.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("create the master key of %s: %w", k.User, err)
	}
	text := base64.StdEncoding.EncodeToString([]byte(passphrase.Reveal())) + "\n" + base64.StdEncoding.EncodeToString(salt)
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(k.Path) // half a key would block the next attempt
		return fmt.Errorf("create the master key of %s: %w", k.User, err)
	}
	return nil
}

// Creatable returns nil if this process can create the key. Otherwise it returns why not: the key exists, or it belongs
// to another account.
func (k KeyFile) Creatable() error {
	if !k.ours() {
		return fmt.Errorf("the master key is that of %s, the account that pgagroal runs as: %s", k.User, k.command())
	}
	if k.Passed {
		return fmt.Errorf("the master key %s comes from the service manager, which alone can replace it", k.Path)
	}
	if _, err := os.Lstat(k.Path); err == nil {
		return fmt.Errorf("the master key %s exists; what was encrypted with it would be lost", k.Path)
	}
	return nil
}
