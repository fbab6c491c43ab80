// Command site makes a site of the manual pages and documents:
//
//	go run ./doc/site -to dist/html
//
// It is run in the root of a checkout. Manual pages are turned by mandoc, documents by
// goldmark; all pages lie in one directory, with the pictures that they show, and nothing
// on them comes from elsewhere. A link that leads nowhere is an error.
package main

import (
	"bytes"
	_ "embed"
	"flag"
	"fmt"
	"html/template"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

//go:embed page.html
var layout string

//go:embed style.css
var style []byte

func main() {
	to := flag.String("to", "dist/html", "`directory` of the site; what is in it is replaced")
	flag.Parse()
	if err := build(".", *to); err != nil {
		fmt.Fprintln(os.Stderr, "site:", err)
		os.Exit(1)
	}
}

// page is one page of the site.
type page struct {
	source  string // path in the checkout
	Name    string // of its file
	Title   string
	Summary string // of a manual page: what its NAME section says
	Body    template.HTML
}

// group is a part of the list on each page.
type group struct {
	Title string
	Pages []*page
}

// build makes the site of the checkout root in the directory to.
func build(root, to string) error {
	groups, err := collect(root)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	t, err := template.New("page").Parse(layout)
	if err != nil {
		return err
	}
	for _, g := range groups {
		for _, p := range g.Pages {
			var out bytes.Buffer
			if err := t.Execute(&out, map[string]any{"Page": p, "Groups": groups}); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(to, p.Name), out.Bytes(), 0o644); err != nil {
				return err
			}
		}
	}
	if err := os.WriteFile(filepath.Join(to, "style.css"), style, 0o644); err != nil {
		return err
	}
	if err := copyPictures(root, to); err != nil {
		return err
	}
	return checkLinks(to)
}

// first are the documents in the order in which somebody new reads them; others follow by name.
var first = []string{"README.md", "doc/GETTING-STARTED.md", "doc/FAILOVER.md", "doc/MONITORING.md", "doc/CONSOLE.md", "doc/MESSAGES.md", "doc/MIGRATION.md"}

// collect returns all pages, turned into HTML.
func collect(root string) ([]group, error) {
	docs, err := filepath.Glob(filepath.Join(root, "doc", "*.md"))
	if err != nil {
		return nil, err
	}
	names := slices.Clone(first)
	for _, d := range append(docs, filepath.Join(root, "CHANGELOG.md")) {
		rel, err := filepath.Rel(root, d)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(names, filepath.ToSlash(rel)) {
			names = append(names, filepath.ToSlash(rel))
		}
	}
	documents := group{Title: "Documents"}
	for _, n := range names {
		p, err := document(root, n)
		if err != nil {
			return nil, err
		}
		documents.Pages = append(documents.Pages, p)
	}
	groups := []group{documents}
	for _, s := range []struct{ number, title string }{{"1", "Commands"}, {"8", "Daemons"}, {"5", "Files"}, {"7", "Subjects"}} {
		g := group{Title: s.title}
		found, err := filepath.Glob(filepath.Join(root, "man", "*."+s.number))
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			p, err := manual(f)
			if err != nil {
				return nil, err
			}
			g.Pages = append(g.Pages, p)
		}
		groups = append(groups, g)
	}
	return groups, nil
}

var description = regexp.MustCompile(`(?m)^\.Nd (.+)$`)

// manual turns a manual page.
func manual(file string) (*page, error) {
	source, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var errs bytes.Buffer
	cmd := exec.Command("mandoc", "-Thtml", "-Ofragment,man=%N.%S.html", file)
	cmd.Stderr = &errs
	body, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("mandoc %s: %w %s", file, err, errs.Bytes())
	}
	name := filepath.Base(file)
	title, section, _ := cutLast(name, ".")
	p := &page{source: "man/" + name, Name: name + ".html", Title: title + "(" + section + ")", Body: template.HTML(ownPages(body))}
	if m := description.FindSubmatch(source); m != nil {
		p.Summary = string(m[1])
	}
	return p, nil
}

// foreign is a reference to a manual page that isn't ours, which the site doesn't have.
var foreign = regexp.MustCompile(`<a class="Xr" href="([^"]+)">([^<]*)</a>`)

// ownPages takes the links to other programs' pages away.
func ownPages(body []byte) []byte {
	return foreign.ReplaceAllFunc(body, func(link []byte) []byte {
		m := foreign.FindSubmatch(link)
		if strings.HasPrefix(string(m[1]), "pgagroal") {
			return link
		}
		return []byte(`<span class="Xr">` + string(m[2]) + `</span>`)
	})
}

// cutLast is strings.Cut at the last separator.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// copyPictures copies the pictures of documents.
func copyPictures(root, to string) error {
	return filepath.WalkDir(filepath.Join(root, "doc"), func(file string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !slices.Contains([]string{".png", ".svg"}, path.Ext(file)) {
			return err
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, filepath.Base(file)), b, 0o644)
	})
}

var (
	target = regexp.MustCompile(`(?:href|src)="([^"]*)"`)
	anchor = regexp.MustCompile(` id="([^"]*)"`)
)

// checkLinks looks for the end of every link.
func checkLinks(to string) error {
	files, err := filepath.Glob(filepath.Join(to, "*.html"))
	if err != nil {
		return err
	}
	anchors, texts := map[string][]string{}, map[string]string{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		name := filepath.Base(f)
		texts[name] = string(b)
		for _, m := range anchor.FindAllStringSubmatch(texts[name], -1) {
			anchors[name] = append(anchors[name], m[1])
		}
	}
	var bad []string
	for name, text := range texts {
		for _, m := range target.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			file, id, has := strings.Cut(m[1], "#")
			if file == "" {
				file = name
			}
			_, err := os.Stat(filepath.Join(to, file))
			if err != nil || has && !slices.Contains(anchors[file], id) {
				bad = append(bad, name+": "+m[1])
			}
		}
	}
	if slices.Sort(bad); len(bad) > 0 {
		return fmt.Errorf("links that lead nowhere:\n%s", strings.Join(bad, "\n"))
	}
	return nil
}
