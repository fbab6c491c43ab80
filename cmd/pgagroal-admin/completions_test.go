package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"
)

var rewrite = flag.Bool("rewrite", false, "write the completions anew")

const completions = "../../contrib/completions"

// TestCompletionsAreThoseOfTheCommands compares the files for the shells with the tables of commands and options.
func TestCompletionsAreThoseOfTheCommands(t *testing.T) {
	for file, text := range map[string]string{
		"bash/pgagroal-admin": bashCompletion(), "zsh/_pgagroal-admin": zshCompletion(), "fish/pgagroal-admin.fish": fishCompletion(),
	} {
		path := filepath.Join(completions, file)
		if *rewrite {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		have, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(have), text); d != "" {
			t.Errorf("%s is of other commands or options; go test ./cmd/pgagroal-admin -run Completions -rewrite (-have +want)\n%s", path, d)
		}
	}
}

// TestBashCompletes has bash itself complete command lines.
func TestBashCompletes(t *testing.T) {
	for line, want := range map[string]string{
		"ma":           "master-key",
		"user ":        "add del edit ls",
		"-F json conf": "conf",
		"conf g":       "get",
		"user add --g": "--generate",
		"--format ":    "json text",
		"check --dir":  "--directory",
	} {
		script := fmt.Sprintf("source %s/bash/pgagroal-admin\nCOMP_WORDS=(pgagroal-admin %s%s)\nCOMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n_pgagroal_admin\necho \"${COMPREPLY[@]}\"\n",
			completions, line, map[bool]string{true: "''"}[strings.HasSuffix(line, " ")])
		out, err := exec.Command("bash", "-euc", script).CombinedOutput()
		got := strings.Fields(string(out))
		slices.Sort(got)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: %v, %s; want %s", line, err, out, want)
		}
	}
}

// option is an option as the shells need it.
type option struct {
	long, short string
	usage       string
	value       string // what follows: empty for nothing, else file, word or text
}

func completed() []option {
	var list []option
	for _, f := range options() {
		o := option{long: f.Names()[0], usage: strings.NewReplacer("`", "", "'", "", "[", "(", "]", ")", ":", ",").Replace(f.(cli.DocGenerationFlag).GetUsage())}
		for _, n := range f.Names() {
			if len(n) == 1 && n != "?" {
				o.short = n
			}
		}
		if _, isBool := f.(*cli.BoolFlag); !isBool {
			o.value = "text"
		}
		switch o.long {
		case "file", "config", "directory", "to":
			o.value = "file"
		case "format":
			o.value = "word"
		}
		list = append(list, o)
	}
	return list
}

func (o option) names() []string {
	if o.short == "" {
		return []string{"--" + o.long}
	}
	return []string{"-" + o.short, "--" + o.long}
}

const made = "# Completion of pgagroal-admin for %s, made from its commands and options by\n# go test ./cmd/pgagroal-admin -run Completions -rewrite\n\n"

func commandNames(list []*cli.Command) string {
	var names []string
	for _, c := range list {
		names = append(names, c.Name)
	}
	return strings.Join(names, " ")
}

func bashCompletion() string {
	var b strings.Builder
	fmt.Fprintf(&b, made, "bash")
	b.WriteString("_pgagroal_admin() {\n    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command='' words='' i\n    COMPREPLY=()\n    case $prev in\n")
	var all, taking []string
	for _, o := range completed() {
		all = append(all, o.names()...)
		if o.value == "" {
			continue
		}
		taking = append(taking, o.names()...)
		how := map[string]string{"file": "mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")", "word": "mapfile -t COMPREPLY < <(compgen -W \"text json\" -- \"$cur\")", "text": ": # no words"}[o.value]
		fmt.Fprintf(&b, "    %s)\n        %s\n        return\n        ;;\n", strings.Join(o.names(), " | "), how)
	}
	fmt.Fprintf(&b, "    esac\n    for ((i = 1; i < COMP_CWORD; i++)); do\n        case ${COMP_WORDS[i]} in\n        %s) i=$((i + 1)) ;;\n        -*) ;;\n        *)\n            command=${COMP_WORDS[i]}\n            break\n            ;;\n        esac\n    done\n    case $command in\n", strings.Join(taking, " | "))
	for _, c := range commands() {
		if len(c.Subcommands) > 0 {
			fmt.Fprintf(&b, "    %s) words=\"%s\" ;;\n", c.Name, commandNames(c.Subcommands))
		}
	}
	fmt.Fprintf(&b, "    '') words=\"%s\" ;;\n    esac\n", commandNames(commands()))
	fmt.Fprintf(&b, "    if [[ $cur == -* ]]; then\n        words=\"%s\"\n    fi\n    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n", strings.Join(all, " "))
	b.WriteString("    if [[ $command == @(conf|import) && ${#COMPREPLY[@]} == 0 ]]; then\n        mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n    fi\n}\n\ncomplete -F _pgagroal_admin pgagroal-admin\n")
	return b.String()
}

func zshCompletion() string {
	var b strings.Builder
	b.WriteString("#compdef pgagroal-admin\n")
	fmt.Fprintf(&b, made, "zsh")
	b.WriteString("_pgagroal_admin() {\n    local state\n    local -a commands=(\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "        '%s:%s'\n", c.Name, c.Usage)
	}
	b.WriteString("    )\n    _arguments -C \\\n")
	for _, o := range completed() {
		what := map[string]string{"file": ":file:_files", "word": ":word:(text json)", "text": ":value: "}[o.value]
		names := "'" + o.names()[0]
		if o.short != "" {
			names = "'(" + strings.Join(o.names(), " ") + ")'{" + strings.Join(o.names(), ",") + "}'"
		}
		fmt.Fprintf(&b, "        %s[%s]%s' \\\n", names, o.usage, what)
	}
	b.WriteString("        '1: :->command' '*:: :->words'\n    case $state in\n    command) _describe command commands ;;\n    words)\n        case $words[1] in\n")
	for _, c := range commands() {
		if len(c.Subcommands) > 0 {
			fmt.Fprintf(&b, "        %s) ((CURRENT == 2)) && compadd %s ;|\n", c.Name, commandNames(c.Subcommands))
		}
	}
	b.WriteString("        conf | import) ((CURRENT > 2)) || [[ $words[1] == import ]] && _files ;;\n        esac\n        ;;\n    esac\n}\n\n_pgagroal_admin \"$@\"\n")
	return b.String()
}

func fishCompletion() string {
	var b strings.Builder
	fmt.Fprintf(&b, made, "fish")
	for _, o := range completed() {
		b.WriteString("complete -c pgagroal-admin -l " + o.long)
		if o.short != "" {
			b.WriteString(" -s " + o.short)
		}
		fmt.Fprintf(&b, "%s -d '%s'\n", map[string]string{"file": " -r -F", "word": " -x -a 'text json'", "text": " -x"}[o.value], o.usage)
	}
	fmt.Fprintf(&b, "\nset -l commands %s\n", commandNames(commands()))
	for _, c := range commands() {
		fmt.Fprintf(&b, "complete -c pgagroal-admin -f -n \"not __fish_seen_subcommand_from $commands\" -a %s -d '%s'\n", c.Name, c.Usage)
		for _, sub := range c.Subcommands {
			fmt.Fprintf(&b, "complete -c pgagroal-admin -f -n '__fish_seen_subcommand_from %s; and not __fish_seen_subcommand_from %s' -a %s -d '%s'\n",
				c.Name, commandNames(c.Subcommands), sub.Name, sub.Usage)
		}
	}
	return b.String()
}
