package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/pgagroal-go/pgagroal/internal/screen"
)

// The words of --format.
const (
	formatText = "text" // for people
	formatTree = "tree" // every field of the document, as indented text
	formatJSON = "json"
	formatRaw  = "raw"
)

// outputName is the word for a format in requests, which have those of C pgagroal: what
// is text there is called tree here.
func outputName(format string) string {
	if format == formatTree {
		return formatText
	}
	return format
}

// print writes the answer in the format of --format.
func (p *program) print(c *cli.Context, a *answer) error {
	format := c.String("format")
	if format == formatText {
		text, err := a.write(p.screen)
		if err != nil {
			return err
		}
		return p.put(text)
	}
	v, err := parse(a.data)
	doc, ok := v.(*object)
	if err != nil || !ok {
		return unreachablef("the answer can't be read: %v", err)
	}
	switch format {
	case formatJSON:
		return writeJSON(p.stdout, doc)
	case formatRaw:
		toCodes(doc)
		return writeJSON(p.stdout, doc)
	}
	var b strings.Builder
	writeObject(&b, doc, "")
	return p.put(b.String())
}

// put writes to standard output.
func (p *program) put(text string) error {
	_, err := io.WriteString(p.stdout, text)
	return printed(err)
}

// writeJSON writes v, indented by two blanks a level.
func writeJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return failedf("%v", err)
	}
	_, err := w.Write(b.Bytes())
	return printed(err)
}

// printed returns an error for a failed write, such as to a full disk or a closed
// pipe.
func printed(err error) error {
	if err != nil {
		return failedf("%v", err)
	}
	return nil
}

// writeObject writes the tree format, nested by two blanks.
func writeObject(b *strings.Builder, o *object, indent string) {
	for _, m := range o.members {
		b.WriteString(indent + screen.Clean(m.key) + ":")
		writeValue(b, m.value, indent)
	}
}

// writeValue writes the text after "key:".
func writeValue(b *strings.Builder, v any, indent string) {
	switch v := v.(type) {
	case *object:
		if len(v.members) == 0 {
			b.WriteString(" {}\n")
			return
		}
		b.WriteString("\n")
		writeObject(b, v, indent+"  ")
	case []any:
		if len(v) == 0 {
			b.WriteString(" []\n")
			return
		}
		b.WriteString("\n")
		for _, item := range v {
			writeItem(b, item, indent+"  ")
		}
	case string:
		if strings.Contains(v, "\n") {
			writeBlock(b, v, indent+"  ")
			return
		}
		b.WriteString(" " + scalar(v) + "\n")
	default:
		b.WriteString(" " + scalar(v) + "\n")
	}
}

// writeItem writes an item of a list: the first line has the dash, and further
// lines are indented like the text after it.
func writeItem(b *strings.Builder, v any, indent string) {
	if o, ok := v.(*object); ok && len(o.members) > 0 {
		var inner strings.Builder
		writeObject(&inner, o, indent+"  ")
		b.WriteString(indent + "- " + strings.TrimPrefix(inner.String(), indent+"  "))
		return
	}
	b.WriteString(indent + "-")
	writeValue(b, v, indent)
}

// writeBlock writes a text of several lines, such as the output of a script.
func writeBlock(b *strings.Builder, text, indent string) {
	b.WriteString(" |\n")
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		b.WriteString(indent + screen.Clean(line) + "\n")
	}
}

func scalar(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		if v == "" {
			return "''"
		}
		return screen.Clean(v)
	}
	return fmt.Sprint(v)
}
