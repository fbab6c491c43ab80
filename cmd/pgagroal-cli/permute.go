package main

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// permute puts options before words, as getopt does, and writes every option as
// --name or --name=value. It accepts -Fjson, -F json, -vFjson, --format=json,
// --format json and any unique beginning of a long name; -- ends the options. With
// an error it returns the options before the error.
func permute(flags []cli.Flag, args []string) (options, words []string, err error) {
	s := splitter{flags: flags, rest: args}
	for err == nil && len(s.rest) > 0 {
		err = s.next()
	}
	return s.options, s.words, err
}

type splitter struct {
	flags          []cli.Flag
	rest           []string
	options, words []string
}

func (s *splitter) next() error {
	arg := s.rest[0]
	s.rest = s.rest[1:]
	switch {
	case arg == "--":
		s.words = append(s.words, s.rest...)
		s.rest = nil
		return nil
	case strings.HasPrefix(arg, "--"):
		return s.long(arg[2:])
	case len(arg) > 1 && arg[0] == '-':
		return s.short(arg[1:])
	}
	s.words = append(s.words, arg)
	return nil
}

func (s *splitter) long(arg string) error {
	name, value, has := strings.Cut(arg, "=")
	f, err := s.byName(name)
	if err != nil {
		return err
	}
	if isBool(f) {
		if has {
			return usagef("--%s takes no value", longName(f))
		}
		s.options = append(s.options, "--"+longName(f))
		return nil
	}
	if !has {
		return s.withNext(f)
	}
	s.options = append(s.options, "--"+longName(f)+"="+value)
	return nil
}

func (s *splitter) short(letters string) error {
	for i := range letters {
		f := s.byLetter(letters[i : i+1])
		if f == nil {
			return usagef("there is no option -%s", letters[i:])
		}
		if isBool(f) {
			s.options = append(s.options, "--"+longName(f))
			continue
		}
		if value := letters[i+1:]; value != "" {
			s.options = append(s.options, "--"+longName(f)+"="+value)
			return nil
		}
		return s.withNext(f)
	}
	return nil
}

// withNext takes the next argument as the value of f.
func (s *splitter) withNext(f cli.Flag) error {
	if len(s.rest) == 0 {
		return usagef("--%s needs a value", longName(f))
	}
	s.options = append(s.options, "--"+longName(f)+"="+s.rest[0])
	s.rest = s.rest[1:]
	return nil
}

func (s *splitter) byLetter(letter string) cli.Flag {
	for _, f := range s.flags {
		for _, name := range f.Names()[1:] {
			if name == letter {
				return f
			}
		}
	}
	return nil
}

func (s *splitter) byName(name string) (cli.Flag, error) {
	var found []cli.Flag
	for _, f := range s.flags {
		if longName(f) == name {
			return f, nil
		}
		if strings.HasPrefix(longName(f), name) {
			found = append(found, f)
		}
	}
	switch len(found) {
	case 0:
		return nil, usagef("there is no option --%s", name)
	case 1:
		return found[0], nil
	}
	return nil, usagef("--%s could be --%s or --%s", name, longName(found[0]), longName(found[1]))
}

func longName(f cli.Flag) string { return f.Names()[0] }

func isBool(f cli.Flag) bool {
	_, ok := f.(*cli.BoolFlag)
	return ok
}
