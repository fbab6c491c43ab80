package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/pgagroal-go/pgagroal/internal/config"
)

// passwordVariable names the environment variable with the password.
const passwordVariable = "PGAGROAL_PASSWORD"

// minimumTypedKey is the minimum length in bytes of a master key that is typed.
const minimumTypedKey = 8

// alphabet is the characters of random passwords: no blank, no quote and no
// backslash.
const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!@#$%^&*()-_=+[]{}|:,.<>?/~"

// user returns the name of the user, from the option or typed.
func (k *call) user() (string, error) {
	name := k.String("user")
	if !k.IsSet("user") {
		fmt.Fprint(k.App.ErrWriter, "User name: ")
		line, err := k.readLine()
		if err != nil {
			return "", fmt.Errorf("read the user name: %w", err)
		}
		name = line
	}
	if msg := config.CheckCredential(name, ""); msg != "" {
		return "", errors.New(msg)
	}
	return name, nil
}

// secret returns the password: random, from the option, from the environment, or
// typed; a typed one must have at least minimum bytes.
func (k *call) secret(what string, minimum int) (config.Secret, error) {
	switch {
	case k.Bool("generate") && k.IsSet("password"):
		return "", errors.New("-g and -P exclude each other")
	case k.Bool("generate"):
		return generate(k.Int("length"))
	case k.IsSet("password"):
		return config.Secret(k.String("password")), nil
	}
	if v, ok := os.LookupEnv(passwordVariable); ok {
		return config.Secret(v), nil
	}
	typed, err := k.ask(what)
	if err == nil && len(typed) < minimum {
		err = fmt.Errorf("a typed key has %d bytes or more", minimum)
	}
	return typed, err
}

// ask reads a secret: from a terminal twice and without echo, otherwise one line.
func (k *call) ask(what string) (config.Secret, error) {
	file, ok := k.App.Reader.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		line, err := k.readLine()
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		return config.Secret(line), nil
	}
	var typed [2]string
	for i, prompt := range []string{what + ": ", "Again: "} {
		fmt.Fprint(k.App.ErrWriter, prompt)
		b, err := term.ReadPassword(int(file.Fd()))
		fmt.Fprintln(k.App.ErrWriter)
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		typed[i] = string(b)
	}
	if typed[0] != typed[1] {
		return "", errors.New("the two are not the same")
	}
	return config.Secret(typed[0]), nil
}

// readLine reads one line of the input, which all questions of a call share.
func (k *call) readLine() (string, error) {
	line, err := k.input.ReadString('\n')
	if err != nil && (err != io.EOF || line == "") {
		return "", err
	}
	return strings.TrimRight(line, "\r\n"), nil
}

func generate(length int) (config.Secret, error) {
	if length < 1 || length > 1024 {
		return "", fmt.Errorf("a length of %d; use 1 to 1024", length)
	}
	b := make([]byte, length)
	for i := range b {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(alphabet))))
		if err != nil {
			return "", fmt.Errorf("make a password: %w", err)
		}
		b[i] = alphabet[n.Int64()]
	}
	return config.Secret(b), nil
}
