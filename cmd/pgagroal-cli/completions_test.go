package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"
)

const completions = "../../contrib/completions"

// TestCompletionsAreThoseOfTheCommands compares the files for the shells with the tables
// of commands and options; -rewrite makes them anew.
func TestCompletionsAreThoseOfTheCommands(t *testing.T) {
	app := (&program{}).app()
	for file, text := range map[string]string{
		"bash/pgagroal-cli":      bashCompletion(app),
		"zsh/_pgagroal-cli":      zshCompletion(app),
		"fish/pgagroal-cli.fish": fishCompletion(app),
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
			t.Errorf("%s is of other commands or options; go test ./cmd/pgagroal-cli -run Completions -rewrite (-have +want)\n%s", path, d)
		}
	}
}

// TestBashCompletes has bash itself complete command lines, with a pgagroal-cli that
// knows two servers.
func TestBashCompletes(t *testing.T) {
	dir := t.TempDir()
	stub := fmt.Sprintf("#!/bin/sh\nexec cat %s\n", filepath.Join(dir, "ping.txt"))
	ping, err := os.ReadFile("testdata/ping.txt")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"ping.txt": string(ping), "pgagroal-cli": stub} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for line, want := range map[string]string{
		"stat":                  "status",
		"status ":               "details",
		"-c x.conf status d":    "details",
		"failover re":           "rehearse reset resume",
		"--format ":             "json raw text tree",
		"status --col":          "--color",
		"-F json failover hist": "history",
		"switch-to ":            "one three two",
		"clear server t":        "three two",
		"failover trigger --to": "--to",
		"--to o":                "one",
		"ping ":                 "",
		"--timeout ":            "",
	} {
		script := fmt.Sprintf("source %s/bash/pgagroal-cli\nCOMP_WORDS=(pgagroal-cli %s%s)\nCOMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n_pgagroal_cli\necho \"${COMPREPLY[@]}\"\n",
			completions, line, map[bool]string{true: "''"}[strings.HasSuffix(line, " ")])
		cmd := exec.Command("bash", "-euc", script)
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		got := strings.Fields(string(out))
		slices.Sort(got)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: %v, %s; want %s", line, err, out, want)
		}
	}
}

// completed is an option or a command as the shells need it.
type completed struct {
	names  []string // with dashes
	usage  string
	words  []string // that may follow
	server bool     // the name of a server may follow
	file   bool     // a path follows
	value  bool     // something follows
}

var (
	plainWord = regexp.MustCompile(`^[a-z][a-z-]+$`)
	argument  = regexp.MustCompile(`[\w-]+`)
)

// choices are the words that an option takes.
var choices = map[string][]string{"format": formats, "color": colours, "tls": tlsModes, "compress": {"none"}, "encrypt": {"none"}}

func optionsOfApp(app *cli.App) []completed {
	var list []completed
	for _, f := range app.Flags {
		c := completed{usage: f.(cli.DocGenerationFlag).GetUsage(), value: !isBool(f), words: choices[longName(f)]}
		for _, name := range f.Names() {
			switch {
			case len(name) > 1:
				c.names = append(c.names, "--"+name)
			case name != "?":
				c.names = append(c.names, "-"+name)
			}
		}
		c.file = strings.Contains(c.usage, "`FILE`") || strings.Contains(c.usage, "`PATH`")
		c.server = strings.Contains(c.usage, "`SERVER`")
		list = append(list, c)
	}
	return list
}

func commandsOfApp(app *cli.App) []completed {
	var list []completed
	for _, cmd := range app.Commands {
		c := completed{names: []string{cmd.Name}, usage: cmd.Usage, server: strings.Contains(cmd.ArgsUsage, "SERVER")}
		for _, w := range argument.FindAllString(cmd.ArgsUsage, -1) {
			if plainWord.MatchString(w) && !slices.Contains(c.words, w) {
				c.words = append(c.words, w)
			}
		}
		list = append(list, c)
	}
	return list
}

const made = "# Completion of pgagroal-cli for %s, made from its commands and options by\n# go test ./cmd/pgagroal-cli -run Completions -rewrite\n\n"

// serverNames are the lines of ping about servers, for each shell.
const serverNames = `pgagroal-cli --format tree ping 2>/dev/null | sed -n '/^  Servers:/,/^[^ ]/s/^    \([^ ]*\):$/\1/p'`

func bashCompletion(app *cli.App) string {
	var b strings.Builder
	fmt.Fprintf(&b, made, "bash")
	b.WriteString("_pgagroal_cli_servers() {\n    " + serverNames + "\n}\n\n")
	b.WriteString("_pgagroal_cli() {\n    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command='' words='' i\n    COMPREPLY=()\n    case $prev in\n")
	var all, taking []string
	for _, o := range optionsOfApp(app) {
		all = append(all, o.names...)
		if !o.value {
			continue
		}
		taking = append(taking, o.names...)
		fmt.Fprintf(&b, "    %s)\n        %s\n        return\n        ;;\n", strings.Join(o.names, " | "), bashValue(o))
	}
	fmt.Fprintf(&b, "    esac\n    for ((i = 1; i < COMP_CWORD; i++)); do\n        case ${COMP_WORDS[i]} in\n        %s) i=$((i + 1)) ;;\n        -*) ;;\n        *)\n            command=${COMP_WORDS[i]}\n            break\n            ;;\n        esac\n    done\n", strings.Join(taking, " | "))
	b.WriteString("    case $command in\n")
	var names []string
	for _, c := range commandsOfApp(app) {
		names = append(names, c.names...)
		words := strings.Join(c.words, " ")
		if c.server {
			words = strings.TrimSpace(words + " $(_pgagroal_cli_servers)")
		}
		fmt.Fprintf(&b, "    %s) words=\"%s\" ;;\n", c.names[0], words)
	}
	fmt.Fprintf(&b, "    '') words=\"%s\" ;;\n    esac\n", strings.Join(names, " "))
	fmt.Fprintf(&b, "    if [[ $cur == -* ]]; then\n        words=\"%s\"\n    fi\n    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n}\n\ncomplete -F _pgagroal_cli pgagroal-cli\n", strings.Join(all, " "))
	return b.String()
}

func bashValue(o completed) string {
	fill := func(how string) string { return "mapfile -t COMPREPLY < <(compgen " + how + ` -- "$cur")` }
	switch {
	case o.file:
		return fill("-f")
	case o.server:
		return fill(`-W "$(_pgagroal_cli_servers)"`)
	case o.words != nil:
		return fill(fmt.Sprintf(`-W "%s"`, strings.Join(o.words, " ")))
	}
	return ": # no words"
}

// quoted is a text in single quotes of a shell, without what a description of zsh
// would take for its own.
func quoted(text string) string {
	return strings.NewReplacer("'", `'\''`, "`", "", "[", "(", "]", ")", ":", ",").Replace(text)
}

func zshCompletion(app *cli.App) string {
	var b strings.Builder
	b.WriteString("#compdef pgagroal-cli\n")
	fmt.Fprintf(&b, made, "zsh")
	b.WriteString("_pgagroal_cli_servers() {\n    compadd -- ${(f)\"$(" + serverNames + ")\"}\n}\n\n_pgagroal_cli() {\n    local state\n    local -a commands=(\n")
	for _, c := range commandsOfApp(app) {
		fmt.Fprintf(&b, "        '%s:%s'\n", c.names[0], quoted(c.usage))
	}
	b.WriteString("    )\n    _arguments -C \\\n")
	for _, o := range optionsOfApp(app) {
		what := ""
		switch {
		case o.file:
			what = ":file:_files"
		case o.server:
			what = ":server:_pgagroal_cli_servers"
		case o.words != nil:
			what = ":word:(" + strings.Join(o.words, " ") + ")"
		case o.value:
			what = ":value: "
		}
		names := "'" + o.names[0]
		if len(o.names) > 1 {
			names = "'(" + strings.Join(o.names, " ") + ")'{" + strings.Join(o.names, ",") + "}'"
		}
		fmt.Fprintf(&b, "        %s[%s]%s' \\\n", names, quoted(o.usage), what)
	}
	b.WriteString("        '1: :->command' '*:: :->words'\n    case $state in\n    command) _describe command commands ;;\n    words)\n        case $words[1] in\n")
	for _, c := range commandsOfApp(app) {
		if c.words != nil {
			fmt.Fprintf(&b, "        %s) compadd %s ;|\n", c.names[0], strings.Join(c.words, " "))
		}
		if c.server {
			fmt.Fprintf(&b, "        %s) _pgagroal_cli_servers ;;\n", c.names[0])
		}
	}
	b.WriteString("        esac\n        ;;\n    esac\n}\n\n_pgagroal_cli \"$@\"\n")
	return b.String()
}

func fishCompletion(app *cli.App) string {
	var b strings.Builder
	fmt.Fprintf(&b, made, "fish")
	b.WriteString("function __pgagroal_cli_servers\n    " + serverNames + "\nend\n\ncomplete -c pgagroal-cli -f\n")
	for _, o := range optionsOfApp(app) {
		b.WriteString("complete -c pgagroal-cli")
		for _, n := range o.names {
			if long, ok := strings.CutPrefix(n, "--"); ok {
				b.WriteString(" -l " + long)
			} else {
				b.WriteString(" -s " + n[1:])
			}
		}
		switch {
		case o.file:
			b.WriteString(" -r -F")
		case o.server:
			b.WriteString(" -x -a '(__pgagroal_cli_servers)'")
		case o.words != nil:
			b.WriteString(" -x -a '" + strings.Join(o.words, " ") + "'")
		case o.value:
			b.WriteString(" -x")
		}
		fmt.Fprintf(&b, " -d '%s'\n", strings.ReplaceAll(quoted(o.usage), `'\''`, `\'`))
	}
	var names []string
	for _, c := range commandsOfApp(app) {
		names = append(names, c.names[0])
	}
	b.WriteString("\nset -l commands " + strings.Join(names, " ") + "\n")
	for _, c := range commandsOfApp(app) {
		fmt.Fprintf(&b, "complete -c pgagroal-cli -n \"not __fish_seen_subcommand_from $commands\" -a %s -d '%s'\n", c.names[0], strings.ReplaceAll(quoted(c.usage), `'\''`, `\'`))
		words := strings.Join(c.words, " ")
		if c.server {
			words = strings.TrimSpace(words + " (__pgagroal_cli_servers)")
		}
		if words != "" {
			fmt.Fprintf(&b, "complete -c pgagroal-cli -n '__fish_seen_subcommand_from %s' -a '%s'\n", c.names[0], words)
		}
	}
	return b.String()
}
