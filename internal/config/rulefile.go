package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Bounds of the files that a rules file refers to.
const (
	maxDepth    = 10       // depth of files that refer to files, as in PostgreSQL
	maxFiles    = 1000     // files for one rules file
	maxRuleFile = 4 << 20  // bytes of one file
	maxRules    = 10000    // rules in all files
	maxNames    = 24 << 10 // bytes of the names of one field, because a worker gets a rule in one message
)

// fileReader returns the content of a file that a rules file refers to.
type fileReader func(path string) ([]byte, error)

// ruleReader reads pgagroal_hba.conf or pgagroal_ident.conf, and the files that its lines refer to.
type ruleReader struct {
	read   fileReader
	syntax syntax
	files  int // read so far
	errs   []error
	// rule handles a line with a rule.
	rule func(r *ruleReader, l ruleLine) *FileError
}

// ruleLine is a line with a rule.
type ruleLine struct {
	file   string
	no     int
	fields []field
}

// text reads the lines of a file. depth is 0 for the rules file itself, and one more for each file between.
func (r *ruleReader) text(file string, data []byte, depth int) {
	for l := range continuedLines(data) {
		fail := r.one(file, l, depth)
		if fail == nil {
			continue
		}
		if fail.Line == 0 { // of the whole line
			fail.Line, fail.Column = l.no, l.indent+1
		}
		if fail.File == "" {
			fail.File = file
		}
		r.errs = append(r.errs, fail)
	}
}

func (r *ruleReader) one(file string, l textLine, depth int) *FileError {
	if l.err != nil {
		return l.fail()
	}
	f, fail := splitFields(l, ",", r.syntax)
	if fail != nil {
		return fail
	}
	if word, ok := f[0].sole(); ok && strings.HasPrefix(word, "include") {
		return r.include(file, word, f, depth)
	}
	for i := range f {
		if f[i].words, fail = r.expand(file, f[i].words, depth); fail != nil {
			return fail
		}
		size := 0
		for _, w := range f[i].words {
			size += len(w.text) + 4
		}
		if size > maxNames {
			return f[i].fail("the names are longer than %d bytes; spread them over several lines", maxNames)
		}
	}
	return r.rule(r, ruleLine{file, l.no, f})
}

// include handles a line that names files with rules.
func (r *ruleReader) include(file, word string, f []field, depth int) *FileError {
	if len(f) != 2 || len(f[1].words) != 1 {
		return f[0].fail("%s takes one file; write one in each line, in double quotes if it holds blanks", word)
	}
	path := beside(file, f[1].words[0].text)
	switch word {
	case "include", "include_if_exists":
		return r.includeFile(path, f[1], depth, word == "include_if_exists")
	case "include_dir":
		return r.includeDir(path, f[1], depth)
	}
	return f[0].fail("%s is not known here; write include, include_if_exists or include_dir", word)
}

func (r *ruleReader) includeFile(path string, at field, depth int, optional bool) *FileError {
	data, fail := r.open(path, at.words[0], depth, optional)
	if fail != nil || data == nil {
		return fail
	}
	r.text(path, data, depth+1)
	return nil
}

// includeDir reads the files of a directory whose names end in .conf and don't begin with a dot, in the order of their
// names.
func (r *ruleReader) includeDir(dir string, at field, depth int) *FileError {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return at.fail("the directory %s can't be read: %s; create it, or delete the line", dir, reason(err))
	}
	for _, e := range entries { // ReadDir sorts
		if e.IsDir() || e.Name()[0] == '.' || !strings.HasSuffix(e.Name(), ".conf") {
			continue
		}
		if fail := r.includeFile(filepath.Join(dir, e.Name()), at, depth, false); fail != nil {
			return fail
		}
	}
	return nil
}

// open reads a file that w names. data is nil if the file is optional and doesn't exist.
func (r *ruleReader) open(path string, w word, depth int, optional bool) (data []byte, fail *FileError) {
	if depth >= maxDepth {
		return nil, w.fail("%s would be the file of depth %d, and %d is the most; files that refer to each other never end", path, depth+1, maxDepth)
	}
	if r.files++; r.files > maxFiles {
		return nil, w.fail("more than %d files are referred to; put their lines together", maxFiles)
	}
	data, err := r.read(path)
	switch {
	case optional && errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, w.fail("the file %s can't be read: %s; create it, or delete what refers to it", path, reason(err))
	case data == nil:
		data = []byte{}
	}
	return data, nil
}

// expand replaces each @FILE by the words of that file, which may refer to files in turn.
func (r *ruleReader) expand(file string, words []word, depth int) ([]word, *FileError) {
	if !slices.ContainsFunc(words, word.namesFile) {
		return words, nil
	}
	var all []word
	for _, w := range words {
		if !w.namesFile() {
			all = append(all, w)
			continue
		}
		path := beside(file, w.text[1:])
		data, fail := r.open(path, w, depth, false)
		if fail != nil {
			return nil, fail
		}
		before := len(all)
		for l := range continuedLines(data) {
			more, fail := r.list(path, l, depth+1)
			if fail != nil {
				return nil, fail
			}
			if all = append(all, more...); len(all) > maxNames {
				return nil, w.fail("the file holds more than %d bytes of names; spread them over several files and lines", maxNames)
			}
		}
		if len(all) == before {
			return nil, w.fail("the file %s names nobody; write a name into it, or delete what refers to it", path)
		}
	}
	return all, nil
}

func (w word) namesFile() bool { return !w.quoted && len(w.text) > 1 && w.text[0] == '@' }

// list returns the words of one line of a file of names.
func (r *ruleReader) list(path string, l textLine, depth int) ([]word, *FileError) {
	if l.err != nil {
		fail := l.fail()
		fail.File = path
		return nil, fail
	}
	fields, fail := splitFields(l, ",", r.syntax)
	if fail != nil {
		fail.File = path
		return nil, fail
	}
	var words []word
	for _, f := range fields {
		for _, w := range f.words {
			w.file = path
			words = append(words, w)
		}
	}
	return r.expand(path, words, depth)
}

// beside returns the path of a file that file refers to by name.
func beside(file, name string) string {
	if filepath.IsAbs(name) {
		return filepath.Clean(name)
	}
	return filepath.Join(filepath.Dir(file), name)
}

// readRuleFile returns the content and mode of a regular file. It refuses a named pipe without waiting for its other end.
func readRuleFile(path string) ([]byte, fs.FileMode, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, 0, err
	case !info.Mode().IsRegular():
		return nil, 0, errors.New("it is no regular file")
	case info.Size() > maxRuleFile:
		return nil, 0, fmt.Errorf("it is larger than %d bytes", maxRuleFile)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxRuleFile))
	return data, info.Mode(), err
}

// plainReader is a fileReader that doesn't check the mode.
func plainReader(path string) ([]byte, error) {
	data, _, err := readRuleFile(path)
	return data, err
}

// errCommentContinues refuses a comment that ends in \. In PostgreSQL the next line belongs to the comment, which hides it.
var errCommentContinues = errors.New(`a comment that ends in \, which would hide the next line; delete the \`)

// maxContinued is how many further lines a line may continue in.
const maxContinued = 1000

// continuedLines yields the lines that are neither empty nor a comment. A line that ends in \ continues in the next one.
func continuedLines(data []byte) iter.Seq[textLine] {
	return func(yield func(textLine) bool) {
		var l textLine
		no := 0
		for raw := range bytes.Lines(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))) {
			no++
			if l.goOn(no, bytes.TrimRight(raw, "\r\n")) {
				continue
			}
			if l.trim() && !yield(l) {
				return
			}
			l = textLine{}
		}
		if l.no > 0 && l.trim() {
			yield(l)
		}
	}
}

// goOn appends the next line of the file, and says whether the line continues after it.
func (l *textLine) goOn(no int, raw []byte) bool {
	if l.no == 0 {
		l.no = no
	} else if len(l.joints) < maxContinued {
		l.joints = append(l.joints, joint{len(l.text), no})
	} else if l.err == nil {
		l.err = fmt.Errorf("the line goes on in more than %d lines; shorten it", maxContinued)
	}
	text, more := strings.CutSuffix(string(raw), `\`)
	switch bad, err := firstUnusable(raw, maxLine); {
	case l.err != nil:
	case err != nil:
		l.no, l.bad, l.err = no, bad, err
	case len(l.text)+len(text) > maxLine:
		l.err = fmt.Errorf("the line is longer than %d bytes; shorten it", maxLine)
	default:
		l.text += text
	}
	return more
}

// trim removes the blanks around the line, and says whether it is neither empty nor a comment.
func (l *textLine) trim() bool {
	if l.err != nil {
		l.text = ""
		return true
	}
	text := strings.TrimLeft(l.text, blanks)
	cut := len(l.text) - len(text)
	l.text, l.indent = strings.TrimRight(text, blanks), cut
	for len(l.joints) > 0 && l.joints[0].at <= cut { // the text begins in a later line
		l.no, l.indent = l.joints[0].no, cut-l.joints[0].at
		l.joints = l.joints[1:]
	}
	for i := range l.joints {
		l.joints[i].at -= cut
	}
	switch {
	case l.text == "":
		return false
	case l.text[0] != '#' && l.text[0] != ';':
		return true
	case len(l.joints) > 0:
		l.text, l.err = "", errCommentContinues
		return true
	}
	return false
}
