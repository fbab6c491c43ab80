package config

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// Sizes in bytes and rounds of the format of pgagroal 2.1 and later.
const (
	saltSize    = 16
	nonceSize   = 12
	tagSize     = 16
	cipherKey   = 32
	rootSize    = 64
	rootRounds  = 600000
	minimumBlob = saltSize + nonceSize + tagSize
)

// errMasterKey begins every refusal of a master key file.
var errMasterKey = errors.New("invalid master key")

// MasterKey encrypts and decrypts the passwords of credential files. Making one takes a good part
// of a second of CPU; using it doesn't.
type MasterKey struct {
	root Secret // rootSize bytes
}

// String returns a fixed mask: fmt would print the content of an unexported field.
func (k *MasterKey) String() string { return Redacted }

// GoString returns a fixed mask, for %#v.
func (k *MasterKey) GoString() string { return Redacted }

// NewMasterKey derives the key from a passphrase and a salt of 16 bytes.
func NewMasterKey(passphrase Secret, salt []byte) (*MasterKey, error) {
	if len(salt) != saltSize {
		return nil, fmt.Errorf("%w: the salt is not of %d bytes", errMasterKey, saltSize)
	}
	// The C program that defined the format ends a text at the first zero byte.
	text, _, _ := strings.Cut(passphrase.Reveal(), "\x00")
	root, err := pbkdf2.Key(sha256.New, text, salt, rootRounds, rootSize)
	if err != nil {
		return nil, fmt.Errorf("derive the master key: %w", err)
	}
	return &MasterKey{Secret(root)}, nil
}

// Encrypt returns the base64 text of an entry for password, with a fresh salt.
func (k *MasterKey) Encrypt(password Secret) (string, error) {
	blob := make([]byte, saltSize, minimumBlob+len(password))
	rand.Read(blob)
	aead, nonce, err := k.entryCipher(blob)
	if err != nil {
		return "", err
	}
	blob = append(blob, nonce...)
	blob = aead.Seal(blob, nonce, []byte(password.Reveal()), nil)
	return base64.StdEncoding.EncodeToString(blob), nil
}

// Decrypt returns the password of an entry. Its errors quote nothing from the entry.
func (k *MasterKey) Decrypt(text string) (Secret, error) {
	blob, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return "", errors.New("the entry is not base64")
	}
	if len(blob) < minimumBlob {
		return "", errors.New("the entry is too short")
	}
	aead, _, err := k.entryCipher(blob[:saltSize])
	if err != nil {
		return "", err
	}
	plain, err := aead.Open(nil, blob[saltSize:saltSize+nonceSize], blob[saltSize+nonceSize:], nil)
	if err != nil {
		return "", errors.New("the entry was not made with this master key, or was changed")
	}
	return Secret(plain), nil
}

// entryCipher returns the cipher of the entry with this salt, and the nonce to write it with.
func (k *MasterKey) entryCipher(salt []byte) (cipher.AEAD, []byte, error) {
	derived, err := pbkdf2.Key(sha256.New, k.root.Reveal(), salt, 1, cipherKey+nonceSize)
	if err != nil {
		return nil, nil, fmt.Errorf("derive the key of an entry: %w", err)
	}
	block, err := aes.NewCipher(derived[:cipherKey])
	if err != nil {
		return nil, nil, fmt.Errorf("derive the key of an entry: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, nil, fmt.Errorf("derive the key of an entry: %w", err)
	}
	return aead, derived[cipherKey:], nil
}

// MasterKeyPath returns the path of the master key of the user that runs the process.
// HOME counts only when real and effective ids are the same.
func MasterKeyPath() (string, error) {
	home := ""
	if os.Getuid() == os.Geteuid() && os.Getgid() == os.Getegid() {
		home = os.Getenv("HOME")
	}
	if home == "" {
		u, err := user.LookupId(strconv.Itoa(os.Geteuid()))
		if err != nil {
			return "", fmt.Errorf("find the home directory: %w; set HOME", err)
		}
		home = u.HomeDir
	}
	return filepath.Join(home, ".pgagroal", "master.key"), nil
}

// LoadMasterKey reads the master key file at path. It refuses a file on which anybody but the
// owner has rights.
func LoadMasterKey(path string) (*MasterKey, error) {
	lines, err := readMasterKey(path)
	if err != nil {
		return nil, err
	}
	if len(lines) < 2 {
		return nil, fmt.Errorf("%w %s: there is no second line; create it and the users again", errMasterKey, path)
	}
	passphrase, err1 := base64.StdEncoding.DecodeString(string(bytes.TrimSuffix(lines[0], []byte("\r"))))
	salt, err2 := base64.StdEncoding.DecodeString(string(bytes.TrimSuffix(lines[1], []byte("\r"))))
	if err1 != nil || err2 != nil || len(salt) != saltSize {
		return nil, fmt.Errorf("%w %s: its lines are not a key and a salt; create it and the users again", errMasterKey, path)
	}
	return NewMasterKey(Secret(passphrase), salt)
}

func readMasterKey(path string) ([][]byte, error) {
	if err := privateDirectory(filepath.Dir(path)); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w; create one with pgagroal-admin master-key", errMasterKey, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMasterKey, err)
	}
	if mode := info.Mode(); !mode.IsRegular() || mode.Perm()&0o077 != 0 || mode.Perm()&0o600 == 0 {
		return nil, fmt.Errorf("%w: %s has mode %#o; chmod 0600 it", errMasterKey, path, mode.Perm())
	}
	data := make([]byte, maxLine)
	n, err := f.Read(data)
	if err != nil {
		return nil, fmt.Errorf("%w %s: it is empty or unreadable; create it again", errMasterKey, path)
	}
	return bytes.Split(data[:n], []byte("\n")), nil
}

// privateDirectory refuses a directory on which anybody but the owner has rights.
func privateDirectory(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("%w: %w; create one with pgagroal-admin master-key", errMasterKey, err)
	}
	if mode := info.Mode(); !mode.IsDir() || mode.Perm()&0o077 != 0 || mode.Perm()&0o700 == 0 {
		return fmt.Errorf("%w: %s has mode %#o; chmod 0700 it", errMasterKey, dir, mode.Perm())
	}
	return nil
}

// WriteMasterKey creates the master key file at path, with a fresh salt, and its directory.
// It never replaces an existing key, because every entry made with that key would be lost.
func WriteMasterKey(path string, passphrase Secret) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("create the master key: %w", err)
	}
	if err := privateDirectory(filepath.Dir(path)); err != nil {
		return err
	}
	salt := make([]byte, saltSize)
	rand.Read(salt)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("create the master key: %w", err)
	}
	text := base64.StdEncoding.EncodeToString([]byte(passphrase.Reveal())) + "\n" + base64.StdEncoding.EncodeToString(salt)
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(path) // half a key would block the next attempt
		return fmt.Errorf("create the master key: %w", err)
	}
	return nil
}
