package proc

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestOnlyWhoKnowsTheSecretIsTheSupervisor(t *testing.T) {
	dir, uid := t.TempDir(), uint32(os.Getuid())
	path := filepath.Join(dir, proofName)
	old, err := Prove(dir)
	if err != nil {
		t.Fatal(err)
	}
	// Prove replaces a file that a crash has left, and doesn't follow a link that somebody planted.
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), path+".tmp"); err != nil {
		t.Fatal(err)
	}
	secret, err := Prove(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "elsewhere")); !os.IsNotExist(err) {
		t.Errorf("a link was followed: %v", err)
	}
	if err := CheckProof(dir, uid, secret); err != nil {
		t.Errorf("the supervisor is refused: %v", err)
	}
	for name, wrong := range map[string]string{"none": "", "of the start before": old, "the digest": digestOf(secret)} {
		if err := CheckProof(dir, uid, wrong); err == nil || !strings.Contains(err.Error(), "doesn't know the secret") {
			t.Errorf("secret %s: %v", name, err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(b), secret) {
		t.Errorf("the file shows the secret, or %v", err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := CheckProof(dir, uid, secret); err == nil || !strings.Contains(err.Error(), "only its owner can write") {
		t.Errorf("a file that others can write: %v", err)
	}
	real := filepath.Join(dir, "elsewhere")
	if err := errors.Join(os.Chmod(path, 0o644), os.Rename(path, real), os.Symlink(real, path)); err != nil {
		t.Fatal(err)
	}
	if err := CheckProof(dir, uid, secret); err == nil {
		t.Error("a link is a proof")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := CheckProof(dir, uid, secret); err == nil {
		t.Error("without a file")
	}
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := CheckProof(dir, uid, secret); err == nil {
		t.Error("a pipe is a proof")
	}
	if _, err := Prove(filepath.Join(dir, "missing")); err == nil {
		t.Error("no directory is needed")
	}
	if uid != 0 {
		return
	}
	if _, err := Prove(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 4242, 4242); err != nil {
		t.Fatal(err)
	}
	if err := CheckProof(dir, 4343, secret); err == nil || !strings.Contains(err.Error(), "only its owner can write") {
		t.Errorf("a file of another user than the peer: %v", err)
	}
}

func TestDescentOfAProcess(t *testing.T) {
	self, parent := os.Getpid(), os.Getppid()
	for _, k := range []struct {
		pid, ancestor int
		want          bool
	}{{self, self, true}, {self, parent, true}, {parent, self, false}, {0, self, false}, {1 << 30, self, false}} {
		if got := DescendsFrom(k.pid, k.ancestor); got != k.want {
			t.Errorf("process %d from %d: %v", k.pid, k.ancestor, got)
		}
	}
}
