package relay

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// full gives a client as many statements as it may have.
func full(t *testing.T) (*modelClient, func() *modelBackend) {
	t.Helper()
	b := &modelBackend{server: newModelServer()}
	c := newModelClient(t, newStatements())
	pick := func() *modelBackend { return b }
	for i := range maxNamed {
		c.send(parseMsg(fmt.Sprint("n", i), "show 1"), pick)
	}
	c.send(sync_, pick)
	c.drain(1 << 20)
	if len(c.tx.names) != maxNamed || strings.Contains(answers(c.got), "E ") {
		t.Fatalf("%d statements", len(c.tx.names))
	}
	c.got = nil
	return c, pick
}

// ask sends messages in pieces of one size, takes the answers so, and returns them.
func (c *modelClient) ask(pick func() *modelBackend, size int, ms ...[]byte) string {
	c.got = nil
	for data := join(ms...); len(data) > 0; data = data[min(size, len(data)):] {
		c.send(data[:min(size, len(data))], pick)
	}
	c.drain(size)
	return answers(c.got)
}

func TestOneStatementTooManyIsAnErrorLikeOthers(t *testing.T) {
	for _, size := range []int{1, 2, 3, 5, 7, 50, 1 << 20} {
		c, pick := full(t)
		more := parseMsg("more", "show 2")
		for _, step := range []struct {
			said [][]byte
			want string
		}{
			{[][]byte{more, bindMsg("more"), exec, sync_}, "E \"54000\"\nZ \"I\"\n"},
			{[][]byte{bindMsg("n7"), exec, more, bindMsg("n7"), exec, sync_}, "2 \"\"\nD \"show 1\"\nC \"SHOW 1\\x00\"\nE \"54000\"\nZ \"I\"\n"},
			{[][]byte{queryMsg("begin")}, "C \"BEGIN\\x00\"\nZ \"T\"\n"},
			{[][]byte{more, sync_}, "E \"54000\"\nZ \"E\"\n"},
			{[][]byte{bindMsg("n7"), exec, sync_}, "E \"25P02\"\nZ \"E\"\n"},
			{[][]byte{queryMsg("rollback")}, "C \"ROLLBACK\\x00\"\nZ \"I\"\n"},
			{[][]byte{bindMsg("more"), sync_}, "E \"26000\"\nZ \"I\"\n"},
			{[][]byte{closeMsg("n7"), more, bindMsg("more"), exec, sync_}, "3 \"\"\n1 \"\"\n2 \"\"\nD \"show 2\"\nC \"SHOW 2\\x00\"\nZ \"I\"\n"},
			{[][]byte{parseMsg("n7", "show 1"), sync_}, "E \"54000\"\nZ \"I\"\n"},
			{[][]byte{parseMsg("", "show 3"), bindMsg(""), exec, sync_}, "1 \"\"\n2 \"\"\nD \"show 3\"\nC \"SHOW 3\\x00\"\nZ \"I\"\n"},
		} {
			if diff := cmp.Diff(step.want, c.ask(pick, size, step.said...)); diff != "" {
				t.Fatalf("pieces of %d, said %q (-want +got):\n%s", size, step.said, diff)
			}
			if c.line.doubt {
				t.Fatal("in doubt")
			}
		}
	}
}

func TestErrorOfOneStatementTooManyIsOurs(t *testing.T) {
	c, pick := full(t)
	c.ask(pick, 1<<20, parseMsg("more", "show 2"), sync_)
	f := pgwire.ParseError(c.got[5:])
	want := pgwire.ErrorFields{
		Severity: "ERROR", Code: "54000",
		Message: "prepared statements of a client are limited to 8192, to 16 MiB each and 64 MiB together",
		Hint:    "Close or deallocate statements that are not used any more.",
	}
	if diff := cmp.Diff(want, f); diff != "" {
		t.Error(diff)
	}
}

func TestTextOfStatementsIsBounded(t *testing.T) {
	b := &modelBackend{server: newModelServer()}
	c := newModelClient(t, newStatements())
	pick := func() *modelBackend { return b }
	long := "show " + strings.Repeat("x", 1<<20)
	n := 0
	for ; n < 100; n++ {
		if got := c.ask(pick, 1<<20, parseMsg(fmt.Sprint("n", n), long), sync_); got != "1 \"\"\nZ \"I\"\n" {
			if got != "E \"54000\"\nZ \"I\"\n" {
				t.Fatal(got)
			}
			break
		}
	}
	if n != 63 {
		t.Errorf("%d statements of 1 MiB were taken", n)
	}
	// All ways of letting go make room again.
	for _, said := range [][]byte{
		join(closeMsg("n0"), sync_), queryMsg("deallocate n1"),
		join(parseMsg("", "deallocate n2"), bindMsg(""), exec, sync_), queryMsg("deallocate all"),
	} {
		c.ask(pick, 1<<20, said)
		if got := c.ask(pick, 1<<20, parseMsg("again", long), sync_); got != "1 \"\"\nZ \"I\"\n" {
			t.Errorf("after %.30q: %s", said, got)
		}
		c.ask(pick, 1<<20, closeMsg("again"), sync_)
	}
	if c.tx.text != 0 || len(c.tx.names) != 0 {
		t.Errorf("%d bytes are counted for %d statements", c.tx.text, len(c.tx.names))
	}
	c.ask(pick, 1<<20, parseMsg("n", "bad"), sync_)
	c.ask(pick, 1<<20, parseMsg("n", "show 1"), parseMsg("", "fail"), bindMsg(""), exec, closeMsg("n"), sync_)
	if want := len("n") + len("show 1\x00\x00\x00"); c.tx.text != want {
		t.Errorf("%d bytes are counted instead of %d", c.tx.text, want)
	}
}

// A statement that is too long to be collected goes nowhere, however it comes, and
// what follows it is in step.
func TestStatementTooLongToKeepIsAnErrorLikeOthers(t *testing.T) {
	long := parseMsg("long", "show "+strings.Repeat("x", maxParse))
	for _, size := range []int{1000, 64 << 10, 10 << 20, len(long) - 1} {
		b := &modelBackend{server: newModelServer()}
		c := newModelClient(t, newStatements())
		pick := func() *modelBackend { return b }
		for _, step := range []struct {
			said [][]byte
			want string
		}{
			{[][]byte{long, bindMsg("long"), exec, sync_, queryMsg("show 1")}, "E \"54000\"\nZ \"I\"\nT \"show 1\"\nD \"show 1\"\nC \"SHOW 1\\x00\"\nZ \"I\"\n"},
			{[][]byte{queryMsg("begin")}, "C \"BEGIN\\x00\"\nZ \"T\"\n"},
			{[][]byte{long, sync_}, "E \"54000\"\nZ \"E\"\n"},
			{[][]byte{queryMsg("rollback")}, "C \"ROLLBACK\\x00\"\nZ \"I\"\n"},
		} {
			if got := c.ask(pick, size, step.said...); got != step.want {
				t.Fatalf("pieces of %d, said %.40q: got %.300s, want %s", size, step.said, got, step.want)
			}
		}
		if c.line.doubt || b.exchange.skip != 0 || len(b.server.in) > 0 {
			t.Errorf("pieces of %d: doubt %v, %d to skip, %d bytes unread", size, c.line.doubt, b.exchange.skip, len(b.server.in))
		}
	}
}
