package supervisor

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/pgagroal-go/pgagroal/ipc"
)

var rewriteHeritage = flag.Bool("rewrite", false, "write the heritage of this version anew")

// fill sets every field to a value that isn't zero.
func fill(v reflect.Value, name string, i int) {
	switch v.Kind() {
	case reflect.Struct:
		for f := range v.NumField() {
			fill(v.Field(f), v.Type().Field(f).Name, i+f)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), name, i)
	case reflect.String:
		v.SetString(fmt.Sprintf("%s-%d\xff", name, i)) // names may be any bytes
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(i + 1))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(i + 1))
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte(name))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), name, i)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, "key", i)
		fill(value, name, i)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	default:
		panic("fill: no rule for " + v.Kind().String())
	}
}

// heritageNow has the heritage as this program writes it. The files beside it are those of earlier releases.
const heritageNow = "testdata/heritage/1"

// howToInherit is printed when the heritage is no longer that of heritageNow.
const howToInherit = `%s is not what this program writes (%d bytes, not %d)
The program of an earlier release hands its heritage over to this one. So a field keeps its name and its type, and one may be
added if this program can do without it, and one that doesn't know it as well; otherwise HandOverVersion is raised.
If a release has %[1]s (git tag --contains), leave it as it is and give heritageNow the name of a file beside it; if none has it
yet, delete it. Then go test ./supervisor -run TestHeritage -rewrite`

// heritageOf returns what a file of testdata has, read, and packed again. A field that the file doesn't have stays out
// again, so the bytes are those of the file if nothing was lost.
func heritageOf(t *testing.T, file string) (h *heritage, again []byte) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	if h, err = readHeritage(f); err == nil {
		again, err = ipc.Pack(h)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return h, again
}

// TestHeritageOfEveryVersionIsRead: what a program of an earlier release has left is read, and
// nothing of it is lost.
func TestHeritageOfEveryVersionIsRead(t *testing.T) {
	var h heritage
	fill(reflect.ValueOf(&h).Elem(), "h", 1)
	h.Version = HandOverVersion
	written, err := ipc.Pack(&h)
	if err != nil {
		t.Fatal(err)
	}
	if *rewriteHeritage {
		writeHeritage(t, written)
	}
	files, err := filepath.Glob("testdata/heritage/*")
	if err != nil || !slices.Contains(files, heritageNow) {
		t.Fatalf("%s is not among %q, %v", heritageNow, files, err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		h, again := heritageOf(t, file)
		if file == heritageNow && !bytes.Equal(b, written) {
			t.Errorf(howToInherit, file, len(written), len(b))
		}
		if !bytes.Equal(again, b) {
			t.Errorf("read and written again, the heritage of %s is another one: %d bytes, not %d", file, len(again), len(b))
		}
		if h.Workers[0].PID == 0 || h.Machine.Record.Epoch == 0 || h.Books.Leases[0].Cancel == "" || h.Machine.Servers[0].Seen.WriteLSN == 0 {
			t.Errorf("%s: something is missing in %+v", file, h)
		}
	}
}

// writeHeritage makes heritageNow, but never in the place of a file that a release may have.
func writeHeritage(t *testing.T, b []byte) {
	t.Helper()
	f, err := os.OpenFile(heritageNow, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if os.IsExist(err) {
		return // the comparison says what to do
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestHeritageOfAnotherVersionIsRefused(t *testing.T) {
	h := heritage{Version: HandOverVersion + 1}
	f, err := writtenOf(&h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readHeritage(f); err == nil {
		t.Error("it is read")
	}
}

func TestHeritageCrossesItsFile(t *testing.T) {
	var h heritage
	fill(reflect.ValueOf(&h).Elem(), "h", 1)
	h.Version = HandOverVersion
	f, err := writtenOf(&h)
	if err != nil {
		t.Fatal(err)
	}
	got, err := readHeritage(f)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(&h, got) {
		t.Errorf("written:\n%+v\nread:\n%+v", h, *got)
	}
}

func writtenOf(h *heritage) (*os.File, error) {
	b, err := h.pack()
	if err != nil {
		return nil, err
	}
	return written(b)
}
