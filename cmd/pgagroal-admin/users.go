package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/pgagroal-go/pgagroal/internal/config"
)

// call is one run of a command, with what it answers.
type call struct {
	*cli.Context
	input    *bufio.Reader
	response map[string]any
	notes    []string // lines above a document in text
}

// perform runs one command and prints its document, also after a failure.
func perform(c *cli.Context, number int, do func(*call) error) error {
	format, err := formatOf(c)
	if err != nil {
		return err
	}
	started := now()
	k := &call{Context: c, input: bufio.NewReader(c.App.Reader), response: map[string]any{}}
	err = do(k)
	if err != nil {
		fmt.Fprintln(c.App.ErrWriter, "pgagroal-admin:", err)
	}
	if printErr := k.print(format, number, started, err); printErr != nil {
		return printErr
	}
	if err != nil {
		return errShown
	}
	return nil
}

func createMasterKey(k *call) error {
	key, err := k.keyFile()
	if err != nil {
		return err
	}
	if err := key.Creatable(); err != nil {
		return err
	}
	passphrase, err := k.secret("Master key", minimumTypedKey)
	if err != nil {
		return err
	}
	if passphrase == "" || strings.Contains(passphrase.Reveal(), "\x00") {
		return errors.New("a master key can't be empty, nor hold a zero byte")
	}
	if err := key.Write(passphrase); err != nil {
		return err
	}
	if k.String("format") == formatText {
		k.notes = append(k.notes, "Master Key stored into "+key.Path)
	}
	return nil
}

func addUser(k *call) error { return k.store(false) }

func editUser(k *call) error { return k.store(true) }

// store writes the entry of a user, which must exist already (edit) or must not.
func (k *call) store(edit bool) error {
	file, err := readUsers(k.String("file"), !edit)
	if err != nil {
		return err
	}
	name, err := k.user()
	if err != nil {
		return err
	}
	check := func(file *usersFile) error {
		switch {
		case file.has(name) == edit:
			return nil
		case edit:
			return fmt.Errorf("there is no user %s in %s", name, file.path)
		}
		return fmt.Errorf("the user %s is in %s already; use user edit", name, file.path)
	}
	if err := check(file); err != nil { // before asking for a password
		return err
	}
	keyFile, err := k.keyFile()
	if err != nil {
		return err
	}
	key, err := keyFile.Load()
	if err != nil {
		return err
	}
	password, err := k.secret("Password", 0)
	if err != nil {
		return err
	}
	if msg := config.CheckCredential(name, password); msg != "" {
		return errors.New(msg)
	}
	blob, err := key.Encrypt(password)
	if err != nil {
		return err
	}
	if k.Bool("generate") {
		k.generated(password)
	}
	return k.change(!edit, name, func(file *usersFile) error {
		if err := check(file); err != nil {
			return err
		}
		file.owner = keyFile
		file.put(name, blob)
		return nil
	})
}

func deleteUser(k *call) error {
	if _, err := readUsers(k.String("file"), false); err != nil {
		return err
	}
	name, err := k.user()
	if err != nil {
		return err
	}
	return k.change(false, name, func(file *usersFile) error {
		if !file.has(name) {
			return fmt.Errorf("there is no user %s in %s", name, file.path)
		}
		file.remove(name)
		return nil
	})
}

func listUsers(k *call) error {
	file, err := readUsers(k.String("file"), false)
	if err != nil {
		return err
	}
	names, problems := file.names()
	if k.String("format") == formatText {
		k.notes = append(k.notes, names...) // once: a line for each, above the document
	} else {
		k.response["Users"] = names
	}
	return errors.Join(problems...)
}

// change reads the file, changes it and writes it, while no other pgagroal-admin
// does so. It reports which other lines the daemon will refuse.
func (k *call) change(create bool, name string, apply func(*usersFile) error) error {
	unlock, err := lockFile(k.String("file"))
	if err != nil {
		return err
	}
	defer unlock()
	file, err := readUsers(k.String("file"), create)
	if err != nil {
		return err
	}
	if err := apply(file); err != nil {
		return err
	}
	if err := file.write(); err != nil {
		return err
	}
	k.response["Users"] = []string{name}
	_, problems := file.names()
	for _, p := range problems {
		fmt.Fprintln(k.App.ErrWriter, "pgagroal-admin: warning:", p)
	}
	return nil
}

// keyFile returns the master key file of the account that pgagroal runs as: the user of the configuration, if there is
// one, else whoever runs this.
func (k *call) keyFile() (config.KeyFile, error) {
	path := k.String("config")
	if path == "" {
		path = filepath.Join(filepath.Dir(k.String("file")), config.FileConfig)
	}
	account, err := config.UserOf(path)
	if err != nil && (k.IsSet("config") || !errors.Is(err, fs.ErrNotExist)) {
		return config.KeyFile{}, fmt.Errorf("look up whose master key counts: %w", err)
	}
	key, err := config.FindKeyFile(account)
	if err != nil {
		return config.KeyFile{}, fmt.Errorf("%w (the configuration is %s)", err, path)
	}
	return key, nil
}
