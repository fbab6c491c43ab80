package proc

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// proofName is the file in state_dir that holds the digest of the supervisor's secret.
const proofName = "supervisor.digest"

// Prove makes a new secret and stores its digest in dir, which is state_dir. With the
// secret the supervisor proves to another process that it is the supervisor. A worker that
// runs as the same user can't do that, because its sandbox lets it write no file. The
// digest may be read by everybody who can enter dir.
func Prove(dir string) (secret string, err error) {
	b := make([]byte, sha256.Size)
	rand.Read(b)
	secret = hex.EncodeToString(b)
	path := filepath.Join(dir, proofName)
	temporary := path + ".tmp"
	f, err := NewFile(temporary, 0o644)
	if err == nil {
		_, err = io.WriteString(f, digestOf(secret)+"\n")
		err = errors.Join(err, f.Chmod(0o644), f.Close()) // independent of the umask
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return "", fmt.Errorf("publish the digest of the supervisor's secret: %w", err)
	}
	return secret, nil
}

// CheckProof returns nil if a peer of user uid that has shown secret is the supervisor
// whose state_dir is dir, otherwise the reason why it isn't.
func CheckProof(dir string, uid uint32, secret string) error {
	f, err := os.OpenFile(filepath.Join(dir, proofName), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("read the digest of the supervisor's secret: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read the digest of the supervisor's secret: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() || st.Uid != uid && st.Uid != 0 || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s must be a regular file that only its owner can write, and its owner must be root or the peer's user %d", f.Name(), uid)
	}
	b, err := io.ReadAll(io.LimitReader(f, 4*sha256.Size))
	if err != nil {
		return fmt.Errorf("read the digest of the supervisor's secret: %w", err)
	}
	if subtle.ConstantTimeCompare([]byte(strings.TrimSpace(string(b))), []byte(digestOf(secret))) != 1 {
		return errors.New("the peer doesn't know the secret of the supervisor")
	}
	return nil
}

func digestOf(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}
