package worker

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/worker/reactor"
)

// startLoop starts a loop of a kind, which stops at the end of the test.
func startLoop(t *testing.T, kind string) *reactor.Loop {
	t.Helper()
	loop, err := reactor.New(kind)
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		loop.Run()
	}()
	t.Cleanup(func() {
		loop.Stop()
		wait(t, stopped, "the loop to stop")
	})
	return loop
}

// converseBoth runs f as a coroutine of a loop of each kind, with peer at the other end of
// its connection, and waits until both have ended.
func converseBoth(t *testing.T, f func(*dialogue) error, peer func(t *testing.T, d *dialogue, conn *net.UnixConn)) {
	t.Helper()
	for _, kind := range []string{"epoll", "io_uring"} {
		t.Run(kind, func(t *testing.T) {
			loop := startLoop(t, kind)
			fd, conn := clientPair(t)
			begun, ended := make(chan *dialogue, 1), make(chan error, 1)
			var cs coroutines
			t.Cleanup(func() { loop.Post(cs.end) })
			loop.Post(func() {
				d, err := cs.begin(loop, fd, func(d *dialogue) { ended <- f(d) })
				if err != nil {
					ended <- err
					return
				}
				begun <- d
				d.wake()
			})
			peer(t, wait(t, begun, "the dialogue to begin"), conn)
			if err := wait(t, ended, "the dialogue to end"); err != nil {
				t.Error(err)
			}
		})
	}
}

func say(t *testing.T, conn io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, conn io.Reader, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(conn, b); err != nil || string(b) != want {
		t.Fatalf("read %q and %v, want %q", b, err, want)
	}
}

// expects reads a text in a dialogue.
func expects(r io.Reader, want string) error {
	b := make([]byte, len(want))
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	if string(b) != want {
		return errors.New("read " + string(b) + " instead of " + want)
	}
	return nil
}

func writes(w io.Writer, text string) error {
	_, err := io.WriteString(w, text)
	return err
}

func TestDialogueWaitsForWhatComesInPieces(t *testing.T) {
	converseBoth(t, func(d *dialogue) error {
		defer d.Close()
		return errors.Join(expects(d, "question"), writes(d, "answer"), expects(d, "and"), expects(d, " more"), writes(d, "."))
	}, func(t *testing.T, _ *dialogue, conn *net.UnixConn) {
		say(t, conn, "ques")
		say(t, conn, "tion")
		hear(t, conn, "answer")
		say(t, conn, "and more")
		hear(t, conn, ".")
	})
}

func TestDialogueEndsWithItsPeerAndWithItsTime(t *testing.T) {
	converseBoth(t, func(d *dialogue) error {
		defer d.Close()
		// With a new deadline the dialogue continues.
		if err := errors.Join(outlives(d), writes(d, "go on"), expects(d, "yes")); err != nil {
			return err
		}
		if err := expects(d, "x"); !errors.Is(err, io.EOF) {
			return errors.Join(errors.New("it doesn't end with its peer"), err)
		}
		return nil
	}, func(t *testing.T, _ *dialogue, conn *net.UnixConn) {
		hear(t, conn, "go on")
		say(t, conn, "yes")
		conn.Close()
	})
}

// As at a shutdown.
func TestDialogueEndsWhenOthersCloseIt(t *testing.T) {
	converseBoth(t, func(d *dialogue) error {
		if err := errors.Join(writes(d, "hello"), expects(d, "x")); !errors.Is(err, net.ErrClosed) {
			return errors.Join(errors.New("it doesn't end with its connection"), err)
		}
		if _, err := d.leave(); !errors.Is(err, net.ErrClosed) {
			return errors.New("a closed connection was given away")
		}
		return nil
	}, func(t *testing.T, d *dialogue, conn *net.UnixConn) {
		hear(t, conn, "hello")
		d.loop.Post(func() { d.Close() })
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the peer sees %v, want the end", err)
		}
	})
}

// outlives lets the deadline of a dialogue pass while it waits for its peer, and then sets a
// new one. The Await of the first wait is still in force afterwards.
func outlives(d *dialogue) error {
	if err := d.SetDeadline(time.Now().Add(time.Millisecond)); err != nil {
		return err
	}
	if err := expects(d, "x"); !errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.Join(errors.New("it doesn't end with its time"), err)
	}
	return d.SetDeadline(time.Now().Add(generous))
}

// As at a shutdown, while the kernel still has a wait for the peer to give up.
func TestDialogueThatIsClosedWhileItLeavesEnds(t *testing.T) {
	converseBoth(t, func(d *dialogue) error {
		if err := outlives(d); err != nil {
			return err
		}
		d.loop.Post(func() { d.Close() })
		file, err := d.leave()
		if d.loop.Name() == "epoll" && err == nil {
			return file.Close() // the dialogue has left before the peer could close the connection
		}
		if !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
			return errors.Join(errors.New("it doesn't end with its connection"), err)
		}
		return nil
	}, func(t *testing.T, _ *dialogue, conn *net.UnixConn) {
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the peer sees %v, want the end", err)
		}
	})
}

// A dialogue in await must not continue because of other events.
func TestDialogueAwaitsWhatItHasBegun(t *testing.T) {
	done, over := make(chan func(), 1), false // over is the loop's
	converseBoth(t, func(d *dialogue) error {
		defer d.Close()
		over = false
		if err := outlives(d); err != nil {
			return err
		}
		d.await(func(f func()) { f() }) // done at once
		d.await(func(f func()) { done <- f })
		over = true
		return expects(d, "bytes")
	}, func(t *testing.T, d *dialogue, conn *net.UnixConn) {
		end := wait(t, done, "what is awaited")
		say(t, conn, "bytes")
		for what, happens := range map[string]func(){
			"bytes": func() { d.Received(nil) }, "a flush": d.Flushed, "a timer": d.wake,
		} {
			checked := make(chan bool, 1)
			d.loop.Post(func() {
				happens()
				checked <- over
			})
			if wait(t, checked, "the loop") {
				t.Errorf("it went on with %s", what)
			}
		}
		d.loop.Post(end)
	})
}

// A dialogue whose connection has ended can't be released, because the loop reports an end
// only once.
func TestDialogueThatHasEndedIsNotReleased(t *testing.T) {
	converseBoth(t, func(d *dialogue) error {
		defer d.Close()
		if err := expects(d, "x"); !errors.Is(err, io.EOF) {
			return errors.Join(errors.New("the peer hasn't left"), err)
		}
		if err := writes(d, "anybody?"); err != nil {
			return err
		}
		for d.err == nil {
			d.park()
		}
		if _, err := d.release(); !errors.Is(err, unix.EPIPE) {
			return errors.Join(errors.New("released without the error of its connection"), err)
		}
		return nil
	}, func(_ *testing.T, _ *dialogue, conn *net.UnixConn) { conn.Close() })
}

func goesWrong() { panic("our bug") }

func TestPanicOfASetUpSaysWhereItHappened(t *testing.T) {
	loop := startLoop(t, "epoll")
	fd, _ := clientPair(t)
	said := make(chan string, 1)
	loop.Post(func() {
		defer func() { said <- fmt.Sprint(recover()) }()
		d, err := new(coroutines).begin(loop, fd, func(*dialogue) { goesWrong() })
		if err != nil {
			panic(err)
		}
		d.wake()
	})
	if text := wait(t, said, "the panic"); !strings.HasPrefix(text, "our bug") || !strings.Contains(text, "goesWrong") {
		t.Errorf("it says %s", text)
	}
}

// The peer gets everything that was written before the end, however slowly it reads.
func TestDialogueSaysAllBeforeItsEnd(t *testing.T) {
	const size = 1 << 20
	converseBoth(t, func(d *dialogue) error {
		defer d.Close()
		if err := writes(d, string(make([]byte, size))); err != nil {
			return err
		}
		return errors.Join(d.CloseWrite(), expects(d, "got it"))
	}, func(t *testing.T, _ *dialogue, conn *net.UnixConn) {
		all, err := io.ReadAll(conn)
		if len(all) != size || err != nil {
			t.Errorf("read %d of %d bytes: %v", len(all), size, err)
		}
		say(t, conn, "got it")
	})
}

func TestDialogueGoesOnInAGoroutine(t *testing.T) {
	outside := make(chan error, 1)
	converseBoth(t, func(d *dialogue) error {
		if err := errors.Join(expects(d, "one"), writes(d, "two")); err != nil {
			return err
		}
		file, err := d.leave()
		if err != nil {
			return err
		}
		go func() {
			defer file.Close()
			err := errors.Join(file.SetDeadline(time.Now().Add(generous)), expects(file, "three"))
			if err == nil && !file.connected() {
				err = errors.New("the peer isn't connected")
			}
			outside <- errors.Join(err, writes(file, "four"), file.CloseWrite())
		}()
		return nil
	}, func(t *testing.T, _ *dialogue, conn *net.UnixConn) {
		say(t, conn, "one")
		hear(t, conn, "two")
		say(t, conn, "three")
		hear(t, conn, "four")
		if err := wait(t, outside, "the goroutine"); err != nil {
			t.Error(err)
		}
	})
}

// A dialogue that begins after the end of another one uses the same coroutine. It must not
// get events of the other one.
func TestCoroutineServesOneDialogueAfterTheOther(t *testing.T) {
	loop := startLoop(t, "epoll")
	var cs coroutines
	t.Cleanup(func() { loop.Post(cs.end) })
	first := ask(t, loop, &cs, "first")
	coroutine := first.co
	second := ask(t, loop, &cs, "second")
	if second.co != coroutine {
		t.Error("the second dialogue has a coroutine of its own")
	}
	done := make(chan struct{})
	loop.Post(func() {
		first.wake()
		first.Flushed()
		close(done)
	})
	wait(t, done, "the first dialogue to be woken")
}

// ask makes a dialogue read a word, and returns the word when the dialogue has ended.
func ask(t *testing.T, loop *reactor.Loop, cs *coroutines, word string) *dialogue {
	t.Helper()
	fd, conn := clientPair(t)
	heard := make(chan string, 1)
	begun := make(chan *dialogue, 1)
	loop.Post(func() {
		d, err := cs.begin(loop, fd, func(d *dialogue) {
			b := make([]byte, len(word))
			_, _ = io.ReadFull(d, b)
			d.Close()
			heard <- string(b)
		})
		if err != nil {
			panic(err)
		}
		begun <- d
		d.wake()
	})
	d := wait(t, begun, "the dialogue to begin")
	if _, err := io.WriteString(conn, word); err != nil {
		t.Fatal(err)
	}
	if got := wait(t, heard, "the word"); got != word {
		t.Errorf("heard %q instead of %q", got, word)
	}
	return d
}
