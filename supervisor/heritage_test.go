package supervisor

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
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

// TestHeritageOfEveryVersionIsRead: what a program of an earlier release has left is read, and
// nothing of it is lost. A file of an earlier version never changes; -rewrite makes that of this one.
func TestHeritageOfEveryVersionIsRead(t *testing.T) {
	now := filepath.Join("testdata", "heritage", fmt.Sprint(HandOverVersion))
	if *rewriteHeritage {
		var h heritage
		fill(reflect.ValueOf(&h).Elem(), "h", 1)
		h.Version = HandOverVersion
		b, err := ipc.Pack(&h)
		if err == nil {
			err = os.WriteFile(now, b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(now)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(now)
	if err != nil {
		t.Fatal(err)
	}
	h, err := readHeritage(f)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ipc.Pack(h)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again, b) {
		t.Errorf("read and written again, the heritage of %s is another one: %d bytes, not %d", now, len(again), len(b))
	}
	if h.Workers[0].PID == 0 || h.Machine.Record.Epoch == 0 || h.Books.Leases[0].Cancel == "" || h.Machine.Servers[0].Seen.WriteLSN == 0 {
		t.Errorf("something is missing in %+v", h)
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
