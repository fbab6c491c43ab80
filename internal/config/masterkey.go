package config

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/pbkdf"
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

// MasterKey encrypts and decrypts the passwords of credential files. NewMasterKey takes a good part
// of a second of CPU; the use of the key takes next to nothing.
type MasterKey struct {
	root Secret            // rootSize bytes
	from [sha256.Size]byte // says what it was derived from
}

// String returns a fixed mask, because fmt would print the content of the unexported field.
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
	root, err := pbkdf.Key(text, salt, rootRounds, rootSize)
	if err != nil {
		return nil, fmt.Errorf("derive the master key: %w", err)
	}
	return &MasterKey{Secret(root), keySource(passphrase, salt)}, nil
}

func keySource(passphrase Secret, salt []byte) [sha256.Size]byte {
	return sha256.Sum256(append([]byte(passphrase.Reveal()), salt...)) // all salts have the same length
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

// entryCipher returns the cipher for an entry with this salt, and the nonce for its encryption.
func (k *MasterKey) entryCipher(salt []byte) (cipher.AEAD, []byte, error) {
	derived, err := pbkdf.Key(k.root.Reveal(), salt, 1, cipherKey+nonceSize)
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
