package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/release"
)

// Formats of a document.
const (
	formatText = "text"
	formatJSON = "json"
)

func now() time.Time { return time.Now() }

// generated adds a random password to the answer. Nobody can see it again later.
func (k *call) generated(password config.Secret) {
	if k.String("format") == formatJSON {
		k.response["Password"] = password.Reveal()
		return
	}
	k.notes = append(k.notes, "Password : "+password.Reveal())
}

// documentOf returns the document of a command, which is a number, or a word where C pgagroal has no such command.
func documentOf(command any, format string, started time.Time, well bool, response map[string]any) map[string]any {
	outcome := map[string]any{"Status": well}
	if well {
		outcome["Time"] = time.Unix(0, 0).UTC().Add(time.Since(started)).Format(time.TimeOnly)
	} else {
		outcome["Error"] = 1
	}
	return map[string]any{
		"Header": map[string]any{
			"Command": command, "ClientVersion": release.Version(), "Output": format,
			"Compression": "none", "Encryption": "none", "Timestamp": started.Format("20060102150405"),
		},
		"Outcome":  outcome,
		"Response": response,
	}
}

func printJSON(out io.Writer, document map[string]any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(document); err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	return nil
}

// print writes the document of a command and, in text format, the lines above it.
func (k *call) print(format string, number int, started time.Time, failure error) error {
	if failure != nil {
		delete(k.response, "Password") // nothing was stored
	}
	document := documentOf(number, format, started, failure == nil, k.response)
	out := k.App.Writer
	if format == formatJSON {
		return printJSON(out, document)
	}
	if failure != nil && number != commandList {
		k.notes = nil // of what wasn't done
	}
	var b strings.Builder
	for _, n := range k.notes {
		b.WriteString(n + "\n")
	}
	writeText(&b, document, "")
	if _, err := io.WriteString(out, b.String()); err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	return nil
}

// writeText prints a document in the indented form of pgagroal's text format.
func writeText(b *strings.Builder, document map[string]any, indent string) {
	for _, key := range slices.Sorted(maps.Keys(document)) {
		switch v := document[key].(type) {
		case map[string]any:
			if len(v) == 0 {
				fmt.Fprintf(b, "%s%s: {}\n", indent, key)
				continue
			}
			fmt.Fprintf(b, "%s%s:\n", indent, key)
			writeText(b, v, indent+"  ")
		case []string:
			fmt.Fprintf(b, "%s%s:\n", indent, key)
			for _, item := range v {
				fmt.Fprintf(b, "%s  - %s\n", indent, item)
			}
		case string:
			if v == "" {
				v = "''"
			}
			fmt.Fprintf(b, "%s%s: %s\n", indent, key, v)
		default:
			fmt.Fprintf(b, "%s%s: %v\n", indent, key, v)
		}
	}
}
