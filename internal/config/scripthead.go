package config

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	// headSize is how many bytes of a file the kernel reads to find out how to start it (BINPRM_BUF_SIZE).
	headSize = 256
	// maxInterpreters is how many interpreters in a chain may be scripts themselves.
	maxInterpreters = 4
	// mountedNoexec is ST_NOEXEC of statfs(2).
	mountedNoexec = 0x8
)

// startable returns why execve(2) would refuse the file at path or the interpreter in its first
// line, or nil. depth is how many scripts come before in the chain of interpreters.
func (c scriptCheck) startable(path string, depth int) error {
	if depth > maxInterpreters+1 { // the last of them names a program
		return fmt.Errorf("%s is the interpreter of an interpreter, more than %d times; name a program", path, maxInterpreters)
	}
	var fsys syscall.Statfs_t
	if err := syscall.Statfs(path, &fsys); err == nil && fsys.Flags&mountedNoexec != 0 {
		return fmt.Errorf("%s lies on a file system that is mounted with noexec; move it", path)
	}
	head, err := readHead(path)
	switch {
	case err != nil:
		return fmt.Errorf("the script can't be used: %w", err)
	case len(head) == 0:
		return fmt.Errorf("%s is empty; write #!/bin/sh and what is to be done", path)
	case bytes.HasPrefix(head, []byte("\xef\xbb\xbf")):
		return fmt.Errorf("%s begins with a byte order mark, which hides its #! line from the kernel; remove its first three bytes", path)
	case bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		return c.loader(path)
	case !bytes.HasPrefix(head, []byte("#!")):
		return fmt.Errorf("%s has no #! line and is no program, so the kernel can't start it; begin it with #!/bin/sh or the like", path)
	}
	return c.interpreter(path, head[2:], depth)
}

func readHead(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, headSize)
	n, err := io.ReadFull(f, head)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return head[:n], err
}

// interpreter checks the first line of a script. head is the beginning of the script without the #!.
func (c scriptCheck) interpreter(path string, head []byte, depth int) error {
	line, _, whole := bytes.Cut(head, []byte("\n"))
	if bytes.HasSuffix(line, []byte("\r")) {
		return fmt.Errorf("the lines of %s end with CR LF, which makes the CR a part of the first line; convert it, as by sed -i 's/\\r$//'", path)
	}
	text := strings.TrimLeft(string(line), " \t")
	name, args, split := text, "", false
	if i := strings.IndexAny(text, " \t\x00"); i >= 0 {
		name, args, split = text[:i], text[i+1:], true
	}
	switch {
	case name == "":
		return fmt.Errorf("the first line of %s names no interpreter; write #!/bin/sh or the like", path)
	case !whole && !split && len(head) == headSize-2:
		return fmt.Errorf("the first line of %s is too long for the kernel, which reads %d bytes; shorten the path of the interpreter", path, headSize)
	case !filepath.IsAbs(name):
		return fmt.Errorf("the interpreter %q in the first line of %s is no absolute path; write it from / on", name, path)
	}
	real, info, err := c.resolve(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the interpreter %s in the first line of %s is missing; install it, or name another one", name, path)
	case err != nil:
		return fmt.Errorf("the interpreter %s in the first line of %s: %w", name, path, err)
	case !info.Mode().IsRegular() || !allows(info, c.uid, c.gids, 0o1):
		return fmt.Errorf("the interpreter %s in the first line of %s can't be executed by user %d", name, path, c.uid)
	}
	if filepath.Base(name) == "env" {
		if err := lookedUp(path, args); err != nil {
			return err
		}
	}
	return c.startable(real, depth+1)
}

// lookedUp checks the program in a line such as "#!/usr/bin/env NAME".
func lookedUp(path, args string) error {
	name := strings.Trim(args, " \t")
	if name == "" || strings.ContainsAny(name, "= \t") || name[0] == '-' {
		return nil
	}
	if _, err := exec.LookPath(name); err != nil {
		return fmt.Errorf("the interpreter %s in the first line of %s is not in PATH (%s); install it, or name it by its path", name, path, os.Getenv("PATH"))
	}
	return nil
}

// loader checks the dynamic loader that a program names.
func (c scriptCheck) loader(path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("%s is no program that can be started: %w", path, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP || p.Filesz > headSize*16 {
			continue
		}
		name, err := io.ReadAll(p.Open())
		if err != nil {
			return fmt.Errorf("%s is no program that can be started: %w", path, err)
		}
		loader := strings.TrimRight(string(name), "\x00")
		if _, err := os.Stat(loader); err != nil {
			return fmt.Errorf("the loader %s that %s needs is missing; was it built for another system?", loader, path)
		}
	}
	return nil
}
