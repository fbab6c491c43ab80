package scriptrunner

import (
	"fmt"
	"os"
	"syscall"

	"github.com/pgagroal-go/pgagroal/internal/proc"
)

// enter proves that the process has no privileges beyond those of its user, and sets what
// scripts inherit from it.
func enter() error {
	groups, err := os.Getgroups()
	if err != nil {
		return fmt.Errorf("enter runner: %w", err)
	}
	if err := proc.AssertPrivileges(os.Getuid(), os.Getgid(), groups); err != nil {
		return fmt.Errorf("enter runner: %w", err)
	}
	// The link, the lock of state_dir and the descriptors that the parent left open
	// must never reach a script.
	if err := proc.SealDescriptors(); err != nil {
		return fmt.Errorf("enter runner: %w", err)
	}
	if err := proc.Subreaper(); err != nil {
		return fmt.Errorf("enter runner: %w", err)
	}
	if err := proc.Conceal(); err != nil {
		return fmt.Errorf("enter runner: %w", err)
	}
	syscall.Umask(0o077)
	return nil
}
