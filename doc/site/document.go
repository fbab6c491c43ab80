package main

import (
	"bytes"
	"fmt"
	"html/template"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
)

// document turns a document, whose path in the checkout is name.
func document(root, name string) (*page, error) {
	source, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		return nil, err
	}
	md := goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithParserOptions(parser.WithAutoHeadingID()))
	tree := md.Parser().Parse(text.NewReader(source))
	p := &page{source: name, Name: pageName(name)}
	var others []*ast.Link
	err = ast.Walk(tree, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Heading:
			if p.Title == "" && n.Level == 1 {
				p.Title = string(n.Lines().Value(source))
			}
		case *ast.Link:
			dest, ours, err := linked(root, name, string(n.Destination))
			if err != nil {
				return ast.WalkStop, err
			}
			if n.Destination = []byte(dest); !ours {
				others = append(others, n)
			}
		case *ast.Image:
			n.Destination = []byte(path.Base(string(n.Destination)))
		}
		return ast.WalkContinue, nil
	})
	for _, l := range others {
		unlink(l)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var out bytes.Buffer
	if err := md.Renderer().Render(&out, source, tree); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	p.Body = template.HTML(out.Bytes())
	return p, nil
}

// pageName is the file of a document on the site.
func pageName(name string) string {
	if name == "README.md" {
		return "index.html"
	}
	return strings.TrimSuffix(path.Base(name), ".md") + ".html"
}

// unlink leaves of a link its text.
func unlink(l *ast.Link) {
	for c := l.FirstChild(); c != nil; c = l.FirstChild() {
		l.Parent().InsertBefore(l.Parent(), l, c)
	}
	l.Parent().RemoveChild(l.Parent(), l)
}

// linked returns where a link of the document from leads on the site, and false if it leads to
// a file of the checkout that is no page.
func linked(root, from, dest string) (string, bool, error) {
	if dest == "" || strings.Contains(dest, "://") || strings.HasPrefix(dest, "#") {
		return dest, true, nil
	}
	file, id, has := strings.Cut(dest, "#")
	if has {
		id = "#" + id
	}
	file = path.Join(path.Dir(from), file)
	if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(file))); err != nil {
		return "", false, err
	}
	switch {
	case path.Ext(file) == ".md":
		return pageName(file) + id, true, nil
	case strings.HasPrefix(file, "man/"):
		return path.Base(file) + ".html" + id, true, nil
	}
	return dest, false, nil
}
